//! Labels, and which schedule a run belongs to.

use orlop_core::run::RunSpec;
use orlop_kubernetes::velero::labels::SCHEDULE_NAME;
use prometheus_client::encoding::EncodeLabelSet;
use serde_json::Value;

/// By schedule; empty for what somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Schedule {
    pub(super) schedule: String,
}

impl Schedule {
    pub(super) fn named(name: &str) -> Self {
        Self {
            schedule: name.to_owned(),
        }
    }
}

/// By location, under the name that Velero gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VeleroLocation {
    pub(super) backup_location_name: String,
}

/// By location.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Location {
    pub(super) location: String,
}

/// By node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Node {
    pub(super) node: String,
}

/// By node and by how it ended: `completed`, `failed` or `canceled`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VolumeEnd {
    pub(super) node: String,
    pub(super) result: &'static str,
}

/// The schedule that a backup was made by, or whose newest backup a restore was asked for; empty if there is none.
pub(crate) fn schedule_of(spec: &RunSpec) -> String {
    let (named, object, way) = match spec {
        RunSpec::Backup(spec) => (
            spec.schedule.as_str(),
            &spec.velero_object,
            ["metadata", "labels", SCHEDULE_NAME].as_slice(),
        ),
        RunSpec::Restore(spec) => ("", &spec.velero_object, ["spec", "scheduleName"].as_slice()),
    };
    if !named.is_empty() || object.is_empty() {
        return named.to_owned();
    }
    let object: Value = serde_json::from_str(object).unwrap_or_default();
    let found = way.iter().try_fold(&object, |value, key| value.get(key));
    let found = found.and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use orlop_core::run::{BackupSpec, RestoreSpec};

    use super::*;

    #[test]
    fn the_schedule_is_found_where_each_kind_of_run_has_it() {
        let backup = |schedule: &str, object: &str| {
            schedule_of(&RunSpec::Backup(BackupSpec {
                schedule: schedule.to_owned(),
                velero_object: object.to_owned(),
                ..BackupSpec::default()
            }))
        };
        assert_eq!(backup("", ""), "");
        assert_eq!(backup("nightly", ""), "nightly");
        let labelled = r#"{"metadata":{"labels":{"velero.io/schedule-name":"weekly"}}}"#;
        assert_eq!(backup("", labelled), "weekly");
        for other in [r#"{"metadata":{}}"#, "{}", "no JSON", r#"{"metadata":7}"#] {
            assert_eq!(backup("", other), "", "{other}");
        }
        let restore = |object: &str| {
            schedule_of(&RunSpec::Restore(RestoreSpec {
                velero_object: object.to_owned(),
                ..RestoreSpec::default()
            }))
        };
        assert_eq!(restore(r#"{"spec":{"scheduleName":"weekly"}}"#), "weekly");
        assert_eq!(restore(r#"{"spec":{"backupName":"b"}}"#), "");
    }
}
