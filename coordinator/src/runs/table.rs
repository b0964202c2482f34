//! The table itself: applies events, keeps the state database in step, and passes actions on.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use orlop_core::{
    TaskId,
    run::{Action, Event, RestoreEvent, Run, RunKind, RunPhase, TaskPhase},
};
use orlop_proto::v1::LogLevel;
use orlop_runtime::mac::MacKey;

use super::{
    Signals,
    agents::Agent,
    commands,
    jobs::{Job, Jobs, Work},
    lines::{one_line, run_line, task_line},
    route::Route,
};
use crate::{
    metrics::{Counted, schedule_of},
    records::Document,
    state::{LogLine, StateDb},
};

/// A run that logs more lines than this says so and is silent.
const MAX_LINES: u64 = 100_000;
/// Lines that are read from the database at once.
const LINES_AT_ONCE: u32 = 500;

/// Names a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunKey {
    /// Backup or restore.
    pub(crate) kind: RunKind,
    /// Its name.
    pub(crate) name: String,
}

impl RunKey {
    /// The run of this kind and name.
    pub(crate) fn new(kind: RunKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }

    /// The backup of this name.
    pub(crate) fn backup(name: &str) -> Self {
        Self::new(RunKind::Backup, name)
    }

    /// The key of `run`.
    pub(crate) fn of(run: &Run) -> Self {
        Self::new(run.kind, run.name.clone())
    }
}

/// Names a pod of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodKey {
    pub(super) run: RunKey,
    pub(super) namespace: String,
    pub(super) pod: String,
}

pub(super) struct Entry {
    pub(super) document: Document,
    /// Lines in its log.
    pub(super) lines: u64,
    /// The schedule that it belongs to; empty if there is none.
    pub(super) schedule: String,
}

/// All runs and agents.
pub(super) struct Table {
    pub(super) entries: BTreeMap<RunKey, Entry>,
    /// Which run a task belongs to.
    pub(super) tasks: HashMap<TaskId, RunKey>,
    pub(super) agents: BTreeMap<String, Agent>,
    pub(super) jobs: Jobs,
    /// Pods whose hooks are to be run.
    pub(super) hooks: Vec<PodKey>,
    pub(super) db: StateDb,
    pub(super) signals: Signals,
    /// How agents reach the store.
    pub(super) route: Route,
    /// Proves that contexts are the coordinator's own.
    pub(super) context_key: MacKey,
    /// What monitoring is told.
    pub(super) counted: Arc<Counted>,
}

impl Table {
    /// A run.
    pub(super) fn document(&self, key: &RunKey) -> Option<&Document> {
        self.entries.get(key).map(|entry| &entry.document)
    }

    /// All runs of a kind.
    pub(super) fn documents(&self, kind: RunKind) -> impl Iterator<Item = &Document> {
        let entries = self.entries.iter().filter(move |(key, _)| key.kind == kind);
        entries.map(|(_, entry)| &entry.document)
    }

    /// Names of all runs of a kind.
    pub(super) fn names(&self, kind: RunKind) -> Vec<String> {
        self.documents(kind)
            .map(|document| document.run.name.clone())
            .collect()
    }

    /// Takes a run in, without saving it.
    pub(super) fn insert(&mut self, document: Document, lines: u64) {
        let key = RunKey::of(&document.run);
        for task in &document.run.tasks {
            self.tasks.insert(task.id, key.clone());
        }
        let schedule = schedule_of(&document.spec);
        let entry = Entry {
            document,
            lines,
            schedule,
        };
        self.entries.insert(key, entry);
    }

    /// Applies an event to a run, makes the new state as durable as the database is, then acts on it. A run
    /// that does not exist is ignored.
    pub(super) fn apply(&mut self, key: &RunKey, event: Event, now_ms: i64) {
        let quiet = matches!(
            event,
            Event::Progressed { .. } | Event::Restore(RestoreEvent::Progressed(_))
        );
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let before = entry.document.run.phase;
        let tasks_before: HashMap<TaskId, TaskPhase> = if quiet {
            HashMap::new()
        } else {
            let tasks = entry.document.run.tasks.iter();
            tasks.map(|task| (task.id, task.phase)).collect()
        };
        let touched = |run: &Run| run.tasks.iter().filter(|task| task.touched).count();
        let touched_before = touched(&entry.document.run);
        let actions = entry.document.run.apply(event, now_ms);
        let makes = entry.document.run.making.is_some();
        if quiet {
            if touched(&entry.document.run) != touched_before {
                self.save(key);
            }
        } else {
            if makes {
                self.follow_tasks(key, &tasks_before);
                self.signals.restores.notify_one();
            }
            self.log_changes(key, before, &tasks_before, now_ms);
            self.count_changes(key, before, &tasks_before);
            self.save(key);
            self.signals.schedule.notify_one();
            self.signals.sessions.notify_one();
        }
        for action in actions {
            self.act(key, &action);
        }
        self.changed(key);
    }

