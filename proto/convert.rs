//! Wire and domain: domain to wire without loss, wire to domain checked on receipt.

use orlop_core::{
    Chunking, Issue, IssueKind, Lineage, Progress, RestoreMode, VolumeRef,
    run::{
        BackupSpec, KnownVolume, Outcome, RestoreSpec, Run, RunPhase, Task, TaskPhase, TaskResult,
    },
};

use crate::{
    receive::{self, ProtocolError, Result},
    v1,
};

/// Most volumes in an inventory or a request.
pub const MAX_VOLUMES: usize = 100_000;

impl From<&VolumeRef> for v1::VolumeRef {
    fn from(volume: &VolumeRef) -> Self {
        Self {
            namespace: volume.namespace.clone(),
            pod: volume.pod.clone(),
            volume: volume.volume.clone(),
        }
    }
}

impl From<Progress> for v1::Progress {
    fn from(progress: Progress) -> Self {
        Self {
            entries_done: progress.entries_done,
            entries_total: progress.entries_total,
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
            transferred_bytes: progress.transferred_bytes,
        }
    }
}

impl From<v1::Progress> for Progress {
    fn from(progress: v1::Progress) -> Self {
        Self {
            entries_done: progress.entries_done,
            entries_total: progress.entries_total,
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
            transferred_bytes: progress.transferred_bytes,
        }
    }
}

impl From<&Issue> for v1::Issue {
    fn from(issue: &Issue) -> Self {
        let kind = match issue.kind {
            IssueKind::Vanished => v1::IssueKind::Vanished,
            IssueKind::Changed => v1::IssueKind::Changed,
            IssueKind::Unreadable => v1::IssueKind::Unreadable,
            IssueKind::Skipped => v1::IssueKind::Skipped,
            IssueKind::Metadata => v1::IssueKind::Metadata,
        };
        Self {
            path: issue.path.clone().into(),
            kind: kind.into(),
            errno: issue.errno,
            message: issue.message.clone(),
        }
    }
}

impl TryFrom<v1::Issue> for Issue {
    type Error = ProtocolError;

    fn try_from(issue: v1::Issue) -> Result<Self> {
        let kind = match issue.kind() {
            v1::IssueKind::Vanished => IssueKind::Vanished,
            v1::IssueKind::Changed => IssueKind::Changed,
            v1::IssueKind::Unreadable => IssueKind::Unreadable,
            v1::IssueKind::Skipped => IssueKind::Skipped,
            v1::IssueKind::Metadata => IssueKind::Metadata,
            v1::IssueKind::Unspecified => return Err(ProtocolError::missing("kind")),
        };
        Ok(Self {
            path: receive::blob("path", issue.path, receive::MAX_PATH_BYTES)?.to_vec(),
            kind,
            errno: issue.errno,
            message: receive::text("message", issue.message, receive::MAX_MESSAGE_BYTES)?,
        })
    }
}

impl From<RestoreMode> for v1::RestoreMode {
    fn from(mode: RestoreMode) -> Self {
        match mode {
            RestoreMode::Empty => Self::Empty,
            RestoreMode::NewDir => Self::NewDir,
            RestoreMode::Overwrite => Self::Overwrite,
            RestoreMode::Exact => Self::Exact,
        }
    }
}

impl From<Chunking> for v1::Chunking {
    fn from(chunking: Chunking) -> Self {
        match chunking {
            Chunking::Auto => Self::Unspecified,
            Chunking::Page => Self::Page,
            Chunking::Content => Self::Content,
            Chunking::Fine => Self::Fine,
        }
    }
}

impl From<v1::Chunking> for Chunking {
    fn from(chunking: v1::Chunking) -> Self {
        match chunking {
            v1::Chunking::Unspecified => Self::Auto,
            v1::Chunking::Page => Self::Page,
            v1::Chunking::Content => Self::Content,
            v1::Chunking::Fine => Self::Fine,
        }
    }
}

impl From<v1::RestoreMode> for RestoreMode {
    fn from(mode: v1::RestoreMode) -> Self {
        match mode {
            v1::RestoreMode::Unspecified | v1::RestoreMode::Empty => Self::Empty,
            v1::RestoreMode::Overwrite => Self::Overwrite,
            v1::RestoreMode::Exact => Self::Exact,
            v1::RestoreMode::NewDir => Self::NewDir,
        }
    }
}

