//! The last look: everything that was committed is there to the byte, and nothing else is left.

use std::{collections::HashSet, sync::Arc, time::Duration};

use orlop_core::NoMonitor;
use tokio_util::sync::CancellationToken;

use super::{process::World, watch::short};
use crate::{
    collect::{CollectOptions, CollectState},
    error::Result,
    frame::Decoder,
    mark::{Marked, mark},
    repository::Repository,
};

/// Collections after which nothing may be left to do.
const COLLECTIONS: usize = 6;

/// Reads and decrypts every frame of every snapshot.
pub(super) async fn verify(world: &World, repository: &Repository) -> Result<Option<String>> {
    let state = repository.newest_state().await?.clone();
    let mut decoder = Decoder::new()?;
    for commit in state.needed() {
        let Some(image) = world.shared.lock().watch.image(&commit.refset) else {
            return Ok(Some(format!("{} is nobody's", commit.snapshot)));
        };
        let opened = repository.open_snapshot(&commit.snapshot).await?;
        if opened.root != image.roots.manifest {
            return Ok(Some(format!("{} has another root", commit.snapshot)));
        }
        let (mut marked, mut broken) = (Marked::default(), None);
        mark(
            repository,
            std::slice::from_ref(commit),
            &mut marked,
            &mut |b| {
                broken = Some(b.error.to_string());
            },
        )
        .await?;
        if let Some(error) = broken {
            return Ok(Some(format!("{}: {error}", commit.refset)));
        }
        let meant: HashSet<_> = image.prefixes().into_iter().collect();
        let marked: HashSet<_> = marked.ids.in_order().collect::<Result<_>>()?;
        if marked != meant {
            return Ok(Some(format!("{} refers to other chunks", commit.refset)));
        }
        for (kind, secret, plain) in &image.frames {
            let find = repository.look_up(|index| index.find(&secret.id().prefix()));
            let place = find.await?;
            let Some(place) = place else {
                return Ok(Some(format!("chunk {} is in no index", secret.id())));
            };
            let (offset, len) = (u64::from(place.offset), u64::from(place.len));
            let store = repository.store();
            let frame = store.get_range(&place.pack, offset, len).await?;
            let key = std::slice::from_ref(image.keys.of(*kind));
            let found = decoder.decode(&|| place.pack.clone(), *kind, secret, key, &frame)?;
            if found != *plain {
                return Ok(Some(format!("chunk {} is not what it was", secret.id())));
            }
        }
    }
    Ok(None)
}

/// Collects until nothing is left to do, and looks for what is left nevertheless.
pub(super) async fn sweep(world: &World, repository: &Repository) -> Result<Option<String>> {
    let options = CollectOptions {
        dead_percent: 100,
        max_removed_percent: 100,
        fence_after: Duration::ZERO,
        ..CollectOptions::default()
    };
    let mut rounds = 0;
    loop {
        let segments = world.shared.lock().watch.state.segments.clone();
        let report = repository
            .collect(options, Arc::new(NoMonitor), CancellationToken::new())
            .await?;
        // Where it wrote the index anew, the old one is garbage now.
        let same = world.shared.lock().watch.state.segments == segments;
        if report.state == CollectState::Clean && report.fenced.is_empty() && same {
            break;
        }
        rounds += 1;
        if rounds == COLLECTIONS {
            return Ok(Some(format!("collecting finds no end: {report:?}")));
        }
    }
    let objects = world.shared.lock();
    let watch = &objects.watch;
    let state = &watch.state;
    if !state.open.is_empty() || state.epoch.is_some() || !state.deleting.is_empty() {
        return Ok(Some(format!("the log is not at rest: {state:?}")));
    }
    if !state.dead.is_empty() {
        return Ok(Some("deleted packs are still indexed".to_owned()));
    }
    let left = objects
        .map
        .keys()
        .find(|name| match name.split('/').next() {
            Some("p" | "m") => !watch.is_used(name),
            Some("i") => !state.segments.contains(name),
            Some("s") => !state.snapshots.iter().any(|c| c.snapshot == **name),
            Some("r") => !state.snapshots.iter().any(|c| c.refset == **name),
            _ => false,
        });
    Ok(left.map(|name| format!("{} is garbage that nobody removes", short(name))))
}
