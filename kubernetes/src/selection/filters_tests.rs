//! Old and new filters, and everything that makes them invalid.

use serde_json::{Value, json};

use super::*;
use Choice::{IfNeeded, LeftOut, Taken};

fn kind(plural: &str, group: &str, namespaced: bool) -> ResourceKind {
    ResourceKind {
        plural: plural.to_owned(),
        singular: plural.trim_end_matches('s').to_owned(),
        group: group.to_owned(),
        short_names: Vec::new(),
        namespaced,
    }
}

fn filters(spec: Value) -> Result<Filters, InvalidFilters> {
    Filters::of_backup(&serde_json::from_value(spec).unwrap())
}

#[test]
fn kinds_are_chosen_the_old_way_and_the_new_way() {
    let deployments = kind("deployments", "apps", true);
    let volumes = kind("persistentvolumes", "", false);
    let roles = kind("clusterroles", "rbac.authorization.k8s.io", false);
    // Of deployments, persistent volumes, cluster roles.
    let cases = [
        (json!({}), [Taken, Taken, Taken]),
        (json!({"includedNamespaces": ["*"]}), [Taken, Taken, Taken]),
        (
            json!({"includedNamespaces": ["shop"]}),
            [Taken, IfNeeded, IfNeeded],
        ),
        (
            json!({"excludedNamespaces": ["shop"]}),
            [Taken, IfNeeded, IfNeeded],
        ),
        (
            json!({"includedResources": ["deployments"]}),
            [Taken, LeftOut, LeftOut],
        ),
        (
            json!({"includedResources": ["deployment", "persistentvolumes"]}),
            [Taken, Taken, LeftOut],
        ),
        (
            json!({"includedResources": ["deployment", "persistentvolumes"], "includedNamespaces": ["shop"]}),
            [Taken, IfNeeded, LeftOut],
        ),
        (
            json!({"excludedResources": ["deployments.apps"]}),
            [LeftOut, Taken, Taken],
        ),
        (
            json!({"excludedResources": ["clusterroles"], "includedNamespaces": ["shop"]}),
            [Taken, IfNeeded, LeftOut],
        ),
        (
            json!({"includeClusterResources": false}),
            [Taken, LeftOut, LeftOut],
        ),
        (
            json!({"includeClusterResources": true, "includedNamespaces": ["shop"]}),
            [Taken, Taken, Taken],
        ),
        (
            json!({"includeClusterResources": true, "includedResources": ["*.apps", "persistentvolume"]}),
            [Taken, Taken, IfNeeded],
        ),
        (
            json!({"includeClusterResources": true, "excludedResources": ["clusterroles"], "includedNamespaces": ["shop"]}),
            [Taken, Taken, LeftOut],
        ),
        (
            json!({"includeClusterResources": false, "includedResources": ["deployments", "persistentvolumes"]}),
            [Taken, LeftOut, LeftOut],
        ),
        (
            json!({"includedNamespaceScopedResources": ["*"]}),
            [Taken, Taken, Taken],
        ),
        (
            json!({"includedNamespaceScopedResources": ["deployments"]}),
            [Taken, IfNeeded, IfNeeded],
        ),
        (
            json!({"includedNamespaceScopedResources": ["*"], "includedNamespaces": ["shop"]}),
            [Taken, IfNeeded, IfNeeded],
        ),
        (
            json!({"includedClusterScopedResources": ["*"]}),
            [Taken, Taken, Taken],
        ),
        (
            json!({"includedClusterScopedResources": ["clusterroles"]}),
            [Taken, IfNeeded, Taken],
        ),
        (
            json!({"excludedClusterScopedResources": ["clusterroles"]}),
            [Taken, IfNeeded, LeftOut],
        ),
        (
            json!({"excludedClusterScopedResources": ["*"]}),
            [Taken, LeftOut, LeftOut],
        ),
        (
            json!({"excludedNamespaceScopedResources": ["*"], "includedClusterScopedResources": ["*"]}),
            [LeftOut, Taken, Taken],
        ),
    ];
    for (spec, want) in cases {
        let filters = filters(spec.clone()).unwrap();
        let found = [&deployments, &volumes, &roles].map(|kind| filters.choose(kind));
        assert_eq!(found, want, "{spec}");
    }
}

#[test]
fn namespaces_of_what_is_taken_come_along_unless_they_are_excluded() {
    let cases = [
        (json!({}), true),
        (json!({"includeClusterResources": false}), true),
        (json!({"includedResources": ["pods"]}), false),
        (
            json!({"includedClusterScopedResources": ["storageclasses"]}),
            true,
        ),
        (json!({"excludedClusterScopedResources": ["ns"]}), false),
        (json!({"excludedClusterScopedResources": ["*"]}), false),
    ];
    for (spec, want) in cases {
        let filters = filters(spec.clone()).unwrap();
        assert_eq!(filters.takes_namespace_objects(), want, "{spec}");
    }
}

