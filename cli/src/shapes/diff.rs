//! Entries that differ between snapshots, and entries that were looked for.

use std::fmt::Write as _;

use orlop_repository::{Changed, Difference, Entry, Found, SnapshotInfo};
use serde::Serialize;

use super::{PathShape, snapshot::kind_name};
use crate::text;

/// `repo diff`: one for each entry that differs.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeShape {
    change: &'static str,
    #[serde(flatten)]
    path: PathShape,
    old: Option<SideShape>,
    new: Option<SideShape>,
    #[serde(skip)]
    raw_path: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct SideShape {
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    mtime: String,
}

impl From<&Entry> for SideShape {
    fn from(entry: &Entry) -> Self {
        Self {
            kind: kind_name(entry.kind).0,
            size: entry.size,
            mtime: text::file_time(entry.meta.mtime),
        }
    }
}

impl From<&Changed> for ChangeShape {
    fn from(changed: &Changed) -> Self {
        Self {
            change: match changed.difference {
                Difference::Added => "added",
                Difference::Removed => "removed",
                Difference::Type => "type_changed",
                Difference::Content => "changed",
                Difference::Metadata => "metadata_changed",
            },
            path: PathShape::new(&changed.entry().path),
            old: changed.old.as_ref().map(SideShape::from),
            new: changed.new.as_ref().map(SideShape::from),
            raw_path: changed.entry().path.clone(),
        }
    }
}

impl ChangeShape {
    /// One line: a sign, the sizes, the path.
    pub(crate) fn line(&self) -> String {
        let sign = match self.change {
            "added" => '+',
            "removed" => '-',
            "type_changed" => 'T',
            "changed" => 'M',
            _ => 'm',
        };
        let path = text::path(&self.raw_path);
        let sizes = match (&self.old, &self.new) {
            (Some(old), Some(new)) if old.kind != new.kind => {
                format!("{} -> {}", old.kind, new.kind)
            }
            (Some(old), Some(new)) if old.size != new.size => {
                format!("{} -> {}", text::bytes(old.size), text::bytes(new.size))
            }
            (old, new) => {
                let side = new.as_ref().or(old.as_ref());
                side.map(|side| text::bytes(side.size)).unwrap_or_default()
            }
        };
        format!("{sign} {sizes:>22}  {path}\n")
    }
}

/// `repo find`: one for each entry of each snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct FoundShape {
    snapshot: String,
    namespace: String,
    pod: String,
    volume: String,
    time: Option<String>,
    #[serde(flatten)]
    path: PathShape,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    mtime: String,
    #[serde(skip)]
    letter: char,
    #[serde(skip)]
    raw_path: Vec<u8>,
}

impl FoundShape {
    pub(crate) fn new(info: &SnapshotInfo, found: &Found) -> Self {
        let (kind, letter) = kind_name(found.kind);
        Self {
            snapshot: info.id.to_string(),
            namespace: info.volume.namespace.clone(),
            pod: info.volume.pod.clone(),
            volume: info.volume.volume.clone(),
            time: super::time(info.time_ms),
            path: PathShape::new(&found.path),
            kind,
            size: found.size,
            mtime: text::file_time(found.mtime),
            letter,
            raw_path: found.path.clone(),
        }
    }

    /// A line for the entry, after one for the snapshot if it is the first of it.
    pub(crate) fn lines(&self, is_first: bool) -> String {
        let mut out = String::new();
        if is_first {
            out = format!(
                "{} of {}/{}/{}, {}\n",
                self.snapshot,
                self.namespace,
                self.pod,
                self.volume,
                self.time.as_deref().unwrap_or("?")
            );
        }
        let mtime = self.mtime.split('.').next().unwrap_or_default();
        let _ = writeln!(
            out,
            "  {} {:>12} {} {}",
            self.letter,
            self.size,
            mtime.trim_end_matches('Z'),
            text::path(&self.raw_path)
        );
        out
    }
}
