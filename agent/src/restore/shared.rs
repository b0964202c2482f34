//! What all threads of one restore share.

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher, RandomState},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use orlop_core::{Monitor, RestoreMode};
use orlop_repository::HardlinkGroup;
use rustix::process::geteuid;

use super::{
    InPlace,
    deferred::{Deferred, Late},
    dirs::{Dir, DirCache},
    error::RestoreError,
    tally::Tally,
};
use crate::scan::{FileStat, Opener};

/// Device and inode.
type Inode = ((u32, u32), u64);

pub(super) struct Shared {
    pub(super) tally: Tally,
    pub(super) mode: RestoreMode,
    /// What the snapshot does not hold is removed: mode `exact`, of a snapshot that holds everything.
    removes: bool,
    pub(super) opener: Opener,
    pub(super) root: Arc<Dir>,
    /// Not root: modes of directories must let us in until the end.
    pub(super) ordinary_user: bool,
    /// Mode bits that the system takes from what is created; `None` if unknown.
    pub(super) umask: Option<u32>,
    deferred: Mutex<Deferred>,
    /// Directories that were there before and of which no child was restored yet (mode `exact`).
    unvisited: Mutex<HashSet<u64>>,
    /// Files that were given up while another one may have their name (hashes of paths).
    given_up: Mutex<HashSet<u64>>,
    hasher: RandomState,
    pub(super) in_place: InPlace,
    /// Files of several names that stand for a group.
    groups: Mutex<HashSet<Inode>>,
}

impl Shared {
    /// Whether what the snapshot does not hold is removed.
    pub(super) fn removes(&self) -> bool {
        self.removes
    }

    pub(super) fn new(
        root: OwnedFd,
        description: String,
        (mode, removes): (RestoreMode, bool),
        in_place: InPlace,
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
            removes,
            opener,
            root: Arc::new(Dir::new(root)),
            ordinary_user: !geteuid().is_root(),
            umask: read_umask(),
            deferred: Mutex::new(Deferred::default()),
            unvisited: Mutex::new(HashSet::new()),
            given_up: Mutex::new(HashSet::new()),
            hasher: RandomState::new(),
            in_place,
            groups: Mutex::default(),
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

    /// Inode flags, which might forbid what is yet to be done.
    pub(super) fn defer_flags(&self, path: &[u8], flags: u32) {
        self.defer(&Late::FileFlags {
            path: path.to_vec(),
            flags,
        });
    }

    pub(super) fn take_deferred(&self) -> Deferred {
        std::mem::take(&mut *self.deferred.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file was not restored, so what has its name now is not it.
    pub(super) fn give_up(&self, path: &[u8]) {
        if self.replaces() {
            let hash = self.hasher.hash_one(path);
            let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
            given_up.insert(hash);
        }
    }

    pub(super) fn was_given_up(&self, path: &[u8]) -> bool {
        let hash = self.hasher.hash_one(path);
        let given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.contains(&hash)
    }

    /// Whether a file of several names can stand for those of this group: for one group only.
    pub(super) fn claim(&self, stat: &FileStat, group: Option<HardlinkGroup>) -> bool {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        group.is_some_and(|group| stat.nlink <= group.links) && groups.insert((stat.dev, stat.ino))
    }

    pub(super) fn existed(&self, path: &[u8]) {
        if self.removes {
            let hash = self.hasher.hash_one(path);
            self.unvisited
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(hash);
        }
    }

    /// Whether the directory was there before and is asked about for the first time.
    pub(super) fn visit(&self, path: &[u8]) -> bool {
        if !self.removes {
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
