//! Schedules: what they are to do, when their turns come, and which of their backups stay.
//!
//! What somebody wants of a schedule is in the store of the default location (`record`); how far it has come is in
//! the state database (`state`).

mod change;
mod record;
mod state;
mod turns;
mod upkeep;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use orlop_core::run::{RunPhase, not_found};
use orlop_repository::Repository;
pub(crate) use record::Record;
use record::Records;
use state::{Entry, State};
use tokio::sync::Notify;

use crate::{
    clock::Steadiness,
    runs::{Refusal, Runs},
};

/// All schedules.
pub(crate) struct Schedules {
    runs: Arc<Runs>,
    /// Where they are kept, as soon as the default location was available.
    home: Mutex<Option<Kept>>,
    table: Mutex<BTreeMap<String, Entry>>,
    /// Changes and turns are made one after the other.
    changing: tokio::sync::Mutex<()>,
    /// A schedule has changed.
    changed: Notify,
    /// Keep rules are to be looked at again.
    unkept: AtomicBool,
    steadiness: Steadiness,
}

/// Where schedules are kept.
#[derive(Clone)]
struct Kept {
    /// Id of the repository.
    repository: String,
    records: Records,
}

/// What is shown of a schedule.
pub(crate) struct View {
    /// What somebody wants of it.
    pub(crate) record: Record,
    /// Its next turn, unless it is paused.
    pub(crate) next_ms: Option<i64>,
    /// Its newest backup.
    pub(crate) last: Option<LastBackup>,
    /// When its newest complete backup ended.
    pub(crate) last_success_ms: Option<i64>,
    /// The newest turn that made no backup, and why.
    pub(crate) skipped: Option<(i64, String)>,
    /// Turns that made no backup.
    pub(crate) skipped_count: u64,
    /// Why a turn that has come still waits.
    pub(crate) waiting: String,
}

/// A schedule's newest backup.
pub(crate) struct LastBackup {
    /// Its name.
    pub(crate) name: String,
    /// How far it has come.
    pub(crate) phase: RunPhase,
    /// When it was accepted.
    pub(crate) created_ms: i64,
}

impl Schedules {
    /// No schedules yet: [`Self::adopt`] reads them.
    pub(crate) fn new(runs: Arc<Runs>) -> Self {
        Self {
            runs,
            home: Mutex::default(),
            table: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            unkept: AtomicBool::new(true),
            steadiness: Steadiness::default(),
        }
    }

    /// Keeps schedules in the store of this repository from now on, if they are not kept there already: those that are
    /// there are read, those that were kept elsewhere are put there too.
    pub(crate) async fn adopt(&self, repository: &Repository) -> Result<(), Refusal> {
        let _turn = self.changing.lock().await;
        let (id, old) = (repository.id(), self.home().ok());
        if old.as_ref().is_some_and(|old| old.repository == id) {
            let records = Records::new(Arc::clone(repository.store()));
            self.keep_in(Kept {
                repository: id,
                records,
            });
            return Ok(());
        }
        let records = Records::new(Arc::clone(repository.store()));
        let mut states = self.runs.schedule_states().unwrap_or_else(|error| {
            tracing::error!(error = %error, "cannot read the state database");
            BTreeMap::new()
        });
        for record in records.load().await? {
            let state = states.remove(&record.name);
            self.take(record, state.as_deref());
        }
        let elsewhere: Vec<Record> = {
            let table = self.lock();
            let mut elsewhere = Vec::new();
            for entry in table.values() {
                states.remove(&entry.record.name);
                elsewhere.push(entry.record.clone());
            }
            elsewhere
        };
        if old.is_some() {
            for record in elsewhere {
                // One that was there already stays.
                records.put(&record).await?;
            }
        }
        for gone in states.keys() {
            self.runs.remove_schedule(gone);
        }
        self.keep_in(Kept {
            repository: id,
            records,
        });
        self.unkept.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        Ok(())
    }

    fn take(&self, record: Record, state: Option<&str>) {
        let timetable = match record.spec.timetable() {
            Ok(timetable) => timetable,
            Err(error) => {
                tracing::warn!(schedule = record.name, error = %error, "a schedule is left alone");
                return;
            }
        };
        let known = state.and_then(State::from_json);
        let mut state = known.unwrap_or_else(|| {
            let newest = self.runs.newest_of(&record.name);
            State::new(&record, newest.map(|document| document.run.created_ms))
        });
        state.follow(&record);
        self.runs.save_schedule(&record.name, &state.to_json());
        let entry = Entry {
            state,
            timetable,
            waiting: String::new(),
            retry_at: None,
            record,
        };
        self.lock().insert(entry.record.name.clone(), entry);
    }

    fn keep_in(&self, kept: Kept) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }

    /// Where schedules are kept.
    fn home(&self) -> Result<Kept, Refusal> {
        let home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        home.clone().ok_or_else(|| {
            Refusal::Unavailable(
                "schedules are kept in the default location, which was not available yet: `orlop location get` says why".to_owned(),
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One schedule, or why there is none.
    pub(crate) fn get(&self, name: &str) -> Result<View, Refusal> {
        let table = self.lock();
        let entry = table.get(name).ok_or_else(|| unknown(name, &table))?;
        Ok(self.view(entry))
    }

    /// All schedules, by name.
    pub(crate) fn list(&self) -> Vec<View> {
        self.lock().values().map(|entry| self.view(entry)).collect()
    }

    fn view(&self, entry: &Entry) -> View {
        let record = &entry.record;
        let behind_ms = entry.state.handled_ms.max(self.runs.now_ms());
        let next_ms = entry.timetable.next_after(behind_ms);
        let last = self.runs.newest_of(&record.name);
        View {
            next_ms: next_ms.filter(|_| !record.paused),
            last: last.map(|document| LastBackup {
                name: document.run.name,
                phase: document.run.phase,
                created_ms: document.run.created_ms,
            }),
            last_success_ms: self.runs.last_success_of(&record.name),
            skipped: entry
                .state
                .skipped
                .as_ref()
                .map(|skipped| (skipped.turn_ms, skipped.reason.clone())),
            skipped_count: entry.state.skipped_count,
            waiting: entry.waiting.clone(),
            record: record.clone(),
        }
    }
}

/// There is no such schedule; near misses are among the names.
fn unknown(name: &str, table: &BTreeMap<String, Entry>) -> Refusal {
    Refusal::NotFound {
        kind: "schedule",
        name: name.to_owned(),
        message: not_found("schedule", name, table.keys().map(String::as_str)),
    }
}
