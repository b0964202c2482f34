//! Decrypts the chunks of some packs, each once, as the manifests name them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use orlop_core::SnapshotId;
use tokio::runtime::Handle;

use super::{
    Check, DamageKind,
    bytes::names,
    object_of,
    recorder::{Recorder, now},
};
use crate::{
    coverage::{Seen, pack_key},
    error::{Error, Result},
    frame::FrameKind,
    mark::{IdSet, snapshot_id},
    protocol::CommitBody,
    reader::{FrameReader, lock},
    secret::Prefix,
    session::{ReadSession, Wanted},
    walk::{Piece, Walk},
};

/// Chunks that are fetched together.
const BATCH: usize = 256;

/// What a walk has shown that concerns a check.
#[derive(Default)]
struct Shown {
    wanted: Vec<Wanted>,
    /// Chunks that the reference pages lack.
    unmarked: Vec<Prefix>,
    /// What was shown last.
    page: Option<(FrameKind, Prefix)>,
    /// Objects with pages that are lost.
    lost: Vec<(String, Option<Prefix>)>,
    /// Why the index could not be read.
    failed: Option<Error>,
}

impl Check {
    /// Reads all manifests, and the chunks that they name and that lie in `packs`.
    pub(super) async fn verify_chunks(
        &self,
        packs: &[(String, u64)],
        recorder: &Recorder,
    ) -> Result<()> {
        let chosen = names(packs);
        let at = now();
        let bad: Mutex<HashSet<String>> = Mutex::default();
        let mut walk = Walk::new(FrameReader::new(&self.repository)?);
        let mut seen = IdSet::default();
        for commit in &self.commits {
            self.go_on()?;
            let Some(id) = snapshot_id(commit) else {
                continue;
            };
            let opened = match self.repository.open_snapshot(&commit.snapshot).await {
                Ok(opened) => opened,
                // That is reported already.
                Err(error) if error.is_loss() => continue,
                Err(error) => return Err(error),
            };
            let mut shown = Shown::default();
            walk.snapshot(&opened, &mut |piece| {
                self.shown(piece, &chosen, &mut seen, &mut shown);
            })
            .await?;
            if let Some(error) = shown.failed {
                return Err(error);
            }
            self.judge(commit, id, &shown);
            let lost = shown.lost.into_iter().map(|(object, _)| object);
            lock(&bad).extend(lost);
            if !shown.wanted.is_empty() {
                let failed = self.fetch(id, shown.wanted).await?;
                for (prefix, object) in failed {
                    self.found(&object, DamageKind::DamagedPack, Some(prefix), None);
                    lock(&bad).insert(object);
                }
            }
        }
        let bad = bad.into_inner().unwrap_or_default();
        for (name, _) in packs {
            let Some(key) = pack_key(name) else { continue };
            let mut seen = Seen::default();
            if bad.contains(name) {
                seen.bad_chunks = at;
            } else {
                seen.verified = at;
            }
            recorder.note(key, &seen, 0);
        }
        recorder.save(false).await;
        Ok(())
    }

    fn shown(&self, piece: Piece<'_>, chosen: &HashSet<&str>, seen: &mut IdSet, shown: &mut Shown) {
        match piece {
            Piece::Page { kind, secret, .. } => {
                let prefix = secret.id().prefix();
                shown.page = Some((kind, prefix));
                // A repair may have taken out pages that no restore reads.
                let must = !matches!(kind, FrameKind::Refs | FrameKind::Sidecar);
                if must {
                    self.expect_marked(&prefix, shown);
                }
            }
            Piece::Chunk { secret, .. } => {
                let prefix = secret.id().prefix();
                match seen.add(prefix) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        shown.failed.get_or_insert(error);
                        return;
                    }
                }
                self.expect_marked(&prefix, shown);
                let place = self.repository.with_index(|index| index.find(&prefix));
                let place = match place {
                    Ok(place) => place,
                    Err(error) => {
                        shown.failed.get_or_insert(error);
                        return;
                    }
                };
                // Of chunks that are in no index the look at the structure tells.
                if place.is_some_and(|place| chosen.contains(&*place.pack)) {
                    let (secret, len) = (*secret, 0);
                    shown.wanted.push(Wanted { secret, len });
                }
            }
            Piece::Lost { error } => {
                let (kind, prefix) = match shown.page {
                    Some((kind, prefix)) => (kind, Some(prefix)),
                    None => (FrameKind::Manifest, None),
                };
                let must = !matches!(kind, FrameKind::Refs | FrameKind::Sidecar);
                match prefix.map_or(Ok(true), |prefix| self.marked.ids.contains(&prefix)) {
                    Ok(marked) if marked || must => shown.lost.push((object_of(error), prefix)),
                    Ok(_) => {}
                    Err(error) => {
                        shown.failed.get_or_insert(error);
                    }
                }
            }
        }
    }

    /// Notes a chunk if the reference pages lack it.
    fn expect_marked(&self, prefix: &Prefix, shown: &mut Shown) {
        match self.marked.ids.contains(prefix) {
            Ok(true) => {}
            Ok(false) => shown.unmarked.push(*prefix),
            Err(error) => {
                shown.failed.get_or_insert(error);
            }
        }
    }

    fn judge(&self, commit: &CommitBody, id: SnapshotId, shown: &Shown) {
        // What the reference pages lack would be collected one day.
        let unmarked = shown.unmarked.iter();
        for prefix in unmarked.filter(|_| !self.unmarked.contains(&id)) {
            let kind = DamageKind::DamagedSnapshot;
            self.found(&commit.refset, kind, Some(*prefix), Some(id));
        }
        for (object, prefix) in &shown.lost {
            self.found(object, DamageKind::DamagedSnapshot, *prefix, Some(id));
        }
    }

    /// Fetches and proves chunks of a snapshot; those that cannot be had, with the object that is to blame.
    async fn fetch(
        &self,
        snapshot: SnapshotId,
        wanted: Vec<Wanted>,
    ) -> Result<HashMap<Prefix, String>> {
        let (browser, store) = (
            self.repository.browser(),
            Arc::clone(self.repository.store()),
        );
        let (handle, cancel) = (Handle::current(), self.cancel.clone());
        let fetch = move || {
            let failed: Mutex<HashMap<Prefix, Error>> = Mutex::default();
            let session = ReadSession::open(browser, store, snapshot, handle, cancel)?;
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            for batch in wanted.chunks(BATCH) {
                session.fetch(batch, workers.min(4), &|i, result| {
                    if let Err(error) = result {
                        lock(&failed).insert(batch[i].secret.id().prefix(), error);
                    }
                })?;
            }
            session.end();
            Ok(failed.into_inner().unwrap_or_default())
        };
        let failed: Result<HashMap<Prefix, Error>> = tokio::task::spawn_blocking(fetch)
            .await
            .map_err(|e| Error::System {
                action: "run the check",
                source: std::io::Error::other(e),
            })?;
        let mut damaged = HashMap::new();
        for (prefix, error) in failed? {
            if !error.is_loss() {
                return Err(error);
            }
            damaged.insert(prefix, object_of(&error));
        }
        Ok(damaged)
    }
}
