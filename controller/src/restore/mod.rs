//! `Restore`: a run that puts a backup back. It becomes one of the coordinator's, and mirrors how far that has come.

mod admit;
mod mirror;
mod volumes;

use std::{sync::Arc, time::Duration};

use orlop_kubernetes::{
    client::UnreadableObject,
    velero::{
        Backup, BackupStorageLocation, PodVolumeRestore, Restore, RestorePhase, RestoreSpec,
        labels::{self, RESTORE_FINALIZER, valid_name},
        merge_patch,
    },
};
use orlop_proto::v1::{self, RunPhase};
use serde_json::{Value, json};
use tokio::time::sleep;
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

/// How often a location is looked at that is not ready yet.
const LOCATION_WAIT: Duration = Duration::from_secs(2);
/// How often the coordinator is asked whether a restore is gone.
const WAIT: Duration = Duration::from_secs(1);
/// How often it is asked at first: mostly it is gone at once, and clients want to use its name again.
const SHORT_WAIT: Duration = Duration::from_millis(50);
/// How often it is asked like that.
const SHORT_WAITS: usize = 10;
/// How long a restore that is deleted waits for its files to go.
const PATIENCE_MS: i64 = 5 * 60_000;

/// Looks after `Restore` objects.
pub(crate) struct Restores(pub(crate) Arc<Parts>);

/// Whether our finalizer keeps a restore there.
fn is_held(restore: &Restore) -> bool {
    let finalizers = restore.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|one| one == RESTORE_FINALIZER)
}

/// Whether something is to be done about a restore: it has not ended, or is to go.
pub(crate) fn is_at_work(restore: &Restore) -> bool {
    if restore.metadata.deletion_timestamp.is_some() {
        return is_held(restore);
    }
    !restore.status.phase.is_final()
}

impl Reconciler for Restores {
    type Object = Restore;

    fn concerns(&self, restore: &Restore) -> bool {
        is_at_work(restore)
    }

    async fn reconcile(&self, name: &str, object: Option<Restore>) -> Result<Next, Trouble> {
        let Some(restore) = object.filter(is_at_work) else {
            return Ok(Next::Done);
        };
        if restore.metadata.deletion_timestamp.is_some() {
            return self.leave(name, restore).await;
        }
        match restore.status.phase {
            RestorePhase::Unset | RestorePhase::New if !is_held(&restore) => {
                self.admit(name, restore).await
            }
            // It was admitted, and may have been begun: the same request finds that.
            RestorePhase::Unset | RestorePhase::New => self.begin(name, restore).await,
            _ => match self.0.coordinator.restore(name).await? {
                Some(run) => self.mirror(name, restore, run).await,
                // It has lost its state: the same request goes on with what was made.
                None => match self.place(&restore).await? {
                    Some(place) if !self.0.is_settled(&place).await? => {
                        Ok(Next::After(LOCATION_WAIT))
                    }
                    _ => self.begin(name, restore).await,
                },
            },
        }
    }

    fn verdict(&self, object: &UnreadableObject) -> Option<Value> {
        let errors = [&object.message];
        Some(json!({"status": {"phase": "FailedValidation", "validationErrors": errors}}))
    }
}

impl Restores {
    async fn admit(&self, name: &str, restore: Restore) -> Result<Next, Trouble> {
        if names::annotation(&restore, names::CANCEL) == Some("true") {
            return self
                .end(name, &restore, RestorePhase::Failed, CANCELED.to_owned())
                .await;
        }
        let backups = self.backups(&restore.spec).await?;
        let Some(admission) = self.decide(&restore, &backups) else {
            return Ok(Next::After(LOCATION_WAIT));
        };
        match admission {
            Admission::Wait(reason) => {
                tracing::debug!(name, reason, "a restore waits");
                Ok(Next::After(LOCATION_WAIT))
            }
            Admission::Refused(refused) => {
                self.change(name, &restore, &refused).await?;
                Ok(Next::Done)
            }
            Admission::Admitted(admitted, place) => {
                // It may have changed a moment ago.
                let location = self.0.locations.get(&place).await?;
                if !location.is_some_and(|one| self.0.is_applied(&one)) {
                    return Ok(Next::After(LOCATION_WAIT));
                }
                match self.change(name, &restore, &admitted).await? {
                    Some(restore) => self.begin(name, restore).await,
                    None => Ok(Next::Done),
                }
            }
        }
    }

