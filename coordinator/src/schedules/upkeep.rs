//! The loop that deletes backups: those whose time is over, and those that a schedule's rules no longer keep.

use std::sync::{Arc, atomic::Ordering};

use orlop_core::{
    retention::{Completeness, Guard, Item, decide},
    run::RunPhase,
};
use tokio::sync::broadcast::error::TryRecvError;
use tokio_util::sync::CancellationToken;

use super::Schedules;
use crate::{records::Document, runs::RunKey};

impl Schedules {
    /// Deletes backups that are not to be kept, until `shutdown`.
    pub(crate) async fn run_upkeep(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changes = self.runs.changes();
        loop {
            while let Ok(_) | Err(TryRecvError::Lagged(_)) = changes.try_recv() {
                self.unkept.store(true, Ordering::Relaxed);
            }
            if let Some(now_ms) = self.steadiness.believed_ms(&*self.runs.parts.clock) {
                self.expire(now_ms);
                if self.unkept.swap(false, Ordering::Relaxed) {
                    self.keep(now_ms);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.runs.parts.limits.tick) => {}
            }
        }
    }

    /// Deletes backups whose time to live is over.
    fn expire(&self, now_ms: i64) {
        for key in self.runs.expired(now_ms) {
            tracing::info!(
                run_id = key.name,
                "the backup's time is over: it is deleted"
            );
            self.runs.delete(&key);
        }
    }

    /// Applies the rules of every schedule to its own finished backups.
    fn keep(&self, now_ms: i64) {
        let rules: Vec<_> = {
            let table = self.lock();
            let entries = table
                .values()
                .filter(|entry| !entry.record.spec.keep.is_empty());
            let rules = |entry: &super::Entry| {
                let record = &entry.record;
                (
                    record.name.clone(),
                    record.spec.keep.clone(),
                    entry.timetable.zone().clone(),
                )
            };
            entries.map(rules).collect()
        };
        for (schedule, policy, zone) in rules {
            let backups = self.runs.finished_of(&schedule);
            let items: Vec<Item<'_, &str>> = backups.iter().map(item).collect();
            let guard = Guard {
                zone,
                ..Guard::new(now_ms)
            };
            for decision in decide(&policy, &items, &guard) {
                let key = RunKey::backup(decision.id);
                if decision.keep {
                    continue;
                }
                if !self.runs.may_delete(&key) {
                    self.unkept.store(true, Ordering::Relaxed);
                    continue;
                }
                let reason = &decision.reasons[0];
                tracing::info!(schedule, run_id = key.name, %reason, "the backup is deleted");
                self.runs.delete(&key);
            }
        }
    }
}

fn item(document: &Document) -> Item<'_, &str> {
    let run = &document.run;
    Item {
        id: &run.name,
        group: "",
        time_ms: run.created_ms,
        sequence: 0,
        completeness: match run.phase {
            RunPhase::Completed => Completeness::Complete,
            RunPhase::PartiallyFailed => Completeness::Flawed,
            _ => Completeness::Partial,
        },
        tags: &[],
        held_by: "",
    }
}
