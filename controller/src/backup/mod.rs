//! `Backup`: a run over many pods. It becomes one of the coordinator's, and mirrors how far that has come.

pub(crate) mod admit;
mod mirror;
mod volumes;

use std::{sync::Arc, time::Duration};

use orlop_kubernetes::{
    client::UnreadableObject,
    velero::{
        Backup, BackupPhase, BackupStorageLocation, PodVolumeBackup, PodVolumePhase, labels,
        merge_patch,
    },
};
use orlop_proto::v1::{self, RunPhase};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    clock,
    engine::{Next, Reconciler},
    error::Trouble,
    names,
    parts::Parts,
    runs::{self, CANCELED, is_verdict},
    volumes::{all_canceled, bring_of},
};
use admit::{Admission, Facts};

/// How often a location that is not ready yet is looked at.
const LOCATION_WAIT: Duration = Duration::from_secs(2);
/// A backup that the coordinator knows is ours if it was not accepted long before the object was made; clocks differ.
const CLOCKS_MS: i64 = 60_000;

/// Looks after `Backup` objects.
pub(crate) struct Backups(pub(crate) Arc<Parts>);

impl Reconciler for Backups {
    type Object = Backup;

    fn concerns(&self, backup: &Backup) -> bool {
        !backup.status.phase.is_final() && backup.status.phase != BackupPhase::Deleting
    }

    async fn reconcile(&self, name: &str, object: Option<Backup>) -> Result<Next, Trouble> {
        let Some(backup) = object.filter(|backup| self.concerns(backup)) else {
            return Ok(Next::Done);
        };
        match backup.status.phase {
            BackupPhase::Unset
            | BackupPhase::New
            | BackupPhase::Queued
            | BackupPhase::ReadyToStart => self.admit(name, backup).await,
            _ => match self.0.coordinator.backup(name).await? {
                Some(run) => self.mirror(name, backup, run).await,
                // It has lost its state: the same request goes on with what was uploaded.
                None if !self.0.is_settled(&backup.spec.storage_location).await? => {
                    Ok(Next::After(LOCATION_WAIT))
                }
                None => self.begin(name, backup).await,
            },
        }
    }

    fn noticed(&self, backup: &Backup) {
        // Its end may be what a turn of its schedule waits for.
        if let Some(schedule) = names::label(backup, labels::SCHEDULE_NAME) {
            self.0.schedules.look_at(schedule);
        }
    }

    fn verdict(&self, object: &UnreadableObject) -> Option<Value> {
        let errors = [&object.message];
        Some(json!({"status": {"phase": "FailedValidation", "validationErrors": errors}}))
    }
}

impl Backups {
    async fn admit(&self, name: &str, backup: Backup) -> Result<Next, Trouble> {
        if names::annotation(&backup, names::CANCEL) == Some("true") {
            return self
                .end(name, &backup, BackupPhase::Failed, CANCELED.to_owned())
                .await;
        }
        let Some(admission) = self.decide(&backup) else {
            return Ok(Next::After(LOCATION_WAIT));
        };
        match admission {
            Admission::Wait(reason) => {
                tracing::debug!(name, reason, "a backup waits");
                Ok(Next::After(LOCATION_WAIT))
            }
            Admission::Refused(refused) => {
                self.change(name, &backup, &refused).await?;
                Ok(Next::Done)
            }
            Admission::Admitted(admitted) => {
                // It may have changed a moment ago.
                let location = self.0.locations.get(&admitted.spec.storage_location);
                if !location.await?.is_some_and(|one| self.0.is_applied(&one)) {
                    return Ok(Next::After(LOCATION_WAIT));
                }
                match self.change(name, &backup, &admitted).await? {
                    Some(backup) => self.begin(name, backup).await,
                    None => Ok(Next::Done),
                }
            }
        }
    }

