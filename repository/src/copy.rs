//! Copies snapshots into another repository, whose keys are others.
//!
//! Plain bytes pass through this machine, chunk by chunk: a chunk stays the chunk that it is, under the
//! other repository's keys. Which chunks are there already is known from snapshots that were copied before:
//! the listing of such a pair of snapshots, here and there, tells for each chunk here the one there. So only
//! what is new is read here.

mod base;
mod chunks;
mod files;

use std::{collections::BTreeMap, sync::Arc};

use orlop_core::{Lineage, Monitor, SnapshotId};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    repository::Repository,
    session::{ReadSession, WriteOptions, WriteSession},
    snapshot::{Origin, SnapshotInfo, SnapshotState},
};

use base::Base;
use files::Files;

/// Bytes after which what is there so far becomes a partial snapshot, from which the next call goes on.
const CHECKPOINT_BYTES: u64 = 1 << 30;

/// What a copy has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyReport {
    /// The snapshot in the other repository.
    pub snapshot: SnapshotId,
    /// Whether it was there already: then nothing was done.
    pub existed: bool,
    /// The snapshot there that told what need not be read here; `None` if there was none.
    pub base: Option<SnapshotId>,
    /// The partial snapshot of an earlier copy that this one went on from.
    pub resumed_from: Option<SnapshotId>,
    /// Entries of the snapshot.
    pub entries: u64,
    /// Logical bytes of its files, each name of a hard link counted.
    pub bytes: u64,
    /// Chunks that were read here.
    pub chunks_read: u64,
    /// Bytes of packs that were read here for them.
    pub read_bytes: u64,
    /// Bytes that were stored there.
    pub uploaded_bytes: u64,
}

/// Copies snapshots of one repository into another.
pub struct Copier {
    from: Arc<Repository>,
    to: Arc<Repository>,
    handle: Handle,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
    here: Vec<SnapshotInfo>,
    there: Vec<SnapshotInfo>,
    checkpoint_bytes: u64,
}

impl Copier {
    /// Looks at what there is in both. Its methods block, and `handle` is of the runtime that serves them.
    ///
    /// # Errors
    /// Both are the same, or the snapshots of one cannot be read.
    pub fn new(
        from: Arc<Repository>,
        to: Arc<Repository>,
        handle: Handle,
        monitor: Arc<dyn Monitor>,
        cancel: CancellationToken,
    ) -> Result<Self> {
        if from.id() == to.id() {
            return Err(Error::Invalid(format!(
                "{} is the repository itself, or a copy of all its objects: copy into another one, which `orlop repo init` makes",
                to.store().description()
            )));
        }
        let here = handle.block_on(from.snapshots())?;
        let there = handle.block_on(to.snapshots())?;
        Ok(Self {
            from,
            to,
            handle,
            monitor,
            cancel,
            here,
            there,
            checkpoint_bytes: CHECKPOINT_BYTES,
        })
    }

    /// The same with a checkpoint after so many bytes.
    #[must_use]
    pub fn with_checkpoints(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }

    /// The snapshots of the one repository, the oldest first, partial ones included.
    pub fn snapshots(&self) -> &[SnapshotInfo] {
        &self.here
    }

    /// What a snapshot is, wherever it lies.
    fn origin(of: &Repository, info: &SnapshotInfo) -> Origin {
        info.origin.unwrap_or(Origin {
            repository: of.id_bytes(),
            snapshot: info.id,
        })
    }

    /// Copies one of [`Self::snapshots`], unless it is there; a copy of which chunks are lost counts for nothing. What it stores is used by the next call if this
    /// one is cancelled or fails; after `Ok` the snapshot is durable.
    ///
    /// # Errors
    /// It is a checkpoint; something cannot be read here or stored there; or it was cancelled.
    pub fn copy(&mut self, info: &SnapshotInfo) -> Result<CopyReport> {
        if info.state == SnapshotState::Partial {
            return Err(Error::Invalid(format!(
                "snapshot {} is a checkpoint of a backup that has not finished: it is not copied",
                info.id
            )));
        }
        let origin = Self::origin(&self.from, info);
        let same = |there: &&SnapshotInfo| Self::origin(&self.to, there) == origin;
        let mut copies = self.there.iter().filter(same);
        // One that has lost something is made again while there is what it was made from.
        let is_good = |copy: &&SnapshotInfo| {
            copy.state != SnapshotState::Partial && (!copy.damaged || info.damaged)
        };
        if let Some(copy) = copies.find(is_good) {
            return Ok(CopyReport {
                snapshot: copy.id,
                existed: true,
                base: None,
                resumed_from: None,
                entries: 0,
                bytes: 0,
                chunks_read: 0,
                read_bytes: 0,
                uploaded_bytes: 0,
            });
        }
        let source = self.read(&self.from, info.id)?;
        let copied = self.copy_from(&source, info, origin);
        source.end();
        let report = copied?;
        self.there.push(SnapshotInfo {
            id: report.snapshot,
            origin: Some(origin),
            damaged: false,
            ..info.clone()
        });
        Ok(report)
    }

