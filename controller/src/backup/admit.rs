//! Whether a `Backup` can be made, and what it means where it says nothing.

use orlop_kubernetes::{
    cluster_info::ServerVersion,
    selection::Filters,
    velero::{
        Backup, BackupPhase, BackupStorageLocation, GoDuration,
        backup::FORMAT_VERSION,
        labels::{self, valid_name},
        location::LocationAccessMode,
    },
};

use crate::{
    clock,
    location::{self, Readiness},
};

/// How long a backup is kept that does not say.
const TTL: GoDuration = GoDuration::from_secs(720 * 3600);
/// What Velero fills in for CSI snapshots.
const CSI_TIMEOUT: GoDuration = GoDuration::from_secs(600);
/// What Velero fills in for the work of plugins.
const OPERATION_TIMEOUT: GoDuration = GoDuration::from_secs(4 * 3600);
/// The location of backups that name none, if none is marked as the default one.
const DEFAULT_LOCATION: &str = "default";

/// What is known when a backup is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) now_ms: i64,
    /// All locations.
    pub(crate) locations: &'a [BackupStorageLocation],
    /// Whether the coordinator has been told what the location of this name is now.
    pub(crate) is_applied: &'a dyn Fn(&BackupStorageLocation) -> bool,
    pub(crate) cluster: Option<&'a ServerVersion>,
    /// Whether all volumes are taken where neither the backup nor the pod says so.
    pub(crate) all_volumes: bool,
}

/// What becomes of a new backup.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Admission {
    /// It can be made; this is the whole of what it means.
    Admitted(Box<Backup>),
    /// It cannot be made; the reasons are in its status.
    Refused(Box<Backup>),
    /// Its location is not ready yet; why.
    Wait(String),
}

