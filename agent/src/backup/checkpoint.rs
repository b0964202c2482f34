//! When a backup makes checkpoints, from which the next one goes on should this one be killed.

use std::time::{Duration, Instant};

use orlop_repository::{CommitInfo, EntryKind, ManifestWriter, SnapshotStats, WriteSession};

use super::BackupError;

/// Packs that are filled between two checkpoints: 1 GiB of them is read again in seconds …
const PACKS: u64 = 64;
/// … and what a slow line sends in this time is little.
const TIME: Duration = Duration::from_mins(2);

/// How much of its work a backup may lose: it makes a checkpoint after so many bytes, or after so long,
/// whichever comes first, if it has stored anything since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointEvery {
    /// Bytes that are stored; 0 stands for as many as fill 64 packs.
    pub bytes: u64,
    /// Time.
    pub time: Duration,
}

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self {
            bytes: 0,
            time: TIME,
        }
    }
}

impl CheckpointEvery {
    /// Whether one is due. `bytes` and `entries` were added since the last one, which is `age` ago; it is asked
    /// for only if it counts.
    fn is_due(self, bytes: u64, entries: u64, age: impl FnOnce() -> Duration) -> bool {
        bytes > 0 && entries > 0 && (bytes >= self.bytes || age() >= self.time)
    }
}

/// Counts of the entries in the manifest so far.
#[derive(Debug, Clone, Copy, Default)]
struct Covered {
    files: u64,
    dirs: u64,
    others: u64,
    logical_bytes: u64,
}

impl Covered {
    fn entries(self) -> u64 {
        self.files + self.dirs + self.others
    }
}

/// Makes checkpoints when they are due.
pub(super) struct Checkpoints<'s> {
    session: &'s WriteSession,
    every: CheckpointEvery,
    /// What to say of a checkpoint with these counts.
    info: &'s (dyn Fn(SnapshotStats) -> CommitInfo + Sync),
    covered: Covered,
    /// As they were at the last one, or at the last try.
    packed: u64,
    entries: u64,
    at: Instant,
}

impl<'s> Checkpoints<'s> {
    pub(super) fn new(
        session: &'s WriteSession,
        every: CheckpointEvery,
        info: &'s (dyn Fn(SnapshotStats) -> CommitInfo + Sync),
    ) -> Self {
        let bytes = match every.bytes {
            0 => PACKS * session.pack_bytes(),
            bytes => bytes,
        };
        Self {
            session,
            every: CheckpointEvery { bytes, ..every },
            info,
            covered: Covered::default(),
            packed: 0,
            entries: 0,
            at: Instant::now(),
        }
    }

    /// Counts an entry that is in the manifest, with those of its bytes that no other name has counted.
    pub(super) fn count(&mut self, kind: EntryKind, logical_bytes: u64) {
        match kind {
            EntryKind::File => self.covered.files += 1,
            EntryKind::Directory => self.covered.dirs += 1,
            _ => self.covered.others += 1,
        }
        self.covered.logical_bytes += logical_bytes;
    }

    /// Makes a checkpoint of the manifest as it is, if one is due.
    ///
    /// # Errors
    /// The session cannot go on; that no checkpoint could be made is no error.
    pub(super) fn make_due(
        &mut self,
        manifest: &mut ManifestWriter<'_>,
    ) -> Result<(), BackupError> {
        let packed = self.session.packed_bytes();
        let bytes = packed - self.packed;
        let entries = self.covered.entries() - self.entries;
        if !self.every.is_due(bytes, entries, || self.at.elapsed()) {
            return Ok(());
        }
        let stats = SnapshotStats {
            files: self.covered.files,
            dirs: self.covered.dirs,
            others: self.covered.others,
            logical_bytes: self.covered.logical_bytes,
            ..SnapshotStats::default()
        };
        let made = self.session.checkpoint(manifest, (self.info)(stats))?;
        if let Some(snapshot) = made {
            let entries = self.covered.entries();
            tracing::info!(snapshot_id = %snapshot, entries, "checkpoint made");
        }
        self.packed = packed;
        self.entries = self.covered.entries();
        self.at = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_after_so_much_or_so_long_if_anything_was_stored() {
        let every = CheckpointEvery {
            bytes: 100,
            time: Duration::from_mins(1),
        };
        let due = |bytes, entries, secs| every.is_due(bytes, entries, || Duration::from_secs(secs));
        assert!(due(100, 1, 0));
        assert!(due(1, 1, 60));
        assert!(!due(99, 1, 59));
        assert!(!due(0, 1_000_000, 3600), "nothing was stored");
        assert!(!due(1 << 40, 0, 3600), "the position is the same");
    }
}
