//! Result of `repo forget`.

use std::fmt::Write as _;

use orlop_core::{SnapshotId, retention::Decision};
use orlop_repository::SnapshotInfo;
use serde::Serialize;

use crate::text;

/// What becomes of one snapshot, and why.
#[derive(Debug, Serialize)]
pub(crate) struct ForgetShape {
    pub(crate) id: String,
    namespace: String,
    pod: String,
    volume: String,
    lineage: String,
    time: String,
    pub(crate) keep: bool,
    reasons: Vec<String>,
    #[serde(skip)]
    time_ms: i64,
}

impl ForgetShape {
    pub(crate) fn new(info: &SnapshotInfo, decision: &Decision<SnapshotId>) -> Self {
        Self {
            id: info.id.to_string(),
            namespace: info.volume.namespace.clone(),
            pod: info.volume.pod.clone(),
            volume: info.volume.volume.clone(),
            lineage: info.lineage.to_string(),
            time: text::time(info.time_ms),
            keep: decision.keep,
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
            time_ms: info.time_ms,
        }
    }

    /// Each lineage under its heading, as people read it; in the list lineages follow each other in any order.
    pub(crate) fn table(list: &[Self], dry_run: bool) -> String {
        let mut lineages: Vec<(&str, &str)> = list
            .iter()
            .map(|s| (s.namespace.as_str(), s.lineage.as_str()))
            .collect();
        lineages.sort_unstable();
        lineages.dedup();
        let mut out = String::new();
        for (namespace, lineage) in lineages {
            let of_lineage = |s: &&Self| s.namespace == namespace && s.lineage == lineage;
            let mut rows = Vec::new();
            for shape in list.iter().filter(of_lineage) {
                rows.push(vec![
                    if shape.keep { "keep" } else { "forget" }.to_owned(),
                    shape.id.clone(),
                    text::short_time(shape.time_ms),
                    format!("{}/{}/{}", shape.namespace, shape.pod, shape.volume),
                    shape.reasons.join(", "),
                ]);
            }
            let _ = writeln!(out, "lineage {lineage} of namespace {namespace}");
            out.push_str(&text::table(
                &["", "ID", "TIME", "VOLUME", "BECAUSE"],
                &rows,
            ));
            out.push('\n');
        }
        let kept = list.iter().filter(|shape| shape.keep).count();
        let forgotten = list.len() - kept;
        let kept = text::count(kept as u64, "snapshot");
        let _ = if dry_run {
            writeln!(out, "would keep {kept}, forget {forgotten} (dry run)")
        } else {
            writeln!(out, "kept {kept}, forgot {forgotten}")
        };
        if forgotten > 0 && !dry_run {
            out.push_str("`orlop repo collect` frees the space of what only they needed\n");
        }
        out
    }
}
