//! What a repair has done.

use std::fmt::Write as _;

use orlop_repository::{LostParts, RepairReport, RepairState, RepairedPack};
use serde::Serialize;

use crate::text;

/// `repo repair`.
#[derive(Debug, Serialize)]
pub(crate) struct RepairShape {
    dry_run: bool,
    state: RepairState,
    index: Vec<String>,
    refsets: Vec<String>,
    records: Vec<String>,
    packs: Vec<RepairedPack>,
    lost: Vec<LostParts>,
    whole: Vec<String>,
    fenced: Vec<u64>,
    waiting: Vec<u64>,
}

impl From<RepairReport> for RepairShape {
    fn from(report: RepairReport) -> Self {
        Self {
            dry_run: report.dry_run,
            state: report.state,
            index: report.index,
            refsets: report.refsets,
            records: report.records,
            packs: report.packs,
            lost: report.lost,
            whole: report.whole.iter().map(ToString::to_string).collect(),
            fenced: report.fenced,
            waiting: report.waiting.iter().map(|one| one.session).collect(),
        }
    }
}

impl RepairShape {
    /// Whether no snapshot lacks anything and nothing is left to do.
    pub(crate) fn is_sound(&self) -> bool {
        let todo = self.dry_run
            && !(self.packs.is_empty() && self.index.is_empty() && self.refsets.is_empty());
        self.lost.is_empty() && self.state != RepairState::Waiting && !todo
    }

    /// The report as people read it.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let tense = |done: &str, planned: &str| {
            if self.dry_run {
                planned.to_owned()
            } else {
                done.to_owned()
            }
        };
        for name in &self.index {
            let _ = writeln!(
                out,
                "index segment {name}: {}",
                tense(
                    "made again from its packs",
                    "can be made again from its packs"
                )
            );
        }
        for name in &self.refsets {
            let _ = writeln!(
                out,
                "refset {name}: {}",
                tense("made again", "can be made again")
            );
        }
        for name in &self.records {
            let _ = writeln!(
                out,
                "record {name}: {}",
                tense("removed", "would be removed")
            );
        }
        for pack in &self.packs {
            let what = if pack.missing { "missing" } else { "damaged" };
            let _ = writeln!(
                out,
                "pack {} is {what}: {} saved, {} lost",
                pack.object,
                text::count(pack.saved, "chunk"),
                pack.lost
            );
        }
        for snapshot in &self.whole {
            let _ = writeln!(
                out,
                "snapshot {snapshot}: {}",
                tense("whole again", "is whole again")
            );
        }
        for lost in &self.lost {
            if lost.unreadable {
                let _ = writeln!(
                    out,
                    "snapshot {} cannot be read at all: `orlop repo forget {}` takes it out",
                    lost.snapshot, lost.snapshot
                );
                continue;
            }
            let _ = writeln!(
                out,
                "snapshot {} of {} lacks parts of {}",
                lost.snapshot,
                lost.volume,
                text::count(lost.paths_total, "path")
            );
            for path in &lost.paths {
                let _ = writeln!(out, "  {}", text::path(path.as_bytes()));
            }
        }
        for session in &self.fenced {
            let _ = writeln!(
                out,
                "session {session} was shut out: a backup that runs begins again"
            );
        }
        let _ = match self.state {
            RepairState::Planned if self.is_sound() => writeln!(out, "nothing to repair (dry run)"),
            RepairState::Planned => writeln!(out, "nothing was changed (dry run)"),
            RepairState::Sound if self.lost.is_empty() => writeln!(out, "nothing to repair"),
            RepairState::Sound => writeln!(out, "nothing more can be repaired here"),
            RepairState::Repaired => writeln!(out, "repaired"),
            RepairState::Waiting => writeln!(
                out,
                "{} that began before still run: repair again later, or with --fence-after 0s",
                text::count(self.waiting.len() as u64, "session")
            ),
        };
        if !self.lost.is_empty() {
            out.push_str(
                "the next backup of these volumes reads everything and stores again what is still there; a repair after it says what became whole\n",
            );
        }
        out
    }
}
