//! All objects in memory, with what became of them: any version since the last compaction can be seen.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use serde_json::Value;

use super::{
    failure::Failure,
    kind::{Kind, Kinds, Place},
    meta::{is_deleting, items, metadata, text},
};

/// Changes that are remembered; older ones are compacted by and by.
const HISTORY: usize = 20_000;

/// Where an object is; in the order of lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) place: Place,
    /// Empty for objects of the cluster.
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced { namespace } else { "" };
        Self {
            place: kind.place(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Where a namespace's own object is.
    pub(super) fn of_namespace(name: &str) -> Self {
        Self {
            place: Place {
                group: String::new(),
                plural: "namespaces".to_owned(),
            },
            namespace: String::new(),
            name: name.to_owned(),
        }
    }
}

/// One write.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) key: Key,
    pub(super) before: Option<Arc<Value>>,
    /// The new state, or the last one of what was removed.
    pub(super) after: Arc<Value>,
    pub(super) removed: bool,
}

/// The state of a cluster.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) kinds: Kinds,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    revision: u64,
    compacted: u64,
    uids: HashSet<String>,
    /// Whether a write may have left something for the controllers to do.
    unsettled: bool,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            kinds: Kinds::builtin(),
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            revision: 1,
            compacted: 1,
            uids: HashSet::new(),
            unsettled: false,
        }
    }

    /// The number of the last write.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// The kind of what is there; of any version.
    pub(super) fn kind_at(&self, place: &Place) -> Option<&Arc<Kind>> {
        self.kinds.all().iter().find(|kind| kind.place() == *place)
    }

    /// Stores an object as it is, with a new version.
    pub(super) fn set(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        let version = self.revision.to_string();
        metadata(&mut object).insert("resourceVersion".to_owned(), version.into());
        self.uids.insert(text(&object, "metadata.uid").to_owned());
        let mut owners = items(&object, "metadata.ownerReferences").iter();
        self.unsettled |=
            is_deleting(&object) || owners.any(|owner| !self.uids.contains(text(owner, "uid")));
        let after = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&after));
        self.remember(key, before, &after, false);
        after
    }

    /// Removes an object, of which watchers are shown `last`.
    pub(super) fn remove(&mut self, key: &Key, mut last: Value) {
        let Some(before) = self.objects.remove(key) else {
            return;
        };
        self.revision += 1;
        self.unsettled = true;
        self.uids.remove(text(&before, "metadata.uid"));
        let version = self.revision.to_string();
        metadata(&mut last).insert("resourceVersion".to_owned(), version.into());
        self.remember(key.clone(), Some(before), &Arc::new(last), true);
    }

    fn remember(
        &mut self,
        key: Key,
        before: Option<Arc<Value>>,
        after: &Arc<Value>,
        removed: bool,
    ) {
        self.history.push_back(Change {
            revision: self.revision,
            key,
            before,
            after: Arc::clone(after),
            removed,
        });
        if self.history.len() > HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.revision;
        }
    }

    /// Forgets all changes so far: what asks for older versions hears that they are gone.
    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.revision;
    }

    /// Whether controllers have something to look at since the last time.
    pub(super) fn take_unsettled(&mut self) -> bool {
        std::mem::take(&mut self.unsettled)
    }

    /// The changes after a revision.
    pub(super) fn changes_after(
        &self,
        revision: u64,
    ) -> Result<impl Iterator<Item = &Change>, Failure> {
        if revision < self.compacted {
            let message = format!("too old resource version: {revision} ({})", self.compacted);
            return Err(Failure::expired(message));
        }
        let from = self
            .history
            .partition_point(|change| change.revision <= revision);
        Ok(self.history.range(from..))
    }

    /// Everything of a kind, in all namespaces or in one.
    pub(super) fn list(&self, place: &Place, namespace: Option<&str>) -> Vec<(Key, Arc<Value>)> {
        let from = Key {
            place: place.clone(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: String::new(),
        };
        self.objects
            .range(from..)
            .take_while(|(key, _)| key.place == *place)
            .take_while(|(key, _)| namespace.is_none_or(|namespace| key.namespace == namespace))
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect()
    }

    /// The same as it was at a revision; none if that is not known any more.
    pub(super) fn list_at(
        &self,
        place: &Place,
        namespace: Option<&str>,
        revision: u64,
    ) -> Option<Vec<(Key, Arc<Value>)>> {
        let later: Vec<&Change> = self.changes_after(revision).ok()?.collect();
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.list(place, namespace).into_iter().collect();
        for change in later.into_iter().rev() {
            let wanted = change.key.place == *place
                && namespace.is_none_or(|namespace| change.key.namespace == namespace);
            if !wanted {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        Some(objects.into_iter().collect())
    }

    /// All objects.
    pub(super) fn everything(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }
}
