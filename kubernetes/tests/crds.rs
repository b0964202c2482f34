//! Holds our definitions of Velero's custom resources to the structure of the real ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeMap, fs, path::Path};

use orlop_kubernetes::crds;
use serde_json::{Value, json};

const GOLDEN: &str = "../deploy/crds/velero.yaml";
const UPDATE: &str = "ORLOP_UPDATE_CRDS";

/// The schema without what only people read, lists that are sets in order.
fn structure(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut bare = serde_json::Map::new();
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("description", Value::String(_)) => {}
                    ("required", Value::Array(names)) => {
                        let mut names = names.clone();
                        names.sort_by_key(ToString::to_string);
                        bare.insert(key.clone(), Value::Array(names));
                    }
                    _ => {
                        bare.insert(key.clone(), structure(value));
                    }
                }
            }
            Value::Object(bare)
        }
        Value::Array(items) => Value::Array(items.iter().map(structure).collect()),
        other => other.clone(),
    }
}

/// Our definitions in the form of the fixture.
fn ours() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for crd in crds::all() {
        let crd = serde_json::to_value(crd).unwrap();
        let versions: Vec<Value> = crd["spec"]["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|version| {
                let columns = &version["additionalPrinterColumns"];
                json!({
                    "columns": if columns.is_null() { json!([]) } else { columns.clone() },
                    "name": version["name"],
                    "schema": structure(&version["schema"]["openAPIV3Schema"]),
                    "served": version["served"],
                    "storage": version["storage"],
                    "subresources": version["subresources"],
                })
            })
            .collect();
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        found.insert(
            name,
            json!({
                "names": crd["spec"]["names"],
                "scope": crd["spec"]["scope"],
                "versions": versions,
            }),
        );
    }
    found
}

fn differences(path: &str, ours: &Value, real: &Value, found: &mut Vec<String>) {
    match (ours, real) {
        (Value::Object(ours), Value::Object(real)) => {
            let mut keys: Vec<&String> = ours.keys().chain(real.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = format!("{path}.{key}");
                match (ours.get(key), real.get(key)) {
                    (Some(ours), Some(real)) => differences(&path, ours, real, found),
                    (Some(ours), None) => found.push(format!("{path}: only we have {ours}")),
                    (None, real) => found.push(format!("{path}: we lack {}", real.unwrap())),
                }
            }
        }
        (Value::Array(ours), Value::Array(real)) if ours.len() == real.len() => {
            for (at, (ours, real)) in ours.iter().zip(real).enumerate() {
                differences(&format!("{path}[{at}]"), ours, real, found);
            }
        }
        _ if ours != real => found.push(format!("{path}: ours is {ours}, the real one {real}")),
        _ => {}
    }
}

#[test]
fn our_definitions_have_the_structure_of_the_real_ones() {
    let real: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("velero-crds.json")).unwrap();
    let mut found = Vec::new();
    differences("", &json!(ours()), &structure(&json!(real)), &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_difference_is_found_wherever_it_is() {
    let mut found = Vec::new();
    let ours = json!({"a": {"type": "string"}, "b": [1, 2], "c": true});
    let real = json!({"a": {"type": "integer"}, "b": [1, 3], "d": false});
    differences("", &ours, &real, &mut found);
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn every_field_says_what_it_is_for() {
    fn silent(path: &str, schema: &Value, found: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            // What references of Kubernetes itself hold is known from there.
            let known = schema["x-kubernetes-map-type"] == "atomic";
            if property["description"].is_null() && name != "metadata" && !known {
                found.push(path.clone());
            }
            silent(&path, property, found);
            silent(&path, &property["items"], found);
        }
    }
    let mut found = Vec::new();
    for crd in crds::all() {
        let crd = serde_json::to_value(crd).unwrap();
        let name = crd["metadata"]["name"].as_str().unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        silent(name, schema, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_file_to_install_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let want = crds::to_yaml(&crds::all());
    if std::env::var_os(UPDATE).is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &want).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == want,
        "deploy/crds/velero.yaml is not what the types say; run the test with {UPDATE}=1 to write it again"
    );
    // What is written is what the types say, to a reader of its own too.
    let documents: Vec<Value> = serde_saphyr::from_multiple(&found).unwrap();
    assert_eq!(
        documents,
        serde_json::to_value(crds::all())
            .unwrap()
            .as_array()
            .unwrap()
            .clone()
    );
}
