//! What is admitted, what waits, and what is refused with which words.

use serde_json::{Value, json};

use super::*;

fn location(phase: &str) -> BackupStorageLocation {
    serde_json::from_value(json!({
        "metadata": {"name": "default"},
        "spec": {"provider": "aws", "objectStorage": {"bucket": "b"}, "accessMode": "ReadOnly"},
        "status": {"phase": phase, "message": "the bucket is gone"},
    }))
    .unwrap()
}

fn backup(name: &str, phase: &str, began: &str) -> Backup {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"velero.io/schedule-name": "nightly"}},
        "spec": {"storageLocation": "default"},
        "status": {"phase": phase, "startTimestamp": began},
    }))
    .unwrap()
}

fn good() -> Backup {
    backup("b", "Completed", "2026-01-02T00:00:00Z")
}

fn restore(spec: &Value) -> Restore {
    let metadata = json!({"name": "r", "finalizers": ["somebody/else"]});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn admitted(spec: &Value, backups: &[Backup], locations: &[BackupStorageLocation]) -> Admission {
    let facts = Facts {
        backups,
        locations,
        is_applied: &|_| true,
    };
    admit(&restore(spec), &facts)
}

fn errors(spec: &Value, backups: &[Backup], locations: &[BackupStorageLocation]) -> Vec<String> {
    match admitted(spec, backups, locations) {
        Admission::Refused(restore) => {
            assert_eq!(restore.status.phase, RestorePhase::FailedValidation);
            // What was refused has nothing that must be removed with it.
            assert_eq!(restore.metadata.finalizers.unwrap(), ["somebody/else"]);
            restore.status.validation_errors
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_left_out_is_filled_in_as_velero_does() {
    let spec = json!({"backupName": "b", "excludedResources": ["nodes", "secrets"]});
    let Admission::Admitted(filled, place) = admitted(&spec, &[good()], &[location("Available")])
    else {
        panic!("nothing is wrong with it");
    };
    assert_eq!(place, "default");
    assert_eq!(
        json!(filled),
        json!({
            "apiVersion": "velero.io/v1", "kind": "Restore",
            "metadata": {
                "name": "r", "finalizers": ["somebody/else", "restores.velero.io/external-resources-finalizer"],
            },
            "spec": {
                "backupName": "b", "scheduleName": "nightly", "itemOperationTimeout": "4h0m0s",
                "excludedResources": [
                    "nodes", "secrets", "events", "events.events.k8s.io", "backups.velero.io", "restores.velero.io",
                    "resticrepositories.velero.io", "csinodes.storage.k8s.io", "volumeattachments.storage.k8s.io",
                    "backuprepositories.velero.io",
                ],
            },
            "status": {"phase": "New"},
        })
    );
}

#[test]
fn a_schedule_stands_for_its_newest_completed_backup() {
    let backups = [
        backup("old", "Completed", "2026-01-01T00:00:00Z"),
        backup("new", "Completed", "2026-01-03T00:00:00Z"),
        backup("newer", "PartiallyFailed", "2026-01-04T00:00:00Z"),
        backup("newest", "InProgress", "2026-01-05T00:00:00Z"),
    ];
    let spec = json!({"scheduleName": "nightly", "itemOperationTimeout": "1h"});
    let Admission::Admitted(filled, _) = admitted(&spec, &backups, &[location("Available")]) else {
        panic!("nothing is wrong with it");
    };
    assert_eq!(filled.spec.backup_name, "new");
    assert_eq!(filled.spec.schedule_name, "nightly");
    assert_eq!(
        filled.spec.item_operation_timeout,
        GoDuration::from_secs(3600)
    );
    let errors = errors(&spec, &backups[2..], &[location("Available")]);
    assert!(errors.len() == 1 && errors[0].contains("no completed backup"));
}

#[test]
fn only_backups_with_a_result_are_restored() {
    let places = [location("Available")];
    let spec = json!({"backupName": "b"});
    for (phase, want) in [
        ("Completed", None),
        ("PartiallyFailed", None),
        ("Failed", Some("backup b is Failed: there is nothing")),
        (
            "FailedValidation",
            Some("backup b is FailedValidation: there is nothing"),
        ),
        ("Deleting", Some("being deleted")),
        ("", Some("backup b is New: wait until it has ended")),
        (
            "InProgress",
            Some("backup b is InProgress: wait until it has ended"),
        ),
        (
            "Finalizing",
            Some("backup b is Finalizing: wait until it has ended"),
        ),
    ] {
        let backups = [backup("b", phase, "2026-01-02T00:00:00Z")];
        match want {
            None => assert!(
                matches!(admitted(&spec, &backups, &places), Admission::Admitted(..)),
                "{phase}"
            ),
            Some(want) => {
                let errors = errors(&spec, &backups, &places);
                assert!(errors.len() == 1 && errors[0].contains(want), "{errors:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_made_is_refused_with_all_its_reasons() {
    let places = [location("Available")];
    let with = |extra: Value| {
        let mut spec = json!({"backupName": "b"});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        spec
    };
    let init = |container: Value| {
        let hook = json!({"init": {"initContainers": [{"name": "a", "image": "i", "command": ["c"]}, container]}});
        with(json!({"hooks": {"resources": [{"name": "h", "postHooks": [hook]}]}}))
    };
    let cases = [
        (json!({}), "set backupName, or scheduleName"),
        (with(json!({"scheduleName": "s"})), "exclude each other"),
        (json!({"backupName": "x"}), "there is no backup x"),
        (
            with(json!({"includedNamespaces": ["a"], "excludedNamespaces": ["a"]})),
            "\"a\" is both included and excluded",
        ),
        (
            with(json!({"includedNamespaces": ["*", "a"]})),
            "\"*\" stands for all",
        ),
        (
            with(json!({"includedResources": ["pods", "*"]})),
            "\"*\" stands for all",
        ),
        (
            with(json!({"includedResources": ["nodes"]})),
            "nodes are never restored",
        ),
        (
            with(json!({"labelSelector": {}, "orLabelSelectors": [{}]})),
            "cannot be used together",
        ),
        (
            with(
                json!({"restoreStatus": {"includedResources": ["a"], "excludedResources": ["a"]}}),
            ),
            "restoreStatus",
        ),
        (
            with(json!({"namespaceMapping": {"a": "B"}})),
            "namespaceMapping: \"a\" to \"B\"",
        ),
        (
            with(json!({"existingResourcePolicy": "recreate"})),
            "write none or update",
        ),
        (
            with(json!({"resourceModifier": {"kind": "configmap", "name": "m"}})),
            "resourceModifier: configmap m: not supported yet",
        ),
        (
            with(json!({"itemOperationTimeout": "-1h"})),
            "itemOperationTimeout -1h0m0s is negative",
        ),
        (
            init(json!({"name": "x", "image": "i"})),
            "init container 2 \"x\" of \"h\" lacks command",
        ),
        (
            init(json!({"command": [], "image": ""})),
            "init container 2 \"\" of \"h\" lacks name, image, command",
        ),
        (init(json!("x")), "lacks name, image, command"),
    ];
    for (spec, want) in cases {
        let errors = errors(&spec, &[good()], &places);
        assert!(errors.len() == 1 && errors[0].contains(want), "{errors:?}");
    }
    let several = json!({"existingResourcePolicy": "x", "includedNamespaces": ["*", "a"]});
    assert_eq!(errors(&several, &[good()], &places).len(), 3);
}

#[test]
fn what_velero_and_kots_send_is_admitted() {
    let places = [location("Available")];
    for spec in [
        json!({"backupName": "b", "restorePVs": true, "includeClusterResources": true,
            "labelSelector": {"matchLabels": {"kots.io/app-slug": "shop"}}}),
        json!({"backupName": "b", "includedNamespaces": ["*"], "includedResources": ["*"], "hooks": {},
            "existingResourcePolicy": "update", "excludedResources": ["nodes", "events"]}),
        json!({"backupName": "b", "includedNamespaces": ["shop", ""], "namespaceMapping": {"shop": "shop-2"}}),
    ] {
        assert!(
            matches!(admitted(&spec, &[good()], &places), Admission::Admitted(..)),
            "{spec}"
        );
    }
}

#[test]
fn the_location_of_the_backup_must_be_known_and_available() {
    let spec = json!({"backupName": "b"});
    let refused =
        |locations: &[BackupStorageLocation]| errors(&spec, &[good()], locations).remove(0);
    assert!(refused(&[]).starts_with("backup b: there is no backup storage location default"));
    assert!(refused(&[location("Unavailable")]).ends_with("the bucket is gone"));
    let new = admitted(&spec, &[good()], &[location("")]);
    assert!(matches!(new, Admission::Wait(_)));
    let changed = [location("Available")];
    let facts = Facts {
        backups: &[good()],
        locations: &changed,
        is_applied: &|_| false,
    };
    assert!(matches!(admit(&restore(&spec), &facts), Admission::Wait(_)));
}