    /// `None` as long as nobody knows which locations there are.
    fn decide(&self, restore: &Restore, backups: &[Backup]) -> Option<Admission> {
        let locations = self.0.locations.all()?;
        let locations: Vec<BackupStorageLocation> =
            locations.iter().map(|one| (**one).clone()).collect();
        let facts = Facts {
            backups,
            locations: &locations,
            is_applied: &|location| self.0.is_applied(location),
        };
        Some(admit::admit(restore, &facts))
    }

    /// The backups that a restore may mean, as they are now.
    async fn backups(&self, spec: &RestoreSpec) -> Result<Vec<Backup>, Trouble> {
        let kept = &self.0.backups;
        if !spec.backup_name.is_empty() {
            return Ok(kept.get(&spec.backup_name).await?.into_iter().collect());
        }
        if !names::is_name(&spec.schedule_name) {
            return Ok(Vec::new());
        }
        let label = valid_name(&spec.schedule_name);
        let selector = format!("{}={label}", labels::SCHEDULE_NAME);
        Ok(kept.list(&selector).await?)
    }

    /// Writes what has changed, unless somebody else has changed the object meanwhile.
    async fn change(
        &self,
        name: &str,
        before: &Restore,
        after: &Restore,
    ) -> Result<Option<Restore>, Trouble> {
        let Some(patch) = runs::change(before, after) else {
            return Ok(Some(before.clone()));
        };
        let written = self.0.restores.patch(name, &patch).await?;
        let refused = |restore: &Restore| restore.status.phase == RestorePhase::FailedValidation;
        if written.is_some() && refused(after) && !refused(before) {
            let schedule = after.spec.schedule_name.as_str();
            self.0.refused.restore(Some(schedule));
        }
        Ok(written)
    }

    /// Ends a restore that the coordinator does not run: nothing of it need be removed with it.
    async fn end(
        &self,
        name: &str,
        restore: &Restore,
        phase: RestorePhase,
        why: String,
    ) -> Result<Next, Trouble> {
        let mut ended = released(restore);
        if phase == RestorePhase::FailedValidation {
            ended.status.validation_errors = vec![why];
        } else {
            ended.status.failure_reason = why;
            ended.status.completion_timestamp = clock::time(clock::now_ms());
        }
        ended.status.phase = phase;
        self.change(name, restore, &ended).await?;
        Ok(Next::Done)
    }

    /// The location of the restore's backup; `None` if the backup is gone.
    async fn place(&self, restore: &Restore) -> Result<Option<String>, Trouble> {
        let backup = self.0.backups.get(&restore.spec.backup_name).await?;
        Ok(backup.map(|backup| backup.spec.storage_location))
    }

    /// Asks the coordinator for the restore. The same request again finds what the first one began.
    async fn begin(&self, name: &str, restore: Restore) -> Result<Next, Trouble> {
        let place = self.place(&restore).await?;
        let request = request(&restore, place.unwrap_or_default());
        let run = match self.0.coordinator.create_restore(request).await {
            Ok(run) => run,
            Err(status) if status.code() == Code::AlreadyExists => {
                return match self.0.coordinator.restore(name).await? {
                    // That of an object before this one is on its way out.
                    Some(run) if run.phase() == RunPhase::Deleting => Ok(Next::After(WAIT)),
                    Some(_) => {
                        let why = format!(
                            "the coordinator has another restore {name}: choose another name, or run \
                             `orlop restore delete {name}` first"
                        );
                        self.end(name, &restore, RestorePhase::Failed, why).await
                    }
                    None => Err(status.into()),
                };
            }
            Err(status) if is_verdict(&status) => {
                // What has run has not failed at its validation.
                let phase = if restore.status.start_timestamp.is_some() {
                    RestorePhase::Failed
                } else {
                    RestorePhase::FailedValidation
                };
                let why = status.message().to_owned();
                return self.end(name, &restore, phase, why).await;
            }
            Err(status) => return Err(status.into()),
        };
        self.mirror(name, restore, run).await
    }

