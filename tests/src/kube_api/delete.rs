//! How objects go: at once, or when the last finalizer does.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    failure::Failure,
    garbage,
    kind::Kind,
    meta::{has_finalizers, is_deleting, metadata, now, text},
    store::{Key, Store},
    update::find,
};

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Propagation {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How a client wants something deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct DeleteOptions {
    pub(super) propagation: Propagation,
    uid: Option<String>,
    version: Option<String>,
    pub(super) dry_run: bool,
}

impl DeleteOptions {
    /// From a body, or from the query where that has none.
    pub(super) fn parse(body: &Value, propagation: &str) -> Result<Self, Failure> {
        let given = match text(body, "propagationPolicy") {
            "" => propagation,
            given => given,
        };
        let propagation = match given {
            "" | "Background" => Propagation::Background,
            "Foreground" => Propagation::Foreground,
            "Orphan" => Propagation::Orphan,
            _ if body["orphanDependents"] == true => Propagation::Orphan,
            other => {
                let message = format!("invalid propagationPolicy: {other:?}");
                return Err(Failure::unprocessable(message));
            }
        };
        let precondition = |key: &str| body["preconditions"][key].as_str().map(str::to_owned);
        Ok(Self {
            propagation,
            uid: precondition("uid"),
            version: precondition("resourceVersion"),
            dry_run: body["dryRun"] == json!(["All"]),
        })
    }

    fn check(&self, kind: &Kind, object: &Value) -> Result<(), Failure> {
        for (what, wanted, path) in [
            ("UID", &self.uid, "metadata.uid"),
            ("ResourceVersion", &self.version, "metadata.resourceVersion"),
        ] {
            let found = text(object, path);
            if let Some(wanted) = wanted
                && wanted != found
            {
                let why = format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                );
                let name = text(object, "metadata.name");
                return Err(Failure::conflict(kind, name, &why));
            }
        }
        Ok(())
    }
}

/// Deletes an object; the answer is the object as long as it stays, and else says that it is gone.
pub(super) fn delete(
    store: &mut Store,
    kind: &Kind,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Value, Failure> {
    let old = find(store, kind, key)?;
    options.check(kind, &old)?;
    let mut object = Value::clone(&old);
    match options.propagation {
        Propagation::Background => {}
        Propagation::Foreground => add_finalizer(&mut object, garbage::FOREGROUND),
        Propagation::Orphan => garbage::orphan(store, text(&old, "metadata.uid")),
    }
    let is_namespace = kind.is("", "namespaces");
    if is_namespace || has_finalizers(&object) {
        if !is_deleting(&object) {
            let meta = metadata(&mut object);
            meta.insert("deletionTimestamp".to_owned(), now().into());
            meta.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
            if is_namespace {
                object["status"]["phase"] = "Terminating".into();
            }
            return Ok(Value::clone(&store.set(key.clone(), object)));
        }
        return Ok(object);
    }
    store.remove(key, object);
    Ok(json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": key.name,
            "group": kind.group,
            "kind": kind.plural,
            "uid": text(&old, "metadata.uid"),
        },
    }))
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let list = metadata(object)
        .entry("finalizers")
        .or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|one| one == finalizer)
    {
        list.push(finalizer.into());
    }
}

/// Takes one finalizer from an object, and the object with the last one.
pub(super) fn remove_finalizer(store: &mut Store, key: &Key, finalizer: &str) {
    let (Some(old), Some(kind)) = (store.get(key).cloned(), store.kind_at(&key.place).cloned())
    else {
        return;
    };
    let mut object = Value::clone(&old);
    if let Some(list) = metadata(&mut object)
        .get_mut("finalizers")
        .and_then(Value::as_array_mut)
    {
        list.retain(|one| one != finalizer);
    }
    super::update::put(store, &kind, key, &old, object);
}

/// Removes an object whatever holds it.
pub(super) fn remove_now(store: &mut Store, key: &Key) -> Option<Arc<Value>> {
    let last = store.get(key).cloned()?;
    store.remove(key, Value::clone(&last));
    Some(last)
}