    /// `None` as long as nobody knows which locations there are.
    fn decide(&self, backup: &Backup) -> Option<Admission> {
        let locations = self.0.locations.all()?;
        let locations: Vec<BackupStorageLocation> =
            locations.iter().map(|one| (**one).clone()).collect();
        let facts = Facts {
            now_ms: clock::now_ms(),
            locations: &locations,
            is_applied: &|location| self.0.is_applied(location),
            cluster: self.0.version.get(),
            all_volumes: self.0.config.all_volumes,
        };
        Some(admit::admit(backup, &facts))
    }

    /// Writes what has changed, unless somebody else has changed the object meanwhile.
    async fn change(
        &self,
        name: &str,
        before: &Backup,
        after: &Backup,
    ) -> Result<Option<Backup>, Trouble> {
        let Some(patch) = runs::change(before, after) else {
            return Ok(Some(before.clone()));
        };
        let written = self.0.backups.patch(name, &patch).await?;
        let refused = |backup: &Backup| backup.status.phase == BackupPhase::FailedValidation;
        if written.is_some() && refused(after) && !refused(before) {
            let schedule = names::label(after, labels::SCHEDULE_NAME);
            self.0.refused.backup(schedule);
        }
        Ok(written)
    }

    async fn end(
        &self,
        name: &str,
        backup: &Backup,
        phase: BackupPhase,
        why: String,
    ) -> Result<Next, Trouble> {
        let mut ended = backup.clone();
        if phase == BackupPhase::FailedValidation {
            ended.status.validation_errors = vec![why];
        } else {
            ended.status.failure_reason = why;
            ended.status.completion_timestamp = clock::time(clock::now_ms());
        }
        ended.status.phase = phase;
        self.change(name, backup, &ended).await?;
        Ok(Next::Done)
    }

    /// Asks the coordinator for the backup. The same request again finds what the first one began.
    async fn begin(&self, name: &str, backup: Backup) -> Result<Next, Trouble> {
        let run = match self.0.coordinator.create_backup(request(&backup)).await {
            Ok(run) => run,
            Err(status) if status.code() == Code::AlreadyExists => {
                match self.0.coordinator.backup(name).await? {
                    Some(run) if is_ours(&run, &backup) => run,
                    Some(run) => {
                        let why = format!(
                            "backup {name} exists in location {} already: choose another name",
                            run.location
                        );
                        return self.end(name, &backup, BackupPhase::Failed, why).await;
                    }
                    None => return Err(status.into()),
                }
            }
            Err(status) if is_verdict(&status) => {
                let why = status.message().to_owned();
                return self
                    .end(name, &backup, BackupPhase::FailedValidation, why)
                    .await;
            }
            Err(status) => return Err(status.into()),
        };
        self.mirror(name, backup, run).await
    }

    /// Writes how far the backup has come: its volumes first, since clients count them when it ends.
    async fn mirror(&self, name: &str, backup: Backup, run: v1::Backup) -> Result<Next, Trouble> {
        if run.phase() != RunPhase::Deleting {
            let volumes = self.mirror_volumes(name, &backup, &run).await?;
            let asked = names::annotation(&backup, names::CANCEL) == Some("true");
            if !run.canceled && (asked || all_canceled(&volumes)) {
                self.0.coordinator.cancel_backup(name).await?;
            }
        }
        let mut after = backup.clone();
        after.status = mirror::status(&backup, &run, clock::now_ms());
        if let Some(patch) = merge_patch(&backup, &after) {
            self.0.backups.patch(name, &patch).await?;
        }
        // The coordinator tells of each change.
        Ok(Next::Done)
    }

    async fn mirror_volumes(
        &self,
        name: &str,
        backup: &Backup,
        run: &v1::Backup,
    ) -> Result<Vec<PodVolumeBackup>, Trouble> {
        let now_ms = clock::now_ms();
        let uid = backup.metadata.uid.as_deref();
        let next = |objects: &[PodVolumeBackup]| volumes::next(backup, run, objects, now_ms);
        let (name, uid) = ((labels::BACKUP_NAME, name), (labels::BACKUP_UID, uid));
        bring_of(&self.0.volumes, name, uid, next).await
    }
}

