//! A scrub by somebody who has no key, such as who runs the store: packs and index segments are named by the hash of
//! their bytes.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use orlop_core::{Monitor, Progress};
use tokio_util::sync::CancellationToken;

use super::{CheckDepth, CheckReport, Covered, Damage, DamageKind};
use crate::{
    error::{Error, Result},
    pack,
    repository::Repository,
    store::{ObjectInfo, ObjectStore},
};

/// Objects that are read at once.
const WORKERS: usize = 4;

/// Reads all packs and index segments of a store, and compares their bytes with their names. Which snapshots need them
/// cannot be told, nor what is missing, nor whether chunks are right. Nothing is written, no record of it either.
///
/// # Errors
/// [`Error::NoRepository`]; the store failed; or it was cancelled.
pub async fn scrub_without_key(
    store: Arc<dyn ObjectStore>,
    monitor: &dyn Monitor,
    cancel: &CancellationToken,
) -> Result<CheckReport> {
    if !Repository::exists(&*store).await? {
        return Err(Error::NoRepository {
            store: store.description(),
        });
    }
    let mut objects = Vec::new();
    for class in ["p/", "m/", "i/"] {
        objects.extend(store.list(class).await?);
    }
    let scrub = Scrub {
        total: objects.iter().map(|object| object.size).sum(),
        objects: &objects,
        next: AtomicUsize::new(0),
        read: AtomicU64::new(0),
        damage: Mutex::default(),
    };
    let workers = (0..WORKERS).map(|_| scrub.work(&store, monitor, cancel));
    join_all(workers)
        .await
        .into_iter()
        .collect::<Result<()>>()?;
    let mut damage = scrub
        .damage
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    damage.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(CheckReport {
        depth: CheckDepth::Scrub,
        ok: damage.is_empty(),
        objects: objects.len() as u64,
        bytes: scrub.read.into_inner(),
        resumed_bytes: 0,
        damage,
        more_damage: 0,
        covered: Covered::default(),
    })
}

struct Scrub<'a> {
    objects: &'a [ObjectInfo],
    total: u64,
    next: AtomicUsize,
    read: AtomicU64,
    damage: Mutex<Vec<Damage>>,
}

impl Scrub<'_> {
    async fn work(
        &self,
        store: &Arc<dyn ObjectStore>,
        monitor: &dyn Monitor,
        cancel: &CancellationToken,
    ) -> Result<()> {
        while let Some(object) = self.objects.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match scrub_one(store, &object.name).await {
                // A collection may have deleted it since it was listed.
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(Error::Damaged { .. }) => self.found(&object.name),
                Err(error) => return Err(error),
            }
            let read = self.read.fetch_add(object.size, Ordering::Relaxed) + object.size;
            monitor.progress(Progress {
                bytes_done: read,
                bytes_total: self.total,
                transferred_bytes: read,
                ..Progress::default()
            });
        }
        Ok(())
    }

    fn found(&self, name: &str) {
        let kind = if name.starts_with("i/") {
            DamageKind::DamagedIndex
        } else {
            DamageKind::DamagedPack
        };
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.push(Damage {
            object: name.to_owned(),
            kind,
            snapshots: Vec::new(),
            paths: Vec::new(),
            repairable: true,
        });
    }
}

async fn scrub_one(store: &Arc<dyn ObjectStore>, name: &str) -> Result<()> {
    let bytes = store.get_fresh(name).await?;
    let name = name.to_owned();
    let read = tokio::task::spawn_blocking(move || pack::scrub(&name, &bytes));
    read.await.map_err(|error| Error::System {
        action: "read an object",
        source: std::io::Error::other(error),
    })?
}
