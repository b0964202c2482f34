//! Server-side apply, simplified: managers own the fields that they applied. Fields that others wrote
//! by updates are nobody's, and lists without keys are one field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    failure::{Cause, Failure},
    kind::Kind,
    meta::{items, metadata, now, text, without_version},
    strategic::{self, list_key},
};

/// Who applies, and how.
pub(super) struct Intent<'a> {
    pub(super) manager: &'a str,
    pub(super) force: bool,
    pub(super) api_version: &'a str,
    pub(super) subresource: &'a str,
}

/// A field: `f:` and its name for each step, `k:` and the key for an element of a list.
type Path = Vec<String>;

/// The object after a manager has applied what it wants.
pub(super) fn apply(
    kind: &Kind,
    name: &str,
    old: &Value,
    wanted: &Value,
    intent: &Intent<'_>,
) -> Result<Value, Failure> {
    let mut managers = managers(old);
    let own = (intent.manager.to_owned(), intent.subresource.to_owned());
    let before = managers.remove(&own).unwrap_or_default();
    let after = owned_by(wanted);
    let conflicts: Vec<(String, Path)> = managers
        .iter()
        .flat_map(|((manager, _), fields)| {
            let shared = fields.intersection(&after);
            shared.map(|path| (manager.clone(), path.clone()))
        })
        .filter(|(_, path)| get(old, path) != get(wanted, path))
        .collect();
    if !conflicts.is_empty() && !intent.force {
        return Err(conflict(kind, name, &conflicts));
    }
    for ((manager, _), fields) in &mut managers {
        fields.retain(|path| {
            !conflicts
                .iter()
                .any(|(one, lost)| one == manager && lost == path)
        });
    }
    let mut object = old.clone();
    let mut wanted = wanted.clone();
    metadata(&mut wanted).remove("managedFields");
    strategic::merge(&mut object, &wanted);
    for path in before.difference(&after) {
        if !managers.values().any(|fields| fields.contains(path)) {
            remove(&mut object, path);
        }
    }
    managers.insert(own, after);
    record(old, &mut object, &managers, intent);
    Ok(object)
}

fn conflict(kind: &Kind, name: &str, conflicts: &[(String, Path)]) -> Failure {
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|(manager, path)| Cause {
            field: shown(path),
            reason: "FieldManagerConflict",
            message: format!("conflict with {manager:?}"),
        })
        .collect();
    let said: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}: {}", cause.message, cause.field))
        .collect();
    let plural = if causes.len() == 1 { "" } else { "s" };
    let mut failure = Failure::conflict(kind, name, "").with_causes(&causes);
    failure.message = format!(
        "Apply failed with {} conflict{plural}: {}",
        causes.len(),
        said.join(", ")
    );
    failure
}

fn shown(path: &Path) -> String {
    path.iter()
        .map(|step| match step.split_once(':') {
            Some(("f", name)) => format!(".{name}"),
            _ => format!("[{}]", step.trim_start_matches("k:")),
        })
        .collect()
}

/// Who owns what, by manager and subresource.
fn managers(object: &Value) -> BTreeMap<(String, String), BTreeSet<Path>> {
    items(object, "metadata.managedFields")
        .iter()
        .filter(|entry| entry["operation"] == "Apply")
        .map(|entry| {
            let mut paths = BTreeSet::new();
            unfold(&entry["fieldsV1"], &mut Vec::new(), &mut paths);
            let key = |key: &str| text(entry, key).to_owned();
            ((key("manager"), key("subresource")), paths)
        })
        .collect()
}

fn unfold(tree: &Value, path: &mut Path, paths: &mut BTreeSet<Path>) {
    let steps = tree.as_object().into_iter().flatten();
    let mut leaf = true;
    for (step, inner) in steps.filter(|(step, _)| *step != ".") {
        leaf = false;
        path.push(step.clone());
        unfold(inner, path, paths);
        path.pop();
    }
    if leaf && !path.is_empty() {
        paths.insert(path.clone());
    }
}

