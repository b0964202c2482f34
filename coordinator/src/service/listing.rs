//! Entries and snapshots on the wire, and what differs between two listings.

use std::cmp::Ordering::{Equal, Greater, Less};

use bytes::Bytes;
use orlop_proto::v1;
use orlop_repository::{
    Entry, EntryIter, EntryKind, EntryStatus, Error, SnapshotInfo, SnapshotState, SnapshotStats,
    compare_listing, split_path,
};

/// Walks two listings side by side.
pub(super) struct Diff<'s> {
    sides: [EntryIter<'s>; 2],
    heads: [Option<Entry>; 2],
    begun: bool,
}

impl<'s> Diff<'s> {
    pub(super) fn new(old: EntryIter<'s>, new: EntryIter<'s>) -> Self {
        Self {
            sides: [old, new],
            heads: [None, None],
            begun: false,
        }
    }

    fn advance(&mut self, side: usize) -> Result<Option<Entry>, Error> {
        let next = self.sides[side].next().transpose()?;
        Ok(std::mem::replace(&mut self.heads[side], next))
    }

    fn step(&mut self) -> Result<Option<(v1::Change, Entry)>, Error> {
        if !self.begun {
            self.begun = true;
            self.advance(0)?;
            self.advance(1)?;
        }
        loop {
            let order = match (&self.heads[0], &self.heads[1]) {
                (None, None) => return Ok(None),
                (Some(_), None) => Less,
                (None, Some(_)) => Greater,
                (Some(old), Some(new)) => {
                    compare_listing(split_path(&old.path), split_path(&new.path))
                }
            };
            match order {
                Less => return Ok(self.advance(0)?.map(|old| (v1::Change::Removed, old))),
                Greater => return Ok(self.advance(1)?.map(|new| (v1::Change::Added, new))),
                Equal => {
                    if let (Some(old), Some(new)) = (self.advance(0)?, self.advance(1)?)
                        && let Some(change) = change(&old, &new)
                    {
                        return Ok(Some((change, new)));
                    }
                }
            }
        }
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<(v1::Change, Entry), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn change(old: &Entry, new: &Entry) -> Option<v1::Change> {
    let content = old.kind != new.kind || old.content != new.content || old.target != new.target;
    if content {
        return Some(v1::Change::Content);
    }
    (old.meta != new.meta).then_some(v1::Change::Metadata)
}

/// Counts on the wire.
pub(super) fn stats(stats: SnapshotStats) -> v1::SnapshotStats {
    v1::SnapshotStats {
        files: stats.files,
        dirs: stats.dirs,
        others: stats.others,
        logical_bytes: stats.logical_bytes,
        uploaded_bytes: stats.uploaded_bytes,
        warnings: stats.warnings,
        errors: stats.errors,
    }
}

/// A snapshot on the wire.
pub(super) fn snapshot(info: &SnapshotInfo, location: &str) -> v1::Snapshot {
    let state = match info.state {
        SnapshotState::Complete => v1::SnapshotState::Complete,
        SnapshotState::Partial => v1::SnapshotState::Partial,
        SnapshotState::Inconsistent => v1::SnapshotState::Inconsistent,
    };
    v1::Snapshot {
        snapshot_id: info.id.to_string(),
        volume: Some((&info.volume).into()),
        lineage: info.lineage.0.clone(),
        time_ms: info.time_ms,
        state: state.into(),
        parent: info.parent.map(|id| id.to_string()).unwrap_or_default(),
        backup: info.backup.clone(),
        node: info.node.clone(),
        tags: info.tags.clone(),
        stats: Some(stats(info.stats)),
        location: location.to_owned(),
    }
}

/// An entry on the wire.
pub(super) fn entry(entry: &Entry) -> v1::Entry {
    let kind = match entry.kind {
        EntryKind::File => v1::EntryKind::File,
        EntryKind::Directory => v1::EntryKind::Directory,
        EntryKind::Symlink => v1::EntryKind::Symlink,
        EntryKind::Fifo => v1::EntryKind::Fifo,
        EntryKind::Socket => v1::EntryKind::Socket,
        EntryKind::CharDevice => v1::EntryKind::CharDevice,
        EntryKind::BlockDevice => v1::EntryKind::BlockDevice,
    };
    let unreadable_errno = match entry.status {
        EntryStatus::Unreadable(errno) => errno,
        EntryStatus::Ok | EntryStatus::Changed => 0,
    };
    v1::Entry {
        path: Bytes::copy_from_slice(&entry.path),
        kind: kind.into(),
        size_bytes: entry.size,
        mode: entry.meta.mode,
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        mtime_seconds: entry.meta.mtime.secs,
        mtime_nanos: entry.meta.mtime.nanos,
        target: Bytes::copy_from_slice(&entry.target),
        hardlink_group: entry.hardlink.map_or(0, |group| group.id),
        unreadable_errno,
        changed: entry.status == EntryStatus::Changed,
    }
}
