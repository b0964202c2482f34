//! What is damaged, while it is collected.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use orlop_core::SnapshotId;

use super::report::{Damage, DamageKind};
use crate::{error::Error, secret::Prefix};

/// Paths that are named of a damaged object.
const MAX_PATHS: usize = 100;
/// Damaged objects that are named.
const MAX_DAMAGE: usize = 10_000;

/// What is known of a damaged object.
#[derive(Default)]
pub(super) struct Hit {
    pub(super) chunks: HashSet<Prefix>,
    snapshots: BTreeSet<SnapshotId>,
    paths: BTreeSet<String>,
}

type Key = (String, DamageKind);

/// All damaged objects.
#[derive(Default)]
pub(super) struct Found {
    objects: BTreeMap<Key, Hit>,
    more: u64,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Notes that an object is damaged, and a chunk and a snapshot that this hits.
    pub(super) fn add(
        &mut self,
        object: &str,
        kind: DamageKind,
        chunk: Option<Prefix>,
        snapshot: Option<SnapshotId>,
    ) {
        let key = (object.to_owned(), kind);
        if self.objects.len() >= MAX_DAMAGE && !self.objects.contains_key(&key) {
            self.more += 1;
            return;
        }
        let hit = self.objects.entry(key).or_default();
        hit.chunks.extend(chunk);
        hit.snapshots.extend(snapshot);
    }

    /// Notes that a snapshot's path is hit.
    pub(super) fn add_path(&mut self, key: &Key, snapshot: SnapshotId, path: &[u8]) {
        let Some(hit) = self.objects.get_mut(key) else {
            return;
        };
        hit.snapshots.insert(snapshot);
        if hit.paths.len() < MAX_PATHS {
            let path = String::from_utf8_lossy(path);
            hit.paths.insert(format!("{snapshot}:/{path}"));
        }
    }

    pub(super) fn get_mut(&mut self, object: &str, kind: DamageKind) -> Option<&mut Hit> {
        self.objects.get_mut(&(object.to_owned(), kind))
    }

    /// The damaged objects by the chunks that they hold.
    pub(super) fn by_chunk(&self) -> HashMap<Prefix, Vec<Key>> {
        let mut by_chunk: HashMap<Prefix, Vec<Key>> = HashMap::new();
        for (key, hit) in &self.objects {
            for chunk in &hit.chunks {
                by_chunk.entry(*chunk).or_default().push(key.clone());
            }
        }
        by_chunk
    }

    /// What is reported, and how many objects are left out.
    pub(super) fn into_damage(self) -> (Vec<Damage>, u64) {
        let damage = self
            .objects
            .into_iter()
            .map(|((object, kind), hit)| Damage {
                repairable: match kind {
                    DamageKind::DamagedLog | DamageKind::DamagedKey => false,
                    // A refset is made again from the root.
                    DamageKind::DamagedSnapshot => !object.starts_with("s/"),
                    _ => true,
                },
                object,
                kind,
                snapshots: hit.snapshots.into_iter().collect(),
                paths: hit.paths.into_iter().collect(),
            });
        (damage.collect(), self.more)
    }
}

/// The object that an error is about.
pub(crate) fn object_of(error: &Error) -> String {
    match error {
        Error::Damaged { name, .. } | Error::NotFound { name, .. } | Error::Store { name, .. } => {
            name.clone()
        }
        Error::MissingChunk { id } => id.clone(),
        other => other.to_string(),
    }
}
