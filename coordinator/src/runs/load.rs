//! What is known at the start: runs in flight from the state database, finished ones from the store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use orlop_core::run::{RunKind, RunPhase};
use tokio::sync::{Notify, broadcast, watch};

use super::{
    Parts, RunKey, Runs, Signals,
    agents::Agent,
    jobs::{Jobs, Work},
    route::Route,
    table::Table,
};
use crate::{
    error::Result,
    records::{Document, Records},
    state::StateDb,
};

/// Changes that a watcher may lag behind before it looks at everything again.
const CHANGES: usize = 1024;

impl Runs {
    /// Opens the state database and reads from the store what is finished.
    pub(crate) async fn load(parts: Parts, state_db: &Path) -> Result<Self> {
        let records = Records::new(Arc::clone(parts.repository.store()));
        let signals = Signals {
            changes: broadcast::Sender::new(CHANGES),
            schedule: Arc::new(Notify::new()),
            record: Arc::new(Notify::new()),
            sessions: Arc::new(Notify::new()),
            agents: watch::Sender::new(()),
        };
        let mut table = Table {
            entries: BTreeMap::new(),
            tasks: HashMap::new(),
            agents: BTreeMap::new(),
            jobs: Jobs::default(),
            db: StateDb::open(state_db)?,
            signals: signals.clone(),
            route: Route {
                url: parts.store_url.clone(),
                access: parts.store_access,
                own_node: parts.own_node.clone(),
            },
            context_key: parts.context_key.clone(),
        };
        table.load_state()?;
        for kind in [RunKind::Backup, RunKind::Restore] {
            load_records(&mut table, &records, kind).await?;
        }
        table.resume();
        Ok(Self {
            parts,
            records,
            signals,
            table: Mutex::new(table),
            inventories: AtomicU64::new(0),
        })
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
        for (key, entry) in &self.entries {
            let run = &entry.document.run;
            let open = || run.tasks.iter().filter(|task| !task.phase.is_final());
            nodes.extend(open().map(|task| task.node.clone()));
            match run.phase {
                RunPhase::Finalizing => jobs.push((key.clone(), Work::Record)),
                RunPhase::Deleting if open().next().is_none() => {
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
    }
}

/// The store decides what is finished; the state database only spares reading it again.
async fn load_records(table: &mut Table, records: &Records, kind: RunKind) -> Result<()> {
    let recorded: BTreeSet<String> = records.names(kind).await?.into_iter().collect();
    let gone = |key: &&RunKey| {
        let finished = table.entries[*key].document.run.phase.is_final();
        key.kind == kind && finished && !recorded.contains(&key.name)
    };
    for key in table
        .entries
        .keys()
        .filter(gone)
        .cloned()
        .collect::<Vec<_>>()
    {
        tracing::warn!(
            run_id = key.name,
            "the record of a run is gone from the store"
        );
        table.forget(&key);
    }
    for name in recorded {
        let key = RunKey::new(kind, name);
        let known = table.document(&key).map(|document| document.run.phase);
        if known.is_some_and(|phase| phase.is_final() || phase == RunPhase::Deleting) {
            continue;
        }
        let Some(document) = records.get(kind, &key.name).await? else {
            tracing::warn!(run_id = key.name, "a record in the store cannot be read");
            continue;
        };
        let log = records.log(kind, &key.name).await?;
        for line in &log {
            table.db.append_log(kind, &key.name, line)?;
        }
        let lines = table.db.last_line(kind, &key.name)?;
        table.insert(document, lines);
        table.save(&key);
    }
    Ok(())
}
