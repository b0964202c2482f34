//! One volume's backup: walk → compare with the parent → read what changed → snapshot.
//!
//! ```text
//! walk (caller's thread) ──jobs──▶ workers: read, chunk, hash, compress, seal ──▶ packs ──▶ store
//!        └──────────────items in listing order──────────────▶ assembler: manifest
//! ```
//! Both channels are bounded; with the packs on their way they are all the memory that a backup uses,
//! whatever the volume's size.

mod assemble;
mod detect;
mod feed;
mod job;
mod large;
mod report;
mod small;
mod work;

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use orlop_core::{Lineage, Monitor, SnapshotId, Timestamp, VolumeRef};
use orlop_repository::{
    CommitInfo, Committer, ObjectStore, SnapshotState, SnapshotStats, WriteOptions, WriteSession,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::scan::{
    Directory, Pattern, PatternError, ScanError, WalkOptions, raise_open_files, walk,
};

use report::Tally;
pub use report::{BackupReport, FileCounts};

/// What bounds a backup's use of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Threads that read, compress and encrypt; 0 means one a core, at most 16.
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
                .min(16),
            n => n,
        }
    }
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
    /// Bounds.
    pub budget: Budget,
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
    let began = Instant::now();
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
    // Ends the workers when anything fails, without cancelling what the caller shares.
    let stop = cancel.child_token();
    let session = WriteSession::open(
        committer,
        store,
        job.volume,
        job.lineage,
        WriteOptions {
            uploads: job.budget.uploads,
            ignore_parent: job.force_full,
        },
        handle,
        stop.clone(),
    )?;
    let tally = Tally::new(monitor);
    let clock = detect::Clock::start();
    let result = transfer(
        &session,
        &root,
        &options,
        job.budget.workers(),
        clock,
        &tally,
        &stop,
    );
    let manifest = match result {
        Ok(manifest) => manifest,
        Err(error) => {
            session.abandon();
            return Err(if cancel.is_cancelled() {
                BackupError::Cancelled
            } else {
                error
            });
        }
    };
    let counts = tally.counts();
    let info = CommitInfo {
        time_ms: clock.unix_ms(),
        node: job.node,
        backup: job.backup,
        tags: job.tags,
        state: counts.state(),
        stats: SnapshotStats {
            files: counts.files.total,
            dirs: counts.dirs,
            others: counts.others,
            logical_bytes: counts.logical_bytes,
            uploaded_bytes: 0,
            warnings: counts.warnings,
            errors: counts.errors,
        },
    };
    let state: SnapshotState = info.state;
    let parent: Option<SnapshotId> = session.parent();
    match session.commit(manifest, info) {
        Ok((snapshot, uploads)) => {
            Ok(tally.into_report(snapshot, parent, state, uploads, began.elapsed()))
        }
        Err(error) => {
            session.abandon();
            Err(if cancel.is_cancelled() {
                BackupError::Cancelled
            } else {
                error.into()
            })
        }
    }
}

/// Runs walk, workers and assembler; all of them have ended when it returns.
fn transfer<'s>(
    session: &'s WriteSession,
    root: &Arc<Directory>,
    options: &WalkOptions,
    workers: usize,
    clock: detect::Clock,
    tally: &Tally,
    stop: &CancellationToken,
) -> Result<orlop_repository::ManifestWriter<'s>, BackupError> {
    let (jobs_in, jobs_out) = crossbeam_channel::bounded(workers.max(2));
    let (items_in, items_out) = crossbeam_channel::bounded(feed::ITEMS);
    let (chunks_in, chunks_out) = crossbeam_channel::bounded(workers);
    let pool = work::Pool {
        session,
        tally,
        clock,
        stop,
        jobs: jobs_out,
        chunks: chunks_out,
        chunks_in,
        owners: 0.into(),
        idle: 0.into(),
        failure: None.into(),
    };
    let cursor = session.parent_cursor();
    let result = std::thread::scope(|scope| {
        let pool = &pool;
        for _ in 0..workers {
            scope.spawn(move || pool.run());
        }
        let assembler = scope.spawn(move || {
            let result = assemble::run(session, pool, items_out);
            if result.is_err() {
                stop.cancel();
            }
            result
        });
        let mut feeder = feed::Feeder::new(session, cursor, jobs_in, items_in, clock, tally, stop);
        let walked = feeder
            .root(root)
            .and_then(|()| walk(root, options, &mut feeder, stop).map_err(BackupError::Walk));
        let fed = feeder.finish();
        let assembled = assembler
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut manifest = Err(BackupError::Cancelled);
        let mut failures = Vec::new();
        match assembled {
            Ok(built) => manifest = Ok(built),
            Err(error) => failures.push(error),
        }
        failures.extend(fed.err());
        failures.extend(walked.err().map(|error| match error {
            BackupError::Walk(ScanError::Cancelled) => BackupError::Cancelled,
            error => error,
        }));
        // A failure anywhere ends the rest as a cancellation: tell the cause.
        failures.sort_by_key(BackupError::is_cancelled);
        failures.into_iter().next().map_or(manifest, Err)
    });
    // A worker stops the others before it has told why: now that all have ended the cause is known.
    result.map_err(|error| {
        if error.is_cancelled() {
            pool.cause()
        } else {
            error
        }
    })
}

/// Now, as file systems count.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::new(since.as_secs() as i64, since.subsec_nanos())
}
