//! Backups that others have put into a store, and those that are no longer there.

mod plan;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use orlop_kubernetes::{
    files,
    velero::{
        Backup, BackupStorageLocation, DeleteBackupRequest, PodVolumeBackup,
        location::LocationPhase,
    },
};
use orlop_proto::v1::ArtifactKind;
use serde_json::json;
use tokio::time::Instant;

use crate::{clock, error::Trouble, names, parts::Parts};

/// How often a location is compared with the cluster that does not say.
const PERIOD: Duration = Duration::from_mins(1);

/// When each location was compared last.
#[derive(Default)]
pub(crate) struct Last(BTreeMap<String, Instant>);

/// Compares all locations that are due with the cluster.
pub(crate) async fn compare_all(parts: &Parts, last: &mut Last) {
    let Some(locations) = parts.locations.all() else {
        return;
    };
    let is_live = |name: &String| {
        locations
            .iter()
            .any(|one| one.metadata.name.as_ref() == Some(name))
    };
    last.0.retain(|name, _| is_live(name));
    for location in locations
        .iter()
        .filter(|one| one.status.phase == LocationPhase::Available)
    {
        let Some(name) = location.metadata.name.as_deref() else {
            continue;
        };
        let is_due = period(location)
            .is_some_and(|period| last.0.get(name).is_none_or(|last| last.elapsed() >= period));
        if !is_due || !parts.is_applied(location) {
            continue;
        }
        last.0.insert(name.to_owned(), Instant::now());
        if let Err(trouble) = compare(parts, name).await {
            tracing::warn!(location = name, reason = %trouble, "backups of a location cannot be compared with the cluster");
        }
    }
}

/// How often a location is compared; `None` for never.
fn period(location: &BackupStorageLocation) -> Option<Duration> {
    match location.spec.backup_sync_period {
        None => Some(PERIOD),
        Some(period) => period.to_std().filter(|period| !period.is_zero()),
    }
}

async fn compare(parts: &Parts, location: &str) -> Result<(), Trouble> {
    let (Some(before), Some(requests)) = (parts.backups.all(), parts.deletions.all()) else {
        return Ok(());
    };
    let stored = parts.coordinator.stored_backups(location).await?;
    let before: Vec<&Backup> = before.iter().map(Arc::as_ref).collect();
    let requests: Vec<&DeleteBackupRequest> = requests.iter().map(Arc::as_ref).collect();
    let found = plan::difference(location, &before, &stored, &requests);
    for name in &found.missing {
        // One that cannot be read must not hide the others.
        if let Err(trouble) = bring(parts, name, location).await {
            tracing::warn!(backup = name, location, reason = %trouble, "a stored backup is left out");
        }
    }
    for name in &found.incomplete {
        if let Some(backup) = parts.backups.get(name).await? {
            complete(parts, backup, location).await?;
        }
    }
    for (name, uid) in &found.vanished {
        tracing::info!(
            backup = name,
            location,
            "a backup is no longer in the store"
        );
        parts.backups.delete(name, Some(uid)).await?;
    }
    let patch = json!({"status": {"lastSyncedTime": clock::text(clock::now_ms())}});
    parts.locations.patch(location, &patch).await?;
    Ok(())
}

/// Makes the object of a stored backup, then those of its volumes.
async fn bring(parts: &Parts, name: &str, location: &str) -> Result<(), Trouble> {
    // The coordinator runs it, or deletes it: its object will come or has just gone.
    if parts.coordinator.backup(name).await?.is_some_and(|run| {
        run.completed_ms == 0 || run.phase() == orlop_proto::v1::RunPhase::Deleting
    }) {
        return Ok(());
    }
    let kind = ArtifactKind::BackupMetadata;
    let Some(metadata) = parts
        .coordinator
        .read_artifact(kind, name, location)
        .await?
    else {
        return Ok(());
    };
    let stored: Backup = serde_json::from_slice(&metadata)
        .map_err(|error| Trouble::Unreadable(format!("its metadata cannot be read: {error}")))?;
    let Some(object) = plan::object(stored, name, location, parts.namespace()) else {
        return Err(Trouble::Unreadable(
            "its metadata is of another backup, or of one that has not ended".to_owned(),
        ));
    };
    if !parts.backups.create(&object).await? {
        return Ok(());
    }
    tracing::info!(backup = name, location, "a backup was found in the store");
    match parts.backups.get(name).await? {
        Some(backup) => complete(parts, backup, location).await,
        None => Ok(()),
    }
}

/// Makes the objects of a backup's volumes that are missing.
async fn complete(parts: &Parts, backup: Backup, location: &str) -> Result<(), Trouble> {
    let name = backup.metadata.name.clone().unwrap_or_default();
    let kind = ArtifactKind::BackupPodVolumeBackups;
    if let Some(file) = parts
        .coordinator
        .read_artifact(kind, &name, location)
        .await?
    {
        let stored: Vec<PodVolumeBackup> = files::json_from_gzip(&file[..], VOLUMES_MAX_BYTES)
            .map_err(|error| Trouble::Unreadable(format!("its volumes cannot be read: {error}")))?;
        for volume in plan::volumes(stored, &backup) {
            parts.volumes.create(&volume).await?;
        }
    }
    let patch = json!({"metadata": {"annotations": {names::INCOMPLETE: null}}});
    parts.backups.patch(&name, &patch).await?;
    Ok(())
}

/// The largest list of volumes, unpacked.
const VOLUMES_MAX_BYTES: u64 = 256 << 20;
