//! What the entries of a log add up to.

use std::collections::{BTreeMap, BTreeSet};

use super::{CommitBody, SessionKind};

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Open {
    pub(crate) kind: SessionKind,
    /// Pseudonyms of domain and lineage; empty for readers.
    pub(crate) volume: String,
    /// Snapshots that it builds upon or reads.
    pub(crate) pins: Vec<String>,
    /// Earlier sessions whose packs it may use.
    pub(crate) adopts: Vec<u64>,
    /// A session that adopted this one has committed: nothing more is to be gained from it.
    pub(crate) taken: bool,
    /// When it began, milliseconds since 1970: for people and for choosing whom to fence.
    pub(crate) since_ms: i64,
}

/// A writer that ended without a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Closed {
    pub(crate) volume: String,
    pub(crate) fenced: bool,
}

/// Packs on their way out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Epoch {
    /// Number of the condemn entry.
    pub(crate) seq: u64,
    pub(crate) packs: BTreeSet<String>,
    /// Sessions that began before it and are open.
    pub(crate) waits: BTreeSet<u64>,
    /// Sessions whose packs are not garbage whatever the index says: those that were open, and those that
    /// they had adopted.
    pub(crate) spared: BTreeSet<u64>,
}

/// What may be done with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Standing {
    /// Read and build upon.
    #[default]
    Live,
    /// Read.
    Condemned,
    /// Nothing.
    Dead,
}

/// What the entries up to a point add up to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LogState {
    /// Number of the next entry; the first is 1.
    pub(crate) next: u64,
    /// BLAKE3 of the last entry.
    pub(crate) last_hash: Vec<u8>,
    /// Sessions that have neither ended nor committed.
    pub(crate) open: BTreeMap<u64, Open>,
    /// Writers that ended without a snapshot and may be adopted.
    pub(crate) closed: BTreeMap<u64, Closed>,
    /// Snapshots in order of commit.
    pub(crate) snapshots: Vec<CommitBody>,
    /// Forgotten snapshots that open sessions pin; a reader of everything pins all.
    pub(crate) retired: Vec<CommitBody>,
    /// Snapshot objects that lack chunks, or were built upon one that does.
    pub(crate) lost: BTreeSet<String>,
    /// Index segments in order.
    pub(crate) segments: Vec<String>,
    /// Term of the last collector, 0 if there was none.
    pub(crate) leader: u64,
    pub(crate) epoch: Option<Epoch>,
    /// Lists whose objects are being deleted, by the number of their entry.
    pub(crate) deleting: BTreeMap<u64, Vec<String>>,
    /// Packs that were on such a list and that segments still name, or that an open session may look for.
    pub(crate) dead: BTreeSet<String>,
    /// Commits so far.
    pub(crate) commits: u64,
    /// Number of the last entry that changed what may be done with packs.
    pub(crate) judged: u64,
    /// Public READ keys of the epochs of keys, from the second on.
    pub(crate) read_keys: Vec<Vec<u8>>,
}

impl LogState {
    pub(crate) fn new() -> Self {
        Self {
            next: 1,
            ..Self::default()
        }
    }

    /// What may be done with a pack.
    pub(crate) fn standing(&self, pack: &str) -> Standing {
        let condemned = |epoch: &Epoch| epoch.packs.contains(pack);
        if self.dead.contains(pack) {
            Standing::Dead
        } else if self.epoch.as_ref().is_some_and(condemned) {
            Standing::Condemned
        } else {
            Standing::Live
        }
    }

    /// Packs that nothing may be built upon any more.
    pub(crate) fn doomed(&self) -> BTreeSet<String> {
        let condemned = self.epoch.iter().flat_map(|epoch| &epoch.packs);
        condemned.chain(&self.dead).cloned().collect()
    }

    /// The snapshots of a volume to build upon, the newest first: partial ones up to and with the first
    /// that is whole; at most `max`. Those that lack chunks are passed over: what they call stored may be
    /// gone.
    pub(crate) fn parents(&self, volume: &str, max: usize) -> Vec<&CommitBody> {
        let mut found: Vec<&CommitBody> = Vec::new();
        for commit in self.snapshots.iter().rev() {
            let lost = self.lost.contains(&commit.snapshot);
            if lost || volume_of(&commit.snapshot) != Some(volume) {
                continue;
            }
            if !commit.partial {
                found.truncate(max.saturating_sub(1));
                found.push(commit);
                break;
            }
            found.push(commit);
        }
        found.truncate(max);
        found
    }

    /// Earlier sessions of a volume whose packs are worth having.
    pub(crate) fn adoptable(&self, volume: &str) -> Vec<u64> {
        let closed = self.closed.iter().filter(|(_, c)| c.volume == volume);
        let open = self.open.iter().filter(|(_, open)| {
            open.kind == SessionKind::Write && open.volume == volume && !open.taken
        });
        closed
            .map(|(session, _)| *session)
            .chain(open.map(|(session, _)| *session))
            .collect()
    }

    /// All snapshots whose chunks must stay: committed ones, and forgotten ones that are pinned.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &CommitBody> {
        self.snapshots.iter().chain(&self.retired)
    }

    /// The last snapshot that a session committed.
    pub(crate) fn committed(&self, session: u64) -> Option<&CommitBody> {
        self.snapshots.iter().rev().find(|c| c.session == session)
    }

    /// Whether an object that was listed before the epoch's condemn entry belongs to nothing, now that
    /// nobody of that time is left.
    pub(crate) fn is_leftover(&self, epoch: &Epoch, object: &str) -> bool {
        let past = |n: u64| n < epoch.seq && !epoch.spared.contains(&n);
        match object.split('/').next() {
            Some("p" | "m") => session_of(object).is_some_and(past),
            Some("i") => {
                session_of(object).is_some_and(past)
                    && !self.segments.iter().any(|segment| segment == object)
            }
            Some("s") => !self.needed().any(|commit| commit.snapshot == object),
            Some("r") => !self.needed().any(|commit| commit.refset == object),
            _ => false,
        }
    }
}

/// The volume of a snapshot object, `s/<volume>/<id>`.
pub(crate) fn volume_of(snapshot: &str) -> Option<&str> {
    Some(snapshot.strip_prefix("s/")?.rsplit_once('/')?.0)
}

/// The session in the name of a pack or segment.
pub(crate) fn session_of(name: &str) -> Option<u64> {
    name.rsplit_once('.')?.1.parse().ok()
}
