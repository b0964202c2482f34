//! Counts, issues and progress of one restore, from many threads.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use orlop_core::{Issue, IssueKind, Monitor, Progress};
use orlop_repository::{Entry, EntryStatus};
use rustix::io::Errno;

use super::{RestoreReport, error::RestoreError};

const ISSUES_KEPT: usize = 1000;
const PROGRESS_EVERY_MS: u64 = 100;

/// Something that is refused for every entry alike; the first refusal is an issue, the others count.
#[derive(Debug, Clone, Copy)]
pub(super) enum Denied {
    Owner,
    Attribute,
    Flags,
    Device,
    Group,
}

impl Denied {
    const COUNT: usize = 5;

    fn text(self) -> &'static str {
        match self {
            Self::Owner => "its owner could not be set, nor that of others like it",
            Self::Attribute => "an extended attribute could not be set, nor others like it",
            Self::Flags => "its inode flags could not be set, nor those of others like it",
            Self::Device => "a device could not be made, nor others like it",
            Self::Group => {
                "there are more files of several names than fit into the table of them: this one and others are restored as copies"
            }
        }
    }
}

pub(super) struct Tally {
    pub(super) files: AtomicU64,
    pub(super) dirs: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) removed: AtomicU64,
    /// Files of which nothing was written, and those that were changed where they are.
    pub(super) unchanged: AtomicU64,
    pub(super) updated: AtomicU64,
    pub(super) written: AtomicU64,
    fetched: AtomicU64,
    issues_total: AtomicU64,
    issues: Mutex<Vec<Issue>>,
    denied: [AtomicBool; Denied::COUNT],
    failure: Mutex<Option<RestoreError>>,
    stop: AtomicBool,
    monitor: Arc<dyn Monitor>,
    totals: (u64, u64),
    begun: Instant,
    told_ms: AtomicU64,
    target: String,
}

impl Tally {
    pub(super) fn new(monitor: Arc<dyn Monitor>, totals: (u64, u64), target: String) -> Self {
        Self {
            files: AtomicU64::new(0),
            dirs: AtomicU64::new(0),
            others: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
            updated: AtomicU64::new(0),
            written: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            issues_total: AtomicU64::new(0),
            issues: Mutex::new(Vec::new()),
            denied: Default::default(),
            failure: Mutex::new(None),
            stop: AtomicBool::new(false),
            monitor,
            totals,
            begun: Instant::now(),
            told_ms: AtomicU64::new(0),
            target,
        }
    }

    pub(super) fn issue(&self, path: &[u8], kind: IssueKind, errno: i32, message: String) {
        self.issues_total.fetch_add(1, Relaxed);
        let issue = Issue {
            path: path.to_vec(),
            kind,
            errno,
            message,
        };
        self.monitor.issue(&issue);
        let mut issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        if issues.len() < ISSUES_KEPT {
            issues.push(issue);
        }
    }

    /// Whether the snapshot has what is in the file or directory; an issue of this kind if not.
    pub(super) fn is_read(&self, entry: &Entry, kind: IssueKind) -> bool {
        let EntryStatus::Unreadable(errno) = entry.status else {
            return true;
        };
        let message = "left out: it could not be read when the snapshot was made".to_owned();
        self.issue(&entry.path, kind, errno, message);
        false
    }

    /// A refusal that many entries are expected to meet alike.
    pub(super) fn denied(&self, what: Denied, path: &[u8], errno: i32) {
        if self.denied[what as usize].swap(true, Relaxed) {
            self.issues_total.fetch_add(1, Relaxed);
        } else {
            self.issue(path, IssueKind::Metadata, errno, what.text().to_owned());
        }
    }

    /// One entry could not be restored; ends the restore if no other could be either.
    pub(super) fn trouble(&self, path: &[u8], errno: i32, action: &str) {
        let target = || self.target.clone();
        let text = || String::from_utf8_lossy(path).into_owned();
        let is = |known: Errno| known.raw_os_error() == errno;
        if is(Errno::NOSPC) || is(Errno::DQUOT) {
            let source = io::Error::from_raw_os_error(errno);
            self.fail(RestoreError::Full {
                target: target(),
                path: text(),
                source,
            });
        } else if is(Errno::ROFS) {
            self.fail(RestoreError::ReadOnly {
                target: target(),
                path: text(),
            });
        } else {
            let reason = match errno {
                0 => String::new(),
                errno => format!(": {}", io::Error::from_raw_os_error(errno)),
            };
            self.issue(
                path,
                IssueKind::Unreadable,
                errno,
                format!("cannot {action}{reason}"),
            );
        }
    }

    /// Ends the restore.
    pub(super) fn fail(&self, error: RestoreError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// The error that ended the restore, once.
    pub(super) fn failure(&self) -> Result<(), RestoreError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().map_or(Ok(()), Err)
    }

    pub(super) fn fetched(&self, bytes: usize) {
        self.fetched.fetch_add(bytes as u64, Relaxed);
        self.tick();
    }

    /// A directory was made or taken over.
    pub(super) fn dir(&self) {
        self.dirs.fetch_add(1, Relaxed);
        self.tick();
    }

    /// A file of that size is as it should be.
    pub(super) fn file(&self, size: u64) {
        self.files.fetch_add(1, Relaxed);
        self.bytes.fetch_add(size, Relaxed);
        self.tick();
    }

    /// Tells the monitor, if it was not told for a while.
    pub(super) fn tick(&self) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let told_ms = self.told_ms.load(Relaxed);
        let due = now_ms.saturating_sub(told_ms) >= PROGRESS_EVERY_MS;
        if due
            && self
                .told_ms
                .compare_exchange(told_ms, now_ms, Relaxed, Relaxed)
                .is_ok()
        {
            self.tell();
        }
    }

    fn tell(&self) {
        let (files, dirs) = (self.files.load(Relaxed), self.dirs.load(Relaxed));
        self.monitor.progress(Progress {
            entries_done: files + dirs + self.others.load(Relaxed),
            entries_total: self.totals.0,
            bytes_done: self.bytes.load(Relaxed),
            bytes_total: self.totals.1,
            transferred_bytes: self.fetched.load(Relaxed),
        });
    }

    pub(super) fn report(&self) -> RestoreReport {
        self.tell();
        let issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        RestoreReport {
            files: self.files.load(Relaxed),
            dirs: self.dirs.load(Relaxed),
            others: self.others.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            removed: self.removed.load(Relaxed),
            unchanged: self.unchanged.load(Relaxed),
            updated: self.updated.load(Relaxed),
            written_bytes: self.written.load(Relaxed),
            issues_total: self.issues_total.load(Relaxed),
            issues: issues.clone(),
        }
    }
}
