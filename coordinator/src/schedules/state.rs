//! How far a schedule has come: kept in the state database, and made again from the backups when that is lost.

use orlop_core::schedule::Timetable;
use serde::{Deserialize, Serialize};

use super::record::Record;

/// How far a schedule has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// `from_ms` of the record when this was written: another one there means that turns count anew.
    pub(super) from_ms: i64,
    /// Turns up to then are dealt with.
    pub(super) handled_ms: i64,
    /// A backup that is about to be made: its name is known before it exists, so that no crash makes two.
    pub(super) pending: Option<Pending>,
    /// The newest turn that made no backup.
    pub(super) skipped: Option<Skipped>,
    /// Turns that made no backup.
    pub(super) skipped_count: u64,
}

/// A backup that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The backup's name.
    pub(super) backup: String,
    /// The turn that makes it.
    pub(super) turn_ms: i64,
}

/// A turn that made no backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Skipped {
    /// The turn.
    pub(super) turn_ms: i64,
    /// Why, for a person.
    pub(super) reason: String,
}

impl State {
    /// A schedule none of whose turns has come; `handled_ms` is when its newest backup was made, if it has one.
    pub(super) fn new(record: &Record, handled_ms: Option<i64>) -> Self {
        Self {
            from_ms: record.from_ms,
            handled_ms: handled_ms.map_or(record.from_ms, |ms| ms.max(record.from_ms)),
            ..Self::default()
        }
    }

    /// The state in `json`, unless it is damaged.
    pub(super) fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// As text.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and numbers are always JSON")
    }

    /// Lets turns count from when `record` says if that has changed.
    pub(super) fn follow(&mut self, record: &Record) {
        if self.from_ms != record.from_ms {
            self.from_ms = record.from_ms;
            self.handled_ms = record.from_ms;
            self.pending = None;
        }
    }

    /// A turn has made its backup.
    pub(super) fn made(&mut self, turn_ms: i64) {
        self.handled_ms = turn_ms;
        self.pending = None;
    }

    /// A turn makes no backup.
    pub(super) fn skip(&mut self, turn_ms: i64, reason: String) {
        self.handled_ms = turn_ms;
        self.pending = None;
        self.skipped = Some(Skipped { turn_ms, reason });
        self.skipped_count = self.skipped_count.saturating_add(1);
    }
}

/// A schedule that is known.
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) state: State,
    pub(super) timetable: Timetable,
    /// Why a turn that has come still waits; empty if none does.
    pub(super) waiting: String,
    /// When it is tried again, as time that has passed.
    pub(super) retry_at: Option<std::time::Duration>,
}
