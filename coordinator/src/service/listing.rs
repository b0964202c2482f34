//! Entries and snapshots on the wire.

use bytes::Bytes;
use orlop_proto::v1;
use orlop_repository::{
    Difference, Entry, EntryKind, EntryStatus, SnapshotInfo, SnapshotState, SnapshotStats,
};

/// How an entry differs, on the wire.
pub(super) fn change(change: Difference) -> v1::Change {
    match change {
        Difference::Added => v1::Change::Added,
        Difference::Removed => v1::Change::Removed,
        Difference::Type | Difference::Content => v1::Change::Content,
        Difference::Metadata => v1::Change::Metadata,
    }
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
