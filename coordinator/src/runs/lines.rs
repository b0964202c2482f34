//! What a run's log says of its steps.

use orlop_core::{
    TaskId,
    run::{MAX_ATTEMPTS, Run, RunPhase, Task, TaskPhase},
};
use orlop_proto::v1::LogLevel;

pub(super) fn task_line(task: &Task, was: Option<TaskPhase>) -> Option<(LogLevel, String)> {
    let volume = &task.volume;
    Some(match task.phase {
        TaskPhase::Queued if was.is_none() => return None,
        TaskPhase::Queued | TaskPhase::Running if !is_told(task.attempts) => return None,
        TaskPhase::Queued => (LogLevel::Warning, format!("{volume}: {}", task.message)),
        TaskPhase::Running => {
            let node = &task.node;
            (
                LogLevel::Info,
                format!("{volume}: begun on {node} (attempt {})", task.attempts),
            )
        }
        TaskPhase::Completed => {
            let progress = task.progress;
            let message = format!(
                "{volume}: done, {} entries, {} bytes, {} bytes transferred, {} warnings, {} errors",
                progress.entries_total,
                progress.bytes_total,
                progress.transferred_bytes,
                task.warnings,
                task.errors
            );
            (
                if task.errors > 0 {
                    LogLevel::Error
                } else {
                    LogLevel::Info
                },
                message,
            )
        }
        TaskPhase::Failed => (
            LogLevel::Error,
            format!("{volume}: failed: {}", task.message),
        ),
        TaskPhase::Canceled => (LogLevel::Warning, format!("{volume}: canceled")),
    })
}

/// Whether the log tells of an attempt: of many, ever fewer.
pub(super) fn is_told(attempts: u32) -> bool {
    attempts <= MAX_ATTEMPTS || attempts.is_power_of_two()
}

pub(super) fn run_line(run: &Run) -> (LogLevel, Option<TaskId>, String) {
    let kind = run.kind;
    let (level, message) = match run.phase {
        RunPhase::New => (LogLevel::Info, format!("{kind} accepted")),
        RunPhase::Queued if run.making.is_some() => {
            let message = format!("{kind} of Kubernetes objects queued");
            (LogLevel::Info, message)
        }
        RunPhase::Queued => (
            LogLevel::Info,
            format!("{kind} of {} volumes queued", run.tasks.len()),
        ),
        RunPhase::Running => (LogLevel::Info, format!("{kind} begun")),
        RunPhase::Finalizing => (LogLevel::Info, "all volumes have ended".to_owned()),
        RunPhase::Completed => (LogLevel::Info, format!("{kind} completed")),
        RunPhase::PartiallyFailed => (
            LogLevel::Error,
            format!("{kind} partially failed: {}", run.failure_reason),
        ),
        RunPhase::Failed => (
            LogLevel::Error,
            format!("{kind} failed: {}", run.failure_reason),
        ),
        // Clients show it as failed, and look for the reason among the errors.
        RunPhase::Canceled => (LogLevel::Error, format!("{kind} canceled")),
        RunPhase::Deleting => (LogLevel::Info, format!("{kind} is being deleted")),
    };
    (level, None, message)
}

/// Without control characters: a hostile name must not forge a line.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
