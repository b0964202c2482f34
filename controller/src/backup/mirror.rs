//! What the coordinator says of a backup, as the status of a `Backup`.

use orlop_kubernetes::velero::{
    Backup, BackupPhase, BackupStatus, backup::BackupProgress, hooks::HookStatus,
};
use orlop_proto::v1::{self, RunPhase};

use crate::{
    clock,
    runs::{self, count},
};

/// The phase of a `Backup` whose run is so far; `None` where the run says nothing.
fn phase(run: RunPhase) -> Option<BackupPhase> {
    Some(match run {
        RunPhase::Unspecified => return None,
        RunPhase::New | RunPhase::Queued | RunPhase::Running => BackupPhase::InProgress,
        // Never with "failed" in its name: KOTS would show a failure that may not come.
        RunPhase::Finalizing => BackupPhase::Finalizing,
        RunPhase::Completed => BackupPhase::Completed,
        RunPhase::PartiallyFailed => BackupPhase::PartiallyFailed,
        RunPhase::Failed | RunPhase::Canceled => BackupPhase::Failed,
        RunPhase::Deleting => BackupPhase::Deleting,
    })
}

/// The status of `backup` when its run is so far.
pub(crate) fn status(backup: &Backup, run: &v1::Backup, now_ms: i64) -> BackupStatus {
    let mut status = backup.status.clone();
    let Some(phase) = phase(run.phase()) else {
        return status;
    };
    if phase == BackupPhase::Deleting {
        status.phase = phase;
        return status;
    }
    let ends = phase.is_final();
    if status.start_timestamp.is_none() {
        status.start_timestamp = runs::began(run.created_ms, run.started_ms, now_ms);
        // The coordinator counts from when it has accepted the backup, and so does its record in the store.
        let ttl_ms = backup.spec.ttl.as_secs().saturating_mul(1000);
        if run.created_ms > 0 && ttl_ms > 0 {
            status.expiration = clock::time(run.created_ms.saturating_add(ttl_ms));
        }
    }
    if ends && status.completion_timestamp.is_none() {
        status.completion_timestamp = runs::ended(run.completed_ms, now_ms);
    }
    status.warnings = count(run.warnings);
    status.errors = count(run.errors);
    if let Some(objects) = run.objects.filter(|objects| objects.total > 0) {
        status.progress = Some(BackupProgress {
            total_items: count(objects.total),
            items_backed_up: count(objects.done),
        });
    }
    if let Some(hooks) = run.hooks.filter(|hooks| hooks.attempted > 0) {
        status.hook_status = Some(HookStatus {
            hooks_attempted: count(hooks.attempted.into()),
            hooks_failed: count(hooks.failed.into()),
        });
    }
    status.failure_reason = runs::reason(run.phase(), &run.failure_reason, "backup");
    status.phase = phase;
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_767_323_045_999;

    fn run(phase: RunPhase) -> v1::Backup {
        v1::Backup {
            phase: phase.into(),
            created_ms: NOW - 5_000,
            started_ms: NOW - 4_000,
            ..v1::Backup::default()
        }
    }

    #[test]
    fn every_phase_of_a_run_has_one_that_clients_know() {
        let cases = [
            (RunPhase::New, "InProgress"),
            (RunPhase::Queued, "InProgress"),
            (RunPhase::Running, "InProgress"),
            (RunPhase::Finalizing, "Finalizing"),
            (RunPhase::Completed, "Completed"),
            (RunPhase::PartiallyFailed, "PartiallyFailed"),
            (RunPhase::Failed, "Failed"),
            (RunPhase::Canceled, "Failed"),
            (RunPhase::Deleting, "Deleting"),
            (RunPhase::Unspecified, ""),
        ];
        for (phase, want) in cases {
            let status = status(&Backup::default(), &run(phase), NOW);
            assert_eq!(status.phase.as_str(), want);
            assert_eq!(
                status.start_timestamp.is_some(),
                !["", "Deleting"].contains(&want)
            );
            let ended = ["Completed", "PartiallyFailed", "Failed"].contains(&want);
            assert_eq!(status.completion_timestamp.is_some(), ended);
        }
    }

    #[test]
    fn counts_and_times_come_along() {
        let run = v1::Backup {
            completed_ms: NOW,
            warnings: 3,
            errors: u64::MAX,
            objects: Some(v1::ObjectCounts { total: 9, done: 9 }),
            hooks: Some(v1::HookCounts {
                attempted: 2,
                failed: 1,
            }),
            ..run(RunPhase::PartiallyFailed)
        };
        let mut backup = Backup::default();
        backup.status.version = 1;
        assert_eq!(
            json!(status(&backup, &run, NOW + 9_000)),
            json!({
                "version": 1, "phase": "PartiallyFailed", "startTimestamp": "2026-01-02T03:04:00Z",
                "completionTimestamp": "2026-01-02T03:04:05Z", "warnings": 3, "errors": i32::MAX,
                "progress": {"totalItems": 9, "itemsBackedUp": 9},
                "hookStatus": {"hooksAttempted": 2, "hooksFailed": 1},
            })
        );
    }

    #[test]
    fn times_that_were_written_stay() {
        let mut backup = Backup::default();
        backup.status = status(&backup, &run(RunPhase::Running), NOW);
        let later = v1::Backup {
            created_ms: NOW,
            ..run(RunPhase::Completed)
        };
        let status = status(&backup, &later, NOW);
        assert_eq!(status.start_timestamp, backup.status.start_timestamp);
    }
}
