//! The objects of one kind as they were last seen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use orlop_kubernetes::client::ObjectKind;

/// The objects of one kind in our namespace, by name, as they were last seen. Clones share it.
#[derive(Debug)]
pub(crate) struct Known<K>(Arc<Mutex<Table<K>>>);

#[derive(Debug)]
struct Table<K> {
    objects: BTreeMap<String, Arc<K>>,
    /// Whether all have been seen once.
    listed: bool,
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

    /// Puts one in.
    pub(crate) fn put(&self, object: K) {
        let name = name_of(&object);
        self.lock().objects.insert(name, Arc::new(slim(object)));
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
