//! A writer as small as can be that stores as the real one does: look-ups, packs, segments, pages, commit.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use orlop_core::{SnapshotId, VolumeRef};

use super::{
    chance::Chance,
    store::Shared,
    volume::{Files, VolumeKeys, image},
};
use crate::{
    clock::sleep,
    error::Result,
    frame::{Encoder, FrameKind, Level},
    index::SegmentBuilder,
    pack::{OpenPack, PackClass},
    repository::Repository,
    secret::{Prefix, Secret},
    session::{BeginWrite, CommitRequest, Committer, WriteGrant},
    snapshot::{SnapshotState, SnapshotStats, open_capsule, seal_capsule, seal_root},
    store::Durability,
};

/// Tries of a request.
const TRIES: u32 = 4;

/// An open session.
pub(super) struct Writing<'w> {
    repository: &'w Repository,
    shared: &'w Shared,
    chance: &'w mut Chance,
    volume: VolumeRef,
    grant: WriteGrant,
    keys: VolumeKeys,
    /// What the parents need: may be referred to without a look-up.
    parents: HashSet<Prefix>,
    stored: HashSet<Prefix>,
    open: [Option<(OpenPack, Vec<Prefix>)>; 2],
    records: SegmentBuilder,
    segments: Vec<String>,
    encoder: Encoder,
}

impl<'w> Writing<'w> {
    pub(super) async fn begin(
        repository: &'w Repository,
        shared: &'w Shared,
        chance: &'w mut Chance,
        volume: VolumeRef,
    ) -> Result<Self> {
        let grant = repository
            .begin_write(BeginWrite {
                lineage: volume.default_lineage(),
                volume: volume.clone(),
            })
            .await?;
        let keys = VolumeKeys {
            domain: grant.domain_keys.newest().clone(),
            volume: grant.volume_keys.newest().clone(),
            refs: grant.refs_key.clone(),
        };
        let mut parents = HashSet::new();
        for parent in &grant.parents {
            let roots = open_capsule(grant.volume_keys.all(), parent.snapshot, &parent.capsule)?;
            let key = (roots.manifest, volume.default_lineage().0);
            let image = shared.lock().watch.images.get(&key).cloned();
            parents.extend(image.iter().flat_map(|image| image.prefixes()));
        }
        Ok(Self {
            repository,
            shared,
            chance,
            volume,
            grant,
            keys,
            parents,
            stored: HashSet::new(),
            open: [None, None],
            records: SegmentBuilder::default(),
            segments: Vec::new(),
            encoder: Encoder::new()?,
        })
    }

    pub(super) fn session(&self) -> u64 {
        self.grant.session
    }

    pub(super) fn chance(&mut self) -> &mut Chance {
        self.chance
    }

    /// What reading a file may take.
    pub(super) async fn pause(&mut self) {
        let most = self.chance.one_of(&[1, 20, 3000]);
        sleep(Duration::from_millis(self.chance.below(most))).await;
    }

    /// Ends the session without a snapshot.
    pub(super) async fn abandon(self) -> Result<()> {
        self.repository.end(self.grant.session).await
    }

    fn rely(&self, prefix: Prefix, pack: Option<String>) {
        let mut shared = self.shared.lock();
        shared.watch.rely(self.grant.session, prefix, pack);
    }

    /// Stores a frame unless it is there.
    async fn store(&mut self, kind: FrameKind, secret: &Secret, plain: &[u8]) -> Result<()> {
        let prefix = secret.id().prefix();
        if self.stored.contains(&prefix) {
            return Ok(());
        }
        if self.parents.contains(&prefix) && self.chance.permille(700) {
            self.rely(prefix, None);
            return Ok(());
        }
        let place = self
            .repository
            .locate(self.grant.session, &[secret.id()], false)
            .await?;
        if let Some(place) = place.into_iter().flatten().find(|place| !place.condemned) {
            self.rely(prefix, Some(place.pack));
            return Ok(());
        }
        let frame = self.encoder.encode(kind, secret, plain, Level::default())?;
        let class = PackClass::of(kind);
        let slot = usize::from(class == PackClass::Meta);
        let session = self.grant.session;
        let (pack, prefixes) =
            self.open[slot].get_or_insert_with(|| (OpenPack::new(class, session), Vec::new()));
        pack.push(frame);
        prefixes.push(prefix);
        self.stored.insert(prefix);
        if self.chance.permille(400) {
            self.send(slot).await?;
        }
        Ok(())
    }

    async fn send(&mut self, slot: usize) -> Result<()> {
        let Some((pack, prefixes)) = self.open[slot].take() else {
            return Ok(());
        };
        let pack = pack.finish(&self.grant.session_key)?;
        self.put(&pack.name, pack.parts).await?;
        for prefix in prefixes {
            self.rely(prefix, Some(pack.name.clone()));
        }
        self.records.push(pack.name, &pack.table);
        Ok(())
    }

    async fn put(&mut self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        let store = self.repository.store();
        let mut tries = 0;
        loop {
            match store.put(name, parts.clone(), Durability::Barrier).await {
                Ok(_) => return Ok(()),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tries += 1,
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Commits what `files` is, as a checkpoint or for good.
    pub(super) async fn commit(
        &mut self,
        files: &Files,
        state: SnapshotState,
    ) -> Result<SnapshotId> {
        let image = Arc::new(image(files, &self.keys)?);
        for (kind, secret, plain) in &image.frames {
            self.store(*kind, secret, plain).await?;
        }
        for slot in 0..self.open.len() {
            self.send(slot).await?;
        }
        if self.records.len() > 0 {
            let (name, bytes) =
                self.records
                    .finish(0, self.grant.session, &self.grant.session_key)?;
            self.put(&name, vec![bytes.into()]).await?;
            self.segments.push(name);
        }
        let lineage = self.volume.default_lineage();
        let request = CommitRequest {
            volume: self.volume.clone(),
            lineage: lineage.clone(),
            time_ms: 0,
            node: String::new(),
            backup: String::new(),
            tags: Vec::new(),
            parent: self.grant.parents.first().map(|parent| parent.snapshot),
            state,
            sealed_root: seal_root(
                &self.grant.read_public_key,
                &image.roots.manifest,
                &self.volume,
            )?,
            capsule: seal_capsule(&self.keys.volume, &image.roots)?,
            refs_root: image.refs_root,
            segments: self.segments.clone(),
            stats: SnapshotStats::default(),
            origin: None,
        };
        let key = (image.roots.manifest, lineage.0);
        self.shared.lock().watch.images.insert(key, image);
        let mut tries = 0;
        loop {
            let result = self
                .repository
                .commit(self.grant.session, request.clone())
                .await;
            match result {
                Err(crate::Error::Store { .. }) if tries < 2 => tries += 1,
                other => return other,
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
