//! Backups and restores as the coordinator tells them.

mod json;

use std::fmt::Write as _;

use orlop_proto::v1;

pub(crate) use json::{BackupRunShape, RestoreRunShape};

use crate::text;

/// What backups and restores have in common.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) phase: v1::RunPhase,
    pub(crate) created_ms: i64,
    pub(crate) started_ms: i64,
    pub(crate) completed_ms: i64,
    pub(crate) volumes: v1::VolumeCounts,
    pub(crate) objects: v1::ObjectCounts,
    pub(crate) logical_bytes: u64,
    /// Bytes sent to the store or fetched from it.
    pub(crate) moved_bytes: u64,
    pub(crate) warnings: u64,
    pub(crate) errors: u64,
    pub(crate) failure_reason: String,
    pub(crate) tasks: Vec<v1::Task>,
    /// The directory in each volume that it restores into; empty if it restores into their roots.
    pub(crate) directory: String,
}

impl From<v1::Backup> for Run {
    fn from(backup: v1::Backup) -> Self {
        Self {
            kind: "backup",
            phase: backup.phase(),
            name: backup.name,
            created_ms: backup.created_ms,
            started_ms: backup.started_ms,
            completed_ms: backup.completed_ms,
            volumes: backup.volumes.unwrap_or_default(),
            objects: backup.objects.unwrap_or_default(),
            logical_bytes: backup.logical_bytes,
            moved_bytes: backup.uploaded_bytes,
            warnings: backup.warnings,
            errors: backup.errors,
            failure_reason: backup.failure_reason,
            tasks: backup.tasks,
            directory: String::new(),
        }
    }
}

impl From<v1::Restore> for Run {
    fn from(restore: v1::Restore) -> Self {
        Self {
            kind: "restore",
            phase: restore.phase(),
            name: restore.name,
            created_ms: restore.created_ms,
            started_ms: restore.started_ms,
            completed_ms: restore.completed_ms,
            volumes: restore.volumes.unwrap_or_default(),
            objects: restore.objects.unwrap_or_default(),
            logical_bytes: restore.logical_bytes,
            moved_bytes: restore.fetched_bytes,
            warnings: restore.warnings,
            errors: restore.errors,
            failure_reason: restore.failure_reason,
            tasks: restore.tasks,
            directory: restore.directory,
        }
    }
}

/// The phase as JSON and people name it.
pub(crate) fn phase_name(phase: v1::RunPhase) -> String {
    phase
        .as_str_name()
        .trim_start_matches("RUN_PHASE_")
        .to_lowercase()
}

fn task_phase_name(phase: v1::TaskPhase) -> String {
    phase
        .as_str_name()
        .trim_start_matches("TASK_PHASE_")
        .to_lowercase()
}

fn volume_name(task: &v1::Task) -> String {
    let volume = task.volume.clone().unwrap_or_default();
    format!("{}/{}/{}", volume.namespace, volume.pod, volume.volume)
}

impl Run {
    /// Whether nothing more will happen.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(
            self.phase,
            v1::RunPhase::Completed
                | v1::RunPhase::PartiallyFailed
                | v1::RunPhase::Failed
                | v1::RunPhase::Canceled
        )
    }

    /// The list as people read it.
    pub(crate) fn table(list: &[Self]) -> String {
        let Some(first) = list.first() else {
            return "none\n".to_owned();
        };
        let moved = if first.kind == "backup" {
            "UPLOADED"
        } else {
            "FETCHED"
        };
        let rows: Vec<Vec<String>> = list
            .iter()
            .map(|run| {
                vec![
                    run.name.clone(),
                    phase_name(run.phase),
                    text::short_time(run.created_ms),
                    format!("{}/{}", run.volumes.done, run.volumes.total),
                    text::bytes(run.logical_bytes),
                    text::bytes(run.moved_bytes),
                    run.warnings.to_string(),
                    run.errors.to_string(),
                ]
            })
            .collect();
        text::table(
            &[
                "NAME", "PHASE", "CREATED", "VOLUMES", "SIZE", moved, "WARNINGS", "ERRORS",
            ],
            &rows,
        )
    }

    /// Everything about one run as people read it.
    pub(crate) fn description(&self) -> String {
        let mut out = String::new();
        let mut field = |name: &str, value: String| {
            if !value.is_empty() {
                let _ = writeln!(out, "{name:<12}{value}");
            }
        };
        let moment = |ms: i64| {
            if ms == 0 {
                String::new()
            } else {
                text::short_time(ms)
            }
        };
        field("Name:", self.name.clone());
        field("Phase:", phase_name(self.phase));
        field("Reason:", self.failure_reason.clone());
        field("Directory:", self.directory.clone());
        field("Created:", moment(self.created_ms));
        field("Started:", moment(self.started_ms));
        field("Completed:", moment(self.completed_ms));
        let counts = &self.volumes;
        field(
            "Volumes:",
            format!(
                "{} done, {} failed, {} skipped, {} in all",
                counts.done, counts.failed, counts.skipped, counts.total
            ),
        );
        if self.objects.total > 0 {
            let v1::ObjectCounts { total, done } = self.objects;
            field("Objects:", format!("{done} done, {total} in all"));
        }
        let moved = if self.kind == "backup" {
            "uploaded"
        } else {
            "fetched"
        };
        field(
            "Size:",
            format!(
                "{}, {} {moved}",
                text::bytes(self.logical_bytes),
                text::bytes(self.moved_bytes)
            ),
        );
        field(
            "Issues:",
            format!(
                "{}, {}",
                text::count(self.warnings, "warning"),
                text::count(self.errors, "error")
            ),
        );
        if !self.tasks.is_empty() {
            let rows: Vec<Vec<String>> = self
                .tasks
                .iter()
                .map(|task| {
                    vec![
                        volume_name(task),
                        task.node.clone(),
                        task_phase_name(task.phase()),
                        format!(
                            "{}/{}",
                            text::bytes(task.bytes_done),
                            text::bytes(task.bytes_total)
                        ),
                        if task.snapshot_id.is_empty() {
                            "-".to_owned()
                        } else {
                            task.snapshot_id.clone()
                        },
                        task.message.clone(),
                    ]
                })
                .collect();
            out.push('\n');
            out.push_str(&text::table(
                &["VOLUME", "NODE", "PHASE", "DONE", "SNAPSHOT", "MESSAGE"],
                &rows,
            ));
        }
        out
    }

    /// One line of progress.
    pub(crate) fn progress_line(&self) -> String {
        let sum = |count: fn(&v1::Task) -> u64| self.tasks.iter().map(count).sum::<u64>();
        let objects = match self.objects {
            v1::ObjectCounts { total: 0, .. } => String::new(),
            v1::ObjectCounts { total, done } => format!("{done}/{total} objects, "),
        };
        format!(
            "{} {}: {}, {objects}{}/{} volumes, {} of {}, {} transferred",
            self.kind,
            self.name,
            phase_name(self.phase),
            self.volumes.done + self.volumes.failed,
            self.volumes.total,
            text::bytes(sum(|t| t.bytes_done)),
            text::bytes(sum(|t| t.bytes_total)),
            text::bytes(sum(|t| t.transferred_bytes)),
        )
    }
}