impl From<RunPhase> for v1::RunPhase {
    fn from(phase: RunPhase) -> Self {
        match phase {
            RunPhase::New => Self::New,
            RunPhase::Queued => Self::Queued,
            RunPhase::Running => Self::Running,
            RunPhase::Finalizing => Self::Finalizing,
            RunPhase::Completed => Self::Completed,
            RunPhase::PartiallyFailed => Self::PartiallyFailed,
            RunPhase::Failed => Self::Failed,
            RunPhase::Canceled => Self::Canceled,
            RunPhase::Deleting => Self::Deleting,
        }
    }
}

impl From<TaskPhase> for v1::TaskPhase {
    fn from(phase: TaskPhase) -> Self {
        match phase {
            TaskPhase::Queued => Self::Queued,
            TaskPhase::Running => Self::Running,
            TaskPhase::Completed => Self::Completed,
            TaskPhase::Failed => Self::Failed,
            TaskPhase::Canceled => Self::Canceled,
        }
    }
}

impl From<&Task> for v1::Task {
    fn from(task: &Task) -> Self {
        let place = task.place.clone().unwrap_or_default();
        Self {
            task_id: task.id.to_string(),
            node: task.node.clone(),
            volume: Some((&task.volume).into()),
            phase: v1::TaskPhase::from(task.phase).into(),
            snapshot_id: task.snapshot.map(|id| id.to_string()).unwrap_or_default(),
            bytes_done: task.progress.bytes_done,
            bytes_total: task.progress.bytes_total,
            entries_done: task.progress.entries_done,
            entries_total: task.progress.entries_total,
            transferred_bytes: task.progress.transferred_bytes,
            started_ms: task.started_ms.unwrap_or_default(),
            completed_ms: task.completed_ms.unwrap_or_default(),
            message: task.message.clone(),
            attempts: task.attempts,
            warnings: task.warnings,
            errors: task.errors,
            pod_uid: place.pod_uid,
            claim: place.claim,
            claim_uid: place.claim_uid,
            persistent_volume: place.persistent_volume,
            source: task.source.as_ref().map(Into::into),
            snapshot_bytes: task.snapshot_bytes,
        }
    }
}

fn hook_counts(run: &Run) -> v1::HookCounts {
    let hooks = run.hooks();
    v1::HookCounts {
        attempted: hooks.attempted,
        failed: hooks.failed,
    }
}

fn object_counts(run: &Run) -> v1::ObjectCounts {
    let objects = run.objects.unwrap_or_default();
    v1::ObjectCounts {
        total: objects.total,
        done: objects.done,
    }
}

fn volume_counts(run: &Run) -> v1::VolumeCounts {
    let counts = run.counts();
    v1::VolumeCounts {
        total: counts.total,
        done: counts.done,
        failed: counts.failed,
        skipped: counts.skipped,
    }
}