/// Fills in what is left out, and checks it.
pub(crate) fn admit(backup: &Backup, facts: &Facts<'_>) -> Admission {
    let mut filled = backup.clone();
    fill(&mut filled, facts);
    let name = filled.spec.storage_location.clone();
    let mut problems = Vec::new();
    if filled.spec.ttl.as_nanos() < 0 {
        problems.push(format!(
            "ttl {} is negative: write how long to keep the backup",
            filled.spec.ttl
        ));
    }
    if let Err(invalid) = Filters::of_backup(&filled.spec) {
        problems.extend(invalid.problems);
    }
    if let Some(policy) = &filled.spec.resource_policy
        && !policy.kind.eq_ignore_ascii_case("configmap")
    {
        problems.push(format!(
            "resourcePolicy: {} is no kind of policy: name a ConfigMap",
            policy.kind
        ));
    }
    let location = location::by_name(facts.locations, &name);
    if location.is_some_and(|one| one.spec.access_mode == LocationAccessMode::ReadOnly) {
        problems.push(format!(
            "backup storage location {name} is read-only: set its accessMode to ReadWrite or choose another one"
        ));
    } else {
        match location::readiness(&name, facts.locations, facts.is_applied) {
            Readiness::NotYet(why) if problems.is_empty() => return Admission::Wait(why),
            Readiness::Ready | Readiness::NotYet(_) => {}
            Readiness::Never(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Admission::Admitted(Box::new(filled));
    }
    filled.status.phase = BackupPhase::FailedValidation;
    filled.status.validation_errors = problems;
    Admission::Refused(Box::new(filled))
}

/// What a backup that names no location means.
pub(crate) fn default_location(locations: &[BackupStorageLocation]) -> String {
    let marked = locations.iter().find(|one| one.spec.default);
    let name = marked.and_then(|one| one.metadata.name.clone());
    name.unwrap_or_else(|| DEFAULT_LOCATION.to_owned())
}

fn fill(backup: &mut Backup, facts: &Facts<'_>) {
    let spec = &mut backup.spec;
    for (field, default) in [
        (&mut spec.ttl, TTL),
        (&mut spec.csi_snapshot_timeout, CSI_TIMEOUT),
        (&mut spec.item_operation_timeout, OPERATION_TIMEOUT),
    ] {
        if field.is_zero() {
            *field = default;
        }
    }
    if spec.storage_location.is_empty() {
        spec.storage_location = default_location(facts.locations);
    }
    if spec.included_namespaces.is_empty() {
        spec.included_namespaces = vec!["*".to_owned()];
    }
    let old = spec.default_volumes_to_restic;
    spec.default_volumes_to_fs_backup
        .get_or_insert(old.unwrap_or(facts.all_volumes));
    spec.snapshot_move_data.get_or_insert(false);
    let label = valid_name(&spec.storage_location);
    let ttl_ms = spec.ttl.as_secs().saturating_mul(1000);
    let on_object = backup.metadata.labels.get_or_insert_default();
    on_object.insert(labels::STORAGE_LOCATION.to_owned(), label);
    if let Some(version) = facts.cluster {
        let annotations = backup.metadata.annotations.get_or_insert_default();
        for (key, value) in [
            (
                labels::SOURCE_CLUSTER_GIT_VERSION,
                version.git_version.clone(),
            ),
            (
                labels::SOURCE_CLUSTER_MAJOR_VERSION,
                version.major.to_string(),
            ),
            (
                labels::SOURCE_CLUSTER_MINOR_VERSION,
                version.minor.to_string(),
            ),
        ] {
            annotations.insert(key.to_owned(), value);
        }
    }
    let status = &mut backup.status;
    status.version = 1;
    FORMAT_VERSION.clone_into(&mut status.format_version);
    if status.expiration.is_none() {
        status.expiration = clock::time(facts.now_ms.saturating_add(ttl_ms));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_767_323_045_999;

    fn location(name: &str, spec: &Value, phase: &str) -> BackupStorageLocation {
        let mut object = json!({
            "metadata": {"name": name},
            "spec": {"provider": "aws", "objectStorage": {"bucket": "b"}},
            "status": {"phase": phase, "message": "the bucket is gone"},
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn backup(spec: &Value) -> Backup {
        serde_json::from_value(
            json!({"metadata": {"name": "b", "labels": {"a": "b"}}, "spec": spec}),
        )
        .unwrap()
    }

    fn admitted(spec: &Value, locations: &[BackupStorageLocation]) -> Admission {
        let version = ServerVersion {
            git_version: "v1.33.2".to_owned(),
            major: 1,
            minor: 33,
        };
        let facts = Facts {
            now_ms: NOW,
            locations,
            is_applied: &|_| true,
            cluster: Some(&version),
            all_volumes: false,
        };
        admit(&backup(spec), &facts)
    }

    fn errors(spec: &Value, locations: &[BackupStorageLocation]) -> Vec<String> {
        match admitted(spec, locations) {
            Admission::Refused(backup) => {
                assert_eq!(backup.status.phase, BackupPhase::FailedValidation);
                backup.status.validation_errors
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in_as_velero_does() {
        let locations = [location("default", &json!({}), "Available")];
        let Admission::Admitted(filled) = admitted(&json!({}), &locations) else {
            panic!("nothing is wrong with it");
        };
        assert_eq!(
            json!(filled.spec),
            json!({
                "ttl": "720h0m0s", "csiSnapshotTimeout": "10m0s", "itemOperationTimeout": "4h0m0s",
                "storageLocation": "default", "includedNamespaces": ["*"], "defaultVolumesToFsBackup": false,
                "snapshotMoveData": false,
            })
        );
        assert_eq!(
            json!(filled.metadata),
            json!({
                "name": "b",
                "labels": {"a": "b", "velero.io/storage-location": "default"},
                "annotations": {
                    "velero.io/source-cluster-k8s-gitversion": "v1.33.2",
                    "velero.io/source-cluster-k8s-major-version": "1",
                    "velero.io/source-cluster-k8s-minor-version": "33",
                },
            })
        );
        assert_eq!(
            json!(filled.status),
            json!({"version": 1, "formatVersion": "1.1.0", "expiration": "2026-02-01T03:04:05Z"})
        );
    }

    #[test]
    fn what_is_said_stays() {
        let locations = [
            location("a", &json!({}), "Available"),
            location("b", &json!({"default": true}), "Available"),
        ];
        let spec =
            json!({"ttl": "1h", "includedNamespaces": ["x"], "defaultVolumesToRestic": true});
        let Admission::Admitted(filled) = admitted(&spec, &locations) else {
            panic!("nothing is wrong with it");
        };
        assert_eq!(filled.spec.storage_location, "b");
        assert_eq!(filled.spec.ttl, GoDuration::from_secs(3600));
        assert_eq!(filled.spec.default_volumes_to_fs_backup, Some(true));
        assert_eq!(filled.spec.included_namespaces, ["x"]);
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_all_its_reasons() {
        let good = [location("default", &json!({}), "Available")];
        let cases = [
            (json!({}), Vec::new(), "nor any other: make one first"),
            (
                json!({"storageLocation": "x"}),
                good.to_vec(),
                "there is no backup storage location x; there is default",
            ),
            (
                json!({}),
                vec![location("default", &json!({}), "Unavailable")],
                "the bucket is gone",
            ),
            (
                json!({}),
                vec![location(
                    "default",
                    &json!({"accessMode": "ReadOnly"}),
                    "Available",
                )],
                "read-only",
            ),
            (
                json!({"ttl": "-1h"}),
                good.to_vec(),
                "ttl -1h0m0s is negative",
            ),
            (
                json!({"labelSelector": {}, "orLabelSelectors": [{}]}),
                good.to_vec(),
                "cannot be used together",
            ),
            (
                json!({"includedNamespaces": ["A_B"]}),
                good.to_vec(),
                "no namespace's name",
            ),
            (
                json!({"resourcePolicy": {"kind": "Secret", "name": "x"}}),
                good.to_vec(),
                "name a ConfigMap",
            ),
        ];
        for (spec, locations, want) in cases {
            let errors = errors(&spec, &locations);
            assert!(errors.len() == 1 && errors[0].contains(want), "{errors:?}");
        }
        let both = json!({"storageLocation": "x", "ttl": "-1h"});
        assert_eq!(errors(&both, &good).len(), 2);
    }

    #[test]
    fn a_backup_waits_for_a_location_that_is_new_or_has_changed() {
        let new = [location("default", &json!({}), "")];
        assert!(matches!(admitted(&json!({}), &new), Admission::Wait(_)));
        let changed = [location("default", &json!({}), "Available")];
        let facts = Facts {
            now_ms: NOW,
            locations: &changed,
            is_applied: &|_| false,
            cluster: None,
            all_volumes: false,
        };
        assert!(matches!(
            admit(&backup(&json!({})), &facts),
            Admission::Wait(_)
        ));
    }
}
