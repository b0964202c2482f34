//! The objects of one kind as they were last seen.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use orlop_kubernetes::client::ObjectKind;

/// Of how many deleted objects the UID is remembered: until answers of the last few calls have come.
const BURIED_MAX: usize = 256;

/// The objects of one kind in our namespace, by name, as they were last seen. Clones share it.
#[derive(Debug)]
pub(crate) struct Known<K>(Arc<Mutex<Table<K>>>);

#[derive(Debug)]
struct Table<K> {
    objects: BTreeMap<String, Arc<K>>,
    /// Whether all have been seen once.
    listed: bool,
    /// UIDs of those that were deleted last.
    buried: VecDeque<String>,
}

impl<K> Clone for Known<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Table {
            objects: BTreeMap::new(),
            listed: false,
            buried: VecDeque::new(),
        })))
    }
}

impl<K: ObjectKind> Known<K> {
    fn lock(&self) -> MutexGuard<'_, Table<K>> {
        // Whoever panicked has changed one entry or none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them; `None` as long as they were never listed, when nobody may conclude that one is missing.
    pub(crate) fn all(&self) -> Option<Vec<Arc<K>>> {
        let table = self.lock();
        table
            .listed
            .then(|| table.objects.values().cloned().collect())
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<K>> {
        self.lock().objects.get(name).cloned()
    }

    /// Replaces all. The names of those that are new, have changed or are gone.
    pub(crate) fn list(&self, objects: Vec<K>) -> Vec<String> {
        let objects: BTreeMap<String, Arc<K>> = objects
            .into_iter()
            .map(|object| (name_of(&object), Arc::new(slim(object))))
            .collect();
        let mut table = self.lock();
        let gone = table
            .objects
            .keys()
            .filter(|name| !objects.contains_key(*name));
        let mut names: Vec<String> = gone.cloned().collect();
        names.extend(objects.keys().cloned());
        table.objects = objects;
        table.listed = true;
        names
    }

    /// Puts one in of which a watch tells.
    pub(crate) fn put(&self, object: K) {
        let name = name_of(&object);
        self.lock().objects.insert(name, Arc::new(slim(object)));
    }

    /// Puts one in that is the answer to a call: a watch may have told of what came after that.
    pub(crate) fn answered(&self, object: K) {
        let name = name_of(&object);
        let mut table = self.lock();
        let known = table.objects.get(&name);
        let is_old = known.is_some_and(|known| version(&**known) > version(&object));
        let uid = object.meta().uid.as_ref();
        if !is_old && uid.is_none_or(|uid| !table.buried.contains(uid)) {
            table.objects.insert(name, Arc::new(slim(object)));
        }
    }

    /// Takes one out that was deleted.
    pub(crate) fn bury(&self, object: &K) {
        let mut table = self.lock();
        table.objects.remove(&name_of(object));
        if let Some(uid) = object.meta().uid.clone() {
            table.buried.push_back(uid);
        }
        if table.buried.len() > BURIED_MAX {
            table.buried.pop_front();
        }
    }

    /// Takes one out.
    pub(crate) fn remove(&self, name: &str) {
        self.lock().objects.remove(name);
    }

    /// The names of all.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }
}

/// The name of an object.
pub(crate) fn name_of<K: ObjectKind>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

/// The number of an object's last write; 0 if it is none.
fn version<K: ObjectKind>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_deref();
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Without what nobody here reads and what is often the larger part.
fn slim<K: ObjectKind>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests {
    use orlop_kubernetes::velero::Backup;
    use serde_json::json;

    use super::*;

    fn backup(name: &str) -> Backup {
        let metadata = json!({"name": name, "managedFields": [{"manager": "x"}]});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn a_late_answer_undoes_nothing() {
        let version = |uid: &str, version: u32| -> Backup {
            let metadata = json!({"name": "a", "uid": uid, "resourceVersion": version.to_string()});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let known = Known::default();
        let is = |known: &Known<Backup>, version: &str| {
            known.get("a").unwrap().metadata.resource_version.as_deref() == Some(version)
        };
        known.answered(version("1", 9));
        known.put(version("1", 10));
        known.answered(version("1", 9));
        assert!(is(&known, "10"));
        known.answered(version("1", 11));
        assert!(is(&known, "11"));
        // A watch is right even if the server has gone back.
        known.put(version("1", 10));
        assert!(is(&known, "10"));
        known.bury(&version("1", 12));
        known.answered(version("1", 11));
        assert_eq!(known.get("a"), None);
        known.answered(version("2", 13));
        assert!(is(&known, "13"));
        for uid in 3..1000 {
            known.bury(&version(&uid.to_string(), 14));
        }
        assert_eq!(known.lock().buried.len(), BURIED_MAX);
    }

    #[test]
    fn nothing_is_missing_before_all_were_seen() {
        let known = Known::default();
        known.put(backup("a"));
        assert_eq!(known.all(), None);
        assert_eq!(known.list(vec![backup("b"), backup("c")]), ["a", "b", "c"]);
        assert_eq!(known.all().unwrap().len(), 2);
        assert_eq!(known.get("b").unwrap().metadata.managed_fields, None);
        known.remove("b");
        assert_eq!(known.names(), ["c"]);
    }
}
