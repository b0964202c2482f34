//! Restoring a snapshot into a directory that somebody else may be changing, or attacking.
//!
//! ```text
//! entries ──► planner ──► window ──► executor ──► chunks ──► files      directories' metadata last
//!             (a thread)  (bounded)  (this thread and fetch's workers)  (spilled, children first)
//! ```
//!
//! Every object is made and reached by a name of one component from a descriptor of its directory.
//! One entry's trouble is an issue and never ends the restore; a full target does.

mod deferred;
mod dirs;
mod error;
mod exact;
mod execute;
mod file;
mod finish;
mod links;
mod metadata;
mod others;
mod plan;
mod remove;
mod replace;
mod shared;
mod source;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod window;

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc};

use orlop_core::{Issue, IssueKind, Monitor, RestoreMode};
use orlop_repository::ReadSession;
use tokio_util::sync::CancellationToken;

pub use error::RestoreError;
pub use source::{Sink, Source};

use crate::scan::raise_open_files;
use shared::Shared;

/// Where a snapshot is restored to.
#[derive(Debug)]
pub enum RestoreTarget {
    /// A directory by its path; made with its parents if it is missing.
    Path(PathBuf),
    /// An open directory.
    Fd(OwnedFd),
}

/// What is to be restored, and how.
#[derive(Debug)]
pub struct RestoreJob {
    /// Where to.
    pub target: RestoreTarget,
    /// What happens to what the target holds already.
    pub mode: RestoreMode,
    /// Only this entry and what is below it, at the path that it has in the snapshot; directories
    /// above it are made plainly. `None` or empty for everything.
    pub path: Option<Vec<u8>>,
    /// Threads that fetch, decrypt and write; 0 for one a core.
    pub workers: usize,
    /// Do without `openat2`, as on kernels and in sandboxes that have none.
    pub force_fallback: bool,
}

impl RestoreJob {
    /// Everything of a snapshot into an empty or missing directory.
    pub fn new(target: RestoreTarget) -> Self {
        Self {
            target,
            mode: RestoreMode::Empty,
            path: None,
            workers: 0,
            force_fallback: false,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreReport {
    /// Regular files restored, every name of a hard link counted.
    pub files: u64,
    /// Directories made or taken over.
    pub dirs: u64,
    /// Links, pipes, sockets and devices made.
    pub others: u64,
    /// Logical bytes of the files that were written, holes included.
    pub bytes: u64,
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
    let (root, description) = target::open(job.target, job.mode)?;
    let path = job.path.filter(|path| !path.is_empty());
    let workers = match job.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let totals = if path.is_none() {
        source.totals()
    } else {
        (0, 0)
    };
    let removes = job.mode == RestoreMode::Exact && source.errors() == 0;
    let shared = Shared::new(
        root,
        description,
        (job.mode, removes),
        job.force_fallback,
        monitor,
        totals,
    )?;
    if job.mode == RestoreMode::Exact && !removes {
        // What is missing in the snapshot may have been in the volume.
        let why = "the snapshot could not read everything, so nothing was removed".to_owned();
        shared.tally.issue(b"", IssueKind::Skipped, 0, why);
    }
    let budget = window::Budget::for_open_files(open_files);
    let cancelled = execute::run(&shared, source, path.as_deref(), workers, budget, &cancel);
    shared.tally.failure()?;
    cancelled?;
    finish::run(&shared, &cancel)?;
    Ok(shared.tally.report())
}
