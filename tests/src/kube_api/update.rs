//! How objects change.

use std::sync::Arc;

use serde_json::Value;

use super::{
    crd,
    create::{check_form, conform},
    defaults,
    failure::{Cause, Failure},
    kind::Kind,
    meta::{has_finalizers, is_deleting, items, metadata, text, without_version},
    store::{Key, Store},
};

/// Which part of an object a request may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the status, where that is written apart.
    Main,
    /// The status alone.
    Status,
}

/// Metadata that no client writes.
const KEPT: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "name",
    "namespace",
];

/// Puts a new state in the place of an object's, if that is still the one that the client knows.
pub(super) fn update(
    store: &mut Store,
    kind: &Arc<Kind>,
    key: &Key,
    mut object: Value,
    part: Part,
    strict: bool,
) -> Result<Arc<Value>, Failure> {
    let old = find(store, kind, key)?;
    check_form(kind, &key.namespace, &mut object)?;
    let given = text(&object, "metadata.name");
    if given != key.name {
        let name = &key.name;
        let message =
            format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(Failure::bad_request(message));
    }
    check_precondition(kind, &old, &object)?;
    object = join_parts(kind, &old, object, part);
    keep_metadata(kind, &old, &mut object, part)?;
    if kind.is("", "secrets") {
        defaults::secret(&mut object);
    }
    conform(kind, &key.name, &mut object, strict)?;
    check_fixed(kind, &old, &object)?;
    Ok(put(store, kind, key, &old, object))
}

/// An object that must be there.
pub(super) fn find(store: &Store, kind: &Kind, key: &Key) -> Result<Arc<Value>, Failure> {
    let found = store.get(key).map(Arc::clone);
    found.ok_or_else(|| Failure::not_found(kind, &key.name))
}

/// Whether the client knows the newest version, or does not care.
fn check_precondition(kind: &Kind, old: &Value, object: &Value) -> Result<(), Failure> {
    let name = text(old, "metadata.name");
    let version = text(object, "metadata.resourceVersion");
    if version.is_empty() || version == "0" {
        if kind.custom {
            let cause = Cause::invalid(
                "metadata.resourceVersion",
                &0.into(),
                "must be specified for an update",
            );
            return Err(Failure::invalid(kind, name, &[cause]));
        }
    } else if version != text(old, "metadata.resourceVersion") {
        return Err(Failure::modified(kind, name));
    }
    let (given, uid) = (text(object, "metadata.uid"), text(old, "metadata.uid"));
    if !given.is_empty() && given != uid {
        let why =
            format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(Failure::conflict(kind, name, &why));
    }
    Ok(())
}

/// Takes from the new state what the request may write, and the rest from the old one.
fn join_parts(kind: &Kind, old: &Value, new: Value, part: Part) -> Value {
    let (mut result, status) = match part {
        Part::Status => (old.clone(), new.get("status").cloned()),
        Part::Main if kind.status => {
            let status = old.get("status").cloned();
            (new, status)
        }
        Part::Main => return new,
    };
    if let Some(fields) = result.as_object_mut() {
        match status {
            Some(status) => fields.insert("status".to_owned(), status),
            None => fields.remove("status"),
        };
    }
    result
}

fn keep_metadata(kind: &Kind, old: &Value, object: &mut Value, part: Part) -> Result<(), Failure> {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.as_str().into();
    let changed = part == Part::Main && matters(old) != matters(object);
    let fresh = if is_deleting(old) {
        let known = items(old, "metadata.finalizers");
        let added = items(object, "metadata.finalizers").iter();
        added.filter(|one| !known.contains(one)).cloned().collect()
    } else {
        Vec::new()
    };
    if !fresh.is_empty() {
        let fresh: Vec<String> = fresh.iter().map(Value::to_string).collect();
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            fresh.join(", ")
        );
        let cause = Cause::forbidden("metadata.finalizers", &why);
        return Err(Failure::invalid(kind, text(old, "metadata.name"), &[cause]));
    }
    let meta = metadata(object);
    for key in KEPT {
        match old["metadata"].get(key) {
            Some(value) => meta.insert(key.to_owned(), value.clone()),
            None => meta.remove(key),
        };
    }
    if let Some(managed) = old["metadata"].get("managedFields") {
        meta.entry("managedFields")
            .or_insert_with(|| managed.clone());
    }
    if kind.generation && changed {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
        meta.insert("generation".to_owned(), generation.into());
    }
    Ok(())
}

/// What a generation counts the changes of.
fn matters(object: &Value) -> Value {
    let mut copy = object.clone();
    if let Some(fields) = copy.as_object_mut() {
        for key in ["metadata", "status", "apiVersion", "kind"] {
            fields.remove(key);
        }
    }
    copy
}

/// Whether what may not change is as it was.
fn check_fixed(kind: &Kind, old: &Value, new: &Value) -> Result<(), Failure> {
    let name = text(old, "metadata.name");
    let refuse = |field: &str, why: &str| {
        Err(Failure::invalid(
            kind,
            name,
            &[Cause::forbidden(field, why)],
        ))
    };
    if kind.is("", "pods") && defaults::fixed_part_of_pod(old) != defaults::fixed_part_of_pod(new) {
        return refuse(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`, \
             `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` \
             (only additions to existing tolerations), `spec.terminationGracePeriodSeconds` \
             (allow it to be set to 1 if it was previously negative)",
        );
    }
    let immutable =
        (kind.is("", "secrets") || kind.is("", "configmaps")) && old["immutable"] == true;
    let contents = ["data", "binaryData", "immutable"];
    if immutable && contents.iter().any(|key| old[key] != new[key]) {
        return refuse("data", "field is immutable when `immutable` is set");
    }
    Ok(())
}

/// Stores a new state; an unchanged one is no write, and one that nothing holds any more is removed.
pub(super) fn put(
    store: &mut Store,
    kind: &Kind,
    key: &Key,
    old: &Arc<Value>,
    mut object: Value,
) -> Arc<Value> {
    if without_version(old) == without_version(&object) {
        return Arc::clone(old);
    }
    let held = kind.is("", "namespaces") && !items(&object, "spec.finalizers").is_empty();
    if is_deleting(&object) && !has_finalizers(&object) && !held {
        store.remove(key, object.clone());
        return Arc::new(object);
    }
    crd::establish(store, kind, &mut object);
    store.set(key.clone(), object)
}
