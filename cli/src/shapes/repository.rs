//! Results of the `repo` verbs.

use std::{fmt::Write as _, time::Duration};

use orlop_agent::{backup::BackupReport, restore::RestoreReport};
use orlop_core::{Issue, Lineage, VolumeRef};
use orlop_repository::RepositoryStats;
use serde::Serialize;

use super::{PathShape, snapshot::state_name};
use crate::text;

/// One of the first thousand entries that had trouble.
#[derive(Debug, Serialize)]
pub(crate) struct IssueShape {
    #[serde(flatten)]
    path: PathShape,
    kind: orlop_core::IssueKind,
    errno: Option<i32>,
    message: String,
}

impl From<&Issue> for IssueShape {
    fn from(issue: &Issue) -> Self {
        Self {
            path: PathShape::new(&issue.path),
            kind: issue.kind,
            errno: (issue.errno != 0).then_some(issue.errno),
            message: issue.message.clone(),
        }
    }
}

/// `repo backup`.
#[derive(Debug, Serialize)]
pub(crate) struct BackupShape {
    pub(crate) id: String,
    namespace: String,
    pod: String,
    volume: String,
    lineage: String,
    parent: Option<String>,
    resumed_from: Option<String>,
    state: &'static str,
    duration_ms: u64,
    files: FilesShape,
    dirs: u64,
    others: u64,
    logical_bytes: u64,
    read_bytes: u64,
    new_bytes: u64,
    uploaded_bytes: u64,
    objects_put: u64,
    chunks: ChunksShape,
    issues_total: u64,
    issues: Vec<IssueShape>,
    peak_rss_bytes: u64,
}

#[derive(Debug, Serialize)]
struct FilesShape {
    total: u64,
    new: u64,
    changed: u64,
    unchanged: u64,
    removed: u64,
    opened: u64,
}

#[derive(Debug, Serialize)]
struct ChunksShape {
    new: u64,
    reused: u64,
}

impl BackupShape {
    pub(crate) fn new(volume: &VolumeRef, lineage: &Lineage, report: &BackupReport) -> Self {
        Self {
            id: report.snapshot.to_string(),
            namespace: volume.namespace.clone(),
            pod: volume.pod.clone(),
            volume: volume.volume.clone(),
            lineage: lineage.to_string(),
            parent: report.parent.map(|id| id.to_string()),
            resumed_from: report.resumed_from.map(|id| id.to_string()),
            state: state_name(report.state),
            duration_ms: report.duration_ms,
            files: FilesShape {
                total: report.files.total,
                new: report.files.new,
                changed: report.files.changed,
                unchanged: report.files.unchanged,
                removed: report.files.removed,
                opened: report.files.opened,
            },
            dirs: report.dirs,
            others: report.others,
            logical_bytes: report.logical_bytes,
            read_bytes: report.read_bytes,
            new_bytes: report.new_bytes,
            uploaded_bytes: report.uploaded_bytes,
            objects_put: report.objects_put,
            chunks: ChunksShape {
                new: report.chunks_new,
                reused: report.chunks_reused,
            },
            issues_total: report.issues_total,
            issues: report.issues.iter().map(IssueShape::from).collect(),
            peak_rss_bytes: peak_rss_bytes(),
        }
    }
}

/// `repo restore`.
#[derive(Debug, Serialize)]
pub(crate) struct RestoreShape {
    snapshot: String,
    target: PathShape,
    mode: &'static str,
    duration_ms: u64,
    files: u64,
    unchanged: u64,
    updated: u64,
    dirs: u64,
    others: u64,
    removed: u64,
    bytes: u64,
    written_bytes: u64,
    issues_total: u64,
    issues: Vec<IssueShape>,
    peak_rss_bytes: u64,
}

