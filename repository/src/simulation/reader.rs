//! A reader: of one snapshot, or of all.

use std::{collections::HashSet, time::Duration};

use orlop_core::SnapshotId;

use super::{chance::Chance, store::Shared, volume::Image};
use crate::{
    clock::sleep,
    error::{Error, Result},
    frame::{Decoder, FrameKind},
    manifest::{Content, Extent, ManifestPage, decode_manifest},
    mark::snapshot_id,
    protocol::SessionKind,
    repository::Repository,
    secret::{Key, Secret},
    session::Committer,
};

/// Tries of a look-up and the get behind it.
const TRIES: u32 = 8;

/// Reads a chunk; where its pack is gone it looks for another one.
async fn fetch(
    repository: &Repository,
    session: u64,
    kind: FrameKind,
    secret: &Secret,
    key: &Key,
) -> Result<Vec<u8>> {
    let id = secret.id();
    let mut tries = 0;
    loop {
        let attempt = async {
            let place = repository.locate(session, &[id], tries > 0).await?;
            let place = place.into_iter().flatten().next();
            let place = place.ok_or_else(|| Error::MissingChunk { id: id.to_string() })?;
            let (offset, len) = (u64::from(place.offset), u64::from(place.len));
            let store = repository.store();
            let frame = store.get_range(&place.pack, offset, len).await?;
            Decoder::new()?.decode(
                &|| place.pack.clone(),
                kind,
                secret,
                std::slice::from_ref(key),
                &frame,
            )
        };
        match attempt.await {
            Ok(plain) => return Ok(plain),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Reads everything below a manifest's root and compares it with what was written.
async fn read_tree(
    repository: &Repository,
    session: u64,
    root: &Secret,
    domain: &Key,
    image: &Image,
) -> Result<()> {
    let wrong = |what: &str| Err(Error::damaged("simulation", what));
    let leaf = fetch(repository, session, FrameKind::Manifest, root, domain).await?;
    let Some(ManifestPage::Leaf(entries)) = decode_manifest(&leaf) else {
        return wrong("the manifest is no leaf");
    };
    let mut seen = HashSet::new();
    for entry in entries {
        let Content::Extents(extents) = entry.content else {
            continue;
        };
        for extent in extents {
            let Extent::Data { secret, .. } = extent else {
                return wrong("an extent is no chunk");
            };
            if !seen.insert(secret) {
                continue;
            }
            let plain = fetch(repository, session, FrameKind::Data, &secret, domain).await?;
            let meant = image.frames.iter().find(|(_, other, _)| *other == secret);
            if meant.is_none_or(|(.., meant)| *meant != plain) {
                return wrong("a chunk is not what was stored");
            }
        }
    }
    let meant = image.frames.iter();
    let meant: HashSet<_> = meant
        .filter(|(kind, ..)| *kind == FrameKind::Data)
        .map(|(_, secret, _)| *secret)
        .collect();
    if seen == meant {
        Ok(())
    } else {
        wrong("the manifest lacks files")
    }
}

/// Restores a snapshot that was there a moment ago.
pub(super) async fn read_one(
    repository: &Repository,
    shared: &Shared,
    chance: &mut Chance,
) -> Result<()> {
    let chosen = {
        let objects = shared.lock();
        let snapshots = &objects.watch.state.snapshots;
        if snapshots.is_empty() {
            return Ok(());
        }
        let commit = &snapshots[chance.below(snapshots.len() as u64) as usize];
        let image = objects.watch.image(&commit.refset);
        snapshot_id(commit).zip(image)
    };
    let Some((id, image)) = chosen else {
        return Ok(());
    };
    let grant = match repository.begin_read(id).await {
        // It was forgotten in this moment.
        Err(Error::NoSnapshot { .. }) => return Ok(()),
        other => other?,
    };
    sleep(Duration::from_millis(chance.below(4000))).await;
    let session = grant.session;
    let domain = &image.keys.domain;
    let result = read_tree(repository, session, &grant.root, domain, &image).await;
    judge(shared, session, &id, result)?;
    if chance.permille(900) {
        repository.end(session).await?;
    }
    Ok(())
}

/// Reads all snapshots, as a check does.
pub(super) async fn read_all(
    repository: &Repository,
    shared: &Shared,
    chance: &mut Chance,
) -> Result<()> {
    let (session, commits) = {
        let mut state = repository.newest_state().await?;
        let session = repository
            .log_reader(&mut state, SessionKind::ReadAll, &[])
            .await?;
        (session, state.snapshots.clone())
    };
    for commit in commits {
        sleep(Duration::from_millis(chance.below(500))).await;
        let (Some(id), Some(image)) = (
            snapshot_id(&commit),
            shared.lock().watch.image(&commit.refset),
        ) else {
            continue;
        };
        let result = match repository.open_snapshot(&commit.snapshot).await {
            Ok(opened) => {
                let domain = &image.keys.domain;
                read_tree(repository, session, &opened.root, domain, &image).await
            }
            Err(error) => Err(error),
        };
        judge(shared, session, &id, result)?;
    }
    repository.end(session).await
}

/// A reader whose session is open must be able to read.
fn judge(shared: &Shared, session: u64, id: &SnapshotId, result: Result<()>) -> Result<()> {
    let Err(error) = result else {
        let mut objects = shared.lock();
        objects.watch.tally.reads += 1;
        return Ok(());
    };
    let mut objects = shared.lock();
    if !objects.watch.state.open.contains_key(&session) {
        // It was shut out, and reads at its own risk.
        return Err(Error::NoSession { session });
    }
    if !matches!(error, Error::Store { .. }) {
        let what = format!("session {session} cannot read {id}: {error}");
        objects.watch.fail(what);
    }
    Err(error)
}
