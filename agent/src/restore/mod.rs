//! Restoring a snapshot into a directory that somebody else may be changing, or attacking.
//!
//! ```text
//! entries ──► planner ──► windows ──► fetch ──────► chunks ──► files      directories' metadata last
//!             (a thread)  (bounded)   (two at once, pack by pack, on      (spilled, children first)
//!                                     threads of its own)
//! ```
//!
//! Every object is made and reached by a name of one component from a descriptor of its directory.
//! One entry's trouble is an issue and never ends the restore; a full target does.

mod compare;
mod deferred;
mod dirs;
mod error;
mod exact;
mod execute;
mod existing;
mod export;
mod file;
mod files;
mod finish;
mod links;
mod metadata;
mod others;
mod parents;
mod plan;
mod remove;
mod replace;
mod select;
mod shared;
mod source;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod window;
mod writeback;
mod zeros;

use std::{fmt, os::fd::OwnedFd, path::PathBuf, str::FromStr, sync::Arc};

use orlop_core::{Issue, IssueKind, Monitor, RestoreMode};
use orlop_repository::{FetchLimits, ReadSession};
use tokio_util::sync::CancellationToken;

pub use error::RestoreError;
pub(crate) use error::is_mendable;
pub use export::export;
pub use select::Selection;
pub use source::{Batches, Source};

use crate::scan::raise_open_files;
use shared::Shared;

/// What a restore uses of memory unless it is told otherwise.
const MEMORY_BYTES: u64 = 256 << 20;

/// Where a snapshot is restored to.
#[derive(Debug)]
pub enum RestoreTarget {
    /// A directory by its path; made with its parents if it is missing.
    Path(PathBuf),
    /// An open directory, and what messages call it.
    Fd(OwnedFd, String),
    /// The directory of this name, of one component, in an open one; made if it is missing. Links are not followed, and
    /// it is of the same file system.
    Inside(OwnedFd, String),
}

/// Which regular files that are there already, and differ, are changed in place (modes `overwrite` and
/// `exact`). Others are written anew beside the old one and then take its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InPlace {
    /// Files of 8 MiB and more of which at least half is as it should be: little is fetched, and no
    /// room is needed for a second copy.
    #[default]
    Auto,
    /// All: where there is no room for a second copy.
    Always,
    /// None: a restore that breaks off leaves each file as it was or as it is to be.
    Never,
}

impl InPlace {
    const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is none of the words of [`InPlace`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not known: use auto, always or never")]
pub struct ParseInPlaceError(String);

impl FromStr for InPlace {
    type Err = ParseInPlaceError;

    fn from_str(text: &str) -> Result<Self, ParseInPlaceError> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| ParseInPlaceError(text.to_owned()))
    }
}

/// What is to be restored, and how.
#[derive(Debug)]
pub struct RestoreJob {
    /// Where to.
    pub target: RestoreTarget,
    /// What happens to what the target holds already.
    pub mode: RestoreMode,
    /// What of the snapshot, each entry at the path that it has there. Directories above are made as
    /// the snapshot has them, and left alone where they are there.
    pub select: Selection,
    /// Which files that are there are changed in place.
    pub in_place: InPlace,
    /// Threads that fetch, decrypt and write; 0 for one a core.
    pub workers: usize,
    /// Memory that the restore may use, in bytes, about.
    pub memory_bytes: u64,
    /// Do without `openat2`, as on kernels and in sandboxes that have none.
    pub force_fallback: bool,
}

impl RestoreJob {
    /// Everything of a snapshot into an empty or missing directory.
    pub fn new(target: RestoreTarget) -> Self {
        Self {
            target,
            mode: RestoreMode::Empty,
            select: Selection::default(),
            in_place: InPlace::default(),
            workers: 0,
            memory_bytes: MEMORY_BYTES,
            force_fallback: false,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreReport {
    /// Regular files that are there as they should be, every name of a hard link counted.
    pub files: u64,
    /// Those of them of which nothing had to be written.
    pub unchanged: u64,
    /// Those of them that were there and were changed in place, if only in metadata.
    pub updated: u64,
    /// Directories made or taken over.
    pub dirs: u64,
    /// Links, pipes, sockets and devices made.
    pub others: u64,
    /// Logical bytes of the files, holes and what was there already included.
    pub bytes: u64,
    /// Bytes that were written to files.
    pub written_bytes: u64,
    /// Entries removed because the snapshot does not hold them (mode `exact`).
    pub removed: u64,
    /// Issues met.
    pub issues_total: u64,
    /// The first 1000 of them.
    pub issues: Vec<Issue>,
}

/// Restores a snapshot, or a part of it. Blocks; to be called from a thread that may.
///
/// When it returns `Ok`, everything restored is on stable storage. On cancel and on errors what was
/// restored until then stays.
///
/// # Errors
/// The target is not fit for the mode, is full, or the snapshot's manifest cannot be read.
pub fn run(
    job: RestoreJob,
    session: &ReadSession,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
) -> Result<RestoreReport, RestoreError> {
    run_from(job, session, monitor, cancel)
}

/// As [`run`], from any source.
///
/// # Errors
/// As for [`run`].
#[allow(clippy::needless_pass_by_value, reason = "the same signature as `run`")]
pub fn run_from(
    job: RestoreJob,
    source: &dyn Source,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
) -> Result<RestoreReport, RestoreError> {
    let open_files = raise_open_files();
    job.select.check(source)?;
    let (root, description) = target::open(job.target, job.mode, job.force_fallback)?;
    let workers = match job.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let totals = if job.select.is_all() {
        source.totals()
    } else {
        (0, 0)
    };
    let is_whole = source.errors() == 0 && !source.is_partial();
    let removes = job.mode == RestoreMode::Exact && is_whole;
    let shared = Shared::new(
        root,
        description,
        (job.mode, removes),
        job.in_place,
        job.force_fallback,
        monitor,
        totals,
    )?;
    if job.mode == RestoreMode::Exact && !removes {
        // What is missing in the snapshot may have been in the volume.
        let why = if source.is_partial() {
            "the snapshot is a checkpoint of a backup that has not finished, so nothing was removed"
        } else {
            "the snapshot could not read everything, so nothing was removed"
        };
        shared
            .tally
            .issue(b"", IssueKind::Skipped, 0, why.to_owned());
    }
    let budget = window::Budget::new(open_files, job.memory_bytes);
    let limits = FetchLimits {
        workers,
        memory_bytes: job.memory_bytes / 4,
    };
    let cancelled = execute::run(&shared, source, &job.select, limits, budget, &cancel);
    shared.tally.failure()?;
    cancelled?;
    finish::run(&shared, &cancel)?;
    Ok(shared.tally.report())
}
