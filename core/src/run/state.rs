//! What is known of a run and of its tasks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{making::Making, place::Place, pods::PodRun};
use crate::{Lineage, Progress, SnapshotId, TaskId, VolumeRef};

/// How often a task is begun before it counts as failed.
pub const MAX_ATTEMPTS: u32 = 3;

/// How a task's message ends when it is tried again.
pub const AGAIN: &str = "; it will be tried again";

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Makes snapshots of volumes.
    Backup,
    /// Puts snapshots back into volumes.
    Restore,
}

impl RunKind {
    /// The word for people, for names of objects and for the state database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Accepted; its tasks are not known yet.
    New,
    /// Its tasks are known and none has begun.
    Queued,
    /// At least one task has begun.
    Running,
    /// All tasks have ended; the result is being recorded.
    Finalizing,
    /// Ended: everything is there, warnings aside.
    Completed,
    /// Ended: some volumes or some entries are missing.
    PartiallyFailed,
    /// Ended without any result.
    Failed,
    /// Ended because somebody asked for it.
    Canceled,
    /// Being deleted.
    Deleting,
}

impl RunPhase {
    /// Whether nothing will change any more, except by deletion.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::PartiallyFailed | Self::Failed | Self::Canceled
        )
    }
}

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPhase {
    /// Waits for its turn on its node.
    Queued,
    /// Given to its node's agent.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended without a result.
    Failed,
    /// Ended because the run was canceled.
    Canceled,
}

impl TaskPhase {
    /// Whether the task will not run again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

/// One volume of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The task.
    pub id: TaskId,
    /// The volume that is backed up or restored into.
    pub volume: VolumeRef,
    /// The lineage that a backup writes to, as it was when the run was planned; `None` for a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The node that has the volume.
    pub node: String,
    /// How far it has come.
    pub phase: TaskPhase,
    /// How often it was begun.
    pub attempts: u32,
    /// The snapshot that it made, or restores.
    pub snapshot: Option<SnapshotId>,
    /// What it has done; kept when it ends.
    pub progress: Progress,
    /// When it last began, milliseconds since 1970.
    pub started_ms: Option<i64>,
    /// When it ended, milliseconds since 1970.
    pub completed_ms: Option<i64>,
    /// Why it failed or is tried again.
    pub message: String,
    /// Entries that changed, vanished or were left out.
    pub warnings: u64,
    /// Entries that could not be read or written.
    pub errors: u64,
    /// Whether an attempt may have written: what a restore's target holds is then its own.
    #[serde(default)]
    pub touched: bool,
    /// Where the volume is in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The volume that the snapshot of a restore was made of, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VolumeRef>,
    /// Logical bytes of the snapshot that a restore reads; 0 if they are not known.
    #[serde(default)]
    pub snapshot_bytes: u64,
    /// Whether its pod waits for it: it is tried again for as long as the pod does.
    #[serde(default)]
    pub awaited: bool,
    /// It is not begun again before this time, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<i64>,
}

/// Counts of a run's Kubernetes objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Objects {
    /// Objects selected.
    pub total: u64,
    /// Objects that are kept.
    pub done: u64,
}

/// Counts of a run's volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeCounts {
    /// Volumes selected.
    pub total: u32,
    /// Volumes that ended with a result.
    pub done: u32,
    /// Volumes that ended without one.
    pub failed: u32,
    /// Volumes of selected pods that were left out.
    pub skipped: u32,
}

/// A backup or restore over many volumes. Only [`Run::apply`] changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What it does.
    pub kind: RunKind,
    /// Its name, unique among runs of its kind.
    pub name: String,
    /// The location that it writes to or reads from.
    pub location: String,
    /// How far it has come.
    pub phase: RunPhase,
    /// When it was accepted, milliseconds since 1970.
    pub created_ms: i64,
    /// When its first task began.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub completed_ms: Option<i64>,
    /// Whether somebody asked it to stop.
    pub cancel: bool,
    /// Volumes that were left out when it was planned.
    pub skipped: u32,
    /// Why it failed as a whole; empty if it did not.
    pub failure_reason: String,
    /// Its tasks, in order of volume.
    pub tasks: Vec<Task>,
    /// Its pods with hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodRun>,
    /// Pods, by namespace and name, of which each begins when those before it have ended; others begin at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<(String, String)>,
    /// Its Kubernetes objects; `None` where there is no Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Objects>,
    /// How far a restore in a cluster has come with its Kubernetes objects; `None` for every other run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub making: Option<Making>,
    /// Warnings that are no task's.
    #[serde(default)]
    pub noted_warnings: u64,
    /// Errors that are no task's and no hook's.
    #[serde(default)]
    pub noted_errors: u64,
}

impl Run {
    /// A run that was accepted at `now_ms` and has no tasks yet.
    pub fn new(kind: RunKind, name: &str, location: &str, now_ms: i64) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            location: location.to_owned(),
            phase: RunPhase::New,
            created_ms: now_ms,
            started_ms: None,
            completed_ms: None,
            cancel: false,
            skipped: 0,
            failure_reason: String::new(),
            tasks: Vec::new(),
            pods: Vec::new(),
            order: Vec::new(),
            objects: None,
            making: None,
            noted_warnings: 0,
            noted_errors: 0,
        }
    }

    /// The task with this id.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// Counts of its volumes.
    pub fn counts(&self) -> VolumeCounts {
        let count = |wanted: fn(TaskPhase) -> bool| {
            self.tasks.iter().filter(|task| wanted(task.phase)).count() as u32
        };
        VolumeCounts {
            total: self.tasks.len() as u32,
            done: count(|phase| phase == TaskPhase::Completed),
            failed: count(|phase| matches!(phase, TaskPhase::Failed | TaskPhase::Canceled)),
            skipped: self.skipped,
        }
    }

    /// Warnings of all tasks, and others.
    pub fn warnings(&self) -> u64 {
        let tasks: u64 = self.tasks.iter().map(|task| task.warnings).sum();
        tasks + self.noted_warnings
    }

    /// Errors as its log has them: those of its parts. A run that has not brought what was asked for without any of them, as
    /// one that was cancelled, is an error itself.
    pub fn errors(&self) -> u64 {
        let falls_short = matches!(
            self.phase,
            RunPhase::PartiallyFailed | RunPhase::Failed | RunPhase::Canceled
        );
        self.errors_of_parts().max(falls_short.into())
    }

    /// Errors of all tasks, hooks, and others; a failed task or hook counts as one.
    pub fn errors_of_parts(&self) -> u64 {
        let failed = self
            .tasks
            .iter()
            .filter(|task| task.phase == TaskPhase::Failed)
            .count();
        let tasks: u64 = self.tasks.iter().map(|task| task.errors).sum();
        tasks + failed as u64 + u64::from(self.hooks().failed) + self.noted_errors
    }

    /// Logical bytes of the volumes that are done.
    pub fn logical_bytes(&self) -> u64 {
        self.tasks
            .iter()
            .filter(|task| task.phase == TaskPhase::Completed)
            .map(|task| task.progress.bytes_total)
            .sum()
    }

    /// Bytes sent to the store or fetched from it so far.
    pub fn transferred_bytes(&self) -> u64 {
        self.tasks
            .iter()
            .map(|task| task.progress.transferred_bytes)
            .sum()
    }
}
