//! All runs and agents: one table behind one lock, changed only by events of core's state machine.

mod agents;
mod commands;
mod counting;
mod create;
mod hooks;
mod jobs;
mod lines;
mod load;
mod loops;
mod plan;
mod presence;
mod query;
mod recorded;
mod recorder;
mod refusal;
mod restoring;
mod route;
mod sessions;
mod stalled;
mod table;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

pub(crate) use agents::{Connection, NodeView, Registration};
use orlop_core::run::{Event, RunKind};
use orlop_runtime::mac::MacKey;
pub(crate) use refusal::{Refusal, with_sources};
pub(crate) use sessions::Holder;
pub(crate) use table::RunKey;
use table::Table;
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    artifacts::Spool,
    clock::Clock,
    cluster::Cluster,
    config::{Limits, StoreAccess},
    locations::Locations,
    metrics::Counted,
    records::{Document, Records},
    state::LogLine,
};

/// What the runs work with.
pub(crate) struct Parts {
    /// Pods and volumes.
    pub(crate) cluster: Arc<dyn Cluster>,
    /// Where repositories are.
    pub(crate) locations: Arc<Locations>,
    /// Whether agents open stores themselves.
    pub(crate) store_access: StoreAccess,
    /// The node whose agent runs in this process.
    pub(crate) own_node: Option<String>,
    /// Proves that contexts which agents tell are the coordinator's own.
    pub(crate) context_key: MacKey,
    /// Directory where objects of backups and restores that run are put aside.
    pub(crate) spool_dir: PathBuf,
    /// Limits.
    pub(crate) limits: Limits,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Wakes those who wait for the table.
#[derive(Clone)]
pub(crate) struct Signals {
    /// A run has changed.
    changes: broadcast::Sender<RunKey>,
    /// It may be somebody's turn.
    schedule: Arc<Notify>,
    /// There is something to make durable.
    record: Arc<Notify>,
    /// A task may have left its session.
    sessions: Arc<Notify>,
    /// There are hooks to run.
    hooks: Arc<Notify>,
    /// A restore that makes objects has changed.
    restores: Arc<Notify>,
    /// An agent has come, gone or told its inventory.
    agents: watch::Sender<()>,
}

/// All runs and agents.
pub(crate) struct Runs {
    /// What they work with.
    pub(crate) parts: Parts,
    /// Objects of backups and restores that run.
    spool: Spool,
    signals: Signals,
    table: Mutex<Table>,
    /// What monitoring is told.
    counted: Arc<Counted>,
    /// Number of the last inventory that was asked for.
    inventories: AtomicU64,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock on the wall, milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.parts.clock.now_ms()
    }

    /// A receiver of the keys of runs that change. One that lags must look at everything again.
    pub(crate) fn changes(&self) -> broadcast::Receiver<RunKey> {
        self.signals.changes.subscribe()
    }

    /// Where repositories are.
    pub(crate) fn locations(&self) -> &Arc<Locations> {
        &self.parts.locations
    }

    /// The records in the store of a location.
    fn records(&self, location: &str) -> Result<Records, Refusal> {
        let repository = self.parts.locations.repository(location)?;
        Ok(Records::new(Arc::clone(repository.store())))
    }

    /// Why a location cannot be changed now: something is going on there.
    pub(crate) fn busy_at(&self, location: &str) -> Option<String> {
        let table = self.lock();
        let mut open = table.entries.values().filter(|entry| {
            let run = &entry.document.run;
            run.location == location && !run.phase.is_final()
        });
        let run = &open.next()?.document.run;
        Some(format!(
            "{} {} of location {location} has not ended: wait for it or cancel it",
            run.kind, run.name
        ))
    }

    /// One run, or why there is none.
    pub(crate) fn get(&self, key: &RunKey) -> Result<Document, Refusal> {
        let table = self.lock();
        let found = table.document(key).cloned();
        found.ok_or_else(|| Refusal::unknown_run(key, &table.names(key.kind)))
    }

    /// All runs of a kind, oldest first.
    pub(crate) fn list(&self, kind: RunKind) -> Vec<Document> {
        let mut all: Vec<Document> = self.lock().documents(kind).cloned().collect();
        all.sort_by(|a, b| (a.run.created_ms, &a.run.name).cmp(&(b.run.created_ms, &b.run.name)));
        all
    }

    /// Asks a run to stop.
    pub(crate) fn cancel(&self, key: &RunKey) -> Result<Document, Refusal> {
        self.lock().apply(key, Event::Cancel, self.now_ms());
        self.get(key)
    }

    /// Asks for a run to be deleted; one that does not exist is no error.
    pub(crate) fn delete(&self, key: &RunKey) {
        self.lock().apply(key, Event::Delete, self.now_ms());
    }

    /// Lines of a run's log after line `after`, some hundred at a time, and whether there will be no more
    /// than these.
    pub(crate) fn log(&self, key: &RunKey, after: u64) -> Result<(Vec<LogLine>, bool), Refusal> {
        let table = self.lock();
        let Some(document) = table.document(key) else {
            return Err(Refusal::unknown_run(key, &table.names(key.kind)));
        };
        let lines = table.log_lines(key, after);
        let last = lines.last().map_or(after, |line| line.number);
        let ended = document.run.phase.is_final() && last >= table.last_line(key);
        Ok((lines, ended))
    }

    /// How many runs of a kind have not ended.
    pub(crate) fn unfinished(&self, kind: RunKind) -> u32 {
        let table = self.lock();
        table
            .documents(kind)
            .filter(|document| !document.run.phase.is_final())
            .count() as u32
    }
}
