//! What monitoring is told: requests that were refused, which the coordinator never hears of.

use std::fmt;

use orlop_runtime::metrics::tell;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{counter::Counter, family::Family},
};

/// By schedule; empty for what somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Schedule {
    schedule: String,
}

/// Requests that were refused since the start, under the names that Velero gives these counts. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    backups: Family<Schedule, Counter>,
    restores: Family<Schedule, Counter>,
}

impl Refused {
    /// A backup was refused.
    pub(crate) fn backup(&self, schedule: Option<&str>) {
        count(&self.backups, schedule);
    }

    /// A restore was refused.
    pub(crate) fn restore(&self, schedule: Option<&str>) {
        count(&self.restores, schedule);
    }
}

fn count(family: &Family<Schedule, Counter>, schedule: Option<&str>) {
    let schedule = schedule.unwrap_or_default().to_owned();
    family.get_or_create(&Schedule { schedule }).inc();
}

impl Collector for Refused {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = [
            (
                "velero_backup_validation_failure",
                "Backups that were refused",
                &self.backups,
            ),
            (
                "velero_restore_validation_failed",
                "Restores that were refused",
                &self.restores,
            ),
        ];
        for (name, help, family) in counts {
            tell(&mut encoder, (name, help), family)?;
        }
        Ok(())
    }
}
