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
mod once;
mod report;
mod room;
mod small;
#[cfg(test)]
mod tests;
mod work;

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use orlop_core::{Lineage, Monitor, SnapshotId, Timestamp, VolumeRef};
use orlop_repository::{
    CommitInfo, Committer, ObjectStore, SnapshotStats, WriteOptions, WriteSession,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::scan::{
    Directory, Pattern, PatternError, ScanError, WalkOptions, raise_open_files, walk,
};

use once::Once;
use report::Tally;
pub use report::{BackupReport, FileCounts};

/// A worker holds a read buffer of 8 MiB, a chunk and its compressed copy; with six of them, four open
/// packs and two on their way a backup stays below 256 MiB.
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
/// A parent snapshot that turns out to be damaged is not built upon: everything is read again.
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
        committer,
        store,
        handle,
        monitor: Arc::new(Once::new(monitor)),
    };
    match attempts.run(job.force_full, cancel) {
        Err(BackupError::Repository(error)) if !job.force_full && is_damage(&error) => {
            tracing::warn!(%error, "the last snapshot cannot be built upon: everything is read again");
            attempts.monitor.begin_again();
            attempts.run(true, cancel)
        }
        other => other,
    }
}

/// Whether something that was stored is not what it should be.
fn is_damage(error: &orlop_repository::Error) -> bool {
    use orlop_repository::Error;
    matches!(
        error,
        Error::Damaged { .. } | Error::MissingChunk { .. } | Error::NotFound { .. }
    )
}

/// A backup with all that a second attempt needs again.
struct Attempts {
    root: Arc<Directory>,
    options: WalkOptions,
    volume: VolumeRef,
    lineage: Lineage,
    node: String,
    backup: String,
    tags: Vec<String>,
    budget: Budget,
    committer: Arc<dyn Committer>,
    store: Arc<dyn ObjectStore>,
    handle: Handle,
    monitor: Arc<Once>,
}

impl Attempts {
    fn run(
        &self,
        ignore_parent: bool,
        cancel: &CancellationToken,
    ) -> Result<BackupReport, BackupError> {
        let began = Instant::now();
        // Ends the workers when anything fails, without cancelling what the caller shares.
        let stop = cancel.child_token();
        let session = WriteSession::open(
            Arc::clone(&self.committer),
            Arc::clone(&self.store),
            self.volume.clone(),
            self.lineage.clone(),
            WriteOptions {
                uploads: self.budget.uploads,
                ignore_parent,
            },
            self.handle.clone(),
            stop.clone(),
        )?;
        let tally = Tally::new(Arc::clone(&self.monitor) as _);
        let clock = detect::Clock::start();
        let committed = self
            .transfer(&session, clock, &tally, &stop)
            .and_then(|manifest| {
                let info = self.info(clock, &tally);
                let state = info.state;
                let (snapshot, uploads) = session.commit(manifest, info)?;
                Ok((snapshot, state, uploads))
            });
        match committed {
            Ok((snapshot, state, uploads)) => {
                let parent: Option<SnapshotId> = session.parent();
                Ok(tally.into_report(snapshot, parent, state, uploads, began.elapsed()))
            }
            Err(error) => {
                session.abandon();
                Err(if cancel.is_cancelled() {
                    BackupError::Cancelled
                } else {
                    error
                })
            }
        }
    }

    fn info(&self, clock: detect::Clock, tally: &Tally) -> CommitInfo {
        let counts = tally.counts();
        CommitInfo {
            time_ms: clock.unix_ms(),
            node: self.node.clone(),
            backup: self.backup.clone(),
            tags: self.tags.clone(),
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
        }
    }

    /// Runs walk, workers and assembler; all of them have ended when it returns.
    fn transfer<'s>(
        &self,
        session: &'s WriteSession,
        clock: detect::Clock,
        tally: &Tally,
        stop: &CancellationToken,
    ) -> Result<orlop_repository::ManifestWriter<'s>, BackupError> {
        let (root, options, workers) = (&self.root, &self.options, self.budget.workers());
        let (jobs_in, jobs_out) = crossbeam_channel::bounded(workers.max(2));
        let (items_in, items_out) = crossbeam_channel::bounded(feed::ITEMS);
        let (chunks_in, chunks_out) = crossbeam_channel::bounded(workers);
        let pool = work::Pool {
            session,
            tally,
            clock,
            stop,
            room: room::Room::default(),
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
                // A panic, too, must end the others.
                let guard = stop.clone().drop_guard();
                let result = assemble::run(session, pool, items_out);
                if result.is_ok() {
                    guard.disarm();
                }
                result
            });
            let mut feeder = feed::Feeder::new(pool, cursor, jobs_in, items_in);
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
}

/// Now, as file systems count.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::new(since.as_secs() as i64, since.subsec_nanos())
}
