//! What a backup did: counted while it runs, told when it ends.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use orlop_core::{Issue, IssueKind, Monitor, Progress, SnapshotId};
use orlop_repository::{EntryKind, SnapshotState, SnapshotStats, UploadStats};

use crate::scan::FileStat;

/// Issues that are kept with their texts; all are counted.
const MAX_ISSUES: usize = 1000;
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Inodes with several names that are remembered so that their bytes count once.
const MAX_LINKED: usize = 1 << 20;

/// Regular files by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileCounts {
    /// In the snapshot.
    pub total: u64,
    /// Not in the parent.
    pub new: u64,
    /// In the parent, and different in data, metadata or times.
    pub changed: u64,
    /// Taken over from the parent without being opened.
    pub unchanged: u64,
    /// In the parent only.
    pub removed: u64,
    /// Opened by this backup.
    pub opened: u64,
}

/// What a backup did. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The whole snapshot it built upon.
    pub parent: Option<SnapshotId>,
    /// The checkpoint of an earlier backup that it went on from.
    pub resumed_from: Option<SnapshotId>,
    /// Whether it is whole.
    pub state: SnapshotState,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Regular files.
    pub files: FileCounts,
    /// Directories, the root included.
    pub dirs: u64,
    /// Links, pipes, sockets and devices.
    pub others: u64,
    /// Bytes of regular files, a hardlinked one counted once.
    pub logical_bytes: u64,
    /// Bytes that were read of files.
    pub read_bytes: u64,
    /// Bytes of chunks that the repository did not have, before compression.
    pub new_bytes: u64,
    /// Bytes sent to the store.
    pub uploaded_bytes: u64,
    /// Objects sent to the store.
    pub objects_put: u64,
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Chunks that it had.
    pub chunks_reused: u64,
    /// Issues with warnings and errors.
    pub issues_total: u64,
    /// Of these, errors: entries that could not be read.
    pub errors: u64,
    /// The first thousand issues.
    pub issues: Vec<Issue>,
}

/// Counts as far as they are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) files: FileCounts,
    pub(super) dirs: u64,
    pub(super) others: u64,
    pub(super) logical_bytes: u64,
    pub(super) warnings: u64,
    pub(super) errors: u64,
    changed_while_read: u64,
}

impl Counts {
    /// As the snapshot tells them.
    pub(super) fn stats(&self) -> SnapshotStats {
        SnapshotStats {
            files: self.files.total,
            dirs: self.dirs,
            others: self.others,
            logical_bytes: self.logical_bytes,
            uploaded_bytes: 0,
            warnings: self.warnings,
            errors: self.errors,
        }
    }

    pub(super) fn state(&self) -> SnapshotState {
        if self.errors > 0 || self.changed_while_read > 0 {
            SnapshotState::Inconsistent
        } else {
            SnapshotState::Complete
        }
    }
}

#[derive(Default)]
struct Issues {
    kept: Vec<Issue>,
    total: u64,
    errors: u64,
    changed: u64,
}