#[test]
fn what_a_restore_does_not_name_does_not_come_along() {
    let volumes = kind("persistentvolumes", "", false);
    let choose = |spec: Value| {
        let spec = serde_json::from_value(spec).unwrap();
        Filters::of_restore(&spec).unwrap().choose(&volumes)
    };
    let named = json!({"includedResources": ["pods"], "includeClusterResources": true});
    assert_eq!(choose(named), LeftOut);
    assert_eq!(
        choose(json!({"includeClusterResources": true, "includedNamespaces": ["shop"]})),
        Taken
    );
    assert_eq!(choose(json!({"includedNamespaces": ["shop"]})), IfNeeded);
}

#[test]
fn some_kinds_are_never_taken() {
    let snapshots = kind("volumesnapshots", "snapshot.storage.k8s.io", true);
    let wanted = json!({"includedResources": ["volumesnapshots"]});
    assert_eq!(filters(wanted).unwrap().choose(&snapshots), LeftOut);
    let restore = Filters::of_restore(&RestoreSpec::default()).unwrap();
    for (plural, group) in [
        ("nodes", ""),
        ("events", ""),
        ("backups", "velero.io"),
        ("volumeattachments", "storage.k8s.io"),
    ] {
        assert_eq!(
            restore.choose(&kind(plural, group, false)),
            LeftOut,
            "{plural}"
        );
    }
    assert_eq!(restore.choose(&ResourceKind::pods()), Taken);
}

#[test]
fn namespaces_are_chosen_by_name_and_by_pattern() {
    let filters = filters(json!({
        "includedNamespaces": ["shop-*", "mail", ""], "excludedNamespaces": ["shop-test", ""],
    }));
    let filters = filters.unwrap();
    let taken = ["shop-prod", "mail", "shop-test", "shop", "kube-system"]
        .map(|name| filters.takes_namespace(name));
    assert_eq!(taken, [true, true, false, false, false]);
}

#[test]
fn labels_are_matched_by_one_selector_or_by_any_of_several() {
    let labels = |app: &str| Labels::from([("app".to_owned(), app.to_owned())]);
    let one = filters(json!({"labelSelector": {"matchLabels": {"app": "shop"}}})).unwrap();
    assert!(one.takes_labels(&labels("shop")) && !one.takes_labels(&labels("mail")));
    let several = filters(json!({"orLabelSelectors": [
        {"matchLabels": {"app": "shop"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["mail"]}]},
    ]}));
    let several = several.unwrap();
    assert!(several.takes_labels(&labels("shop")) && several.takes_labels(&labels("mail")));
    assert!(!several.takes_labels(&labels("wiki")));
    assert!(filters(json!({})).unwrap().takes_labels(&Labels::new()));
}

#[test]
fn the_exclude_label_beats_every_selector() {
    let all = filters(json!({})).unwrap();
    let labels = |value: &str| Labels::from([(EXCLUDE_FROM_BACKUP.to_owned(), value.to_owned())]);
    assert!(!all.takes_labels(&labels("true")));
    assert!(all.takes_labels(&labels("false")));
}

#[test]
fn what_makes_no_sense_is_said_all_at_once() {
    let cases = [
        (
            json!({"includedResources": ["pods"], "includedClusterScopedResources": ["*"]}),
            "cannot be mixed",
        ),
        (
            json!({"includeClusterResources": true, "excludedNamespaceScopedResources": ["pods"]}),
            "cannot be mixed",
        ),
        (
            json!({"includedNamespaces": ["a"], "excludedNamespaces": ["a"]}),
            "both included and excluded",
        ),
        (json!({"includedNamespaces": ["*", "a"]}), "stands for all"),
        (json!({"excludedResources": ["*"]}), "would leave nothing"),
        (
            json!({"excludedClusterScopedResources": ["*", "nodes"], "includedClusterScopedResources": ["x"]}),
            "though some",
        ),
        (json!({"includedNamespaces": ["Shop"]}), "\"Shop\""),
        (json!({"excludedNamespaces": ["a/b"]}), "\"a/b\""),
        (
            json!({"labelSelector": {}, "orLabelSelectors": [{}]}),
            "cannot be used together",
        ),
        (
            json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "needs values",
        ),
    ];
    for (spec, want) in cases {
        let error = filters(spec.clone()).unwrap_err();
        assert!(
            error.problems.len() == 1 && error.to_string().contains(want),
            "{spec}: {error}"
        );
    }
    let error = filters(json!({"includedNamespaces": ["*", "A"], "excludedResources": ["*"]}));
    assert_eq!(error.unwrap_err().problems.len(), 3);
}

#[test]
fn misspelt_kinds_are_told() {
    let filters = filters(json!({"includedResources": ["pods", "deploymets", "*.apps"]})).unwrap();
    let kinds = [ResourceKind::pods(), kind("deployments", "apps", true)];
    assert_eq!(filters.unknown_kinds(&kinds), ["deploymets"]);
    // A name that nothing is called by never widens the choice.
    assert_eq!(filters.choose(&kind("secrets", "", true)), LeftOut);
}
