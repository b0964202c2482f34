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
    stored: Vec<Mutex<HashSet<Prefix>>>,
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

    fn shard(&self, prefix: &Prefix) -> MutexGuard<'_, HashSet<Prefix>> {
        lock(&self.stored[usize::from(prefix[0]) % SHARDS])
    }

    /// Takes the chunk for stored by this session from now on; false if it was before.
    pub(super) fn claim(&self, id: ChunkId) -> bool {
        let prefix = id.prefix();
        self.shard(&prefix).insert(prefix)
    }

    /// Whether the chunk need not be stored.
    pub(super) fn has(&self, pages: &PageReader, kind: FrameKind, id: ChunkId) -> Result<bool> {
        let prefix = id.prefix();
        if self.shard(&prefix).contains(&prefix) {
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
