//! Files and kustomizations: everything can be read, nothing is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use serde_json::{Value, json};

use super::{Object, all, deploy, list, texts, yaml_files};

/// Files that are used on their own.
const ALONE: [&str; 4] = [
    "examples/backup.yaml",
    "examples/restore.yaml",
    "examples/schedule.yaml",
    "kurl/host-preflight.yaml",
];

/// `path` without `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(tidy.pop(), "{} leaves deploy/", path.display()),
            Component::Normal(name) => tidy.push(name),
            _ => {}
        }
    }
    tidy
}

/// The paths that a kustomization names.
fn named(kustomization: &Object) -> Vec<PathBuf> {
    let value = &kustomization.value;
    let dir = kustomization.file.parent().unwrap();
    let patches = list(&value["patches"]).filter_map(|patch| patch["path"].as_str());
    texts(&value["resources"])
        .into_iter()
        .chain(texts(&value["components"]))
        .chain(patches)
        .map(|path| tidy(&dir.join(path)))
        .collect()
}

fn kustomizations() -> Vec<Object> {
    all().into_iter().filter(Object::is_kustomization).collect()
}

#[test]
fn every_object_has_a_version_a_kind_and_a_name() {
    let objects = all();
    assert!(
        objects.len() > 40,
        "only {} objects were found",
        objects.len()
    );
    for object in &objects {
        let title = object.title();
        assert!(
            object.value["apiVersion"].is_string(),
            "{title}: no version"
        );
        assert!(!object.kind().is_empty(), "{title}: no kind");
        if object.is_kustomization() {
            assert_eq!(object.file.file_name().unwrap(), "kustomization.yaml");
        } else {
            assert!(!object.name().is_empty(), "{title}: no name");
        }
    }
}

#[test]
fn kustomizations_name_every_file_and_only_what_is_there() {
    let mut listed = BTreeSet::new();
    for kustomization in kustomizations() {
        for path in named(&kustomization) {
            let there = deploy().join(&path);
            assert!(
                there.is_file() || there.join("kustomization.yaml").is_file(),
                "{} names {}, which is not there",
                kustomization.title(),
                path.display()
            );
            listed.insert(path);
        }
    }
    let forgotten: Vec<PathBuf> = yaml_files()
        .into_iter()
        .filter(|file| file.file_name().unwrap() != "kustomization.yaml")
        .filter(|file| {
            !listed.contains(file) && ALONE.iter().all(|alone| file.as_path() != Path::new(alone))
        })
        .collect();
    assert!(forgotten.is_empty(), "no kustomization names {forgotten:?}");
}

#[test]
fn no_kustomization_changes_labels_or_names() {
    // KOTS deletes the pods that have all labels of their Deployment: a label that only the Deployment has hides its pods.
    for kustomization in kustomizations() {
        for word in ["labels", "commonLabels", "namePrefix", "nameSuffix"] {
            assert_eq!(
                kustomization.value[word],
                Value::Null,
                "{} sets {word}",
                kustomization.title()
            );
        }
    }
}

#[test]
fn base_and_overlays_are_for_one_namespace() {
    let namespaced = all().into_iter().filter(|object| {
        let place = object.file.starts_with("base") || object.file.starts_with("overlays");
        place && !object.is_kustomization()
    });
    let mut kinds = BTreeMap::new();
    for object in namespaced {
        let cluster_wide = matches!(
            object.kind(),
            "Namespace" | "ClusterRole" | "ClusterRoleBinding"
        );
        let namespace = &object.value["metadata"]["namespace"];
        if cluster_wide {
            assert_eq!(*namespace, Value::Null, "{}", object.title());
        } else {
            assert_eq!(*namespace, "velero", "{}", object.title());
        }
        *kinds.entry(object.kind().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(kinds["BackupStorageLocation"], 2);
    assert_eq!(kinds["DaemonSet"], 1);
}

#[test]
fn both_locations_have_the_name_that_kots_wants() {
    let locations: Vec<Object> = all()
        .into_iter()
        .filter(|object| object.kind() == "BackupStorageLocation")
        .collect();
    let providers: Vec<&str> = locations
        .iter()
        .map(|location| location.value["spec"]["provider"].as_str().unwrap())
        .collect();
    assert_eq!(providers, ["replicated.com/hostpath", "aws"]);
    for location in &locations {
        assert_eq!(location.name(), "default");
        assert_eq!(location.value["spec"]["default"], true);
        let bucket = &location.value["spec"]["objectStorage"]["bucket"];
        assert!(bucket.is_string(), "{}", location.title());
    }
}

#[test]
fn the_directory_is_mounted_where_the_controller_would_mount_it() {
    let file = |name: &str| {
        let object = all().into_iter().find(|one| one.file.ends_with(name));
        object.unwrap().value
    };
    let location = file("hostpath/location.yaml");
    let spec = &file("hostpath/coordinator.yaml")["spec"]["template"]["spec"];
    let path = &location["spec"]["config"]["path"];
    assert_eq!(
        spec["volumes"],
        json!([{
            "name": "orlop-store-default",
            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
        }])
    );
    assert_eq!(
        spec["containers"],
        json!([{
            "name": "velero",
            "volumeMounts": [{"name": "orlop-store-default", "mountPath": "/stores/default"}],
        }])
    );
}
