//! Snapshots and their entries, whether the repository or the coordinator tells them.

use orlop_proto::v1;
use orlop_repository::{Content, Entry, EntryKind, EntryStatus, SnapshotInfo, SnapshotState};
use serde::Serialize;

use super::{PathShape, present};
use crate::text;

/// One of `repo snapshots` and `snapshot ls`.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotShape {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) volume: String,
    pub(crate) lineage: String,
    pub(crate) time: String,
    pub(crate) state: &'static str,
    pub(crate) parent: Option<String>,
    pub(crate) backup: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) files: u64,
    pub(crate) dirs: u64,
    pub(crate) others: u64,
    pub(crate) logical_bytes: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) warnings: u64,
    pub(crate) errors: u64,
    /// Where it is, if a server with locations tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<String>,
}

pub(crate) fn state_name(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Complete => "complete",
        SnapshotState::Partial => "partial",
        SnapshotState::Inconsistent => "inconsistent",
    }
}

impl From<&SnapshotInfo> for SnapshotShape {
    fn from(info: &SnapshotInfo) -> Self {
        Self {
            id: info.id.to_string(),
            namespace: info.volume.namespace.clone(),
            pod: info.volume.pod.clone(),
            volume: info.volume.volume.clone(),
            lineage: info.lineage.to_string(),
            time: text::time(info.time_ms),
            state: state_name(info.state),
            parent: info.parent.map(|id| id.to_string()),
            backup: present(&info.backup),
            node: present(&info.node),
            tags: info.tags.clone(),
            files: info.stats.files,
            dirs: info.stats.dirs,
            others: info.stats.others,
            logical_bytes: info.stats.logical_bytes,
            uploaded_bytes: info.stats.uploaded_bytes,
            warnings: info.stats.warnings,
            errors: info.stats.errors,
            location: None,
        }
    }
}

impl From<v1::Snapshot> for SnapshotShape {
    fn from(snapshot: v1::Snapshot) -> Self {
        let state = match snapshot.state() {
            v1::SnapshotState::Partial => "partial",
            v1::SnapshotState::Inconsistent => "inconsistent",
            v1::SnapshotState::Complete | v1::SnapshotState::Unspecified => "complete",
        };
        let volume = snapshot.volume.unwrap_or_default();
        let stats = snapshot.stats.unwrap_or_default();
        Self {
            id: snapshot.snapshot_id,
            namespace: volume.namespace,
            pod: volume.pod,
            volume: volume.volume,
            lineage: snapshot.lineage,
            time: text::time(snapshot.time_ms),
            state,
            parent: present(&snapshot.parent),
            backup: present(&snapshot.backup),
            node: present(&snapshot.node),
            tags: snapshot.tags,
            files: stats.files,
            dirs: stats.dirs,
            others: stats.others,
            logical_bytes: stats.logical_bytes,
            uploaded_bytes: stats.uploaded_bytes,
            warnings: stats.warnings,
            errors: stats.errors,
            location: present(&snapshot.location),
        }
    }
}

impl SnapshotShape {
    /// The list as people read it.
    pub(crate) fn table(list: &[Self]) -> String {
        if list.is_empty() {
            return "no snapshots\n".to_owned();
        }
        let rows: Vec<Vec<String>> = list
            .iter()
            .map(|s| {
                vec![
                    s.id.clone(),
                    s.time
                        .split('.')
                        .next()
                        .unwrap_or_default()
                        .trim_end_matches('Z')
                        .to_owned()
                        + "Z",
                    format!("{}/{}/{}", s.namespace, s.pod, s.volume),
                    s.state.to_owned(),
                    s.files.to_string(),
                    text::bytes(s.logical_bytes),
                    text::bytes(s.uploaded_bytes),
                    s.backup.clone().unwrap_or_else(|| "-".to_owned()),
                ]
            })
            .collect();
        text::table(
            &[
                "ID", "TIME", "VOLUME", "STATE", "FILES", "SIZE", "UPLOADED", "BACKUP",
            ],
            &rows,
        )
    }
}

