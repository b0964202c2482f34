//! What a cluster's controllers do after a deletion: dependents follow their owners, and namespaces
//! and custom kinds are emptied.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{
    crd,
    delete::{DeleteOptions, delete, remove_finalizer},
    meta::{is_deleting, items, metadata, text},
    store::{Key, Store},
};

/// The finalizer of an object that waits for its dependents to go.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// Goes on until nothing is left to be done.
pub(super) fn settle(store: &mut Store) {
    while store.take_unsettled() {
        crd::sweep(store);
        let doomed = doomed(store);
        delete_all(store, &doomed);
        finish(store);
    }
}

/// Deletes objects that are not being deleted yet.
fn delete_all(store: &mut Store, keys: &[Key]) {
    for key in keys {
        if let Some(kind) = store.kind_at(&key.place).cloned() {
            // One that went with another is gone already.
            let _ = delete(store, &kind, key, &DeleteOptions::default());
        }
    }
}

fn owners(object: &Value) -> &[Value] {
    items(object, "metadata.ownerReferences")
}

/// What is to be deleted: what is in an ending namespace or of an ending kind, and what has lost
/// its owners.
fn doomed(store: &Store) -> Vec<Key> {
    let mut living = BTreeSet::new();
    let mut foreground = BTreeSet::new();
    for (_, object) in store.everything() {
        let uid = text(object, "metadata.uid");
        if is_deleting(object)
            && items(object, "metadata.finalizers")
                .iter()
                .any(|f| f == FOREGROUND)
        {
            foreground.insert(uid);
        } else {
            living.insert(uid);
        }
    }
    let is_gone = |owner: &Value| {
        let uid = text(owner, "uid");
        let known = store
            .kinds
            .of_object(text(owner, "apiVersion"), text(owner, "kind"));
        !living.contains(uid) && (known.is_some() || foreground.contains(uid))
    };
    let ending = |key: &Key| {
        let namespace = Key::of_namespace(&key.namespace);
        !key.namespace.is_empty()
            && store
                .get(&namespace)
                .is_some_and(|found| is_deleting(found))
    };
    let kinds = crd::ending(store);
    store
        .everything()
        .filter(|(_, object)| !is_deleting(object))
        .filter(|(key, object)| {
            let owners = owners(object);
            ending(key)
                || kinds.contains(&key.place)
                || (!owners.is_empty() && owners.iter().all(is_gone))
        })
        .map(|(key, _)| key.clone())
        .collect()
}

/// Ends what waited for others that are gone by now.
fn finish(store: &mut Store) {
    let waited_for: BTreeSet<String> = store
        .everything()
        .flat_map(|(_, object)| owners(object))
        .filter(|owner| owner["blockOwnerDeletion"] == true)
        .map(|owner| text(owner, "uid").to_owned())
        .collect();
    let full: BTreeSet<&String> = store.everything().map(|(key, _)| &key.namespace).collect();
    let mut done = Vec::new();
    let mut empty = Vec::new();
    for (key, object) in store.everything().filter(|(_, object)| is_deleting(object)) {
        let is_namespace = key.place.group.is_empty() && key.place.plural == "namespaces";
        let waits = items(object, "metadata.finalizers");
        if waits.iter().any(|one| one == FOREGROUND)
            && !waited_for.contains(text(object, "metadata.uid"))
        {
            done.push(key.clone());
        } else if is_namespace && waits.is_empty() && !full.contains(&key.name) {
            empty.push((key.clone(), Arc::clone(object)));
        }
    }
    for key in &done {
        remove_finalizer(store, key, FOREGROUND);
    }
    for key in crd::emptied(store) {
        remove_finalizer(store, &key, crd::CLEANUP);
    }
    for (key, last) in &empty {
        store.remove(key, Value::clone(last));
    }
}

/// Makes an object's dependents independent.
pub(super) fn orphan(store: &mut Store, uid: &str) {
    let dependents: Vec<(Key, Arc<Value>)> = store
        .everything()
        .filter(|(_, object)| owners(object).iter().any(|owner| owner["uid"] == uid))
        .map(|(key, object)| (key.clone(), Arc::clone(object)))
        .collect();
    for (key, object) in dependents {
        let mut object = Value::clone(&object);
        if let Some(owners) = metadata(&mut object)
            .get_mut("ownerReferences")
            .and_then(Value::as_array_mut)
        {
            owners.retain(|owner| owner["uid"] != uid);
        }
        store.set(key, object);
    }
}
