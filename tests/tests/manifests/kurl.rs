//! The add-on for kURL: its own test passes, and what it renders fits the manifests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use orlop_kubernetes::velero::BackupStorageLocation;
use serde_json::Value;

use super::{base, deploy, list, named, one, read, texts};

/// Documents of a file.
fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    serde_saphyr::from_multiple(&text)
        .unwrap_or_else(|error| panic!("{}: {error}\n{text}", file.display()))
}

/// The only document of a file.
fn document(file: &Path) -> Value {
    let mut documents = documents(file);
    assert_eq!(documents.len(), 1, "{}", file.display());
    documents.remove(0)
}

/// Whether every name in a list of the patch is in the list of the object, or comes new with what `new` says it needs.
fn check_names(patch: &Value, object: &Value, new: &[&str], title: &str) {
    for element in list(patch) {
        let there = list(object).any(|one| one["name"] == element["name"]);
        let is_whole = new.iter().any(|key| !element[*key].is_null());
        assert!(there || is_whole, "{title}: {element} changes nothing");
    }
}

/// A patch that kustomize merges: its object is in the base, and so is what it changes there.
fn check_patch(patch: &Value, title: &str) {
    let kind = patch["kind"].as_str().unwrap();
    let object = one(kind, patch["metadata"]["name"].as_str().unwrap()).value;
    assert_eq!(patch["apiVersion"], object["apiVersion"], "{title}");
    assert_eq!(patch["metadata"]["namespace"], "velero", "{title}");
    if kind == "Service" {
        for port in list(&patch["spec"]["ports"]) {
            let of_base = named(&object["spec"]["ports"], port["name"].as_str().unwrap());
            assert_eq!(port["port"], of_base["port"], "{title}");
            let number = port["nodePort"].as_u64().unwrap();
            assert!((30000..32768).contains(&number), "{title}: {number}");
        }
        return;
    }
    let (patch, pod) = (
        &patch["spec"]["template"]["spec"],
        &object["spec"]["template"]["spec"],
    );
    check_names(&patch["volumes"], &pod["volumes"], &["configMap"], title);
    for container in list(&patch["containers"]) {
        let of_base = named(&pod["containers"], container["name"].as_str().unwrap());
        check_names(&container["env"], &of_base["env"], &["value"], title);
        for variable in list(&container["env"]) {
            assert!(variable["value"].is_string(), "{title}: {variable}");
        }
        for mount in list(&container["volumeMounts"]) {
            let volume = mount["name"].as_str().unwrap();
            assert!(
                list(&patch["volumes"]).any(|one| one["name"] == volume),
                "{title}"
            );
            let path = &mount["mountPath"];
            let mounts = &of_base["volumeMounts"];
            assert!(list(mounts).all(|one| one["mountPath"] != *path), "{title}");
        }
    }
}

/// One directory that the add-on's test has left.
fn check_rendered(dir: &Path) {
    let kustomization = document(&dir.join("kustomization.yaml"));
    let title = dir.display().to_string();
    for resource in texts(&kustomization["resources"]) {
        let path = dir.join(resource);
        if path.is_dir() {
            assert!(
                path.join("kustomization.yaml").is_file(),
                "{title}: {resource}"
            );
            continue;
        }
        let object = document(&path);
        assert_eq!(object["kind"], "ConfigMap", "{title}: {resource}");
        for (key, value) in object["data"].as_object().unwrap() {
            assert!(value.is_string(), "{title}: {resource}: {key}");
        }
    }
    let image = &kustomization["images"][0];
    assert_eq!(image["name"], "localhost/orlop");
    assert!(image["newTag"].is_string(), "{title}: {image}");
    for patch in list(&kustomization["patches"]) {
        let file = dir.join(patch["path"].as_str().unwrap());
        let title = file.display().to_string();
        let document = document(&file);
        if patch["target"].is_null() {
            check_patch(&document, &title);
        } else {
            for change in list(&document) {
                assert_eq!(change["op"], "add", "{title}");
                assert!(change["value"].is_string(), "{title}: {change}");
            }
        }
    }
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("made-") {
            continue;
        }
        let object = document(&path);
        assert_eq!(
            object["metadata"]["labels"]["component"], "velero",
            "{title}"
        );
        match object["kind"].as_str().unwrap() {
            "Secret" => assert!(object["stringData"]["cloud"].is_string(), "{title}"),
            "BackupStorageLocation" => {
                let location: BackupStorageLocation = serde_json::from_value(object).unwrap();
                assert!(location.spec.default, "{title}");
                assert!(!location.spec.object_storage.bucket.is_empty(), "{title}");
            }
            kind => panic!("{title}: a {kind} was made"),
        }
    }
}

#[test]
fn its_own_test_passes_and_what_it_renders_fits_the_base() {
    let rendered = tempfile::tempdir().unwrap();
    let done = Command::new("bash")
        .arg(deploy().join("kurl/test.sh"))
        .arg(rendered.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "{said}");
    let scenarios: Vec<PathBuf> = fs::read_dir(rendered.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(scenarios.len() >= 12, "{scenarios:?}\n{said}");
    for scenario in &scenarios {
        check_rendered(scenario);
    }
}

#[test]
fn its_manifest_names_the_image_of_the_base() {
    let manifest = fs::read_to_string(deploy().join("kurl/Manifest")).unwrap();
    let images: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("image orlop "))
        .collect();
    let base_image = one("Deployment", "velero").value["spec"]["template"]["spec"]["containers"][0]
        ["image"]
        .clone();
    assert_eq!(images, [base_image.as_str().unwrap()]);
}

#[test]
fn everything_that_is_installed_is_removed_again() {
    let uninstall = fs::read_to_string(deploy().join("kurl/lib/uninstall.sh")).unwrap();
    for object in base() {
        let kind = object.kind().to_lowercase();
        // The namespace and what is in it go with everything, and only then.
        if matches!(object.kind(), "Namespace" | "ServiceAccount") {
            continue;
        }
        let name = format!("{kind}/{}", object.name());
        assert!(
            uninstall
                .split_whitespace()
                .any(|word| word.trim_end_matches(';') == name),
            "{name} is not removed"
        );
    }
}

#[test]
fn the_directory_is_that_of_the_overlay() {
    let location = &read(Path::new("overlays/hostpath/location.yaml"))[0].value;
    let path = location["spec"]["config"]["path"].as_str().unwrap();
    let install = fs::read_to_string(deploy().join("kurl/install.sh")).unwrap();
    assert!(install.contains(&format!("ORLOP_STORE_DIR:-{path}}}")));
}