    /// Takes in the tasks that have come, and the nodes that they are on, and forgets those that are no more.
    fn follow_tasks(&mut self, key: &RunKey, before: &HashMap<TaskId, TaskPhase>) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let tasks = &entry.document.run.tasks;
        let now: HashSet<TaskId> = tasks.iter().map(|task| task.id).collect();
        for id in before.keys().filter(|id| !now.contains(id)) {
            self.tasks.remove(id);
        }
        for id in now.into_iter().filter(|id| !before.contains_key(id)) {
            self.tasks.insert(id, key.clone());
        }
        for task in tasks.iter().filter(|task| !task.node.is_empty()) {
            if !self.agents.contains_key(&task.node) {
                self.agents.insert(task.node.clone(), Agent::awaited());
            }
        }
    }

    /// Tells those who watch.
    pub(super) fn changed(&self, key: &RunKey) {
        // An error says that nobody watches.
        let _ = self.signals.changes.send(key.clone());
    }

    /// Keeps a run in the state database. A failure is logged: the run goes on without it.
    pub(super) fn save(&mut self, key: &RunKey) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        if let Err(error) = self
            .db
            .save_run(key.kind, &key.name, &entry.document.to_json())
        {
            tracing::error!(run_id = key.name, error = %error, "cannot write the state database");
        }
    }

    pub(super) fn act(&mut self, key: &RunKey, action: &Action) {
        match action {
            Action::Start(id) => {
                let Some(entry) = self.entries.get(key) else {
                    return;
                };
                let Some(task) = entry.document.run.task(*id) else {
                    return;
                };
                let node = task.node.clone();
                let reach = self.route.of(&node, &entry.document.run.location);
                let command = commands::start(&entry.document, task, reach, &self.context_key);
                self.send(&node, command);
            }
            Action::StopThere { task, node } => self.send(node, commands::cancel(*task)),
            Action::Stop(id) => self.send_to_task(key, *id, commands::cancel(*id)),
            Action::Acknowledge(id) => {
                self.send_to_task(key, *id, commands::acknowledge(*id));
            }
            Action::RunHooks { namespace, pod } => {
                self.hooks.push(PodKey {
                    run: key.clone(),
                    namespace: namespace.clone(),
                    pod: pod.clone(),
                });
                self.signals.hooks.notify_one();
            }
            Action::Record => self.push_job(key, Work::Record),
            Action::Remove => self.push_job(key, Work::Remove),
        }
    }

    fn send_to_task(&mut self, key: &RunKey, id: TaskId, command: orlop_proto::v1::AgentCommand) {
        let task = self
            .document(key)
            .and_then(|document| document.run.task(id));
        if let Some(node) = task.map(|task| task.node.clone()) {
            self.send(&node, command);
        }
    }

    /// Leaves a job to the recorder, once.
    pub(super) fn push_job(&mut self, key: &RunKey, work: Work) {
        let Some(document) = self.document(key) else {
            return;
        };
        let location = document.run.location.clone();
        let key = key.clone();
        self.jobs.push(Job {
            key,
            location,
            work,
        });
        self.signals.record.notify_one();
    }

    /// Forgets a run that was removed.
    pub(super) fn forget(&mut self, key: &RunKey) {
        if let Some(entry) = self.entries.remove(key) {
            for task in &entry.document.run.tasks {
                self.tasks.remove(&task.id);
            }
        }
        if let Err(error) = self.db.remove_run(key.kind, &key.name) {
            tracing::error!(run_id = key.name, error = %error, "cannot write the state database");
        }
        self.changed(key);
    }

    /// Appends a line to a run's log.
    pub(super) fn log(
        &mut self,
        key: &RunKey,
        level: LogLevel,
        task: Option<TaskId>,
        message: &str,
        now_ms: i64,
    ) {
        let message = one_line(message);
        self.log_fields(key, level, task, message, BTreeMap::new(), now_ms);
    }

    /// Appends a line with fields to a run's log, as it is.
    pub(super) fn log_fields(
        &mut self,
        key: &RunKey,
        level: LogLevel,
        task: Option<TaskId>,
        message: String,
        fields: BTreeMap<String, String>,
        now_ms: i64,
    ) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.lines > MAX_LINES {
            return;
        }
        entry.lines += 1;
        let full = entry.lines > MAX_LINES;
        let line = LogLine {
            number: entry.lines,
            time_ms: now_ms,
            level: level.into(),
            task: task.map(|id| id.to_string()).unwrap_or_default(),
            message: if full {
                "more lines than a log may have: the rest is left out".to_owned()
            } else {
                message
            },
            fields,
        };
        if let Err(error) = self.db.append_log(key.kind, &key.name, &line) {
            tracing::error!(run_id = key.name, error = %error, "cannot write the state database");
        }
    }

    /// Some lines of a run's log.
    pub(super) fn log_lines(&self, key: &RunKey, after: u64) -> Vec<LogLine> {
        self.db.log(key.kind, &key.name, after, LINES_AT_ONCE).unwrap_or_else(|error| {
            tracing::error!(run_id = key.name, error = %error, "cannot read the state database");
            Vec::new()
        })
    }

    /// Number of the last line of a run's log.
    pub(super) fn last_line(&self, key: &RunKey) -> u64 {
        self.entries.get(key).map_or(0, |entry| entry.lines)
    }

    fn log_changes(
        &mut self,
        key: &RunKey,
        before: RunPhase,
        tasks_before: &HashMap<TaskId, TaskPhase>,
        now_ms: i64,
    ) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let run = &entry.document.run;
        let mut lines = Vec::new();
        for task in &run.tasks {
            let was = tasks_before.get(&task.id).copied();
            if was != Some(task.phase)
                && let Some((level, message)) = task_line(task, was)
            {
                lines.push((level, Some(task.id), message));
            }
        }
        if run.phase != before {
            lines.push(run_line(run));
        }
        for (level, task, message) in lines {
            tracing::info!(run_id = key.name, kind = %key.kind, message, "run has moved on");
            self.log(key, level, task, &message, now_ms);
        }
    }
}
