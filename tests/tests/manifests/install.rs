//! What `orlop install` makes is what `deploy/` says.

use std::path::Path;

use orlop_kubernetes::install::{InstallChoices, StoreChoice, render};
use serde_json::Value;

use super::{Object, base, list, read};

fn rendered(store: Option<StoreChoice>) -> Vec<Value> {
    render(&InstallChoices {
        store,
        ..InstallChoices::default()
    })
    .unwrap()
}

fn key(object: &Value) -> String {
    format!("{} {}", object["kind"], object["metadata"]["name"])
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(key);
    objects
}

#[test]
fn an_installation_without_choices_is_the_base() {
    let mut wanted: Vec<Value> = base().into_iter().map(|object| object.value).collect();
    wanted.extend(
        read(Path::new("crds/velero.yaml"))
            .into_iter()
            .map(|one| one.value),
    );
    let made = rendered(None);
    assert_eq!(made.len(), wanted.len());
    for (made, wanted) in sorted(made).iter().zip(&sorted(wanted)) {
        assert_eq!(made, wanted, "{}", key(wanted));
    }
}

#[test]
fn a_directory_is_mounted_as_the_overlay_does_it() {
    let overlay = |file: &str| -> Vec<Object> { read(&Path::new("overlays/hostpath").join(file)) };
    let made = rendered(Some(StoreChoice::HostPath {
        path: "/var/lib/orlop-backups".to_owned(),
    }));
    let find = |kind: &str| made.iter().find(|object| object["kind"] == kind).unwrap();
    assert_eq!(
        find("BackupStorageLocation"),
        &overlay("location.yaml")[0].value
    );
    let patch = &overlay("coordinator.yaml")[0].value["spec"]["template"]["spec"];
    let pod = &find("Deployment")["spec"]["template"]["spec"];
    for volume in list(&patch["volumes"]) {
        assert!(list(&pod["volumes"]).any(|one| one == volume), "{volume}");
    }
    for mount in list(&patch["containers"][0]["volumeMounts"]) {
        let mounts = &pod["containers"][0]["volumeMounts"];
        assert!(list(mounts).any(|one| one == mount), "{mount}");
    }
}

#[test]
fn what_an_object_needs_comes_before_it() {
    let made = rendered(Some(StoreChoice::Claim {
        size: "1Gi".to_owned(),
    }));
    let place = |kind: &str| made.iter().position(|one| one["kind"] == kind).unwrap();
    assert!(place("CustomResourceDefinition") < place("BackupStorageLocation"));
    assert!(place("Namespace") < place("ServiceAccount"));
    assert!(place("ClusterRole") < place("Deployment"));
    assert!(place("BackupStorageLocation") < place("Deployment"));
}

/// The numbers in a value that are not whole.
fn fractions(value: &Value) -> Vec<String> {
    match value {
        Value::Number(number) if !number.is_i64() => vec![number.to_string()],
        Value::Array(all) => all.iter().flat_map(fractions).collect(),
        Value::Object(all) => all.values().flat_map(fractions).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn numbers_are_whole_however_yaml_is_read() {
    // 0400 is 256 for kubectl and 400.0 for others.
    for object in rendered(None) {
        assert_eq!(fractions(&object), [""; 0], "{}", key(&object));
    }
}
