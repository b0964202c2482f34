//! What a schedule is to do now: at most one backup for any number of turns that were missed, none twice.

use super::timetable::Timetable;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// A schedule that has dealt with turns further in the future than this has seen a wrong clock: it starts anew.
/// Less is waited for, so that a clock that is set back makes no turn come twice.
const REWIND_MS: i64 = 24 * HOUR_MS;
/// Turns that were missed are counted up to here.
const MAX_MISSED: u32 = 1000;
/// Where to look for the newest turn that is due: this far back at first, then further.
const WINDOWS_MS: [i64; 4] = [HOUR_MS, 24 * HOUR_MS, 32 * 24 * HOUR_MS, 400 * 24 * HOUR_MS];

/// A turn that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The time that the timetable names.
    pub turn_ms: i64,
    /// Turns before it that have passed too; at most 1000.
    pub missed: u32,
}

/// What a timetable says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The newest turn that has come and was not dealt with.
    pub due: Option<Due>,
    /// The first turn in the future that will be due.
    pub next_ms: Option<i64>,
    /// Up to when all turns are dealt with: what was told, or the present if that was far in the future.
    pub handled_ms: i64,
}

/// Why a turn makes no backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// An earlier backup of the schedule still runs.
    Running(String),
    /// It came to be looked at later than the starting deadline allows.
    TooLate,
}

/// What to do about a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Pass over the turn.
    Skip(Due, SkipReason),
    /// Make the turn's backup.
    Run(Due),
}

impl Timetable {
    /// What is due at `now_ms` when all turns up to `handled_ms` were dealt with.
    pub fn look(&self, handled_ms: i64, now_ms: i64) -> Look {
        let handled_ms = if handled_ms > now_ms.saturating_add(REWIND_MS) {
            now_ms
        } else {
            handled_ms
        };
        let newest = self.newest_due(handled_ms, now_ms);
        Look {
            due: newest.map(|turn_ms| Due {
                turn_ms,
                missed: self.missed(handled_ms, turn_ms),
            }),
            next_ms: self.next_after(now_ms.max(handled_ms)),
            handled_ms,
        }
    }

    fn newest_due(&self, handled_ms: i64, now_ms: i64) -> Option<i64> {
        let starts = WINDOWS_MS.map(|window| now_ms.saturating_sub(window));
        let starts = starts.into_iter().chain([i64::MIN]);
        for start in starts.map(|start| start.max(handled_ms)) {
            let mut newest = None;
            let mut turn = self.next_after(start);
            while let Some(time) = turn.filter(|time| *time <= now_ms) {
                newest = Some(time);
                turn = self.next_after(time);
            }
            if newest.is_some() || start == handled_ms {
                return newest;
            }
        }
        None
    }

    fn missed(&self, handled_ms: i64, turn_ms: i64) -> u32 {
        let turns = std::iter::successors(self.next_after(handled_ms), |t| self.next_after(*t));
        let before = turns.take_while(|turn| *turn < turn_ms);
        before.take(MAX_MISSED as usize).count() as u32
    }
}

impl Look {
    /// What to do, when `running` is the name of an unfinished backup of the schedule, and a turn may begin no later
    /// than `deadline_ms` after its time (`None`: whenever).
    pub fn step(&self, now_ms: i64, running: Option<&str>, deadline_ms: Option<i64>) -> Step {
        let Some(due) = self.due else {
            return Step::Wait;
        };
        if deadline_ms.is_some_and(|deadline| now_ms.saturating_sub(due.turn_ms) > deadline) {
            return Step::Skip(due, SkipReason::TooLate);
        }
        match running {
            Some(backup) => Step::Skip(due, SkipReason::Running(backup.to_owned())),
            None => Step::Run(due),
        }
    }
}
