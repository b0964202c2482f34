//! Snapshots and entries as lines of JSON: what this program reads, in the words of the second reader.

use std::fmt::Write as _;

use orlop_core::SnapshotId;
use orlop_repository::{Content, Entry, EntryKind, EntryStatus, ReadSession, SnapshotInfo};
use orlop_tests::Engine;
use serde_json::{Value, json};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice => "char-device",
        EntryKind::BlockDevice => "block-device",
    }
}

/// All snapshots, oldest first.
pub(crate) fn snapshots(engine: &Engine) -> Vec<Value> {
    let all = engine.wait(engine.repository().snapshots()).unwrap();
    all.iter().map(snapshot).collect()
}

fn snapshot(info: &SnapshotInfo) -> Value {
    let stats = &info.stats;
    json!({
        "id": info.id.to_string(),
        "volume": info.volume.to_string(),
        "lineage": info.lineage.0,
        "time_ms": info.time_ms,
        "state": serde_json::to_value(info.state).unwrap(),
        "parent": info.parent.map(|id| id.to_string()),
        "backup": info.backup,
        "node": info.node,
        "tags": info.tags,
        "stats": {
            "files": stats.files, "dirs": stats.dirs, "others": stats.others,
            "logical_bytes": stats.logical_bytes, "uploaded_bytes": stats.uploaded_bytes,
            "warnings": stats.warnings, "errors": stats.errors,
        },
        "session": info.session,
    })
}

/// All entries of a snapshot in listing order, with a hash of each file's content.
pub(crate) fn entries(engine: &Engine, id: SnapshotId) -> Vec<Value> {
    let session = engine.read(id).unwrap();
    let all = session.entries().map(Result::unwrap);
    let lines = all.map(|entry| line(&session, &entry)).collect();
    session.end();
    lines
}

fn line(session: &ReadSession, entry: &Entry) -> Value {
    let meta = &entry.meta;
    let xattrs = meta.xattrs.iter();
    let xattrs: serde_json::Map<String, Value> = xattrs
        .map(|xattr| (hex(&xattr.name), hex(&xattr.value).into()))
        .collect();
    let (status, errno) = match entry.status {
        EntryStatus::Ok => ("ok", 0),
        EntryStatus::Changed => ("changed", 0),
        EntryStatus::Unreadable(errno) => ("unreadable", errno),
    };
    let mut line = json!({
        "path": hex(&entry.path),
        "kind": kind(entry.kind),
        "mode": meta.mode,
        "uid": meta.uid,
        "gid": meta.gid,
        "mtime": [meta.mtime.secs, meta.mtime.nanos],
        "size": entry.size,
        "target": hex(&entry.target),
        "flags": meta.flags,
        "device": meta.rdev,
        "links": entry.hardlink.map_or([0, 0], |group| [group.id, u64::from(group.links)]),
        "xattrs": xattrs,
        "status": status,
        "errno": errno,
    });
    if entry.kind == EntryKind::File {
        line["blake3"] = content(session, entry).into();
    }
    line
}

fn content(session: &ReadSession, entry: &Entry) -> String {
    let mut hasher = blake3::Hasher::new();
    if entry.content != Content::None {
        session.read_file(entry, &mut hasher, 8 << 20).unwrap();
    }
    hasher.finalize().to_string()
}
