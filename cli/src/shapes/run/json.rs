//! Backups and restores as JSON: the shapes of `backup get` and `restore get`.

use orlop_core::RestoreMode;
use orlop_proto::v1;
use serde::Serialize;

use super::{
    super::{present, time},
    phase_name, task_phase_name,
};

#[derive(Debug, Serialize)]
struct VolumesShape {
    total: u32,
    done: u32,
    failed: u32,
    skipped: u32,
}

#[derive(Debug, Serialize)]
struct ObjectsShape {
    total: u64,
    done: u64,
}

#[derive(Debug, Serialize)]
struct TaskShape {
    task: String,
    node: Option<String>,
    namespace: String,
    pod: String,
    volume: String,
    phase: String,
    snapshot: Option<String>,
    bytes_done: u64,
    bytes_total: u64,
    started: Option<String>,
    completed: Option<String>,
    message: Option<String>,
}

impl From<v1::Task> for TaskShape {
    fn from(task: v1::Task) -> Self {
        let phase = task_phase_name(task.phase());
        let volume = task.volume.unwrap_or_default();
        Self {
            task: task.task_id,
            node: present(&task.node),
            namespace: volume.namespace,
            pod: volume.pod,
            volume: volume.volume,
            phase,
            snapshot: present(&task.snapshot_id),
            bytes_done: task.bytes_done,
            bytes_total: task.bytes_total,
            started: time(task.started_ms),
            completed: time(task.completed_ms),
            message: present(&task.message),
        }
    }
}

fn volumes(counts: Option<v1::VolumeCounts>) -> VolumesShape {
    let counts = counts.unwrap_or_default();
    VolumesShape {
        total: counts.total,
        done: counts.done,
        failed: counts.failed,
        skipped: counts.skipped,
    }
}

fn objects(counts: Option<v1::ObjectCounts>) -> ObjectsShape {
    let counts = counts.unwrap_or_default();
    ObjectsShape {
        total: counts.total,
        done: counts.done,
    }
}

/// One of `backup get`.
#[derive(Debug, Serialize)]
pub(crate) struct BackupRunShape {
    name: String,
    phase: String,
    created: Option<String>,
    started: Option<String>,
    completed: Option<String>,
    expires: Option<String>,
    location: Option<String>,
    schedule: Option<String>,
    volumes: VolumesShape,
    objects: ObjectsShape,
    logical_bytes: u64,
    uploaded_bytes: u64,
    warnings: u64,
    errors: u64,
    failure_reason: Option<String>,
    tasks: Vec<TaskShape>,
}

impl From<v1::Backup> for BackupRunShape {
    fn from(backup: v1::Backup) -> Self {
        Self {
            phase: phase_name(backup.phase()),
            name: backup.name,
            created: time(backup.created_ms),
            started: time(backup.started_ms),
            completed: time(backup.completed_ms),
            expires: time(backup.expires_ms),
            location: present(&backup.location),
            schedule: present(&backup.schedule),
            volumes: volumes(backup.volumes),
            objects: objects(backup.objects),
            logical_bytes: backup.logical_bytes,
            uploaded_bytes: backup.uploaded_bytes,
            warnings: backup.warnings,
            errors: backup.errors,
            failure_reason: present(&backup.failure_reason),
            tasks: backup.tasks.into_iter().map(TaskShape::from).collect(),
        }
    }
}

/// One of `restore get`.
#[derive(Debug, Serialize)]
pub(crate) struct RestoreRunShape {
    name: String,
    phase: String,
    created: Option<String>,
    started: Option<String>,
    completed: Option<String>,
    from_backup: Option<String>,
    location: Option<String>,
    mode: String,
    volumes: VolumesShape,
    objects: ObjectsShape,
    logical_bytes: u64,
    fetched_bytes: u64,
    warnings: u64,
    errors: u64,
    failure_reason: Option<String>,
    tasks: Vec<TaskShape>,
    directory: Option<String>,
}

impl From<v1::Restore> for RestoreRunShape {
    fn from(restore: v1::Restore) -> Self {
        let mode = RestoreMode::from(restore.mode());
        Self {
            phase: phase_name(restore.phase()),
            name: restore.name,
            created: time(restore.created_ms),
            started: time(restore.started_ms),
            completed: time(restore.completed_ms),
            from_backup: present(&restore.from_backup),
            location: present(&restore.location),
            mode: mode.to_string(),
            volumes: volumes(restore.volumes),
            objects: objects(restore.objects),
            logical_bytes: restore.logical_bytes,
            fetched_bytes: restore.fetched_bytes,
            warnings: restore.warnings,
            errors: restore.errors,
            failure_reason: present(&restore.failure_reason),
            tasks: restore.tasks.into_iter().map(TaskShape::from).collect(),
            directory: present(&restore.directory),
        }
    }
}