/// The request for a backup: the same each time, whatever is written to the object meanwhile.
fn request(backup: &Backup) -> v1::CreateBackupRequest {
    let metadata = &backup.metadata;
    let object = json!({
        "apiVersion": "velero.io/v1",
        "kind": "Backup",
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "creationTimestamp": metadata.creation_timestamp,
            "labels": metadata.labels,
            "annotations": metadata.annotations,
        },
        "spec": backup.spec,
    });
    v1::CreateBackupRequest {
        name: metadata.name.clone().unwrap_or_default(),
        location: backup.spec.storage_location.clone(),
        ttl_seconds: u64::try_from(backup.spec.ttl.as_secs()).unwrap_or(0),
        velero_object: object.to_string().into_bytes().into(),
        ..v1::CreateBackupRequest::default()
    }
}

/// Whether a backup that the coordinator has was begun for this object, and not for another of its name before.
fn is_ours(run: &v1::Backup, backup: &Backup) -> bool {
    let made_ms = clock::ms_or_zero(backup.metadata.creation_timestamp.as_ref());
    run.created_ms.saturating_add(CLOCKS_MS) >= made_ms
}

/// Looks after `PodVolumeBackup` objects: nobody but us writes them, but somebody may ask one to stop.
pub(crate) struct Volumes(pub(crate) Arc<Parts>);

impl Reconciler for Volumes {
    type Object = PodVolumeBackup;

    fn concerns(&self, volume: &PodVolumeBackup) -> bool {
        volume.spec.cancel && !volume.status.phase.is_final()
    }

    fn noticed(&self, volume: &PodVolumeBackup) {
        // It may be the first of its namespace, or the last.
        if volume.status.phase == PodVolumePhase::Completed {
            self.0.repositories_changed.notify_one();
        }
    }

    async fn reconcile(
        &self,
        name: &str,
        object: Option<PodVolumeBackup>,
    ) -> Result<Next, Trouble> {
        let Some(volume) = object.filter(|volume| self.concerns(volume)) else {
            return Ok(Next::Done);
        };
        let owners = volume.metadata.owner_references.unwrap_or_default();
        if let Some(backup) = owners.into_iter().find(|owner| owner.kind == "Backup") {
            tracing::info!(
                name,
                backup = backup.name,
                "one volume cannot be stopped: the backup stops once all its volumes are to"
            );
            self.0.backups.look_at(&backup.name);
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Backup {
        serde_json::from_value(json!({
            "metadata": {
                "name": "b", "namespace": "velero", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "m"}],
            },
            "spec": {"storageLocation": "default", "ttl": "1h"},
            "status": {"phase": "InProgress"},
        }))
        .unwrap()
    }

    #[test]
    fn a_request_is_the_same_however_far_the_backup_has_come() {
        let first = request(&backup());
        let mut later = backup();
        later.status.phase = BackupPhase::Finalizing;
        later.metadata.resource_version = Some("9".to_owned());
        assert_eq!(request(&later), first);
        assert_eq!(
            (first.location.as_str(), first.ttl_seconds),
            ("default", 3600)
        );
        let object: Value = serde_json::from_slice(&first.velero_object).unwrap();
        assert_eq!(object["metadata"]["uid"], "u");
        assert_eq!(object["metadata"].get("managedFields"), None);
        assert_eq!(object.get("status"), None);
    }

    #[test]
    fn a_backup_of_an_object_before_this_one_is_not_ours() {
        let made_ms = 1_767_323_045_000;
        let run = |created_ms| v1::Backup {
            created_ms,
            ..v1::Backup::default()
        };
        assert!(is_ours(&run(made_ms + 500), &backup()));
        assert!(is_ours(&run(made_ms - 30_000), &backup()));
        assert!(!is_ours(&run(made_ms - 3_600_000), &backup()));
    }
}
