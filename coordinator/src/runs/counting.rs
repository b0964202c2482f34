//! What monitoring is told of the table.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use orlop_core::{
    TaskId,
    run::{RunKind, RunPhase, TaskPhase},
};

use super::{
    RunKey, Runs,
    table::{Entry, Table},
};
use crate::metrics::{Counted, LastEnd, Standing};

impl Table {
    /// Counts a run that was accepted.
    pub(super) fn count_begun(&self, key: &RunKey) {
        if let Some(entry) = self.entries.get(key) {
            self.counted.begun(key.kind, &entry.schedule);
        }
    }

    /// Notes that the Kubernetes objects of a backup take `bytes` in the store.
    pub(super) fn count_objects(&self, key: &RunKey, bytes: u64) {
        if let Some(entry) = self.entries.get(key) {
            self.counted.objects_put(&entry.schedule, bytes);
        }
    }

    /// Counts what has become of the removal of a deleted backup: it is gone, or will be tried again.
    pub(super) fn count_removal(&self, key: &RunKey, done: bool) {
        match self.entries.get(key) {
            Some(entry) if key.kind == RunKind::Backup => {
                self.counted.removal(&entry.schedule, done);
            }
            _ => {}
        }
    }

    /// Counts what has ended since the run and its tasks were in these phases.
    pub(super) fn count_changes(
        &self,
        key: &RunKey,
        before: RunPhase,
        tasks_before: &HashMap<TaskId, TaskPhase>,
    ) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let run = &entry.document.run;
        for task in &run.tasks {
            if tasks_before.get(&task.id) != Some(&task.phase) {
                self.counted.volume_ended(run.kind, task);
            }
        }
        if run.phase != before {
            self.counted.moved(run, &entry.schedule);
        }
    }
}

impl Runs {
    /// What is counted since the start.
    pub(crate) fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }

    /// How many runs of a kind there are.
    pub(crate) fn count(&self, kind: RunKind) -> u32 {
        self.lock().documents(kind).count() as u32
    }

    /// How the backups of each schedule stand, and those of none.
    pub(crate) fn standings(&self) -> BTreeMap<String, Standing> {
        let table = self.lock();
        let mut all: BTreeMap<String, Standing> = BTreeMap::new();
        let backups = table.entries.iter();
        for (_, entry) in backups.filter(|(key, _)| key.kind == RunKind::Backup) {
            let standing = all.entry(entry.schedule.clone()).or_default();
            if let Some(end) = end_of(entry) {
                standing.add(end);
            }
        }
        all
    }
}

fn end_of(entry: &Entry) -> Option<LastEnd> {
    let run = &entry.document.run;
    let at_ms = run.completed_ms.filter(|_| run.phase.is_final())?;
    Some(LastEnd {
        at_ms,
        complete: run.phase == RunPhase::Completed,
        objects: run.objects.map_or(0, |objects| objects.total),
        errors: run.errors_of_parts(),
    })
}
