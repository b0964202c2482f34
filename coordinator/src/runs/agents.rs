//! Agents: who is connected, what they run, what they tell.

use std::time::Instant;

use orlop_core::{
    Issue, Progress, TaskId,
    run::{Event, KnownVolume, Outcome, TaskPhase, tasks_at_once},
};
use orlop_proto::v1::{self, AgentCommand, LogLevel, agent_command::Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{RunKey, Runs, commands, lines::is_told, table::Table};

/// Commands that wait for one agent; one that lets more pile up is cut off and dials again.
const COMMANDS: usize = 1024;

/// The command as a message.
pub(super) fn command(command: Command) -> AgentCommand {
    AgentCommand {
        command: Some(command),
    }
}

/// What is known of a node's agent.
pub(super) struct Agent {
    version: String,
    cores: u32,
    pub(super) link: Option<Link>,
    last_seen_ms: i64,
    pub(super) last_seen: Instant,
    /// `number` of its newest inventory.
    pub(super) inventory: u64,
    /// Whether its tasks were given up since it went away.
    pub(super) lost: bool,
}

pub(super) struct Link {
    generation: u64,
    commands: mpsc::Sender<AgentCommand>,
    cut: CancellationToken,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl Agent {
    /// An agent that was never seen; its tasks are given up when it does not come in time.
    pub(super) fn awaited() -> Self {
        Self {
            version: String::new(),
            cores: 1,
            link: None,
            last_seen_ms: 0,
            last_seen: Instant::now(),
            inventory: 0,
            lost: false,
        }
    }
}

/// A registration that was checked on receipt.
pub(crate) struct Registration {
    /// The node.
    pub(crate) node: String,
    /// Version of the agent.
    pub(crate) version: String,
    /// Processors that it may use.
    pub(crate) cores: u32,
    /// Its volumes.
    pub(crate) volumes: Vec<KnownVolume>,
    /// Its tasks with their contexts.
    pub(crate) running: Vec<(TaskId, Vec<u8>)>,
}

/// The coordinator's end of an agent's stream.
pub(crate) struct Connection {
    /// Tells this stream from earlier ones of the same node.
    pub(crate) generation: u64,
    /// What to send to the agent.
    pub(crate) commands: mpsc::Receiver<AgentCommand>,
    /// Cancelled when the stream must end.
    pub(crate) cut: CancellationToken,
}

/// What is shown of a node.
pub(crate) struct NodeView {
    /// Its name.
    pub(crate) node: String,
    /// Version of its agent.
    pub(crate) version: String,
    /// Whether the agent is connected.
    pub(crate) connected: bool,
    /// When it was last heard of.
    pub(crate) last_seen_ms: i64,
    /// Tasks that it runs.
    pub(crate) running: u32,
    /// Tasks that it may run at once.
    pub(crate) limit: u32,
    /// Its volumes.
    pub(crate) volumes: Vec<KnownVolume>,
}

impl Table {
    /// Sends a command if the agent is connected; it asks again for what it misses when it comes back.
    pub(super) fn send(&mut self, node: &str, command: AgentCommand) {
        let Some(agent) = self.agents.get_mut(node) else {
            return;
        };
        let Some(link) = &agent.link else { return };
        if link.commands.try_send(command).is_err() {
            tracing::warn!(node, "agent does not take its commands and is cut off");
            agent.link = None;
        }
    }

    fn running_on(&self, node: &str) -> u32 {
        let tasks = self
            .entries
            .values()
            .flat_map(|entry| &entry.document.run.tasks);
        tasks
            .filter(|t| t.node == node && t.phase == TaskPhase::Running)
            .count() as u32
    }

    /// Keys of the runs that have something to do on `node`.
    pub(super) fn runs_on(&self, node: &str) -> Vec<RunKey> {
        let open = |key: &&RunKey| {
            let run = &self.entries[*key].document.run;
            run.tasks
                .iter()
                .any(|task| task.node == node && !task.phase.is_final())
        };
        self.entries.keys().filter(open).cloned().collect()
    }

    /// Connected nodes with their task limits.
    pub(super) fn node_limits(&self, fixed: Option<u32>) -> impl Iterator<Item = (String, u32)> {
        let connected = self.agents.iter().filter(|(_, agent)| agent.link.is_some());
        connected.map(move |(node, agent)| (node.clone(), task_limit(fixed, agent.cores)))
    }
}

fn task_limit(fixed: Option<u32>, cores: u32) -> u32 {
    let usual = || u32::try_from(tasks_at_once(cores.into())).unwrap_or(1);
    fixed.unwrap_or_else(usual).max(1)
}

impl Runs {
    /// Takes an agent in: its stream replaces an earlier one, its tasks are told to their runs.
    pub(crate) fn connect(&self, registration: Registration) -> Connection {
        let Registration {
            node,
            version,
            cores,
            volumes,
            running,
        } = registration;
        let now = self.now_ms();
        self.parts.cluster.report(&node, volumes);
        let (sender, commands) = mpsc::channel(COMMANDS);
        let cut = CancellationToken::new();
        let mut table = self.lock();
        let agent = table
            .agents
            .entry(node.clone())
            .or_insert_with(Agent::awaited);
        let generation = agent
            .link
            .as_ref()
            .map_or(now.cast_unsigned(), |l| l.generation + 1);
        let link = Link {
            generation,
            commands: sender,
            cut: cut.clone(),
        };
        *agent = Agent {
            version,
            cores,
            link: Some(link),
            last_seen_ms: now,
            last_seen: Instant::now(),
            inventory: 0,
            lost: false,
        };
        let heartbeat_seconds = self.parts.limits.heartbeat.as_secs().clamp(1, 3600) as u32;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let welcome = v1::Welcome {
            version,
            heartbeat_seconds,
        };
        table.send(&node, command(Command::Welcome(welcome)));
        let mut known = Vec::with_capacity(running.len());
        for (task, context) in running {
            if table.recognise(&node, task, &context, now) {
                known.push(task);
            } else {
                table.send(&node, commands::cancel(task));
            }
        }
        for key in table.entries.keys().cloned().collect::<Vec<_>>() {
            let tasks = &table.entries[&key].document.run.tasks;
            let concerned = |t: &orlop_core::run::Task| {
                t.node == node && (!t.phase.is_final() || known.contains(&t.id))
            };
            if tasks.iter().any(concerned) {
                let event = Event::Reported {
                    node: node.clone(),
                    tasks: known.clone(),
                };
                table.apply(&key, event, now);
            }
        }
        tracing::info!(node, "agent connected");
        table.signals.schedule.notify_one();
        table.signals.agents.send_replace(());
        Connection {
            generation,
            commands,
            cut,
        }
    }

    /// The stream has ended; tasks are taken to run on.
    pub(crate) fn disconnect(&self, node: &str, generation: u64) {
        let mut table = self.lock();
        if let Some(agent) = table.agents.get_mut(node)
            && agent
                .link
                .as_ref()
                .is_some_and(|link| link.generation == generation)
        {
            agent.link = None;
            tracing::info!(node, "agent disconnected");
        }
        table.signals.agents.send_replace(());
    }

    /// The agent lives. False if its stream was replaced.
    pub(crate) fn heard(&self, node: &str, generation: u64) -> bool {
        let mut table = self.lock();
        let Some(agent) = table.agents.get_mut(node) else {
            return false;
        };
        agent.last_seen_ms = self.now_ms();
        agent.last_seen = Instant::now();
        agent
            .link
            .as_ref()
            .is_some_and(|link| link.generation == generation)
    }

    /// The agent has looked for volumes.
    pub(crate) fn inventory(&self, node: &str, volumes: Vec<KnownVolume>, number: u64) {
        self.parts.cluster.report(node, volumes);
        let mut table = self.lock();
        if let Some(agent) = table.agents.get_mut(node) {
            agent.inventory = agent.inventory.max(number);
        }
        table.signals.agents.send_replace(());
    }

    /// A task of this node has moved on.
    pub(crate) fn progressed(&self, node: &str, task: TaskId, progress: Progress) {
        let mut table = self.lock();
        if let Some(key) = table.key_on(node, task) {
            table.apply(&key, Event::Progressed { task, progress }, self.now_ms());
        }
    }

    /// An entry of a task of this node had trouble.
    pub(crate) fn troubled(&self, node: &str, task: TaskId, issue: &Issue) {
        let mut table = self.lock();
        let Some(key) = table.key_on(node, task) else {
            return;
        };
        let run = table.document(&key).map(|document| &document.run);
        let Some(found) = run.and_then(|run| run.task(task)) else {
            return;
        };
        if !is_told(found.attempts) {
            return;
        }
        let volume = &found.volume;
        // What is tried again until it is mended is no error yet.
        let level = if issue.kind.is_error() && !found.awaited {
            LogLevel::Error
        } else {
            LogLevel::Warning
        };
        let path = String::from_utf8_lossy(&issue.path);
        let line = format!("{volume}: {path}: {}", issue.message);
        table.log(&key, level, Some(task), &line, self.now_ms());
        table.changed(&key);
    }

    /// A task of this node has ended. It is acknowledged when that is durable, or at once if nobody knows it.
    pub(crate) fn finished(&self, node: &str, task: TaskId, outcome: Outcome) {
        let mut table = self.lock();
        match table.key_on(node, task) {
            Some(key) => table.apply(&key, Event::Finished { task, outcome }, self.now_ms()),
            None => table.send(node, commands::acknowledge(task)),
        }
    }

    /// What is shown of all nodes.
    pub(crate) fn nodes(&self) -> Vec<NodeView> {
        let table = self.lock();
        let view = |(node, agent): (&String, &Agent)| NodeView {
            node: node.clone(),
            version: agent.version.clone(),
            connected: agent.link.is_some(),
            last_seen_ms: agent.last_seen_ms,
            running: table.running_on(node),
            limit: task_limit(self.parts.limits.tasks_per_node, agent.cores),
            volumes: self.parts.cluster.volumes_of(node),
        };
        table.agents.iter().map(view).collect()
    }

    /// Ends all streams of agents.
    pub(crate) fn cut_all(&self) {
        for agent in self.lock().agents.values_mut() {
            agent.link = None;
        }
    }
}
