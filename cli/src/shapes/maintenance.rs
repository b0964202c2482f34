//! What checks have found and collections have done, whether the program did it itself or the coordinator.

use std::fmt::Write as _;

use orlop_proto::v1;
use orlop_repository::CheckReport;
use serde::Serialize;

use crate::text;

/// `repo check` and `location check`.
#[derive(Debug, Serialize)]
pub(crate) struct CheckShape {
    depth: &'static str,
    ok: bool,
    objects: u64,
    bytes: u64,
    damage: Vec<DamageShape>,
}

#[derive(Debug, Serialize)]
struct DamageShape {
    object: String,
    kind: String,
    snapshots: Vec<String>,
    paths: Vec<String>,
    repairable: bool,
}

impl From<CheckReport> for CheckShape {
    fn from(report: CheckReport) -> Self {
        let damage = |damage: orlop_repository::Damage| DamageShape {
            object: damage.object,
            // A kind's name in JSON is its name for people too.
            kind: serde_json::to_value(damage.kind)
                .ok()
                .and_then(|kind| kind.as_str().map(str::to_owned))
                .unwrap_or_default(),
            snapshots: damage.snapshots.iter().map(ToString::to_string).collect(),
            paths: damage.paths,
            repairable: damage.repairable,
        };
        Self {
            depth: report.depth,
            ok: report.ok,
            objects: report.objects,
            bytes: report.bytes,
            damage: report.damage.into_iter().map(damage).collect(),
        }
    }
}

impl From<v1::CheckReport> for CheckShape {
    fn from(report: v1::CheckReport) -> Self {
        let damage = |damage: v1::Damage| DamageShape {
            object: damage.object,
            kind: damage.kind,
            snapshots: damage.snapshots,
            paths: damage
                .paths
                .iter()
                .map(|path| String::from_utf8_lossy(path).into_owned())
                .collect(),
            repairable: damage.repairable,
        };
        Self {
            depth: if report.read_data {
                "data"
            } else {
                "structure"
            },
            ok: report.ok,
            objects: report.objects,
            bytes: report.bytes,
            damage: report.damage.into_iter().map(damage).collect(),
        }
    }
}

impl CheckShape {
    /// The report as people read it.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for damage in &self.damage {
            let kind = damage.kind.replace('_', " ");
            let _ = writeln!(out, "{kind}: {}", damage.object);
            for snapshot in &damage.snapshots {
                let _ = writeln!(out, "  needed by snapshot {snapshot}");
            }
            for path in &damage.paths {
                let _ = writeln!(out, "  hits {}", text::path(path.as_bytes()));
            }
        }
        let verdict = if self.ok {
            "no damage found".to_owned()
        } else {
            text::count(self.damage.len() as u64, "damaged object")
        };
        let _ = writeln!(
            out,
            "{}, {} read: {verdict}",
            text::count(self.objects, "object"),
            text::bytes(self.bytes)
        );
        out
    }
}

/// `repo collect` and `location collect`.
#[derive(Debug, Serialize)]
pub(crate) struct CollectShape {
    dry_run: bool,
    state: &'static str,
    snapshots: u64,
    dead_packs: u64,
    moved_packs: u64,
    moved_bytes: u64,
    postponed_bytes: u64,
    removable_bytes: u64,
    removed_objects: u64,
    removed_bytes: u64,
    rescued_packs: u64,
    fenced: Vec<u64>,
    waiting: Vec<WaitingShape>,
}

#[derive(Debug, Serialize)]
struct WaitingShape {
    session: u64,
    since: Option<String>,
}

impl From<v1::CollectReport> for CollectShape {
    fn from(report: v1::CollectReport) -> Self {
        let waiting = |one: &v1::WaitingSession| WaitingShape {
            session: one.session,
            since: super::time(one.since_ms),
        };
        Self {
            dry_run: report.dry_run,
            state: match report.state() {
                v1::CollectState::Planned => "planned",
                v1::CollectState::Collected => "collected",
                v1::CollectState::Waiting => "waiting",
                v1::CollectState::Clean | v1::CollectState::Unspecified => "clean",
            },
            snapshots: report.snapshots,
            dead_packs: report.dead_packs,
            moved_packs: report.moved_packs,
            moved_bytes: report.moved_bytes,
            postponed_bytes: report.postponed_bytes,
            removable_bytes: report.removable_bytes,
            removed_objects: report.removed_objects,
            removed_bytes: report.removed_bytes,
            rescued_packs: report.rescued_packs,
            waiting: report.waiting.iter().map(waiting).collect(),
            fenced: report.fenced,
        }
    }
}

impl CollectShape {
    /// Whether it ended while sessions that began before still ran.
    pub(crate) fn waits(&self) -> bool {
        self.state == "waiting"
    }

    /// The report as people read it.
    pub(crate) fn table(&self) -> String {
        let packs = |n: u64| text::count(n, "pack");
        let mut out = format!(
            "{} kept; {} needed by nobody, {} to write anew ({})\n",
            text::count(self.snapshots, "snapshot"),
            packs(self.dead_packs),
            packs(self.moved_packs),
            text::bytes(self.moved_bytes)
        );
        if self.postponed_bytes > 0 {
            let bytes = text::bytes(self.postponed_bytes);
            let _ = writeln!(
                out,
                "{bytes} more are worth moving: they are over the budget"
            );
        }
        for session in &self.fenced {
            let _ = writeln!(
                out,
                "session {session} was shut out: a backup that runs begins again"
            );
        }
        let freed = |bytes: u64| text::bytes(bytes.saturating_sub(self.moved_bytes));
        let _ = match self.state {
            "planned" => writeln!(out, "would free {} (dry run)", freed(self.removable_bytes)),
            "collected" => writeln!(
                out,
                "removed {}, freed {}",
                text::count(self.removed_objects, "object"),
                freed(self.removed_bytes)
            ),
            "waiting" => writeln!(
                out,
                "{} that began before still run: nothing of this round is removed yet; collect again later, or with --fence-after 0s",
                text::count(self.waiting.len() as u64, "session")
            ),
            _ => writeln!(out, "nothing to remove"),
        };
        out
    }
}