/// The message of a backup.
pub fn backup(run: &Run, spec: &BackupSpec) -> v1::Backup {
    let ttl_ms = i64::try_from(spec.ttl_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let expires_ms = if ttl_ms == 0 {
        0
    } else {
        run.created_ms.saturating_add(ttl_ms)
    };
    v1::Backup {
        name: run.name.clone(),
        phase: v1::RunPhase::from(run.phase).into(),
        created_ms: run.created_ms,
        started_ms: run.started_ms.unwrap_or_default(),
        completed_ms: run.completed_ms.unwrap_or_default(),
        expires_ms,
        location: run.location.clone(),
        schedule: spec.schedule.clone(),
        volumes: Some(volume_counts(run)),
        objects: Some(object_counts(run)),
        logical_bytes: run.logical_bytes(),
        uploaded_bytes: run.transferred_bytes(),
        warnings: run.warnings(),
        errors: run.errors(),
        failure_reason: run.failure_reason.clone(),
        tasks: run.tasks.iter().map(v1::Task::from).collect(),
        hooks: Some(hook_counts(run)),
        canceled: run.cancel,
    }
}

/// The message of a restore.
pub fn restore(run: &Run, spec: &RestoreSpec) -> v1::Restore {
    v1::Restore {
        name: run.name.clone(),
        phase: v1::RunPhase::from(run.phase).into(),
        created_ms: run.created_ms,
        started_ms: run.started_ms.unwrap_or_default(),
        completed_ms: run.completed_ms.unwrap_or_default(),
        from_backup: spec.from_backup.clone(),
        mode: v1::RestoreMode::from(spec.effective_mode()).into(),
        volumes: Some(volume_counts(run)),
        objects: Some(object_counts(run)),
        logical_bytes: run.logical_bytes(),
        fetched_bytes: run.transferred_bytes(),
        warnings: run.warnings(),
        errors: run.errors(),
        failure_reason: run.failure_reason.clone(),
        tasks: run.tasks.iter().map(v1::Task::from).collect(),
        location: run.location.clone(),
        hooks: Some(hook_counts(run)),
        canceled: run.cancel,
        directory: spec.directory(&run.name).unwrap_or_default().to_owned(),
    }
}

impl From<&KnownVolume> for v1::FoundVolume {
    fn from(known: &KnownVolume) -> Self {
        Self {
            volume: Some((&known.volume).into()),
            pod_uid: known.pod_uid.clone(),
            plugin: known.plugin.clone(),
            lineage: known.lineage.0.clone(),
            selected: known.selected,
            skip_reason: known.skip_reason.clone().unwrap_or_default(),
        }
    }
}

/// The inventory of `node`.
///
/// # Errors
/// It is too long, or a volume in it breaks the contract.
pub fn inventory(node: &str, volumes: Vec<v1::FoundVolume>) -> Result<Vec<KnownVolume>> {
    receive::at_most("volumes", &volumes, MAX_VOLUMES)?;
    let known = |(i, found)| {
        known_volume(node, found).map_err(|error| error.within(&format!("volumes[{i}]")))
    };
    volumes.into_iter().enumerate().map(known).collect()
}

fn known_volume(node: &str, found: v1::FoundVolume) -> Result<KnownVolume> {
    let names = receive::MAX_NAME_BYTES;
    let lineage = receive::some_text("lineage", found.lineage, receive::MAX_LINEAGE_BYTES)?;
    let reason = receive::text("skip_reason", found.skip_reason, receive::MAX_MESSAGE_BYTES)?;
    Ok(KnownVolume {
        volume: receive::volume("volume", found.volume)?,
        node: node.to_owned(),
        pod_uid: receive::text("pod_uid", found.pod_uid, names)?,
        plugin: receive::text("plugin", found.plugin, names)?,
        lineage: Lineage(lineage),
        selected: found.selected,
        skip_reason: (!reason.is_empty()).then_some(reason),
    })
}

impl From<&Outcome> for v1::task_finished::Outcome {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed(result) => Self::Result(v1::TaskResult {
                snapshot_id: result.snapshot.to_string(),
                logical_bytes: result.logical_bytes,
                transferred_bytes: result.transferred_bytes,
                entries: result.entries,
                warnings: result.warnings,
                errors: result.errors,
            }),
            Outcome::Failed { message, retry } => Self::Failure(v1::TaskFailure {
                message: clip(message),
                retry: *retry,
            }),
            Outcome::Canceled => Self::Canceled(v1::TaskCanceled {}),
        }
    }
}

impl TryFrom<v1::task_finished::Outcome> for Outcome {
    type Error = ProtocolError;

    fn try_from(outcome: v1::task_finished::Outcome) -> Result<Self> {
        use v1::task_finished::Outcome as Wire;
        Ok(match outcome {
            Wire::Result(result) => Self::Completed(TaskResult {
                snapshot: receive::snapshot_id("result.snapshot_id", &result.snapshot_id)?,
                logical_bytes: result.logical_bytes,
                transferred_bytes: result.transferred_bytes,
                entries: result.entries,
                warnings: result.warnings,
                errors: result.errors,
            }),
            Wire::Failure(failure) => Self::Failed {
                message: receive::some_text(
                    "failure.message",
                    failure.message,
                    receive::MAX_MESSAGE_BYTES,
                )?,
                retry: failure.retry,
            },
            Wire::Canceled(_) => Self::Canceled,
        })
    }
}

/// `message` cut to what a message for a person may have.
pub fn clip(message: &str) -> String {
    let mut end = message.len().min(receive::MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
