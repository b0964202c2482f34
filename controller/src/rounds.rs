//! What is done from time to time rather than when an object changes.

use std::{sync::Arc, time::Duration};

use orlop_kubernetes::velero::{BackupPhase, DeleteBackupRequest};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{agents, clock, error::Trouble, expire, parts::Parts, repositories, restore, sync};

/// How often it is looked which locations are to be compared with the cluster.
const SYNC_TICK: Duration = Duration::from_secs(5);
/// How often backups are looked through that are too old.
const EXPIRE_TICK: Duration = Duration::from_mins(1);
/// How often repositories are compared with volumes, if none changes.
const REPOSITORIES_TICK: Duration = Duration::from_mins(1);
/// How often it is looked whether somebody has mounted keys into the agents.
const AGENTS_TICK: Duration = Duration::from_secs(30);
/// How often it is looked whether all objects have been seen.
const LIST_WAIT: Duration = Duration::from_millis(200);
/// Several changes at once are one.
const REPOSITORIES_PAUSE: Duration = Duration::from_secs(2);
/// Waits before the coordinator is asked again to tell of runs.
const FOLLOW_WAITS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// Runs `round` until `cancel`; it may be stopped wherever it waits.
pub(crate) async fn until_cancelled(cancel: CancellationToken, round: impl Future<Output = ()>) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = round => {}
    }
}

/// Compares locations with the cluster, for ever.
pub(crate) async fn sync(parts: Arc<Parts>) {
    let mut last = sync::Last::default();
    let mut tick = ticks(SYNC_TICK);
    loop {
        tick.tick().await;
        sync::compare_all(&parts, &mut last).await;
    }
}

/// Asks for the deletion of backups that are too old, for ever.
pub(crate) async fn expire(parts: Arc<Parts>) {
    listed(&parts).await;
    let mut tick = ticks(EXPIRE_TICK);
    loop {
        tick.tick().await;
        if let Err(trouble) = expire_once(&parts).await {
            tracing::warn!(reason = %trouble, "old backups cannot be deleted now");
        }
    }
}

async fn expire_once(parts: &Parts) -> Result<(), Trouble> {
    let (Some(backups), Some(requests), Some(locations)) = (
        parts.backups.all(),
        parts.deletions.all(),
        parts.locations.all(),
    ) else {
        return Ok(());
    };
    let requests: Vec<&DeleteBackupRequest> = requests.iter().map(Arc::as_ref).collect();
    let now_ms = clock::now_ms();
    for backup in backups {
        let Some(name) = backup.metadata.name.as_deref() else {
            continue;
        };
        let of = Some(&backup.spec.storage_location);
        let location = locations
            .iter()
            .find(|one| one.metadata.name.as_ref() == of);
        for step in expire::next(&backup, location.map(Arc::as_ref), &requests, now_ms) {
            match step {
                expire::Step::Label(patch) => {
                    parts.backups.patch(name, &patch).await?;
                }
                expire::Step::Delete(request) => {
                    parts.deletions.create(&request).await?;
                    tracing::info!(backup = name, "a backup is too old");
                }
            }
        }
    }
    Ok(())
}

/// Keeps the objects of repositories, for ever.
pub(crate) async fn repositories(parts: Arc<Parts>) {
    listed(&parts).await;
    let mut tick = ticks(REPOSITORIES_TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = parts.repositories_changed.notified() => sleep(REPOSITORIES_PAUSE).await,
        }
        if let Err(trouble) = repositories::compare(&parts).await {
            tracing::warn!(reason = %trouble, "repositories cannot be compared now");
        }
    }
}

/// Keeps keys out of the agents, for ever.
pub(crate) async fn agents(parts: Arc<Parts>) {
    let mut seen = agents::Seen::default();
    let mut tick = ticks(AGENTS_TICK);
    loop {
        tick.tick().await;
        if let Err(trouble) = agents::take_keys_out(&parts, &mut seen).await {
            tracing::warn!(reason = %trouble, "the agents cannot be looked at now");
        }
    }
}

/// Of which runs the coordinator tells.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Followed {
    /// Of backups.
    Backups,
    /// Of restores.
    Restores,
}

/// Hears from the coordinator of each change of a run, for ever.
pub(crate) async fn follow(parts: Arc<Parts>, followed: Followed) {
    let mut waits = 0;
    loop {
        let ended = match followed {
            Followed::Backups => follow_backups(&parts, &mut waits).await,
            Followed::Restores => follow_restores(&parts, &mut waits).await,
        };
        let wait = FOLLOW_WAITS[waits.min(FOLLOW_WAITS.len() - 1)];
        waits += 1;
        if let Err(trouble) = ended {
            tracing::warn!(?followed, reason = %trouble, "the coordinator does not tell of runs");
        }
        sleep(wait).await;
    }
}

async fn follow_backups(parts: &Parts, waits: &mut usize) -> Result<(), Trouble> {
    let mut told = parts.coordinator.watch_backups().await?;
    while let Some(change) = told.message().await? {
        *waits = 0;
        let name = change.backup.map(|run| run.name).unwrap_or_default();
        let known = parts.backups.known(&name);
        let live = |phase: &BackupPhase| !phase.is_final() && *phase != BackupPhase::Deleting;
        if known.is_some_and(|backup| live(&backup.status.phase)) {
            parts.backups.look_at(&name);
        }
        // Requests to delete it wait for its end.
        for request in parts.deletions.all().into_iter().flatten() {
            if request.spec.backup_name == name {
                parts
                    .deletions
                    .look_at(request.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }
    Ok(())
}

async fn follow_restores(parts: &Parts, waits: &mut usize) -> Result<(), Trouble> {
    let mut told = parts.coordinator.watch_restores().await?;
    while let Some(change) = told.message().await? {
        *waits = 0;
        let name = change.restore.map(|run| run.name).unwrap_or_default();
        if let Some(restore) = parts.restores.known(&name)
            && restore::is_at_work(&restore)
        {
            parts.restores.look_at(&name);
        }
    }
    Ok(())
}

/// Waits until all objects have been seen once: before, nobody can tell what is missing.
async fn listed(parts: &Parts) {
    let all = || {
        parts.backups.all().is_some()
            && parts.volumes.all().is_some()
            && parts.locations.all().is_some()
            && parts.deletions.all().is_some()
            && parts.repositories.all().is_some()
    };
    while !all() {
        sleep(LIST_WAIT).await;
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
