//! All tasks of this agent: those that run and those whose end the coordinator has not acknowledged.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use orlop_core::{Issue, Monitor, Progress, TaskId, run::Outcome};
use orlop_proto::{
    convert::clip,
    v1::{self, StartTask, agent_event::Event},
};
use orlop_runtime::memory;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::sync::CancellationToken;

use super::{
    order::Order,
    shares,
    work::{self, Tools, Ways},
};
use crate::{
    app::{AgentConfig, Client, Inventory},
    session::RemoteCommitter,
    store::{Gateway, HeldSession},
};

/// Troubles of a task that wait to be told; later ones are only counted in its result.
const ISSUES: usize = 1000;
/// Events that are told at once.
const NEWS: usize = 256;

/// A task as it is seen from outside its thread.
struct Task {
    context: Vec<u8>,
    cancel: CancellationToken,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// What a task's thread tells.
#[derive(Default)]
struct State {
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    progress: Option<Progress>,
    issues: VecDeque<Issue>,
    issues_seen: usize,
    outcome: Option<Outcome>,
    /// Whether the outcome was sent in this conversation.
    sent: bool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor for State {
    fn progress(&self, progress: Progress) {
        self.lock().progress = Some(progress);
    }

    fn issue(&self, issue: &Issue) {
        let mut told = self.lock();
        if told.issues_seen < ISSUES {
            told.issues_seen += 1;
            told.issues.push_back(issue.clone());
        }
    }
}

/// All tasks of this agent.
pub(crate) struct TaskTable {
    tasks: Mutex<BTreeMap<TaskId, Task>>,
    /// A task has ended.
    ended: Arc<Notify>,
    tools: Arc<Tools>,
    client: Client,
    gateway: Gateway,
}

impl TaskTable {
    /// A table without tasks. Must be called within a runtime, which tasks use for the network.
    pub(crate) fn new(config: &AgentConfig, client: Client, inventory: Arc<Inventory>) -> Self {
        let tools = Tools {
            node: config.node.clone(),
            inventory,
            budget: shares::budget(shares::share(config.memory_bytes)),
            limits: config.limits.clone(),
            memory_bytes: shares::share(config.memory_bytes),
            handle: Handle::current(),
        };
        Self {
            tasks: Mutex::default(),
            ended: Arc::new(Notify::new()),
            tools: Arc::new(tools),
            gateway: Gateway::new(client.clone()),
            client,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a task, unless it is there already. One that cannot be begun ends at once.
    pub(crate) fn start(&self, start: StartTask) {
        let (task_id, context) = (start.task_id.clone(), start.context.to_vec());
        let mut tasks = self.lock();
        let order = match Order::try_from(start) {
            Ok(order) => order,
            Err(error) => {
                tracing::error!(task_id, error = %error, "cannot take the task");
                if let Ok(id) = task_id.parse() {
                    let task = Task::ended(context, failed(error.to_string(), false));
                    tasks.entry(id).or_insert(task);
                    self.ended.notify_one();
                }
                return;
            }
        };
        let id = order.id;
        if tasks.contains_key(&id) {
            return;
        }
        tracing::info!(task_id = %id, volume = %order.volume, "task begins");
        let task = self.spawn(order).unwrap_or_else(|error| {
            self.ended.notify_one();
            Task::ended(context, failed(format!("start a thread: {error}"), true))
        });
        tasks.insert(id, task);
    }

    fn spawn(&self, order: Order) -> std::io::Result<Task> {
        let context = order.context.clone();
        let cancel = CancellationToken::new();
        let state = Arc::new(State::default());
        let held = HeldSession::default();
        let gateway = self.gateway.store(order.id, held.clone(), cancel.clone());
        let committer = RemoteCommitter::new(self.client.clone(), order.id, held, cancel.clone());
        let ways = Ways {
            committer: Arc::new(committer),
            gateway: Arc::new(gateway),
        };
        let (tools, ended) = (Arc::clone(&self.tools), Arc::clone(&self.ended));
        let (own_cancel, own_state) = (cancel.clone(), Arc::clone(&state));
        let body = move || {
            let id = order.id;
            let monitor: Arc<dyn Monitor> = Arc::clone(&own_state) as Arc<dyn Monitor>;
            let run = || work::run(&order, &tools, ways, &monitor, &own_cancel);
            let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
                tracing::error!(task_id = %id, "task has panicked");
                failed(
                    "the agent met a bug: its log has the place".to_owned(),
                    false,
                )
            });
            // The next one must find the memory that this one has had.
            memory::give_back();
            tracing::info!(task_id = %id, outcome = ?outcome, "task has ended");
            own_state.lock().outcome = Some(outcome);
            ended.notify_one();
        };
        let thread = std::thread::Builder::new()
            .name("task".to_owned())
            .spawn(body)?;
        Ok(Task {
            context,
            cancel,
            state,
            thread: Some(thread),
        })
    }

