//! How objects come to be.

use std::sync::Arc;

use serde_json::Value;

use super::{
    crd, defaults,
    failure::{Cause, Failure},
    kind::Kind,
    meta::{at, is_deleting, metadata, now, random_suffix, text, uid},
    store::{Key, Store},
};

/// The longest prefix of a generated name.
const PREFIX: usize = 58;

/// Creates an object, as a client's request for it does.
pub(super) fn create(
    store: &mut Store,
    kind: &Arc<Kind>,
    namespace: &str,
    mut object: Value,
    strict: bool,
) -> Result<Arc<Value>, Failure> {
    check_form(kind, namespace, &mut object)?;
    // The `velero` command sends 0, which is none.
    if !matches!(text(&object, "metadata.resourceVersion"), "" | "0") {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Failure::new(500, "", message));
    }
    let name = name_of(kind, &mut object)?;
    check_namespace(store, kind, namespace)?;
    let key = Key::new(kind, namespace, &name);
    if store.get(&key).is_some() {
        return Err(Failure::already_exists(kind, &name));
    }
    let meta = metadata(&mut object);
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        meta.remove(key);
    }
    meta.insert("uid".to_owned(), uid().into());
    meta.insert("creationTimestamp".to_owned(), now().into());
    complete(kind, namespace, &mut object);
    if kind.status {
        defaults::drop_status(kind, &mut object);
    }
    defaults::of_new(kind, &mut object);
    conform(kind, &name, &mut object, strict)?;
    Ok(insert(store, kind, key, object))
}

/// Stores a new object, and serves what it defines.
pub(super) fn insert(store: &mut Store, kind: &Kind, key: Key, mut object: Value) -> Arc<Value> {
    crd::establish(store, kind, &mut object);
    store.set(key, object)
}

/// What every object has that is stored: put there where it is missing.
pub(super) fn complete(kind: &Kind, namespace: &str, object: &mut Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.as_str().into();
    let meta = metadata(object);
    if kind.namespaced {
        meta.insert("namespace".to_owned(), namespace.into());
    } else {
        meta.remove("namespace");
    }
    meta.entry("uid").or_insert_with(|| uid().into());
    meta.entry("creationTimestamp")
        .or_insert_with(|| now().into());
    if kind.generation {
        meta.insert("generation".to_owned(), 1.into());
    }
}

/// Whether the object is what the path says it is.
pub(super) fn check_form(kind: &Kind, namespace: &str, object: &mut Value) -> Result<(), Failure> {
    if !object.is_object() || !matches!(object["metadata"], Value::Object(_) | Value::Null) {
        return Err(Failure::bad_request("the object provided is unrecognized"));
    }
    for (key, right) in [
        ("apiVersion", kind.api_version()),
        ("kind", kind.kind.clone()),
    ] {
        let given = text(object, key);
        if !given.is_empty() && given != right {
            let message = format!(
                "the {key} in the data ({given}) does not match the expected {key} ({right})"
            );
            return Err(Failure::bad_request(message));
        }
    }
    let given = text(object, "metadata.namespace");
    if kind.namespaced && !given.is_empty() && given != namespace {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(message));
    }
    let labels = at(object, "metadata.labels")
        .as_object()
        .into_iter()
        .flatten();
    let annotations = at(object, "metadata.annotations")
        .as_object()
        .into_iter()
        .flatten();
    for (key, value) in labels.chain(annotations) {
        if !value.is_string() {
            let message = format!("unable to decode the metadata's {key}: {value} is no string");
            return Err(Failure::bad_request(message));
        }
    }
    Ok(())
}

/// The object's name, generated if it asks for that.
fn name_of(kind: &Kind, object: &mut Value) -> Result<String, Failure> {
    let mut name = text(object, "metadata.name").to_owned();
    let prefix = text(object, "metadata.generateName");
    if name.is_empty() {
        if prefix.is_empty() {
            let cause = Cause::required("metadata.name", "name or generateName is required");
            return Err(Failure::invalid(kind, "", &[cause]));
        }
        let prefix: String = prefix.chars().take(PREFIX).collect();
        name = prefix + &random_suffix(5);
        metadata(object).insert("name".to_owned(), name.as_str().into());
    }
    match wrong_name(kind, &name) {
        None => Ok(name),
        Some(why) => {
            let cause = Cause::invalid("metadata.name", &name.as_str().into(), why);
            Err(Failure::invalid(kind, &name, &[cause]))
        }
    }
}

fn wrong_name(kind: &Kind, name: &str) -> Option<&'static str> {
    if kind.group == "rbac.authorization.k8s.io" {
        return name
            .contains(['/', '%'])
            .then_some("may not contain '/' or '%'");
    }
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |part: &str| {
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || c == '-')
    };
    if matches!(kind.plural.as_str(), "namespaces" | "services") {
        return (name.len() > 63 || !label(name)).then_some(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character",
        );
    }
    (name.len() > 253 || !name.split('.').all(label)).then_some(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
         and must start and end with an alphanumeric character",
    )
}

/// Whether the namespace is there and takes new objects.
fn check_namespace(store: &Store, kind: &Kind, namespace: &str) -> Result<(), Failure> {
    if !kind.namespaced {
        return Ok(());
    }
    let key = Key::of_namespace(namespace);
    let Some(found) = store.get(&key) else {
        let kind = store.kind_at(&key.place).expect("namespaces are built in");
        return Err(Failure::not_found(kind, namespace));
    };
    if is_deleting(found) {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = Cause {
            field: "metadata.namespace".to_owned(),
            reason: "NamespaceTerminating",
            message: format!("namespace {namespace} is being terminated"),
        };
        return Err(Failure::forbidden(kind, "", &why).with_causes(&[cause]));
    }
    Ok(())
}

/// Makes the object what its schema allows, or says why it cannot.
pub(super) fn conform(
    kind: &Kind,
    name: &str,
    object: &mut Value,
    strict: bool,
) -> Result<(), Failure> {
    let Some(schema) = &kind.schema else {
        return Ok(());
    };
    let dropped = schema.prune(object);
    if strict && !dropped.is_empty() {
        let said: Vec<String> = dropped
            .iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect();
        let message = format!("strict decoding error: {}", said.join(", "));
        return Err(Failure::bad_request(message));
    }
    schema.fill(object);
    let causes = schema.check(object);
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Failure::invalid(kind, name, &causes))
    }
}
