//! The manifests below `deploy/`: what KOTS, kURL and the `velero` command look for, and what must hold of
//! any manifest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "manifests/examples.rs"]
mod examples;
#[path = "manifests/files.rs"]
mod files;
#[path = "manifests/install.rs"]
mod install;
#[path = "manifests/kots.rs"]
mod kots;
#[path = "manifests/kurl.rs"]
mod kurl;
#[path = "manifests/rights.rs"]
mod rights;
#[path = "manifests/workloads.rs"]
mod workloads;

use std::{
    fs,
    path::{Path, PathBuf},
};

use orlop_tests::repository_root;
use serde_json::Value;

/// One object of one file.
struct Object {
    /// The file's path below `deploy/`.
    file: PathBuf,
    value: Value,
}

impl Object {
    fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// For messages.
    fn title(&self) -> String {
        format!("{} {} in {}", self.kind(), self.name(), self.file.display())
    }

    /// Whether it belongs to kustomize and is no object of the API.
    fn is_kustomization(&self) -> bool {
        matches!(self.kind(), "Kustomization" | "Component")
    }

    /// The template of its pods, if it has one.
    fn template(&self) -> Option<&Value> {
        Some(&self.value["spec"]["template"]).filter(|template| template["spec"].is_object())
    }

    /// Init containers and containers.
    fn containers(&self) -> Vec<&Value> {
        let Some(template) = self.template() else {
            return Vec::new();
        };
        let spec = &template["spec"];
        [&spec["initContainers"], &spec["containers"]]
            .into_iter()
            .flat_map(list)
            .collect()
    }
}

/// The directory of all manifests.
fn deploy() -> PathBuf {
    repository_root().join("deploy")
}

/// Every YAML file below `deploy/`, by its path there, sorted.
fn yaml_files() -> Vec<PathBuf> {
    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path
                .extension()
                .is_some_and(|end| end == "yaml" || end == "yml")
            {
                found.push(path.strip_prefix(deploy()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    below(&deploy(), &mut found);
    found.sort();
    found
}

/// All objects of a file.
fn read(file: &Path) -> Vec<Object> {
    let text = fs::read_to_string(deploy().join(file)).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    documents
        .into_iter()
        .filter(|value| !value.is_null())
        .map(|value| Object {
            file: file.to_owned(),
            value,
        })
        .collect()
}

/// All objects of all files.
fn all() -> Vec<Object> {
    yaml_files().iter().flat_map(|file| read(file)).collect()
}

/// The objects of `deploy/base`.
fn base() -> Vec<Object> {
    all()
        .into_iter()
        .filter(|object| object.file.starts_with("base") && !object.is_kustomization())
        .collect()
}

/// The object of that kind and name in `deploy/base`.
fn one(kind: &str, name: &str) -> Object {
    let mut found: Vec<Object> = base()
        .into_iter()
        .filter(|object| object.kind() == kind && object.name() == name)
        .collect();
    assert_eq!(found.len(), 1, "there must be one {kind} {name}");
    found.pop().unwrap()
}

/// The elements of a list, none if there is no list.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a list.
fn texts(value: &Value) -> Vec<&str> {
    list(value).map(|one| one.as_str().unwrap()).collect()
}

/// The element of that name in a list.
fn named<'a>(value: &'a Value, name: &str) -> &'a Value {
    list(value)
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("there is no {name:?} in {value:#}"))
}

/// Whether every entry of `some` is in `map` too.
fn includes(map: &Value, some: &Value) -> bool {
    let some = some.as_object().unwrap();
    !some.is_empty() && some.iter().all(|(key, value)| map.get(key) == Some(value))
}