    fn read(&self, repository: &Arc<Repository>, snapshot: SnapshotId) -> Result<ReadSession> {
        ReadSession::open(
            Arc::clone(repository) as _,
            Arc::clone(repository.store()),
            snapshot,
            self.handle.clone(),
            self.cancel.clone(),
        )
    }

    fn copy_from(
        &self,
        source: &ReadSession,
        info: &SnapshotInfo,
        origin: Origin,
    ) -> Result<CopyReport> {
        let target = WriteSession::open(
            Arc::clone(&self.to) as _,
            Arc::clone(self.to.store()),
            info.volume.clone(),
            Lineage(info.lineage.0.clone()),
            WriteOptions::default(),
            self.handle.clone(),
            self.cancel.child_token(),
        )?
        .copying(origin);
        let (partial, whole) = self.pairs(info, origin);
        let opened = self.open_pairs(&[partial, whole]);
        let result = opened.and_then(|pairs| {
            let bases = pairs.iter().map(|(here, there)| Base::new(here, there));
            let files = Files::new(self, source, &target, info, bases.collect())?;
            let report = files.copy();
            for (here, there) in pairs {
                here.end();
                there.end();
            }
            report
        });
        match result {
            Ok(report) => Ok(CopyReport {
                base: whole.map(|(_, there)| there),
                resumed_from: partial.map(|(_, there)| there),
                ..report
            }),
            Err(error) => {
                target.abandon();
                Err(error)
            }
        }
    }

    /// Snapshots here and there that are the same: one that an earlier copy of this snapshot has begun, and
    /// the nearest in time of those of the lineage.
    fn pairs(&self, info: &SnapshotInfo, origin: Origin) -> (Option<Pair>, Option<Pair>) {
        let here: BTreeMap<_, _> = self
            .here
            .iter()
            .filter(|one| one.volume.namespace == info.volume.namespace)
            .filter(|one| one.lineage == info.lineage && one.state != SnapshotState::Partial)
            .map(|one| (key(Self::origin(&self.from, one)), one.id))
            .collect();
        let pair = |there: &SnapshotInfo| {
            let here = here.get(&key(Self::origin(&self.to, there)))?;
            Some((*here, there.id))
        };
        let mut partial = self.there.iter().rev().filter(|there| {
            there.state == SnapshotState::Partial && !there.damaged && there.origin == Some(origin)
        });
        let whole = self
            .there
            .iter()
            .filter(|there| there.state != SnapshotState::Partial && !there.damaged)
            .filter(|there| pair(there).is_some())
            .min_by_key(|there| there.time_ms.abs_diff(info.time_ms));
        (partial.find_map(pair), whole.and_then(pair))
    }

    /// Opens the pairs that can be opened: without one more is read, that is all.
    fn open_pairs(&self, pairs: &[Option<Pair>]) -> Result<Vec<(ReadSession, ReadSession)>> {
        let mut opened = Vec::new();
        for (here, there) in pairs.iter().flatten() {
            let both =
                self.read(&self.from, *here)
                    .and_then(|here| match self.read(&self.to, *there) {
                        Ok(there) => Ok((here, there)),
                        Err(error) => {
                            here.end();
                            Err(error)
                        }
                    });
            match both {
                Ok(both) => opened.push(both),
                Err(error @ (Error::Damaged { .. } | Error::NoSnapshot { .. })) => {
                    tracing::warn!(%error, "a snapshot that was copied before cannot be used");
                }
                Err(error) => {
                    for (here, there) in opened {
                        here.end();
                        there.end();
                    }
                    return Err(error);
                }
            }
        }
        Ok(opened)
    }
}

/// A snapshot here, and the same one there.
type Pair = (SnapshotId, SnapshotId);

fn key(origin: Origin) -> ([u8; 16], [u8; 16]) {
    (origin.repository, origin.snapshot.to_bytes())
}
