//! Attempts at one backup: one as a rule, another where the first could not build upon what it found or was
//! shut out.

use std::{sync::Arc, time::Instant};

use orlop_core::{Chunking, Lineage, Monitor as _, VolumeRef};
use orlop_repository::{
    CommitInfo, Committer, Error, ManifestWriter, ObjectStore, SnapshotState, SnapshotStats,
    UploadStats, WriteOptions, WriteSession,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    BackupError, Budget, CheckpointEvery, Limits, assemble, blocks,
    checkpoint::Checkpoints,
    detect, feed,
    once::Once,
    read,
    report::{BackupReport, Tally},
    room, work,
};
use crate::scan::{Directory, ScanError, WalkOptions, walk};

/// How often a backup begins again because a collection has shut it out: each time it has less to upload.
const MAX_BEGUN_AGAIN: u32 = 5;

/// A backup with all that another attempt needs again.
pub(super) struct Attempts {
    pub(super) root: Arc<Directory>,
    pub(super) options: WalkOptions,
    pub(super) volume: VolumeRef,
    pub(super) lineage: Lineage,
    pub(super) node: String,
    pub(super) backup: String,
    pub(super) tags: Vec<String>,
    pub(super) budget: Budget,
    pub(super) limits: Limits,
    pub(super) chunking: Chunking,
    pub(super) checkpoint_every: CheckpointEvery,
    pub(super) committer: Arc<dyn Committer>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) handle: Handle,
    pub(super) monitor: Arc<Once>,
}

/// Whether something that was stored is not what it should be.
fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Damaged { .. } | Error::MissingChunk { .. } | Error::NotFound { .. }
    )
}

/// Whether the session was ended by others: its work is there for the next one.
fn is_shut_out(error: &Error) -> bool {
    matches!(error, Error::Fenced { .. } | Error::NoSession { .. })
}

impl Attempts {
    /// Runs attempts until there is a snapshot, or an error that another attempt does not mend. The report
    /// counts the files of the last one and the uploads of all.
    pub(super) fn run_all(
        &self,
        force_full: bool,
        cancel: &CancellationToken,
    ) -> Result<BackupReport, BackupError> {
        let began = Instant::now();
        let (mut ignore_parent, mut begun_again) = (force_full, 0);
        let mut spent = UploadStats::default();
        loop {
            let error = match self.run(ignore_parent, &mut spent, cancel) {
                Ok(report) => {
                    return Ok(BackupReport {
                        duration_ms: began.elapsed().as_millis() as u64,
                        ..report
                    });
                }
                Err(BackupError::Repository(error)) => error,
                Err(error) => return Err(error),
            };
            let reason = if is_shut_out(&error) && begun_again < MAX_BEGUN_AGAIN {
                begun_again += 1;
                "a collection has shut it out; what was uploaded is not uploaded again"
            } else if is_damage(&error) && !ignore_parent {
                ignore_parent = true;
                "the last snapshot cannot be built upon: everything is read again"
            } else {
                return Err(error.into());
            };
            tracing::warn!(volume = %self.volume, %error, reason, "the backup begins again");
            self.monitor.begins_again(reason);
        }
    }

    fn run(
        &self,
        ignore_parent: bool,
        spent: &mut UploadStats,
        cancel: &CancellationToken,
    ) -> Result<BackupReport, BackupError> {
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
                upload_limit: self.limits.upload.clone(),
            },
            self.handle.clone(),
            stop.clone(),
        )?;
        let tally = Tally::new(Arc::clone(&self.monitor) as _);
        let clock = detect::Clock::start();
        let before = *spent;
        let info = |state, stats| CommitInfo {
            time_ms: clock.unix_ms(),
            node: self.node.clone(),
            backup: self.backup.clone(),
            tags: self.tags.clone(),
            state,
            stats: SnapshotStats {
                uploaded_bytes: before.uploaded_bytes,
                ..stats
            },
        };
        let so_far = |covered| {
            let counts = tally.counts();
            let stats = SnapshotStats {
                warnings: counts.warnings,
                errors: counts.errors,
                ..covered
            };
            info(SnapshotState::Partial, stats)
        };
        let checkpoints = Checkpoints::new(&session, self.checkpoint_every, &so_far);
        let committed = self
            .transfer(&session, checkpoints, clock, &tally, &stop)
            .and_then(|manifest| {
                let counts = tally.counts();
                let (snapshot, _) =
                    session.commit(manifest, info(counts.state(), counts.stats()))?;
                Ok((snapshot, counts.state()))
            });
        match committed {
            Ok((snapshot, state)) => {
                let built_upon = (session.parent(), session.resumes());
                let uploads = sum(before, session.uploads());
                Ok(tally.into_report(snapshot, built_upon, state, uploads))
            }
            Err(error) => {
                *spent = sum(before, session.abandon());
                Err(if cancel.is_cancelled() {
                    BackupError::Cancelled
                } else {
                    error
                })
            }
        }
    }

    /// Runs walk, workers and assembler; all of them have ended when it returns.
    fn transfer<'s>(
        &self,
        session: &'s WriteSession,
        checkpoints: Checkpoints<'_>,
        clock: detect::Clock,
        tally: &Tally,
        stop: &CancellationToken,
    ) -> Result<ManifestWriter<'s>, BackupError> {
        let (root, options, workers) = (&self.root, &self.options, self.budget.workers());
        let (jobs_in, jobs_out) = crossbeam_channel::bounded(workers.max(2));
        let (items_in, items_out) = crossbeam_channel::bounded(feed::ITEMS);
        let (help_in, help) = crossbeam_channel::bounded(workers);
        let blocks = blocks::Blocks::new(session.chunker().max(), workers);
        let pool = work::Pool {
            session,
            tally,
            clock,
            stop,
            room: room::Room::default(),
            jobs: jobs_out,
            help,
            help_in,
            blocks,
            reading: read::Reading::default(),
            chunking: self.chunking,
            read_limit: self.limits.read.as_deref(),
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
                let result = assemble::run(session, pool, checkpoints, items_out);
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

/// What two attempts have sent.
fn sum(a: UploadStats, b: UploadStats) -> UploadStats {
    UploadStats {
        uploaded_bytes: a.uploaded_bytes + b.uploaded_bytes,
        objects_put: a.objects_put + b.objects_put,
        chunks_new: a.chunks_new + b.chunks_new,
        // Of what an earlier attempt has stored the last one says so, too.
        chunks_reused: b.chunks_reused,
        new_bytes: a.new_bytes + b.new_bytes,
    }
}
