//! What all threads of one restore share.

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher, RandomState},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use orlop_core::{Monitor, RestoreMode};
use rustix::process::geteuid;

use super::{
    deferred::{Deferred, Late},
    dirs::{Dir, DirCache},
    error::RestoreError,
    tally::Tally,
};
use crate::scan::Opener;

pub(super) struct Shared {
    pub(super) tally: Tally,
    pub(super) mode: RestoreMode,
    pub(super) opener: Opener,
    pub(super) root: Arc<Dir>,
    /// Not root: modes of directories must let us in until the end.
    pub(super) ordinary_user: bool,
    /// Mode bits that the system takes from what is created; `None` if unknown.
    pub(super) umask: Option<u32>,
    deferred: Mutex<Deferred>,
    /// Directories that were there before and of which no child was restored yet (mode `exact`).
    unvisited: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Shared {
    pub(super) fn new(
        root: OwnedFd,
        description: String,
        mode: RestoreMode,
        force_fallback: bool,
        monitor: Arc<dyn Monitor>,
        totals: (u64, u64),
    ) -> Result<Self, RestoreError> {
        let opener =
            Opener::new(root.as_fd(), force_fallback).map_err(|error| RestoreError::Target {
                action: "open",
                target: description.clone(),
                source: error.into(),
            })?;
        Ok(Self {
            tally: Tally::new(monitor, totals, description),
            mode,
            opener,
            root: Arc::new(Dir::new(root)),
            ordinary_user: !geteuid().is_root(),
            umask: read_umask(),
            deferred: Mutex::new(Deferred::default()),
            unvisited: Mutex::new(HashSet::new()),
            hasher: RandomState::new(),
        })
    }

    pub(super) fn cache(&self) -> DirCache {
        DirCache::new(Arc::clone(&self.root), self.opener)
    }

    /// Whether what stands in the way may be removed.
    pub(super) fn replaces(&self) -> bool {
        matches!(self.mode, RestoreMode::Overwrite | RestoreMode::Exact)
    }

    /// Something to be done when everything else is.
    pub(super) fn defer(&self, late: &Late) {
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = deferred.push(late) {
            self.tally.fail(RestoreError::Spill(error));
        }
    }

    pub(super) fn take_deferred(&self) -> Deferred {
        std::mem::take(&mut *self.deferred.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn existed(&self, path: &[u8]) {
        if self.mode == RestoreMode::Exact {
            let hash = self.hasher.hash_one(path);
            self.unvisited
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(hash);
        }
    }

    /// Whether the directory was there before and is asked about for the first time.
    pub(super) fn visit(&self, path: &[u8]) -> bool {
        if self.mode != RestoreMode::Exact {
            return false;
        }
        let hash = self.hasher.hash_one(path);
        self.unvisited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&hash)
    }
}

/// The process's umask, which the system lets us only exchange, or read here.
fn read_umask() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let text = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(text.trim(), 8).ok()
}
