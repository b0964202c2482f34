//! The status of a backup, as its run has it.

use orlop_core::run::{Run, RunPhase};

use super::time;
use crate::velero::{
    BackupPhase, BackupStatus,
    backup::{BackupProgress, FORMAT_VERSION},
    hooks::HookStatus,
};

/// The status of a backup that runs or has ended.
pub fn backup_status(run: &Run, expires_ms: Option<i64>) -> BackupStatus {
    let count = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    let objects = run.objects.unwrap_or_default();
    let hooks = run.hooks();
    let is_final = run.phase.is_final();
    BackupStatus {
        version: 1,
        format_version: FORMAT_VERSION.to_owned(),
        expiration: expires_ms.and_then(time),
        phase: phase(run),
        start_timestamp: time(run.created_ms),
        completion_timestamp: run.completed_ms.filter(|_| is_final).and_then(time),
        failure_reason: match run.phase {
            RunPhase::Canceled => "canceled".to_owned(),
            _ => run.failure_reason.clone(),
        },
        warnings: count(run.warnings()),
        errors: count(run.errors()),
        progress: Some(BackupProgress {
            total_items: count(objects.total),
            items_backed_up: count(objects.done),
        }),
        hook_status: (!run.pods.is_empty()).then(|| HookStatus {
            hooks_attempted: count(hooks.attempted.into()),
            hooks_failed: count(hooks.failed.into()),
        }),
        ..BackupStatus::default()
    }
}

fn phase(run: &Run) -> BackupPhase {
    match run.phase {
        RunPhase::New | RunPhase::Queued | RunPhase::Running => BackupPhase::InProgress,
        RunPhase::Finalizing => BackupPhase::Finalizing,
        RunPhase::Completed => BackupPhase::Completed,
        RunPhase::PartiallyFailed => BackupPhase::PartiallyFailed,
        RunPhase::Failed | RunPhase::Canceled => BackupPhase::Failed,
        RunPhase::Deleting => BackupPhase::Deleting,
    }
}