/// One of `repo ls` and `snapshot browse`.
#[derive(Debug, Serialize)]
pub(crate) struct EntryShape {
    #[serde(flatten)]
    path: PathShape,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: String,
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    hardlink: Option<u64>,
    status: &'static str,
    #[serde(skip)]
    letter: char,
    #[serde(skip)]
    mode_bits: u32,
    #[serde(skip)]
    raw_path: Vec<u8>,
}

const KINDS: [(&str, char); 7] = [
    ("file", '-'),
    ("directory", 'd'),
    ("symlink", 'l'),
    ("fifo", 'p'),
    ("socket", 's'),
    ("char_device", 'c'),
    ("block_device", 'b'),
];

fn kind_of(number: usize) -> (&'static str, char) {
    KINDS
        .get(number.wrapping_sub(1))
        .copied()
        .unwrap_or(("unknown", '?'))
}

fn target_of(target: &[u8]) -> (Option<String>, Option<String>) {
    if target.is_empty() {
        return (None, None);
    }
    let coded = std::str::from_utf8(target)
        .is_err()
        .then(|| text::base64(target));
    (Some(String::from_utf8_lossy(target).into_owned()), coded)
}

/// The name and the letter of a type.
pub(super) fn kind_name(kind: EntryKind) -> (&'static str, char) {
    kind_of(match kind {
        EntryKind::File => 1,
        EntryKind::Directory => 2,
        EntryKind::Symlink => 3,
        EntryKind::Fifo => 4,
        EntryKind::Socket => 5,
        EntryKind::CharDevice => 6,
        EntryKind::BlockDevice => 7,
    })
}

impl From<&Entry> for EntryShape {
    fn from(entry: &Entry) -> Self {
        let (kind, letter) = kind_name(entry.kind);
        let (target, target_b64) = target_of(&entry.target);
        let lost = entry.kind == EntryKind::File && entry.content == Content::None;
        Self {
            path: PathShape::new(&entry.path),
            kind,
            mode: format!("{:04o}", entry.meta.mode),
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            size: entry.size,
            mtime: text::file_time(entry.meta.mtime),
            target,
            target_b64,
            hardlink: entry.hardlink.map(|group| group.id),
            status: match entry.status {
                EntryStatus::Unreadable(_) => "unreadable",
                EntryStatus::Changed => "changed",
                EntryStatus::Ok if lost => "unreadable",
                EntryStatus::Ok => "ok",
            },
            letter,
            mode_bits: entry.meta.mode,
            raw_path: entry.path.clone(),
        }
    }
}

impl From<v1::Entry> for EntryShape {
    fn from(entry: v1::Entry) -> Self {
        let (kind, letter) = kind_of(entry.kind as usize);
        let (target, target_b64) = target_of(&entry.target);
        Self {
            path: PathShape::new(&entry.path),
            kind,
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size_bytes,
            mtime: text::file_time(orlop_core::Timestamp::new(
                entry.mtime_seconds,
                entry.mtime_nanos,
            )),
            target,
            target_b64,
            hardlink: (entry.hardlink_group != 0).then_some(entry.hardlink_group),
            status: match (entry.unreadable_errno, entry.changed) {
                (0, false) => "ok",
                (0, true) => "changed",
                _ => "unreadable",
            },
            letter,
            mode_bits: entry.mode,
            raw_path: entry.path.to_vec(),
        }
    }
}

impl EntryShape {
    /// One line as `ls -l` shows it.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{} {:>6} {:>6} {:>12} {} {}",
            text::mode(self.letter, self.mode_bits),
            self.uid,
            self.gid,
            self.size,
            self.mtime
                .split('.')
                .next()
                .unwrap_or_default()
                .trim_end_matches('Z'),
            text::path(&self.raw_path),
        );
        if let Some(target) = &self.target {
            line.push_str(" -> ");
            line.push_str(&text::path(target.as_bytes()));
        }
        if self.status != "ok" {
            line.push_str(" (");
            line.push_str(self.status);
            line.push(')');
        }
        line.push('\n');
        line
    }
}
