//! What the coordinator says of a restore, as the status of a `Restore`.

use orlop_kubernetes::velero::{
    Restore, RestorePhase, RestoreStatus, hooks::HookStatus, restore::RestoreProgress,
};
use orlop_proto::v1::{self, RunPhase};

use crate::runs::{self, count};

/// The failure reason of a restore whose run somebody has deleted.
const DELETED: &str = "somebody has deleted it from the coordinator before it had ended";

/// The phase of a `Restore` whose run is so far; `None` where the run says nothing.
fn phase(run: &v1::Restore) -> Option<RestorePhase> {
    Some(match run.phase() {
        RunPhase::Unspecified => return None,
        RunPhase::New | RunPhase::Queued | RunPhase::Running => RestorePhase::InProgress,
        RunPhase::Finalizing if run.errors > 0 => RestorePhase::FinalizingPartiallyFailed,
        RunPhase::Finalizing => RestorePhase::Finalizing,
        RunPhase::Completed => RestorePhase::Completed,
        RunPhase::PartiallyFailed => RestorePhase::PartiallyFailed,
        // A restore has no phase for what is being deleted: it has ended, and must not begin again.
        RunPhase::Failed | RunPhase::Canceled | RunPhase::Deleting => RestorePhase::Failed,
    })
}

/// The status of `restore` when its run is so far.
pub(super) fn status(restore: &Restore, run: &v1::Restore, now_ms: i64) -> RestoreStatus {
    let mut status = restore.status.clone();
    let Some(phase) = phase(run) else {
        return status;
    };
    if status.start_timestamp.is_none() {
        status.start_timestamp = runs::began(run.created_ms, run.started_ms, now_ms);
    }
    if phase.is_final() && status.completion_timestamp.is_none() {
        status.completion_timestamp = runs::ended(run.completed_ms, now_ms);
    }
    status.warnings = count(run.warnings);
    status.errors = count(run.errors);
    if let Some(objects) = run.objects.filter(|objects| objects.total > 0) {
        status.progress = Some(RestoreProgress {
            total_items: count(objects.total),
            items_restored: count(objects.done),
        });
    }
    if let Some(hooks) = run.hooks.filter(|hooks| hooks.attempted > 0) {
        status.hook_status = Some(HookStatus {
            hooks_attempted: count(hooks.attempted.into()),
            hooks_failed: count(hooks.failed.into()),
        });
    }
    status.failure_reason = match run.phase() {
        RunPhase::Deleting => DELETED.to_owned(),
        phase => runs::reason(phase, &run.failure_reason, "restore"),
    };
    status.phase = phase;
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_767_323_045_999;

    fn run(phase: RunPhase) -> v1::Restore {
        v1::Restore {
            phase: phase.into(),
            created_ms: NOW - 5_000,
            started_ms: NOW - 4_000,
            ..v1::Restore::default()
        }
    }

    #[test]
    fn every_phase_of_a_run_has_one_that_clients_know() {
        let cases = [
            (RunPhase::New, 0, "InProgress"),
            (RunPhase::Queued, 0, "InProgress"),
            (RunPhase::Running, 3, "InProgress"),
            (RunPhase::Finalizing, 0, "Finalizing"),
            (RunPhase::Finalizing, 1, "FinalizingPartiallyFailed"),
            (RunPhase::Completed, 0, "Completed"),
            (RunPhase::PartiallyFailed, 1, "PartiallyFailed"),
            (RunPhase::Failed, 0, "Failed"),
            (RunPhase::Canceled, 0, "Failed"),
            (RunPhase::Deleting, 0, "Failed"),
            (RunPhase::Unspecified, 0, ""),
        ];
        for (phase, errors, want) in cases {
            let run = v1::Restore {
                errors,
                ..run(phase)
            };
            let status = status(&Restore::default(), &run, NOW);
            assert_eq!(status.phase.as_str(), want);
            assert_eq!(status.start_timestamp.is_some(), !want.is_empty());
            assert_eq!(
                status.completion_timestamp.is_some(),
                status.phase.is_final()
            );
            assert_eq!(!status.failure_reason.is_empty(), want == "Failed");
        }
    }

    #[test]
    fn counts_and_times_come_along() {
        let run = v1::Restore {
            completed_ms: NOW,
            warnings: 3,
            errors: u64::MAX,
            objects: Some(v1::ObjectCounts { total: 9, done: 8 }),
            hooks: Some(v1::HookCounts {
                attempted: 2,
                failed: 1,
            }),
            ..run(RunPhase::PartiallyFailed)
        };
        let status = status(&Restore::default(), &run, NOW + 9_000);
        assert_eq!(
            json!(status),
            json!({
                "phase": "PartiallyFailed", "startTimestamp": "2026-01-02T03:04:00Z",
                "completionTimestamp": "2026-01-02T03:04:05Z", "warnings": 3, "errors": i32::MAX,
                "progress": {"totalItems": 9, "itemsRestored": 8},
                "hookStatus": {"hooksAttempted": 2, "hooksFailed": 1},
            })
        );
        let again = Restore {
            status: status.clone(),
            ..Restore::default()
        };
        let later = v1::Restore {
            created_ms: NOW,
            completed_ms: NOW + 60_000,
            ..run
        };
        assert_eq!(super::status(&again, &later, NOW), status);
    }
}