fn fold(paths: &BTreeSet<Path>) -> Value {
    let mut tree = json!({});
    for path in paths {
        let mut place = &mut tree;
        for step in path {
            let inner = place.as_object_mut().expect("steps are maps");
            place = inner.entry(step.clone()).or_insert_with(|| json!({}));
        }
    }
    tree
}

fn owned_by(wanted: &Value) -> BTreeSet<Path> {
    let mut wanted = wanted.clone();
    let meta = metadata(&mut wanted);
    for key in [
        "name",
        "namespace",
        "managedFields",
        "resourceVersion",
        "uid",
        "creationTimestamp",
    ] {
        meta.remove(key);
    }
    if let Some(fields) = wanted.as_object_mut() {
        fields.retain(|key, value| {
            let empty = key == "metadata" && value.as_object().is_some_and(Map::is_empty);
            key != "apiVersion" && key != "kind" && !empty
        });
    }
    let mut paths = BTreeSet::new();
    collect("", &wanted, &mut Vec::new(), &mut paths);
    paths
}

fn collect(field: &str, value: &Value, path: &mut Path, paths: &mut BTreeSet<Path>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, inner) in fields {
                path.push(format!("f:{key}"));
                collect(key, inner, path, paths);
                path.pop();
            }
        }
        Value::Array(elements) if list_key(field, elements).is_some() && !elements.is_empty() => {
            let by = list_key(field, elements).unwrap_or_default();
            for element in elements {
                path.push(format!("k:{}", json!({by: element[by]})));
                collect("", element, path, paths);
                path.pop();
            }
        }
        _ if path.is_empty() => {}
        _ => {
            paths.insert(path.clone());
        }
    }
}

fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter()
        .try_fold(object, |value, step| match step.split_once(':') {
            Some(("k", key)) => value
                .as_array()?
                .iter()
                .find(|element| has_key(element, key)),
            Some((_, name)) => value.get(name),
            None => None,
        })
}

fn has_key(element: &Value, key: &str) -> bool {
    let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
    key.iter().all(|(name, value)| element[name] == *value)
}

/// Removes a field, and the maps that are empty without it.
fn remove(object: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    match (step.split_once(':'), object) {
        (Some(("f", name)), Value::Object(fields)) => {
            if let Some(inner) = fields.get_mut(name) {
                remove(inner, rest);
                if rest.is_empty() || is_empty(inner) {
                    fields.remove(name);
                }
            }
        }
        (Some(("k", key)), Value::Array(elements)) => {
            if let Some(index) = elements.iter().position(|element| has_key(element, key)) {
                // Without its key's field an element is nothing.
                if rest
                    .first()
                    .is_some_and(|next| key.contains(&format!("{:?}", &next[2..])))
                {
                    elements.remove(index);
                } else {
                    remove(&mut elements[index], rest);
                }
            }
        }
        _ => {}
    }
}

/// Writes down who owns what; the time is that of the last application that changed anything.
fn record(
    old: &Value,
    object: &mut Value,
    managers: &BTreeMap<(String, String), BTreeSet<Path>>,
    intent: &Intent<'_>,
) {
    let known = items(old, "metadata.managedFields");
    let entries: Vec<Value> = managers
        .iter()
        .filter(|(_, fields)| !fields.is_empty())
        .map(|((manager, subresource), fields)| {
            let before = known.iter().find(|entry| {
                entry["manager"] == *manager && text(entry, "subresource") == subresource
            });
            let time = before.map_or_else(now, |entry| text(entry, "time").to_owned());
            let mut entry = json!({
                "manager": manager,
                "operation": "Apply",
                "apiVersion": intent.api_version,
                "time": time,
                "fieldsType": "FieldsV1",
                "fieldsV1": fold(fields),
            });
            if !subresource.is_empty() {
                entry["subresource"] = subresource.as_str().into();
            }
            entry
        })
        .collect();
    metadata(object).insert("managedFields".to_owned(), entries.into());
    if without_version(old) != without_version(object)
        && let Some(entries) = object["metadata"]["managedFields"].as_array_mut()
    {
        let own = entries.iter_mut().filter(|entry| {
            entry["manager"] == intent.manager && text(entry, "subresource") == intent.subresource
        });
        own.for_each(|entry| entry["time"] = now().into());
    }
}