/// Counters that all threads of a backup share.
pub(super) struct Tally {
    monitor: Arc<dyn Monitor>,
    pub(super) files: AtomicU64,
    pub(super) dirs: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) logical_bytes: AtomicU64,
    pub(super) new: AtomicU64,
    pub(super) changed: AtomicU64,
    pub(super) unchanged: AtomicU64,
    pub(super) removed: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    done_bytes: AtomicU64,
    done_entries: AtomicU64,
    linked: Mutex<HashSet<u64>>,
    issues: Mutex<Issues>,
    last_progress: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    pub(super) fn new(monitor: Arc<dyn Monitor>) -> Self {
        Self {
            monitor,
            files: 0.into(),
            dirs: 0.into(),
            others: 0.into(),
            logical_bytes: 0.into(),
            new: 0.into(),
            changed: 0.into(),
            unchanged: 0.into(),
            removed: 0.into(),
            opened: 0.into(),
            read_bytes: 0.into(),
            done_bytes: 0.into(),
            done_entries: 0.into(),
            linked: Mutex::default(),
            issues: Mutex::default(),
            last_progress: Mutex::default(),
        }
    }

    /// Counts an entry that the walk met; returns its logical bytes, 0 for another name of a file that was
    /// met before.
    pub(super) fn met(&self, stat: &FileStat) -> u64 {
        let counter = match stat.kind {
            EntryKind::File => &self.files,
            EntryKind::Directory => &self.dirs,
            _ => &self.others,
        };
        counter.fetch_add(1, Relaxed);
        if stat.kind != EntryKind::File || (stat.nlink > 1 && !self.first_name(stat.ino)) {
            return 0;
        }
        self.logical_bytes.fetch_add(stat.size, Relaxed);
        stat.size
    }

    fn first_name(&self, ino: u64) -> bool {
        let mut linked = lock(&self.linked);
        linked.len() >= MAX_LINKED || linked.insert(ino)
    }

    /// Takes an entry back that turned out to be gone.
    pub(super) fn vanished(&self, stat: &FileStat) {
        self.files.fetch_sub(1, Relaxed);
        self.logical_bytes
            .fetch_sub(stat.size.min(self.logical_bytes.load(Relaxed)), Relaxed);
    }

    pub(super) fn issue(&self, issue: Issue) {
        self.monitor.issue(&issue);
        let mut issues = lock(&self.issues);
        issues.total += 1;
        issues.errors += u64::from(issue.kind.is_error());
        issues.changed += u64::from(issue.kind == IssueKind::Changed);
        if issues.kept.len() < MAX_ISSUES {
            issues.kept.push(issue);
        }
    }

    /// Counts an entry as finished and tells the monitor now and then.
    pub(super) fn done(&self, bytes: u64, uploaded: impl FnOnce() -> u64) {
        let bytes_done = self.done_bytes.fetch_add(bytes, Relaxed) + bytes;
        let entries_done = self.done_entries.fetch_add(1, Relaxed) + 1;
        if !entries_done.is_multiple_of(64) && bytes < 1 << 20 {
            return;
        }
        let mut last = lock(&self.last_progress);
        if last.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return;
        }
        *last = Some(Instant::now());
        let met = |counter: &AtomicU64| counter.load(Relaxed);
        // The walk is ahead of what is read: what it has met so far is the best guess at the whole.
        self.monitor.progress(Progress {
            entries_done,
            entries_total: entries_done.max(met(&self.files) + met(&self.dirs) + met(&self.others)),
            bytes_done,
            bytes_total: bytes_done.max(met(&self.logical_bytes)),
            transferred_bytes: uploaded(),
        });
    }

    pub(super) fn counts(&self) -> Counts {
        let issues = lock(&self.issues);
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        Counts {
            files: FileCounts {
                total: get(&self.files),
                new: get(&self.new),
                changed: get(&self.changed),
                unchanged: get(&self.unchanged),
                removed: get(&self.removed),
                opened: get(&self.opened),
            },
            dirs: get(&self.dirs),
            others: get(&self.others),
            logical_bytes: get(&self.logical_bytes),
            warnings: issues.total - issues.errors,
            errors: issues.errors,
            changed_while_read: issues.changed,
        }
    }

    /// The report; how long the backup took is up to the caller.
    pub(super) fn into_report(
        self,
        snapshot: SnapshotId,
        (parent, resumed_from): (Option<SnapshotId>, Option<SnapshotId>),
        state: SnapshotState,
        uploads: UploadStats,
    ) -> BackupReport {
        let counts = self.counts();
        self.monitor.progress(Progress {
            entries_done: counts.files.total + counts.dirs + counts.others,
            entries_total: counts.files.total + counts.dirs + counts.others,
            bytes_done: counts.logical_bytes,
            bytes_total: counts.logical_bytes,
            transferred_bytes: uploads.uploaded_bytes,
        });
        let issues = self
            .issues
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        BackupReport {
            snapshot,
            parent,
            resumed_from,
            state,
            duration_ms: 0,
            files: counts.files,
            dirs: counts.dirs,
            others: counts.others,
            logical_bytes: counts.logical_bytes,
            read_bytes: self.read_bytes.load(Relaxed),
            new_bytes: uploads.new_bytes,
            uploaded_bytes: uploads.uploaded_bytes,
            objects_put: uploads.objects_put,
            chunks_new: uploads.chunks_new,
            chunks_reused: uploads.chunks_reused,
            issues_total: issues.total,
            errors: issues.errors,
            issues: issues.kept,
        }
    }
}