    /// Writes how far the restore has come: its volumes first, since clients count them when it ends.
    async fn mirror(
        &self,
        name: &str,
        restore: Restore,
        run: v1::Restore,
    ) -> Result<Next, Trouble> {
        let volumes = self.mirror_volumes(name, &restore, &run).await?;
        if run.phase() != RunPhase::Deleting {
            let asked = names::annotation(&restore, names::CANCEL) == Some("true");
            if !run.canceled && (asked || all_canceled(&volumes)) {
                self.0.coordinator.cancel_restore(name).await?;
            }
        }
        let mut after = restore.clone();
        after.status = mirror::status(&restore, &run, clock::now_ms());
        if let Some(patch) = merge_patch(&restore, &after) {
            self.0.restores.patch(name, &patch).await?;
        }
        // The coordinator tells of each change.
        Ok(Next::Done)
    }

    async fn mirror_volumes(
        &self,
        name: &str,
        restore: &Restore,
        run: &v1::Restore,
    ) -> Result<Vec<PodVolumeRestore>, Trouble> {
        let now_ms = clock::now_ms();
        let uid = restore.metadata.uid.as_deref();
        let next = |objects: &[PodVolumeRestore]| volumes::next(restore, run, objects, now_ms);
        let (name, uid) = ((labels::RESTORE_NAME, name), (labels::RESTORE_UID, uid));
        bring_of(&self.0.restored, name, uid, next).await
    }

    /// Whether the coordinator knows what is in the location of a restore. One that has lost its state does not at first.
    async fn is_settled(&self, restore: &Restore) -> Result<bool, Trouble> {
        match self.0.backups.get(&restore.spec.backup_name).await? {
            None => Ok(true),
            Some(backup) => Ok(self.0.is_settled(&backup.spec.storage_location).await?),
        }
    }

    /// Lets the coordinator remove the restore and its files, then lets the object go.
    async fn leave(&self, name: &str, restore: Restore) -> Result<Next, Trouble> {
        let coordinator = &self.0.coordinator;
        coordinator.delete_restore(name).await?;
        let mut run = coordinator.restore(name).await?;
        for _ in 0..SHORT_WAITS {
            if run.is_none() {
                break;
            }
            sleep(SHORT_WAIT).await;
            run = coordinator.restore(name).await?;
        }
        let asked_ms = clock::ms_or_zero(restore.metadata.deletion_timestamp.as_ref());
        let is_old = clock::now_ms() - asked_ms >= PATIENCE_MS;
        if run.is_none() && !is_old && !self.is_settled(&restore).await? {
            return Ok(Next::After(WAIT));
        }
        if let Some(run) = run {
            if !is_old && self.0.locations.get(&run.location).await?.is_some() {
                return Ok(Next::After(WAIT));
            }
            tracing::warn!(
                name,
                location = run.location,
                reason = run.failure_reason,
                "a restore goes though its files may still be there"
            );
        }
        self.change(name, &restore, &released(&restore)).await?;
        Ok(Next::Done)
    }
}

/// The restore without our finalizer.
fn released(restore: &Restore) -> Restore {
    let mut released = restore.clone();
    if let Some(finalizers) = &mut released.metadata.finalizers {
        finalizers.retain(|one| one != RESTORE_FINALIZER);
    }
    released
}

