//! What a repair may do, and what it did.

use std::time::Duration;

use orlop_core::SnapshotId;
use serde::Serialize;

use super::super::WaitingSession;
use crate::check::Sample;

/// How a repair goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairOptions {
    /// Only say what would be done. Nothing is written, not even to the log.
    pub dry_run: bool,
    /// Read these packs first, to find damage that no check has found yet. Without it, packs count as damaged
    /// that are missing, too short, or were found damaged by a check; those are read again.
    pub read: Option<Sample>,
    /// How long to wait for sessions that began before. After it the repair ends, and nothing is taken out of
    /// the index; the next one goes on.
    pub patience: Duration,
    /// Sessions that began longer ago are shut out, as by a collection.
    pub fence_after: Duration,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            read: None,
            patience: Duration::from_mins(10),
            fence_after: Duration::from_hours(24),
        }
    }
}

/// How far a repair came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairState {
    /// It was a dry run.
    Planned,
    /// There was nothing to repair.
    #[default]
    Sound,
    /// What could be repaired is repaired.
    Repaired,
    /// Sessions that began before are still running: what was saved is saved, and the next repair goes on.
    Waiting,
}

/// A pack that is taken out of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairedPack {
    /// The pack.
    pub object: String,
    /// Whether it was not there at all.
    pub missing: bool,
    /// Chunks and pages of it that were whole, and were copied to other packs.
    pub saved: u64,
    /// Chunks and pages of it that snapshots need and that are lost.
    pub lost: u64,
}

/// A snapshot that lacks something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostParts {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its volume, NAMESPACE/POD/VOLUME; empty if not even that can be read.
    pub volume: String,
    /// Whether its root is lost, so that nothing of it can be restored.
    pub unreadable: bool,
    /// Some of the paths that are hit, at most 100, in listing order.
    pub paths: Vec<String>,
    /// Paths that are hit, as far as that can be told.
    pub paths_total: u64,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RepairReport {
    /// Whether it only looked.
    pub dry_run: bool,
    /// How far it came.
    pub state: RepairState,
    /// Index segments that were made again from packs.
    pub index: Vec<String>,
    /// Refsets that were made again from their snapshots.
    pub refsets: Vec<String>,
    /// Records of checks that could not be read and were removed.
    pub records: Vec<String>,
    /// Packs that were damaged or missing.
    pub packs: Vec<RepairedPack>,
    /// Snapshots that lack something: those marked by this repair, and those that were before.
    pub lost: Vec<LostParts>,
    /// Snapshots that lacked something and are whole again.
    pub whole: Vec<SnapshotId>,
    /// Sessions that were shut out.
    pub fenced: Vec<u64>,
    /// Sessions that it waited for in vain.
    pub waiting: Vec<WaitingSession>,
}

impl RepairReport {
    /// Whether anything was to be repaired.
    pub(super) fn found_any(&self) -> bool {
        !(self.index.is_empty()
            && self.refsets.is_empty()
            && self.records.is_empty()
            && self.packs.is_empty()
            && self.whole.is_empty())
    }
}
