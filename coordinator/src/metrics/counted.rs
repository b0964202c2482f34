//! What is counted since the start: beginnings and ends of runs, volumes and deletions.

use orlop_core::run::{Run, RunKind, RunPhase, Task, TaskPhase};
use orlop_runtime::metrics::{tell, tell_unit};
use prometheus_client::{
    encoding::DescriptorEncoder,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Unit,
};

use super::labels::{Node, Schedule, VolumeEnd};

/// Upper ends of the buckets of how long backups take, in minutes: those of Velero.
const MINUTES: [f64; 9] = [1.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 180.0, 240.0];

type BySchedule = Family<Schedule, Counter>;

/// Counts since the start. A count that falls back to 0 says that the coordinator was restarted.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    backups: Ends,
    restores: Ends,
    warnings: BySchedule,
    durations: Durations,
    sizes: Family<Schedule, Gauge>,
    deletions: Deletions,
    backed_up: Family<VolumeEnd, Counter>,
    restored: Family<VolumeEnd, Counter>,
    read: Family<Node, Counter>,
    uploaded: Family<Node, Counter>,
    written: Family<Node, Counter>,
}

#[derive(Debug, Default)]
struct Ends {
    attempted: BySchedule,
    completed: BySchedule,
    partly_failed: BySchedule,
    failed: BySchedule,
}

#[derive(Debug, Default)]
struct Deletions {
    attempted: BySchedule,
    done: BySchedule,
    failed: BySchedule,
}

#[derive(Debug)]
struct Durations(Family<Schedule, Histogram, fn() -> Histogram>);

impl Default for Durations {
    fn default() -> Self {
        let empty = || Histogram::new(MINUTES.map(|minutes| minutes * 60.0));
        Self(Family::new_with_constructor(empty))
    }
}

impl Ends {
    fn all(&self) -> [&BySchedule; 4] {
        [
            &self.attempted,
            &self.completed,
            &self.partly_failed,
            &self.failed,
        ]
    }
}

impl Deletions {
    fn all(&self) -> [&BySchedule; 3] {
        [&self.attempted, &self.done, &self.failed]
    }
}

impl Counted {
    fn ends(&self, kind: RunKind) -> &Ends {
        match kind {
            RunKind::Backup => &self.backups,
            RunKind::Restore => &self.restores,
        }
    }

    /// Makes all counts of a schedule 0 that are nothing yet: a rate needs two of them.
    pub(crate) fn know(&self, schedule: &str) {
        let label = Schedule::named(schedule);
        let (backups, restores) = (self.backups.all(), self.restores.all());
        let all = backups.into_iter().chain(restores);
        for counts in all.chain(self.deletions.all()).chain([&self.warnings]) {
            drop(counts.get_or_create(&label));
        }
    }

    /// A run was accepted.
    pub(crate) fn begun(&self, kind: RunKind, schedule: &str) {
        self.know(schedule);
        let label = Schedule::named(schedule);
        self.ends(kind).attempted.get_or_create(&label).inc();
    }

    /// A run has come from another phase to that which it has now.
    pub(crate) fn moved(&self, run: &Run, schedule: &str) {
        let label = Schedule::named(schedule);
        let ends = self.ends(run.kind);
        let end = match run.phase {
            RunPhase::Completed => &ends.completed,
            RunPhase::PartiallyFailed => &ends.partly_failed,
            // Velero has no other word for what somebody has stopped.
            RunPhase::Failed | RunPhase::Canceled => &ends.failed,
            RunPhase::Deleting if run.kind == RunKind::Backup => &self.deletions.attempted,
            _ => return,
        };
        end.get_or_create(&label).inc();
        if run.kind == RunKind::Restore || !run.phase.is_final() {
            return;
        }
        if run.warnings() > 0 {
            self.warnings.get_or_create(&label).inc();
        }
        if let Some(ended_ms) = run.completed_ms {
            let took_ms = ended_ms.saturating_sub(run.created_ms).max(0);
            let histogram = self.durations.0.get_or_create(&label);
            histogram.observe(took_ms as f64 / 1000.0);
        }
    }