/// The request for a restore: the same each time, whatever is written to the object meanwhile. It has the object's UID, by
/// which the coordinator tells it from that of another one of its name. `location` is that of the backup, if it is known.
fn request(restore: &Restore, location: String) -> v1::CreateRestoreRequest {
    let metadata = &restore.metadata;
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key.starts_with("velero.io/"));
    let object = json!({
        "apiVersion": "velero.io/v1",
        "kind": "Restore",
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "creationTimestamp": metadata.creation_timestamp,
            "annotations": annotations,
        },
        "spec": restore.spec,
    });
    v1::CreateRestoreRequest {
        name: metadata.name.clone().unwrap_or_default(),
        from_backup: restore.spec.backup_name.clone(),
        location,
        velero_object: object.to_string().into_bytes().into(),
        ..v1::CreateRestoreRequest::default()
    }
}

/// Looks after `PodVolumeRestore` objects: nobody but us writes them, but somebody may ask one to stop.
pub(crate) struct Volumes(pub(crate) Arc<Parts>);

impl Reconciler for Volumes {
    type Object = PodVolumeRestore;

    fn concerns(&self, volume: &PodVolumeRestore) -> bool {
        volume.spec.cancel && !volume.status.phase.is_final()
    }

    async fn reconcile(
        &self,
        name: &str,
        object: Option<PodVolumeRestore>,
    ) -> Result<Next, Trouble> {
        let Some(volume) = object.filter(|volume| self.concerns(volume)) else {
            return Ok(Next::Done);
        };
        let owners = volume.metadata.owner_references.unwrap_or_default();
        if let Some(restore) = owners.into_iter().find(|owner| owner.kind == "Restore") {
            tracing::info!(
                name,
                restore = restore.name,
                "one volume cannot be stopped: the restore stops once all its volumes are to"
            );
            self.0.restores.look_at(&restore.name);
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore() -> Restore {
        serde_json::from_value(json!({
            "metadata": {
                "name": "r", "namespace": "velero", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "annotations": {"velero.io/pod-volume-timeout": "6h", "kots.io/instance": "true"},
                "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "m"}],
                "finalizers": [RESTORE_FINALIZER, "somebody/else"],
            },
            "spec": {"backupName": "b"},
            "status": {"phase": "InProgress"},
        }))
        .unwrap()
    }

    #[test]
    fn a_request_is_the_same_however_far_the_restore_has_come() {
        let request = |restore: &Restore| request(restore, "default".to_owned());
        let first = request(&restore());
        let mut later = restore();
        later.status.phase = RestorePhase::Finalizing;
        later.metadata.resource_version = Some("9".to_owned());
        let annotations = later.metadata.annotations.get_or_insert_default();
        annotations.insert(names::CANCEL.to_owned(), "true".to_owned());
        annotations.insert("kots.io/support-bundle-id".to_owned(), "x".to_owned());
        assert_eq!(request(&later), first);
        assert_eq!(
            (first.name.as_str(), first.from_backup.as_str()),
            ("r", "b")
        );
        let object: Value = serde_json::from_slice(&first.velero_object).unwrap();
        assert_eq!(
            object["metadata"],
            json!({
                "name": "r", "namespace": "velero", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"velero.io/pod-volume-timeout": "6h"},
            })
        );
        assert_eq!(object["spec"], json!({"backupName": "b"}));
        later.metadata.uid = Some("v".to_owned());
        assert_ne!(request(&later), first);
    }

    #[test]
    fn a_restore_is_at_work_until_it_has_ended_and_again_when_it_is_to_go() {
        let mut one = restore();
        assert!(is_at_work(&one));
        one.status.phase = RestorePhase::Completed;
        assert!(!is_at_work(&one));
        one.metadata.deletion_timestamp = clock::time(1_767_323_045_000);
        assert!(is_at_work(&one));
        let let_go = released(&one);
        assert_eq!(
            let_go.metadata.finalizers.as_deref().unwrap(),
            ["somebody/else"]
        );
        assert!(!is_at_work(&let_go));
    }
}
