//! CustomResourceDefinitions: kinds that come and go while the server runs.

use serde_json::{Value, json};

use super::{
    kind::{Kind, Place},
    meta::{is_deleting, items, metadata, now, text},
    schema::Schema,
    store::{Key, Store},
};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// The finalizer of a definition whose objects go before it.
pub(super) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Serves what a definition defines, and says so in its status; other objects are left alone.
pub(super) fn establish(store: &mut Store, kind: &Kind, definition: &mut Value) {
    if !kind.is(GROUP, PLURAL) {
        return;
    }
    let place = place_of(definition);
    store.kinds.replace(&place, kinds_of(definition));
    let conditions = ["NamesAccepted", "Established"].map(|condition| {
        let (reason, message) = match condition {
            "Established" => (
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
            _ => ("NoConflicts", "no conflicts found"),
        };
        json!({
            "type": condition, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": now(),
        })
    });
    let stored = items(definition, "spec.versions")
        .iter()
        .find(|version| version["storage"] == true)
        .map(|version| version["name"].clone());
    if definition["status"]["conditions"].is_array() {
        return;
    }
    metadata(definition).insert("finalizers".to_owned(), json!([CLEANUP]));
    definition["status"] = json!({
        "acceptedNames": definition["spec"]["names"],
        "conditions": conditions,
        "storedVersions": stored.into_iter().collect::<Vec<_>>(),
    });
}

fn definitions(store: &Store) -> Vec<(Key, std::sync::Arc<Value>)> {
    let place = Place {
        group: GROUP.to_owned(),
        plural: PLURAL.to_owned(),
    };
    store.list(&place, None)
}

/// Serves no longer what a removed definition defined.
pub(super) fn sweep(store: &mut Store) {
    let defined: Vec<Place> = definitions(store)
        .iter()
        .map(|(_, definition)| place_of(definition))
        .collect();
    let served = store.kinds.all().iter().filter(|kind| kind.custom);
    let stale: Vec<Place> = served
        .map(|kind| kind.place())
        .filter(|place| !defined.contains(place))
        .collect();
    for place in stale {
        store.kinds.replace(&place, Vec::new());
    }
}

/// The kinds whose definitions are being deleted.
pub(super) fn ending(store: &Store) -> Vec<Place> {
    definitions(store)
        .iter()
        .filter(|(_, definition)| is_deleting(definition))
        .map(|(_, definition)| place_of(definition))
        .collect()
}

/// The definitions that are being deleted and whose last objects are gone.
pub(super) fn emptied(store: &Store) -> Vec<Key> {
    definitions(store)
        .into_iter()
        .filter(|(_, definition)| is_deleting(definition))
        .filter(|(_, definition)| store.list(&place_of(definition), None).is_empty())
        .map(|(key, _)| key)
        .collect()
}

fn place_of(definition: &Value) -> Place {
    Place {
        group: text(definition, "spec.group").to_owned(),
        plural: text(definition, "spec.names.plural").to_owned(),
    }
}

fn kinds_of(definition: &Value) -> Vec<Kind> {
    let names = |path: &str| -> Vec<String> {
        let all = items(definition, path).iter();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let name = |path: &str| text(definition, path).to_owned();
    let singular = match name("spec.names.singular") {
        given if given.is_empty() => name("spec.names.kind").to_lowercase(),
        given => given,
    };
    items(definition, "spec.versions")
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| {
            let schema = &version["schema"]["openAPIV3Schema"];
            Kind {
                group: name("spec.group"),
                version: text(version, "name").to_owned(),
                kind: name("spec.names.kind"),
                plural: name("spec.names.plural"),
                singular: singular.clone(),
                short: names("spec.names.shortNames"),
                categories: names("spec.names.categories"),
                namespaced: name("spec.scope") == "Namespaced",
                status: version["subresources"]["status"].is_object(),
                generation: true,
                custom: true,
                stored: true,
                schema: schema.is_object().then(|| Schema::new(schema.clone())),
            }
        })
        .collect()
}