impl RestoreShape {
    pub(crate) fn new(
        snapshot: orlop_core::SnapshotId,
        target: &[u8],
        mode: orlop_core::RestoreMode,
        duration: Duration,
        report: &RestoreReport,
    ) -> Self {
        Self {
            snapshot: snapshot.to_string(),
            target: PathShape::new(target),
            mode: mode.as_str(),
            duration_ms: duration.as_millis() as u64,
            files: report.files,
            unchanged: report.unchanged,
            updated: report.updated,
            dirs: report.dirs,
            others: report.others,
            removed: report.removed,
            bytes: report.bytes,
            written_bytes: report.written_bytes,
            issues_total: report.issues_total,
            issues: report.issues.iter().map(IssueShape::from).collect(),
            peak_rss_bytes: peak_rss_bytes(),
        }
    }
}

/// Most memory that this process ever held, in bytes; 0 where the system does not tell.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl BackupShape {
    /// The report as people read it.
    pub(crate) fn table(&self) -> String {
        let files = &self.files;
        format!(
            "snapshot {} of {}/{}/{} ({})\n{}: {} new, {} changed, {} unchanged, {} removed\n\
             {} in the volume, {} read, {} new, {} uploaded in {}\n",
            self.id,
            self.namespace,
            self.pod,
            self.volume,
            self.state,
            text::count(files.total, "file"),
            files.new,
            files.changed,
            files.unchanged,
            files.removed,
            text::bytes(self.logical_bytes),
            text::bytes(self.read_bytes),
            text::bytes(self.new_bytes),
            text::bytes(self.uploaded_bytes),
            text::duration(Duration::from_millis(self.duration_ms)),
        ) + &self.resumed_line()
            + &issues_line(self.issues_total)
    }

    fn resumed_line(&self) -> String {
        let line =
            |from| format!("went on from checkpoint {from} of a backup that did not finish\n");
        self.resumed_from.as_ref().map(line).unwrap_or_default()
    }
}

impl RestoreShape {
    /// The report as people read it.
    pub(crate) fn table(&self) -> String {
        let mut there = String::new();
        if self.unchanged + self.updated + self.removed > 0 {
            let _ = writeln!(
                there,
                "{} unchanged, {} changed in place, {} removed; {} written",
                text::count(self.unchanged, "file"),
                self.updated,
                text::count(self.removed, "entry"),
                text::bytes(self.written_bytes),
            );
        }
        format!(
            "restored snapshot {} into {}: {}, {}, {}, {} in {}\n",
            self.snapshot,
            self.target.path,
            text::count(self.files, "file"),
            text::count(self.dirs, "directory"),
            text::count(self.others, "other"),
            text::bytes(self.bytes),
            text::duration(Duration::from_millis(self.duration_ms)),
        ) + &there
            + &issues_line(self.issues_total)
    }
}

fn issues_line(total: u64) -> String {
    if total == 0 {
        String::new()
    } else {
        format!("{} had trouble\n", text::count(total, "entry"))
    }
}

/// `repo stats` as people read it.
pub(crate) fn stats_table(stats: &RepositoryStats) -> String {
    let objects = &stats.objects;
    let rows = [
        (
            "repository",
            format!("{} (format {})", stats.repository_id, stats.format),
        ),
        (
            "snapshots",
            format!(
                "{} of {}",
                stats.snapshots,
                text::count(stats.lineages, "lineage")
            ),
        ),
        ("logical", text::bytes(stats.logical_bytes)),
        (
            "unique",
            format!(
                "{} in {}",
                text::bytes(stats.unique_bytes),
                text::count(stats.chunks, "chunk")
            ),
        ),
        ("stored", text::bytes(stats.stored_bytes)),
        ("dead", text::bytes(stats.dead_bytes)),
        ("dedup", format!("{:.2}", stats.dedup_ratio)),
        ("compression", format!("{:.2}", stats.compression_ratio)),
        (
            "objects",
            format!(
                "{} data packs, {} meta packs, {} index, {} snapshots, {} refsets, {} checkpoints, {} log",
                objects.data_packs,
                objects.meta_packs,
                objects.index,
                objects.snapshots,
                objects.refsets,
                objects.checkpoints,
                objects.log,
            ),
        ),
    ];
    let mut out = String::new();
    for (name, value) in rows {
        let _ = writeln!(out, "{name:<12} {value}");
    }
    out
}
