//! What a collection may do, and what it did.

use std::time::Duration;

use serde::Serialize;

/// How a collection goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectOptions {
    /// Only say what would be done. Nothing is written, not even to the log.
    pub dry_run: bool,
    /// Packs of which a larger share is dead are written anew, in percent.
    pub dead_percent: u8,
    /// At most so many bytes are written anew; the rest waits for the next collection.
    pub budget_bytes: u64,
    /// Refuse to remove more than this share of all packs' bytes, in percent.
    pub max_removed_percent: u8,
    /// How long to wait for sessions that began before. After it the collection ends; what it condemned is
    /// deleted by the next one.
    pub patience: Duration,
    /// Sessions that began longer ago are shut out: a backup that still runs begins again and takes over
    /// what it stored; a restore that still runs goes on, and its snapshot is not protected any more.
    pub fence_after: Duration,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            dead_percent: 40,
            budget_bytes: 64 << 30,
            max_removed_percent: 50,
            patience: Duration::from_mins(10),
            fence_after: Duration::from_hours(24),
        }
    }
}

/// How far a collection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectState {
    /// It was a dry run.
    Planned,
    /// There was nothing to remove.
    #[default]
    Clean,
    /// What could be removed is removed.
    Collected,
    /// Sessions that began before are still running: the next collection goes on.
    Waiting,
}

/// A session that a collection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WaitingSession {
    /// Its number.
    pub session: u64,
    /// When it began, milliseconds since 1970.
    pub since_ms: i64,
    /// Whether a later session of its volume has taken over its work and committed.
    #[serde(skip)]
    pub(super) successor: bool,
}

/// What a collection did. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CollectReport {
    /// Whether it only looked.
    pub dry_run: bool,
    /// How far it came.
    pub state: CollectState,
    /// Snapshots whose chunks must stay.
    pub snapshots: u64,
    /// Packs that nobody needed.
    pub dead_packs: u64,
    /// Packs whose needed chunks were moved to new ones.
    pub moved_packs: u64,
    /// Size of the moved chunks.
    pub moved_bytes: u64,
    /// Chunks worth moving that are over the budget.
    pub postponed_bytes: u64,
    /// Size of all that was found removable.
    pub removable_bytes: u64,
    /// Objects that were deleted, packs and others.
    pub removed_objects: u64,
    /// Their size.
    pub removed_bytes: u64,
    /// Packs that were condemned and turned out to be needed.
    pub rescued_packs: u64,
    /// Sessions that were shut out.
    pub fenced: Vec<u64>,
    /// Sessions that it waited for in vain.
    pub waiting: Vec<WaitingSession>,
}