    /// A volume of a run has ended.
    pub(crate) fn volume_ended(&self, kind: RunKind, task: &Task) {
        let result = match task.phase {
            TaskPhase::Completed => "completed",
            TaskPhase::Failed => "failed",
            TaskPhase::Canceled => "canceled",
            TaskPhase::Queued | TaskPhase::Running => return,
        };
        let node = task.node.clone();
        let by_node = Node { node: node.clone() };
        let end = VolumeEnd { node, result };
        let progress = &task.progress;
        let bytes = match kind {
            RunKind::Backup => {
                self.backed_up.get_or_create(&end).inc();
                let uploaded = self.uploaded.get_or_create(&by_node);
                uploaded.inc_by(progress.transferred_bytes);
                &self.read
            }
            RunKind::Restore => {
                self.restored.get_or_create(&end).inc();
                &self.written
            }
        };
        bytes.get_or_create(&by_node).inc_by(progress.bytes_done);
    }

    /// The Kubernetes objects of a backup take `bytes` in the store.
    pub(crate) fn objects_put(&self, schedule: &str, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let label = Schedule::named(schedule);
        self.sizes.get_or_create(&label).set(bytes);
    }

    /// A backup that was to be deleted is gone, or could not be and will be tried again.
    pub(crate) fn removal(&self, schedule: &str, done: bool) {
        let deletions = &self.deletions;
        let end = if done {
            &deletions.done
        } else {
            &deletions.failed
        };
        end.get_or_create(&Schedule::named(schedule)).inc();
    }
}

impl Counted {
    /// Writes all of it.
    pub(super) fn tell(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let (backups, restores, deletions) = (&self.backups, &self.restores, &self.deletions);
        let counts = [
            (
                "velero_backup_attempt",
                "Backups that were begun",
                &backups.attempted,
            ),
            (
                "velero_backup_success",
                "Backups that completed",
                &backups.completed,
            ),
            (
                "velero_backup_partial_failure",
                "Backups of which some volumes or entries are missing",
                &backups.partly_failed,
            ),
            (
                "velero_backup_failure",
                "Backups that failed or were canceled",
                &backups.failed,
            ),
            (
                "velero_backup_warning",
                "Backups that ended with warnings",
                &self.warnings,
            ),
            (
                "velero_backup_deletion_attempt",
                "Backups that were to be deleted",
                &deletions.attempted,
            ),
            (
                "velero_backup_deletion_success",
                "Backups that were deleted",
                &deletions.done,
            ),
            (
                "velero_backup_deletion_failure",
                "Deletions that failed and are tried again",
                &deletions.failed,
            ),
            (
                "velero_restore_attempt",
                "Restores that were begun",
                &restores.attempted,
            ),
            (
                "velero_restore_success",
                "Restores that completed",
                &restores.completed,
            ),
            (
                "velero_restore_partial_failure",
                "Restores of which some volumes, objects or entries are missing",
                &restores.partly_failed,
            ),
            (
                "velero_restore_failed",
                "Restores that failed or were canceled",
                &restores.failed,
            ),
        ];
        for (name, help, counts) in counts {
            tell(encoder, (name, help), counts)?;
        }
        tell_unit(
            encoder,
            (
                "velero_backup_duration",
                "Time from the request of a backup to its end",
            ),
            Some(&Unit::Seconds),
            &self.durations.0,
        )?;
        tell_unit(
            encoder,
            (
                "velero_backup_tarball_size",
                "Size of the Kubernetes objects of the newest backup",
            ),
            Some(&Unit::Bytes),
            &self.sizes,
        )?;
        let volumes = [
            (
                "orlop_volume_backups",
                "Backups of volumes that ended",
                &self.backed_up,
            ),
            (
                "orlop_volume_restores",
                "Restores of volumes that ended",
                &self.restored,
            ),
        ];
        for (name, help, counts) in volumes {
            tell(encoder, (name, help), counts)?;
        }
        let bytes = [
            (
                "orlop_volume_backup_size",
                "Bytes of the files of volumes that were backed up, unchanged ones included",
                &self.read,
            ),
            (
                "orlop_volume_uploaded",
                "Bytes that backups of volumes sent to the store",
                &self.uploaded,
            ),
            (
                "orlop_volume_restored",
                "Bytes of the files of volumes that were restored",
                &self.written,
            ),
        ];
        for (name, help, counts) in bytes {
            tell_unit(encoder, (name, help), Some(&Unit::Bytes), counts)?;
        }
        Ok(())
    }
}
