//! Which chunks a session need not store: those that it has stored, and those that the repository has.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::pages::PageReader;
use crate::{
    error::Result,
    frame::FrameKind,
    secret::{ChunkId, Prefix},
};

const SHARDS: usize = 16;
/// Chunks of a generation in one shard: as many as a table of 2^15 places takes, 557 KB with all that belongs to it,
/// so that all shards hold 18 MB at most, however large the volume.
const GENERATION: usize = (1 << 15) / 8 * 7;

/// The chunks of one shard that were stored or asked for last: one to two generations. What is forgotten may be
/// stored once more if it comes again, which costs room in the store and nothing else.
#[derive(Default)]
struct Recent {
    new: HashSet<Prefix>,
    old: HashSet<Prefix>,
}

impl Recent {
    fn has(&mut self, prefix: &Prefix) -> bool {
        if self.new.contains(prefix) {
            return true;
        }
        let old = self.old.contains(prefix);
        if old {
            self.keep(*prefix);
        }
        old
    }

    fn keep(&mut self, prefix: Prefix) {
        if self.new.len() >= GENERATION {
            std::mem::swap(&mut self.new, &mut self.old);
            self.new.clear();
        }
        self.new.insert(prefix);
    }
}

/// How much a session believes of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// What it says is there.
    All,
    /// What it says is there if the pack is: nothing else of the lineage speaks for it.
    Packs,
    /// Data as with [`Self::Packs`], pages not at all: the session may be the one that is to make good what
    /// was lost.
    Data,
}

/// What a session knows to be stored.
pub(super) struct Known {
    trust: Trust,
    stored: Vec<Mutex<Recent>>,
    /// Sizes of packs that were looked up; `None` for missing ones.
    packs: Mutex<HashMap<String, Option<u64>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            trust,
            stored: (0..SHARDS).map(|_| Mutex::default()).collect(),
            packs: Mutex::default(),
        }
    }

    fn shard(&self, prefix: &Prefix) -> MutexGuard<'_, Recent> {
        lock(&self.stored[usize::from(prefix[0]) % SHARDS])
    }

    /// Takes the chunk for stored by this session from now on; false if it was before, as far as that is remembered.
    pub(super) fn claim(&self, id: ChunkId) -> bool {
        let prefix = id.prefix();
        let mut shard = self.shard(&prefix);
        let is_new = !shard.has(&prefix);
        if is_new {
            shard.keep(prefix);
        }
        is_new
    }

    /// Whether the chunk need not be stored.
    pub(super) fn has(&self, pages: &PageReader, kind: FrameKind, id: ChunkId) -> Result<bool> {
        let prefix = id.prefix();
        if self.shard(&prefix).has(&prefix) {
            return Ok(true);
        }
        if self.trust == Trust::Data && kind != FrameKind::Data {
            return Ok(false);
        }
        let Some(place) = pages.locate(&[id])?.pop().flatten() else {
            return Ok(false);
        };
        if place.condemned {
            return Ok(false);
        }
        if self.trust == Trust::All {
            return Ok(true);
        }
        let mut packs = lock(&self.packs);
        let known = packs.get(&place.pack).copied();
        let size = match known {
            Some(size) => size,
            None => pages.size(&place.pack)?,
        };
        packs.insert(place.pack.clone(), size);
        let end = u64::from(place.offset) + u64::from(place.len);
        Ok(size.is_some_and(|size| size >= end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: usize) -> Prefix {
        let mut prefix = Prefix::default();
        prefix[..8].copy_from_slice(&n.to_le_bytes());
        prefix
    }

    #[test]
    fn what_was_not_asked_for_lately_is_forgotten() {
        let mut recent = Recent::default();
        let mut stored = 0;
        for n in 0..4 * GENERATION {
            // One chunk comes again and again.
            assert!(n == 0 || recent.has(&prefix(0)), "{n}");
            if !recent.has(&prefix(n)) {
                recent.keep(prefix(n));
                stored += 1;
            }
        }
        assert_eq!(stored, 4 * GENERATION);
        assert!(recent.new.len() + recent.old.len() <= 2 * GENERATION);
        assert!(recent.has(&prefix(4 * GENERATION - 1)));
        assert!(recent.has(&prefix(3 * GENERATION + 100)));
        assert!(!recent.has(&prefix(1)));
    }
}
