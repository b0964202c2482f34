//! What somebody asked a schedule to do.

use serde::{Deserialize, Serialize};

use super::timetable::{ParseTimetableError, Timetable};
use crate::{retention::RetentionPolicy, run::BackupSpec};

/// When to back up what, and what to keep.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleSpec {
    /// The times as a cron expression.
    pub cron: String,
    /// IANA name of the time zone in which `cron` and `keep` count; empty for UTC.
    pub time_zone: String,
    /// The location of the backups; empty for the default one.
    pub location: String,
    /// What to back up; its `schedule` is empty.
    pub backup: BackupSpec,
    /// Which of the schedule's own backups are kept; without rules all of them.
    pub keep: RetentionPolicy,
    /// How late a turn may begin, in seconds; 0 for any time.
    pub starting_deadline_seconds: u64,
}

impl ScheduleSpec {
    /// The times.
    ///
    /// # Errors
    /// The expression or the time zone is not one.
    pub fn timetable(&self) -> Result<Timetable, ParseTimetableError> {
        Timetable::parse(&self.cron, &self.time_zone)
    }

    /// How late a turn may begin, in milliseconds.
    pub fn starting_deadline_ms(&self) -> Option<i64> {
        let deadline = self.starting_deadline_seconds.checked_mul(1000)?;
        i64::try_from(deadline)
            .ok()
            .filter(|deadline| *deadline > 0)
    }
}