    /// Stops a task; its end comes later. One that is not there is ignored.
    pub(crate) fn cancel(&self, task_id: &str) {
        if let Ok(id) = task_id.parse::<TaskId>()
            && let Some(task) = self.lock().get(&id)
        {
            task.cancel.cancel();
        }
    }

    /// Forgets a task that has ended; one that runs stays.
    pub(crate) fn forget(&self, task_id: &str) {
        let Ok(id) = task_id.parse::<TaskId>() else {
            return;
        };
        let mut tasks = self.lock();
        if tasks
            .get(&id)
            .is_some_and(|task| task.state.lock().outcome.is_some())
            && let Some(thread) = tasks.remove(&id).and_then(|task| task.thread)
        {
            // Its last act was to tell its end, so this does not wait.
            let _ = thread.join();
        }
    }

    /// All tasks with their contexts, for the registration.
    pub(crate) fn known(&self) -> Vec<v1::RunningTask> {
        let running = |(id, task): (&TaskId, &Task)| v1::RunningTask {
            task_id: id.to_string(),
            context: task.context.clone().into(),
        };
        self.lock().iter().map(running).collect()
    }

    /// Lets [`Self::news`] tell ends again that were not acknowledged.
    pub(crate) fn tell_again(&self) {
        for task in self.lock().values() {
            task.state.lock().sent = false;
        }
    }

    /// Waits until a task ends.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// What has happened since the last call, a bounded part of it.
    pub(crate) fn news(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (id, task) in self.lock().iter() {
            let mut told = task.state.lock();
            if let Some(progress) = told.progress.take() {
                let progress = Some(progress.into());
                events.push(Event::Progress(v1::TaskProgress {
                    task_id: id.to_string(),
                    progress,
                }));
            }
            while events.len() < NEWS
                && let Some(issue) = told.issues.pop_front()
            {
                let mut issue = v1::Issue::from(&issue);
                issue.message = clip(&issue.message);
                let issue = Some(issue);
                events.push(Event::Issue(v1::TaskIssue {
                    task_id: id.to_string(),
                    issue,
                }));
            }
            // The end comes after everything else of the task.
            if told.issues.is_empty()
                && !told.sent
                && let Some(outcome) = told.outcome.as_ref().map(Into::into)
            {
                told.sent = true;
                let (task_id, outcome) = (id.to_string(), Some(outcome));
                events.push(Event::Finished(v1::TaskFinished { task_id, outcome }));
            }
        }
        events
    }

    /// Stops all tasks and waits for their threads.
    pub(crate) async fn stop_all(&self) {
        let tasks = std::mem::take(&mut *self.lock());
        for task in tasks.values() {
            task.cancel.cancel();
        }
        let join = move || {
            for thread in tasks.into_values().filter_map(|task| task.thread) {
                // A panic was caught and told by the thread itself.
                let _ = thread.join();
            }
        };
        if tokio::task::spawn_blocking(join).await.is_err() {
            tracing::error!("waiting for the tasks has panicked");
        }
    }
}

impl Task {
    fn ended(context: Vec<u8>, outcome: Outcome) -> Self {
        let state = State::default();
        state.lock().outcome = Some(outcome);
        let state = Arc::new(state);
        Self {
            context,
            cancel: CancellationToken::new(),
            state,
            thread: None,
        }
    }
}

/// The task has no result.
pub(super) fn failed(message: String, retry: bool) -> Outcome {
    Outcome::Failed { message, retry }
}
