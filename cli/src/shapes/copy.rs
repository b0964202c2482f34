//! Copied snapshots.

use std::time::Duration;

use orlop_repository::{CopyReport, SnapshotInfo};
use serde::Serialize;

use crate::text;

/// `repo copy`: one for each snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct CopyShape {
    snapshot: String,
    copy: String,
    namespace: String,
    pod: String,
    volume: String,
    time: Option<String>,
    existed: bool,
    base: Option<String>,
    resumed_from: Option<String>,
    entries: u64,
    bytes: u64,
    chunks_read: u64,
    read_bytes: u64,
    uploaded_bytes: u64,
    duration_ms: u64,
}

impl CopyShape {
    pub(crate) fn new(info: &SnapshotInfo, report: &CopyReport, duration: Duration) -> Self {
        Self {
            snapshot: info.id.to_string(),
            copy: report.snapshot.to_string(),
            namespace: info.volume.namespace.clone(),
            pod: info.volume.pod.clone(),
            volume: info.volume.volume.clone(),
            time: super::time(info.time_ms),
            existed: report.existed,
            base: report.base.map(|id| id.to_string()),
            resumed_from: report.resumed_from.map(|id| id.to_string()),
            entries: report.entries,
            bytes: report.bytes,
            chunks_read: report.chunks_read,
            read_bytes: report.read_bytes,
            uploaded_bytes: report.uploaded_bytes,
            duration_ms: duration.as_millis() as u64,
        }
    }

    /// One line as people read it.
    pub(crate) fn line(&self) -> String {
        let volume = format!("{}/{}/{}", self.namespace, self.pod, self.volume);
        if self.existed {
            return format!(
                "{} of {volume} is there already, as {}\n",
                self.snapshot, self.copy
            );
        }
        format!(
            "copied {} of {volume} to {}: {}, {}; {} read, {} uploaded in {}\n",
            self.snapshot,
            self.copy,
            text::count(self.entries, "entry"),
            text::bytes(self.bytes),
            text::bytes(self.read_bytes),
            text::bytes(self.uploaded_bytes),
            text::duration(Duration::from_millis(self.duration_ms)),
        )
    }
}
