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
    resumed_bytes: u64,
    damage: Vec<DamageShape>,
    more_damage: u64,
    covered: CoveredShape,
}

/// How much of all packs was read by all checks together.
#[derive(Debug, Serialize)]
pub(crate) struct CoveredShape {
    total_bytes: u64,
    read_bytes: u64,
    since: Option<String>,
    /// What `since` says.
    #[serde(skip)]
    since_ms: i64,
    damaged_packs: u64,
}

impl From<v1::Covered> for CoveredShape {
    fn from(covered: v1::Covered) -> Self {
        Self {
            total_bytes: covered.total_bytes,
            read_bytes: covered.read_bytes,
            since: super::time(covered.since_ms),
            since_ms: covered.since_ms,
            damaged_packs: covered.damaged_packs,
        }
    }
}

impl CoveredShape {
    /// What is covered, in a few words.
    pub(crate) fn said(&self) -> String {
        match &self.since {
            Some(_) => {
                let age = text::age(
                    jiff::Timestamp::now()
                        .as_millisecond()
                        .saturating_sub(self.since_ms),
                );
                format!(
                    "all read within {age} (since {})",
                    text::short_time(self.since_ms)
                )
            }
            None if self.total_bytes == 0 => "-".to_owned(),
            None => format!(
                "{} %",
                u128::from(self.read_bytes) * 100 / u128::from(self.total_bytes)
            ),
        }
    }
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
        orlop_coordinator::check_message(report).into()
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
            depth: match report.depth() {
                v1::CheckDepth::Structure => "structure",
                v1::CheckDepth::Scrub => "scrub",
                v1::CheckDepth::Data => "data",
                v1::CheckDepth::Existence | v1::CheckDepth::Unspecified => "existence",
            },
            ok: report.ok,
            objects: report.objects,
            bytes: report.bytes,
            resumed_bytes: report.resumed_bytes,
            more_damage: report.more_damage,
            covered: report.covered.unwrap_or_default().into(),
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
            text::count(
                self.damage.len() as u64 + self.more_damage,
                "damaged object",
            )
        };
        if self.damage.iter().any(|damage| damage.repairable) {
            out.push_str("`orlop repo repair --dry-run` says what can be saved\n");
        }
        let _ = writeln!(
            out,
            "{}, {} read: {verdict}",
            text::count(self.objects, "object"),
            text::bytes(self.bytes)
        );
        // Who has no key knows of no other check.
        if matches!(self.depth, "scrub" | "data") && self.covered.total_bytes > 0 {
            let _ = writeln!(out, "by all checks so far: {}", self.covered.said());
        }
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
