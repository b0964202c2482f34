//! How things are when somebody looks.

use std::{fmt, sync::Arc};

use orlop_core::run::RunKind;
use orlop_runtime::metrics::{tell, tell_unit};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::Unit,
};

use super::labels::{Location, Node, Schedule, VeleroLocation};
use crate::{maintenance::Maintenance, runs::Runs};

/// Tells of runs, agents and locations.
pub(crate) struct Told {
    runs: Arc<Runs>,
    maintenance: Arc<Maintenance>,
}

impl Told {
    /// What is known to `runs` and `maintenance`.
    pub(crate) fn new(runs: &Arc<Runs>, maintenance: &Arc<Maintenance>) -> Self {
        Self {
            runs: Arc::clone(runs),
            maintenance: Arc::clone(maintenance),
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// The backups of one schedule, as far as they have ended and are there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// When the newest complete one ended, milliseconds since 1970.
    pub(crate) success_ms: Option<i64>,
    /// The one that ended last.
    pub(crate) last: Option<LastEnd>,
}

/// The end of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastEnd {
    /// When, milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Whether everything is there.
    pub(crate) complete: bool,
    /// Kubernetes objects of it.
    pub(crate) objects: u64,
    /// Errors of its parts.
    pub(crate) errors: u64,
}

impl Standing {
    /// Takes in one more backup that has ended.
    pub(crate) fn add(&mut self, end: LastEnd) {
        if end.complete {
            self.success_ms = self.success_ms.max(Some(end.at_ms));
        }
        if self.last.is_none_or(|last| last.at_ms <= end.at_ms) {
            self.last = Some(end);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let version = env!("CARGO_PKG_VERSION");
        let about = ("orlop_build", "The program");
        tell(encoder, about, &Info::new(Version { version }))?;
        self.runs(encoder)?;
        self.runs.counted().tell(encoder)?;
        self.nodes(encoder)?;
        self.locations(encoder)
    }
}

impl Told {
    fn runs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let runs = &self.runs;
        let (backup, restore) = (RunKind::Backup, RunKind::Restore);
        let counts = [
            (
                "velero_backup_total",
                "Backups that there are",
                runs.count(backup),
            ),
            (
                "velero_restore_total",
                "Restores that there are",
                runs.count(restore),
            ),
            (
                "orlop_backups_running",
                "Backups that have not ended",
                runs.unfinished(backup),
            ),
            (
                "orlop_restores_running",
                "Restores that have not ended",
                runs.unfinished(restore),
            ),
        ];
        for (name, help, count) in counts {
            tell(encoder, (name, help), &ConstGauge::new(count))?;
        }
        let success = Family::<Schedule, Gauge>::default();
        let status = Family::<Schedule, Gauge>::default();
        let objects = Family::<Schedule, Gauge>::default();
        let errors = Family::<Schedule, Gauge>::default();
        for (schedule, standing) in runs.standings() {
            // Its counts begin at 0, also after a restart.
            runs.counted().know(&schedule);
            let label = Schedule { schedule };
            if let Some(at_ms) = standing.success_ms {
                success.get_or_create(&label).set(at_ms / 1000);
            }
            if let Some(last) = standing.last {
                status.get_or_create(&label).set(last.complete.into());
                objects.get_or_create(&label).set(last.objects as i64);
                errors.get_or_create(&label).set(last.errors as i64);
            }
        }
        let families = [
            (
                "velero_backup_last_successful_timestamp",
                "When the newest complete backup ended, seconds since 1970",
                &success,
            ),
            (
                "velero_backup_last_status",
                "1 if the backup that ended last is complete, 0 if not",
                &status,
            ),
            (
                "velero_backup_items_total",
                "Kubernetes objects of the backup that ended last",
                &objects,
            ),
            (
                "velero_backup_items_errors",
                "Errors of the backup that ended last",
                &errors,
            ),
        ];
        for (name, help, family) in families {
            tell(encoder, (name, help), family)?;
        }
        Ok(())
    }

    fn nodes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let connected = Family::<Node, Gauge>::default();
        let running = Family::<Node, Gauge>::default();
        for view in self.runs.nodes() {
            let label = Node { node: view.node };
            connected.get_or_create(&label).set(view.connected.into());
            running.get_or_create(&label).set(view.running.into());
        }
        let about = (
            "orlop_agent_connected",
            "1 if the agent of the node is connected, 0 if not",
        );
        tell(encoder, about, &connected)?;
        let about = ("orlop_agent_tasks", "Volumes that the node works on");
        tell(encoder, about, &running)
    }

    fn locations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let available = Family::<VeleroLocation, Gauge>::default();
        let snapshots = Family::<Location, Gauge>::default();
        let bytes = Family::<Location, Gauge>::default();
        let checked = Family::<Location, Gauge>::default();
        let damaged = Family::<Location, Gauge>::default();
        for view in self.runs.locations().list() {
            let location = view.name.clone();
            let label = VeleroLocation {
                backup_location_name: view.name,
            };
            let health = view.health;
            available.get_or_create(&label).set(health.available.into());
            let label = Location { location };
            if health.checked_ms > 0 {
                let count = i64::try_from(health.snapshots).unwrap_or(i64::MAX);
                snapshots.get_or_create(&label).set(count);
            }
            let Some(scrubbed) = self.maintenance.scrubbed(&label.location) else {
                continue;
            };
            if let Some(covered) = scrubbed.covered {
                bytes.get_or_create(&label).set(covered.total_bytes as i64);
                if let Some(since_ms) = covered.since_ms {
                    checked.get_or_create(&label).set(since_ms / 1000);
                }
            }
            damaged.get_or_create(&label).set(scrubbed.damaged as i64);
        }
        let about = (
            "velero_backup_location_status_gauge",
            "1 if the location answers, 0 if not",
        );
        tell(encoder, about, &available)?;
        let about = ("orlop_location_snapshots", "Snapshots in the repository");
        tell(encoder, about, &snapshots)?;
        let about = ("orlop_location_packs", "Bytes of all packs");
        tell_unit(encoder, about, Some(&Unit::Bytes), &bytes)?;
        let about = (
            "orlop_location_verified_timestamp",
            "All bytes were read and found right since this time, seconds since 1970",
        );
        tell_unit(encoder, about, Some(&Unit::Seconds), &checked)?;
        let about = (
            "orlop_location_damaged",
            "Packs in which damage was found that is not repaired",
        );
        tell(encoder, about, &damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_end_counts_and_the_newest_success_stays() {
        let end = |at_ms, complete| LastEnd {
            at_ms,
            complete,
            objects: 3,
            errors: 0,
        };
        let mut standing = Standing::default();
        standing.add(end(20, true));
        standing.add(end(30, false));
        standing.add(end(10, true));
        assert_eq!(standing.success_ms, Some(20));
        assert_eq!(standing.last, Some(end(30, false)));
    }
}
