//! What is done about locations without anybody asking: looking whether they answer, reading what other coordinators
//! have recorded there, freeing space, and reading bytes again.

mod collect;
mod health;
mod scrub;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use orlop_repository::CollectReport;
use serde::{Deserialize, Serialize};

use crate::{runs::Runs, schedules::Schedules};

pub(crate) use scrub::Scrubbed;

/// Looks after locations.
pub(crate) struct Maintenance {
    runs: Arc<Runs>,
    schedules: Arc<Schedules>,
    collected: Mutex<BTreeMap<String, Collected>>,
    scrubbed: Mutex<BTreeMap<String, Scrubbed>>,
}

/// What came of freeing space.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Collected {
    /// When it ended, milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// What came of it, one line.
    pub(crate) said: String,
    /// Whether it failed.
    pub(crate) failed: bool,
}

impl Maintenance {
    /// Looks after the locations of `runs`.
    pub(crate) fn new(runs: Arc<Runs>, schedules: Arc<Schedules>) -> Self {
        let written = runs.collected().into_iter();
        let collected = written
            .filter_map(|(location, json)| Some((location, serde_json::from_str(&json).ok()?)))
            .collect();
        Self {
            runs,
            schedules,
            collected: Mutex::new(collected),
            scrubbed: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Collected>> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of freeing space in a location last.
    pub(crate) fn collected(&self, location: &str) -> Option<Collected> {
        self.lock().get(location).cloned()
    }

    /// Remembers what came of freeing space in a location.
    pub(crate) fn note_collected(
        &self,
        location: &str,
        done: &Result<CollectReport, orlop_repository::Error>,
    ) {
        let said = match done {
            Ok(report) => said(report),
            Err(error) => crate::runs::with_sources(error),
        };
        let collected = Collected {
            at_ms: self.runs.now_ms(),
            said,
            failed: done.is_err(),
        };
        let json = serde_json::to_string(&collected).expect("names and numbers are always JSON");
        self.runs.save_collected(location, &json);
        self.lock().insert(location.to_owned(), collected);
    }
}

fn said(report: &CollectReport) -> String {
    use orlop_repository::CollectState::{Clean, Collected, Planned, Waiting};
    match report.state {
        Planned => "it only looked".to_owned(),
        Clean => "nothing to free".to_owned(),
        Collected => format!(
            "{} objects removed, {} bytes freed",
            report.removed_objects, report.removed_bytes
        ),
        Waiting => format!("waits for {} sessions", report.waiting.len()),
    }
}
