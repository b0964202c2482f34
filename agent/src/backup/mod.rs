//! One volume's backup: walk → compare with the parent → read what changed → snapshot.
//!
//! ```text
//! walk (caller's thread) ──jobs──▶ workers: read, chunk, hash, compress, seal ──▶ packs ──▶ store
//!        └──────────────items in listing order──────────────▶ assembler: manifest
//! ```
//! Both channels are bounded; with the packs on their way they are all the memory that a backup uses,
//! whatever the volume's size.

mod assemble;
mod attempt;
mod blocks;
mod checkpoint;
mod class;
mod detect;
mod feed;
mod job;
mod large;
mod once;
mod others;
mod read;
mod report;
mod room;
mod small;
mod stream;
#[cfg(test)]
mod tests;
mod work;

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use orlop_core::{Chunking, Lineage, Monitor, Timestamp, VolumeRef};
use orlop_repository::{Committer, ObjectStore, Throttle};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::scan::{Directory, Pattern, PatternError, ScanError, WalkOptions, raise_open_files};

use attempt::Attempts;
pub use checkpoint::CheckpointEvery;
use once::Once;
pub use report::{BackupReport, FileCounts};

/// A worker has two blocks of 4 MiB, one read ahead, a chunk put together, its compressed copy and its frame; with six of
/// them, four open packs and two on their way a backup stays below 256 MiB.
const MAX_WORKERS: usize = 6;

/// What bounds a backup's use of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Threads that read, compress and encrypt; 0 means one a core, at most 6.
    pub workers: usize,
    /// Finished packs that may wait for the store, each as large as the repository says (16 MiB).
    pub uploads: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            workers: 0,
            uploads: 2,
        }
    }
}

impl Budget {
    fn workers(self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(MAX_WORKERS),
            n => n,
        }
    }
}

/// How fast a backup may go; who shares a limit shares its bytes.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Bytes of files that are read; `None` for no limit.
    pub read: Option<Arc<Throttle>>,
    /// Bytes that are sent to the store; `None` for no limit.
    pub upload: Option<Arc<Throttle>>,
}

/// What is to be backed up.
pub struct BackupJob {
    /// The volume's open root directory.
    pub root: OwnedFd,
    /// The volume as its pod names it.
    pub volume: VolumeRef,
    /// The identity by which its earlier snapshots are found.
    pub lineage: Lineage,
    /// Name of this node; may be empty.
    pub node: String,
    /// The backup that will hold the snapshot; empty for none.
    pub backup: String,
    /// Labels of the snapshot.
    pub tags: Vec<String>,
    /// Patterns of entries to leave out.
    pub exclude: Vec<String>,
    /// Read everything, whatever the parent says.
    pub force_full: bool,
    /// How much of its work may be lost when it is killed.
    pub checkpoint_every: CheckpointEvery,
    /// Bounds.
    pub budget: Budget,
    /// How fast it may go.
    pub limits: Limits,
    /// How large files are cut.
    pub chunking: Chunking,
}

/// Why a backup made no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The repository or its committer failed.
    #[error(transparent)]
    Repository(#[from] orlop_repository::Error),
    /// The volume's root cannot be read.
    #[error("cannot read the volume's root directory: {0}")]
    Root(#[source] ScanError),
    /// The walk failed as a whole.
    #[error("the walk of the volume failed")]
    Walk(#[source] ScanError),
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A thread panicked; a defect of this program.
    #[error("a thread that reads files panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl BackupError {
    /// Whether it is the answer to a cancellation.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled => true,
            Self::Repository(error) => error.is_cancelled(),
            _ => false,
        }
    }

    /// Whether trying the same again cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Repository(error) => error.is_permanent(),
            _ => true,
        }
    }
}

/// Backs up a volume. Blocks until the snapshot is durable; call it from a thread of its own, never
/// from a runtime's. Cancelling leaves garbage at worst, never half a snapshot.
///
/// A parent snapshot that turns out to be damaged is not built upon: everything is read again. A backup that
/// is shut out by a collection begins again; nothing is uploaded twice.
///
/// # Errors
/// The root cannot be read, the repository failed, or the work was cancelled. Trouble with single
/// entries is no error: it is in the report and in the snapshot's state.
pub fn run(
    job: BackupJob,
    committer: Arc<dyn Committer>,
    store: Arc<dyn ObjectStore>,
    handle: Handle,
    monitor: Arc<dyn Monitor>,
    cancel: &CancellationToken,
) -> Result<BackupReport, BackupError> {
    raise_open_files();
    let exclude = job
        .exclude
        .iter()
        .map(|p| p.parse())
        .collect::<Result<Vec<Pattern>, _>>()?;
    let options = WalkOptions {
        exclude,
        ..WalkOptions::default()
    };
    let root = Directory::open_root(job.root, &options).map_err(BackupError::Root)?;
    let attempts = Attempts {
        root,
        options,
        volume: job.volume,
        lineage: job.lineage,
        node: job.node,
        backup: job.backup,
        tags: job.tags,
        budget: job.budget,
        limits: job.limits,
        chunking: job.chunking,
        checkpoint_every: job.checkpoint_every,
        committer,
        store,
        handle,
        monitor: Arc::new(Once::new(monitor)),
    };
    attempts.run_all(job.force_full, cancel)
}

/// Now, as file systems count.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::new(since.as_secs() as i64, since.subsec_nanos())
}
