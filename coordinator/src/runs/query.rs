//! What schedules ask of the table: their own backups, and what is over.

use std::collections::{BTreeMap, BTreeSet};

use orlop_core::{
    SnapshotId,
    run::{RunKind, RunPhase, RunSpec},
};

use super::{RunKey, Runs};
use crate::{error::Result, records::Document};

/// The schedule that made the backup; empty if none did.
fn schedule_of(document: &Document) -> &str {
    match &document.spec {
        RunSpec::Backup(spec) => &spec.schedule,
        RunSpec::Restore(_) => "",
    }
}

impl Runs {
    fn backups_of(&self, schedule: &str, wanted: impl Fn(&Document) -> bool) -> Vec<Document> {
        let table = self.lock();
        let all = table.documents(RunKind::Backup);
        let own = all.filter(|document| schedule_of(document) == schedule && wanted(document));
        own.cloned().collect()
    }

    /// The newest backup that a schedule has made.
    pub(crate) fn newest_of(&self, schedule: &str) -> Option<Document> {
        let own = self.backups_of(schedule, |d| d.run.phase != RunPhase::Deleting);
        own.into_iter()
            .max_by(|a, b| (a.run.created_ms, &a.run.name).cmp(&(b.run.created_ms, &b.run.name)))
    }

    /// When the newest complete backup of a schedule ended.
    pub(crate) fn last_success_of(&self, schedule: &str) -> Option<i64> {
        let own = self.backups_of(schedule, |d| d.run.phase == RunPhase::Completed);
        own.iter()
            .filter_map(|document| document.run.completed_ms)
            .max()
    }

    /// A backup of a schedule that has not ended.
    pub(crate) fn running_of(&self, schedule: &str) -> Option<String> {
        let open = |d: &Document| !d.run.phase.is_final() && d.run.phase != RunPhase::Deleting;
        let own = self.backups_of(schedule, open);
        own.into_iter().next().map(|document| document.run.name)
    }

    /// The backups of a schedule that have ended.
    pub(crate) fn finished_of(&self, schedule: &str) -> Vec<Document> {
        self.backups_of(schedule, |document| document.run.phase.is_final())
    }

    /// Backups that have ended and whose time to live is over at `now_ms`, as far as they can be deleted now.
    pub(crate) fn expired(&self, now_ms: i64) -> Vec<RunKey> {
        let over: Vec<RunKey> = {
            let table = self.lock();
            let all = table.documents(RunKind::Backup);
            let over = all.filter(|document| {
                document.run.phase.is_final()
                    && document.expires_ms().is_some_and(|ms| ms <= now_ms)
            });
            over.map(|document| RunKey::of(&document.run)).collect()
        };
        over.into_iter()
            .filter(|key| self.may_delete(key))
            .collect()
    }

    /// Whether a backup that is not to be kept can be deleted now: no restore is about to read it, and its location
    /// may be written.
    pub(crate) fn may_delete(&self, key: &RunKey) -> bool {
        let table = self.lock();
        let backup = table.document(key).map(|backup| &backup.run);
        if backup.is_some_and(|run| self.parts.locations.is_read_only(&run.location)) {
            return false;
        }
        let tasks = table.document(key).map(|backup| &backup.run.tasks);
        let made: BTreeSet<SnapshotId> = tasks
            .into_iter()
            .flatten()
            .filter_map(|task| task.snapshot)
            .collect();
        !table.documents(RunKind::Restore).any(|document| {
            let named =
                matches!(&document.spec, RunSpec::Restore(spec) if spec.from_backup == key.name);
            let mut wanted = document.run.tasks.iter().filter_map(|task| task.snapshot);
            !document.run.phase.is_final() && (named || wanted.any(|id| made.contains(&id)))
        })
    }

    /// What came of freeing space, as it was written down.
    pub(crate) fn collected(&self) -> BTreeMap<String, String> {
        self.lock().db.collected().unwrap_or_else(|error| {
            tracing::error!(error = %error, "cannot read the state database");
            BTreeMap::new()
        })
    }

    /// Writes down what came of freeing space. A failure is logged: it is done again sooner.
    pub(crate) fn save_collected(&self, location: &str, document: &str) {
        if let Err(error) = self.lock().db.save_collected(location, document) {
            tracing::error!(location, error = %error, "cannot write the state database");
        }
    }

    /// How far each schedule has come, as it was written down.
    pub(crate) fn schedule_states(&self) -> Result<BTreeMap<String, String>> {
        self.lock().db.schedules()
    }

    /// Writes down how far a schedule has come. A failure is logged: it is found out again from the backups.
    pub(crate) fn save_schedule(&self, name: &str, state: &str) {
        if let Err(error) = self.lock().db.save_schedule(name, state) {
            tracing::error!(schedule = name, error = %error, "cannot write the state database");
        }
    }

    /// Forgets how far a schedule had come.
    pub(crate) fn remove_schedule(&self, name: &str) {
        if let Err(error) = self.lock().db.remove_schedule(name) {
            tracing::error!(schedule = name, error = %error, "cannot write the state database");
        }
    }
}
