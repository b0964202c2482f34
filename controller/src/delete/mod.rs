//! `DeleteBackupRequest`: somebody wants a backup gone, with its files and its snapshots.

pub(crate) mod steps;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orlop_kubernetes::velero::{DeleteBackupRequest, Restore, labels, location::LocationPhase};
use serde_json::json;

use crate::{
    clock,
    engine::{Next, Reconciler},
    error::Trouble,
    names,
    parts::Parts,
};
use steps::{Facts, Step};

/// How often the coordinator is asked whether a backup is gone.
const WAIT: Duration = Duration::from_secs(1);
/// More steps than a request has: whoever takes more goes in circles.
const STEPS_MAX: usize = 10;

/// Looks after `DeleteBackupRequest` objects.
pub(crate) struct Deletions {
    parts: Arc<Parts>,
    /// UIDs of the requests for which the coordinator was asked to delete.
    asked: Mutex<BTreeSet<String>>,
}

impl Deletions {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self {
            parts,
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets requests that are gone.
    fn forget(&self) {
        let Some(all) = self.parts.deletions.all() else {
            return;
        };
        let live: BTreeSet<&str> = all
            .iter()
            .filter_map(|one| one.metadata.uid.as_deref())
            .collect();
        self.asked().retain(|uid| live.contains(uid.as_str()));
    }
}

impl Reconciler for Deletions {
    type Object = DeleteBackupRequest;

    fn concerns(&self, _request: &DeleteBackupRequest) -> bool {
        true
    }

    async fn reconcile(
        &self,
        name: &str,
        object: Option<DeleteBackupRequest>,
    ) -> Result<Next, Trouble> {
        let Some(mut request) = object else {
            self.forget();
            return Ok(Next::Done);
        };
        for _ in 0..STEPS_MAX {
            let step = self.decide(&request).await?;
            match self.take(name, &request, step).await? {
                Taken::Stop(next) => return Ok(next),
                Taken::Again => {
                    let Some(now) = self.parts.deletions.get(name).await? else {
                        return Ok(Next::Done);
                    };
                    request = now;
                }
            }
        }
        Ok(Next::After(WAIT))
    }
}

enum Taken {
    Again,
    Stop(Next),
}

impl Deletions {
    async fn decide(&self, request: &DeleteBackupRequest) -> Result<Step, Trouble> {
        let parts = &self.parts;
        let of = request.spec.backup_name.as_str();
        let (mut backup, mut run) = (None, None);
        if !of.is_empty() {
            backup = parts.backups.get(of).await?;
        }
        if backup.is_some() {
            run = parts.coordinator.backup(of).await?;
        }
        let location = match &backup {
            None => None,
            Some(backup) if backup.spec.storage_location.is_empty() => None,
            Some(backup) => parts.locations.get(&backup.spec.storage_location).await?,
        };
        let restores = match &backup {
            None => Vec::new(),
            Some(_) => self.restores_of(of).await?,
        };
        let settled = location.as_ref().is_none_or(|location| {
            parts.is_applied(location) && location.status.phase == LocationPhase::Available
        });
        let live = restores.iter().find(|one| is_live(one));
        let uid = request.metadata.uid.clone().unwrap_or_default();
        let asked = self.asked().contains(&uid);
        Ok(steps::next(
            request,
            &Facts {
                now_ms: clock::now_ms(),
                backup: backup.as_ref(),
                location: location.as_ref(),
                settled,
                run: run.as_ref(),
                restore: live.and_then(|one| one.metadata.name.as_deref()),
                asked,
            },
        ))
    }

    async fn take(
        &self,
        name: &str,
        request: &DeleteBackupRequest,
        step: Step,
    ) -> Result<Taken, Trouble> {
        let parts = &self.parts;
        let of = request.spec.backup_name.as_str();
        let stamp = steps::stamp(clock::now_ms());
        match step {
            Step::Accept { labels } => {
                let patch = json!({
                    "metadata": {"labels": labels, "annotations": {names::ANSWERED: stamp}},
                    "status": {"phase": "InProgress"},
                });
                parts.deletions.patch(name, &patch).await?;
            }
            Step::Mark => {
                let patch = json!({
                    "metadata": {"annotations": {names::DELETE_ERROR: null}},
                    "status": {"phase": "Deleting"},
                });
                parts.backups.patch(of, &patch).await?;
            }
            Step::Ask => {
                parts.coordinator.delete_backup(of).await?;
                self.asked()
                    .insert(request.metadata.uid.clone().unwrap_or_default());
            }
            Step::Wait => return Ok(Taken::Stop(Next::After(WAIT))),
            Step::RemoveObjects => {
                if !self.remove_objects(of).await? {
                    return Ok(Taken::Stop(Next::After(WAIT)));
                }
            }
            Step::RemoveRequest => {
                parts
                    .deletions
                    .delete(name, request.metadata.uid.as_deref())
                    .await?;
                return Ok(Taken::Stop(Next::Done));
            }
            Step::Fail(why) => {
                tracing::warn!(name, backup = of, reason = why, "a backup is not deleted");
                if !of.is_empty() {
                    let patch = json!({"metadata": {"annotations": {names::DELETE_ERROR: why}}});
                    parts.backups.patch(of, &patch).await?;
                }
                let patch = json!({
                    "metadata": {"annotations": {names::ANSWERED: stamp}},
                    "status": {"phase": "Processed", "errors": [why]},
                });
                parts.deletions.patch(name, &patch).await?;
            }
            Step::LaterAt(then_ms) => {
                return Ok(Taken::Stop(Next::After(clock::until(
                    then_ms,
                    clock::now_ms(),
                ))));
            }
        }
        Ok(Taken::Again)
    }

    async fn restores_of(&self, of: &str) -> Result<Vec<Restore>, Trouble> {
        let mut restores = self.parts.restores.list("").await?;
        restores.retain(|restore| restore.spec.backup_name == of);
        Ok(restores)
    }

    /// The backup itself goes last: as long as it is there, all of this is done again. False if something has to go
    /// before.
    async fn remove_objects(&self, of: &str) -> Result<bool, Trouble> {
        let parts = &self.parts;
        let mut restores = self.restores_of(of).await?;
        restores.retain(|restore| !is_live(restore));
        for restore in &restores {
            let name = restore.metadata.name.as_deref().unwrap_or_default();
            parts
                .restores
                .delete(name, restore.metadata.uid.as_deref())
                .await?;
        }
        // Their files go before they do.
        if !restores.is_empty() {
            let left = self.restores_of(of).await?;
            if left.iter().any(|restore| !is_live(restore)) {
                return Ok(false);
            }
        }
        let selector = format!("{}={}", labels::BACKUP_NAME, labels::valid_name(of));
        for volume in parts.volumes.list(&selector).await? {
            let name = volume.metadata.name.unwrap_or_default();
            parts
                .volumes
                .delete(&name, volume.metadata.uid.as_deref())
                .await?;
        }
        let uid = parts
            .backups
            .get(of)
            .await?
            .and_then(|backup| backup.metadata.uid);
        parts.backups.delete(of, uid.as_deref()).await?;
        tracing::info!(backup = of, "a backup is deleted");
        Ok(true)
    }
}

/// Whether a restore needs its backup.
fn is_live(restore: &Restore) -> bool {
    !restore.status.phase.is_final() && restore.metadata.deletion_timestamp.is_none()
}
