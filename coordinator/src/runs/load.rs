//! What is known: runs in flight from the state database, finished ones from the stores of locations.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use orlop_core::run::{RunKind, RunPhase};
use tokio::sync::{Notify, broadcast, watch};

use super::{
    Parts, Refusal, RunKey, Runs, Signals,
    agents::Agent,
    jobs::{Jobs, Work},
    route::Route,
    table::Table,
};
use crate::{
    artifacts::Spool,
    error::Result,
    metrics::Counted,
    records::{Document, Records},
    state::{LogLine, StateDb},
};

/// Changes that a watcher may lag behind before it looks at everything again.
const CHANGES: usize = 1024;

impl Runs {
    /// Opens the state database; what is finished is read from each location by [`Self::sync`].
    pub(crate) fn load(parts: Parts, state_db: &Path) -> Result<Self> {
        let signals = Signals {
            changes: broadcast::Sender::new(CHANGES),
            schedule: Arc::new(Notify::new()),
            record: Arc::new(Notify::new()),
            sessions: Arc::new(Notify::new()),
            hooks: Arc::new(Notify::new()),
            restores: Arc::new(Notify::new()),
            agents: watch::Sender::new(()),
        };
        let counted = Arc::new(Counted::default());
        let mut table = Table {
            entries: BTreeMap::new(),
            tasks: HashMap::new(),
            agents: BTreeMap::new(),
            jobs: Jobs::default(),
            hooks: Vec::new(),
            db: StateDb::open(state_db)?,
            signals: signals.clone(),
            route: Route {
                locations: Arc::clone(&parts.locations),
                access: parts.store_access,
                own_node: parts.own_node.clone(),
            },
            context_key: parts.context_key.clone(),
            counted: Arc::clone(&counted),
        };
        table.load_state()?;
        table.resume();
        let spool = Spool::new(parts.spool_dir.clone());
        spool.remove_unfinished();
        Ok(Self {
            parts,
            spool,
            signals,
            table: Mutex::new(table),
            counted,
            inventories: AtomicU64::new(0),
        })
    }

    /// Reads from the store of a location what is finished: other coordinators may have recorded something, or
    /// removed it. At the start what is open in the state database gives way to its record.
    pub(crate) async fn sync(&self, location: &str, at_start: bool) -> Result<(), Refusal> {
        let records = self.records(location)?;
        for kind in [RunKind::Backup, RunKind::Restore] {
            self.sync_kind(&records, location, kind, at_start).await?;
        }
        Ok(())
    }

    async fn sync_kind(
        &self,
        records: &Records,
        location: &str,
        kind: RunKind,
        at_start: bool,
    ) -> Result<(), Refusal> {
        // What is recorded after this look is not taken for gone.
        let finished = self.lock().finished_at(location, kind);
        let recorded: BTreeSet<String> = records.names(kind).await?.into_iter().collect();
        let gone =
            |key: &&RunKey| !recorded.contains(&key.name) && !self.keeps_no_record(kind, location);
        for key in finished.iter().filter(gone) {
            tracing::warn!(
                run_id = key.name,
                location,
                "the record of a run is gone from the store"
            );
            self.lock().forget(key);
        }
        for name in recorded {
            let key = RunKey::new(kind, name);
            if !self.lock().wants_record(&key, at_start) {
                continue;
            }
            let document = match records.get(kind, &key.name).await {
                Ok(document) => document,
                // Somebody has removed it just now.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(mut document) = document else {
                tracing::warn!(run_id = key.name, "a record in the store cannot be read");
                continue;
            };
            // Locations may be named otherwise where it was made.
            location.clone_into(&mut document.run.location);
            let log = records.log(kind, &key.name).await?;
            self.lock().take_record(&key, document, &log)?;
        }
        Ok(())
    }

    /// Forgets what is finished in a location that is no more; its records stay in its store.
    pub(crate) fn leave(&self, location: &str) {
        let mut table = self.lock();
        for kind in [RunKind::Backup, RunKind::Restore] {
            for key in table.finished_at(location, kind) {
                table.forget(&key);
            }
        }
    }
}

impl Table {
    fn load_state(&mut self) -> Result<()> {
        for document in self.db.runs()? {
            let Some(document) = Document::from_json(document.as_bytes()) else {
                tracing::warn!("a run in the state database cannot be read and is left out");
                continue;
            };
            let lines = self.db.last_line(document.run.kind, &document.run.name)?;
            self.insert(document, lines);
        }
        Ok(())
    }

    /// Takes up what was going on: agents are awaited, records and removals are done.
    fn resume(&mut self) {
        let mut nodes = BTreeSet::new();
        let mut jobs = Vec::new();
        let mut actions = Vec::new();
        for (key, entry) in &self.entries {
            let run = &entry.document.run;
            if !run.phase.is_final() {
                actions.extend(run.resume().into_iter().map(|action| (key.clone(), action)));
            }
            let open = || run.tasks.iter().filter(|task| !task.phase.is_final());
            let placed = open().filter(|task| !task.node.is_empty());
            nodes.extend(placed.map(|task| task.node.clone()));
            match run.phase {
                RunPhase::Finalizing => jobs.push((key.clone(), Work::Record)),
                RunPhase::Deleting
                    if open().next().is_none() && run.making.is_none_or(|making| making.closed) =>
                {
                    jobs.push((key.clone(), Work::Remove));
                }
                _ => {}
            }
        }
        for node in nodes {
            self.agents.insert(node, Agent::awaited());
        }
        for (key, work) in jobs {
            self.push_job(&key, work);
        }
        for (key, action) in actions {
            self.act(&key, &action);
        }
    }

    /// Runs of a location that have ended.
    fn finished_at(&self, location: &str, kind: RunKind) -> Vec<RunKey> {
        let here = |document: &&Document| {
            document.run.location == location && document.run.phase.is_final()
        };
        let documents = self.documents(kind).filter(here);
        documents
            .map(|document| RunKey::of(&document.run))
            .collect()
    }

    /// Whether the record of a run tells something that is not known.
    fn wants_record(&self, key: &RunKey, at_start: bool) -> bool {
        match self.document(key).map(|document| document.run.phase) {
            None => true,
            Some(phase) => at_start && !phase.is_final() && phase != RunPhase::Deleting,
        }
    }

    /// Takes in a run from its record, unless another one has its name.
    fn take_record(
        &mut self,
        key: &RunKey,
        document: Document,
        log: &[LogLine],
    ) -> Result<(), Refusal> {
        if let Some(known) = self.document(key)
            && (known.run.created_ms, &known.run.location)
                != (document.run.created_ms, &document.run.location)
        {
            tracing::warn!(
                run_id = key.name,
                location = document.run.location,
                "a record in the store is of another run of the same name and is left alone"
            );
            return Ok(());
        }
        let taken = log
            .iter()
            .try_for_each(|line| self.db.append_log(key.kind, &key.name, line))
            .and_then(|()| self.db.last_line(key.kind, &key.name));
        let lines = taken
            .map_err(|error| Refusal::Unavailable(format!("write the state database: {error}")))?;
        self.insert(document, lines);
        self.save(key);
        self.changed(key);
        Ok(())
    }
}
