//! The loop that makes backups when turns come.

use std::{sync::Arc, time::Duration};

use orlop_core::{
    run::{BackupSpec, RunSpec},
    schedule::{Due, ScheduleSpec, SkipReason, Step},
};
use tokio_util::sync::CancellationToken;

use super::{
    Schedules,
    state::{Entry, Pending},
    unknown,
};
use crate::{
    records::Document,
    runs::{Refusal, RunKey},
};

/// A turn whose backup was refused is tried again this often.
const RETRY: Duration = Duration::from_secs(30);

/// A backup to make.
struct Job {
    pending: Pending,
    spec: ScheduleSpec,
}

impl Schedules {
    /// Makes backups when turns come, until `shutdown`.
    pub(crate) async fn run_turns(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let names: Vec<String> = self.lock().keys().cloned().collect();
            for name in names {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.turn(&name) => {}
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(self.runs.parts.limits.tick) => {}
            }
        }
    }

    async fn turn(&self, name: &str) {
        if !self
            .lock()
            .get(name)
            .is_some_and(|entry| self.may_be_due(entry))
        {
            return;
        }
        let _turn = self.changing.lock().await;
        let Some(job) = self.plan(name) else { return };
        let made = self.make(name, &job.pending.backup, job.spec).await;
        let mut table = self.lock();
        let Some(entry) = table.get_mut(name) else {
            return;
        };
        match made {
            Ok(_) => {
                entry.state.made(job.pending.turn_ms);
                entry.waiting.clear();
                entry.retry_at = None;
            }
            Err(refusal) => {
                tracing::warn!(schedule = name, reason = %refusal, "a turn waits");
                entry.waiting = refusal.to_string();
                entry.retry_at = Some(self.runs.parts.clock.passed() + RETRY);
            }
        }
        self.runs.save_schedule(name, &entry.state.to_json());
    }

    /// A look that costs little.
    fn may_be_due(&self, entry: &Entry) -> bool {
        let passed = self.runs.parts.clock.passed();
        if entry.record.paused || entry.retry_at.is_some_and(|retry| retry > passed) {
            return false;
        }
        let handled_ms = entry.state.handled_ms;
        let look = entry.timetable.look(handled_ms, self.runs.now_ms());
        // The clock may have been set back so far that turns count anew from now on.
        look.due.is_some() || look.handled_ms != handled_ms
    }

    /// Decides what the turn is; all but the making of a backup is done here.
    fn plan(&self, name: &str) -> Option<Job> {
        let now_ms = self.runs.now_ms();
        let mut table = self.lock();
        let entry = table.get_mut(name).filter(|entry| !entry.record.paused)?;
        if let Some(pending) = entry.state.pending.clone()
            && self.runs.get(&RunKey::backup(&pending.backup)).is_ok()
        {
            // It was made, and then this was not written down.
            entry.state.made(pending.turn_ms);
        }
        let look = entry.timetable.look(entry.state.handled_ms, now_ms);
        entry.state.handled_ms = look.handled_ms;
        let running = self.runs.running_of(name);
        let deadline_ms = entry.record.spec.starting_deadline_ms();
        let job = match look.step(now_ms, running.as_deref(), deadline_ms) {
            Step::Wait => None,
            Step::Skip(due, reason) => {
                skip(entry, due, &reason);
                None
            }
            Step::Run(due) => {
                let pending = self.pending(name, entry, due);
                let spec = entry.record.spec.clone();
                Some(Job { pending, spec })
            }
        };
        self.runs.save_schedule(name, &entry.state.to_json());
        job
    }

    fn pending(&self, name: &str, entry: &mut Entry, due: Due) -> Pending {
        if let Some(pending) = &entry.state.pending {
            if pending.turn_ms == due.turn_ms {
                return pending.clone();
            }
            let (turn_ms, reason) = (pending.turn_ms, std::mem::take(&mut entry.waiting));
            tracing::warn!(
                schedule = name,
                reason,
                "a turn has waited for so long that the next has come"
            );
            entry.state.skip(turn_ms, reason);
        } else {
            let missed = u64::from(due.missed);
            entry.state.skipped_count = entry.state.skipped_count.saturating_add(missed);
        }
        let pending = Pending {
            backup: self.name_for(name, due.turn_ms),
            turn_ms: due.turn_ms,
        };
        entry.state.pending = Some(pending.clone());
        pending
    }

    /// `NAME-YYYYMMDDhhmmss` in UTC, with a number behind it if that name is taken.
    fn name_for(&self, schedule: &str, time_ms: i64) -> String {
        let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
        let name = format!("{schedule}-{}", time.strftime("%Y%m%d%H%M%S"));
        let free = |name: &String| self.runs.get(&RunKey::backup(name)).is_err();
        let names = std::iter::once(name.clone());
        let mut names = names.chain((2..).map(|n: u64| format!("{name}-{n}")));
        names.find(free).unwrap_or(name)
    }

    async fn make(
        &self,
        schedule: &str,
        backup: &str,
        spec: ScheduleSpec,
    ) -> Result<Document, Refusal> {
        let request = RunSpec::Backup(BackupSpec {
            schedule: schedule.to_owned(),
            ..spec.backup
        });
        let created = self
            .runs
            .create(backup.to_owned(), &spec.location, request)
            .await;
        let (document, _) = created?;
        tracing::info!(schedule, run_id = backup, "a schedule has begun a backup");
        Ok(document)
    }

    /// Makes a backup now, whether the schedule is paused or not. No turn is dealt with by it.
    pub(crate) async fn trigger(&self, name: &str) -> Result<Document, Refusal> {
        let _turn = self.changing.lock().await;
        let spec = {
            let table = self.lock();
            let entry = table.get(name).ok_or_else(|| unknown(name, &table))?;
            entry.record.spec.clone()
        };
        if let Some(running) = self.runs.running_of(name) {
            return Err(Refusal::Precondition(format!(
                "backup {running} of schedule {name} still runs: wait for it or cancel it"
            )));
        }
        let backup = self.name_for(name, self.runs.now_ms());
        self.make(name, &backup, spec).await
    }
}

fn skip(entry: &mut Entry, due: Due, reason: &SkipReason) {
    let waited = std::mem::take(&mut entry.waiting);
    let reason = match reason {
        SkipReason::Running(backup) => format!("backup {backup} still ran"),
        SkipReason::TooLate if waited.is_empty() => {
            "it was later than the starting deadline allows".to_owned()
        }
        SkipReason::TooLate => format!("the starting deadline has passed: {waited}"),
    };
    tracing::warn!(
        schedule = entry.record.name,
        reason,
        "a turn makes no backup"
    );
    let missed = u64::from(due.missed);
    entry.state.skipped_count = entry.state.skipped_count.saturating_add(missed);
    entry.state.skip(due.turn_ms, reason);
    entry.retry_at = None;
}
