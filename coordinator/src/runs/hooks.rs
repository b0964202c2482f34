//! The loop that runs hooks in pods. What a hook printed and how it ended is in the run's log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use orlop_core::{
    hook::{Hook, HookOutcome, HookPhase},
    run::{Event, HookWait},
};
use orlop_kubernetes::{
    files::{HookLog, Level, Record},
    velero::GoDuration,
};
use orlop_proto::v1::LogLevel;
use tokio::{
    sync::Semaphore,
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Runs, table::PodKey};
use crate::cluster::{ContainerState, HookEnd};

/// First pause between two looks at a container, and the longest.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Hooks of a phase that run at once, over all runs.
const AT_ONCE: usize = 16;
/// Containers that are looked at at once.
const LOOKS: usize = 8;

/// Bounds of what goes on at once. What thaws pods never waits for what freezes others.
struct Room {
    pre: Semaphore,
    post: Semaphore,
    looks: Semaphore,
}

impl Room {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            pre: Semaphore::new(AT_ONCE),
            post: Semaphore::new(AT_ONCE),
            looks: Semaphore::new(LOOKS),
        })
    }

    fn of(&self, phase: HookPhase) -> &Semaphore {
        match phase {
            HookPhase::Pre => &self.pre,
            HookPhase::Post => &self.post,
        }
    }
}

/// Whether a hook may run.
enum Ready {
    /// It may.
    Now,
    /// It will not, for this reason.
    Never(String),
    /// Nobody wants it any more.
    Left,
}

impl Runs {
    /// Runs hooks as they are asked for, those of each pod one after the other and some pods at once, until `shutdown`. One that runs then is
    /// run again by the next coordinator.
    pub(crate) async fn run_hooks(self: Arc<Self>, shutdown: CancellationToken) {
        let room = Room::new();
        let mut pods = JoinSet::new();
        let mut busy: HashMap<Id, PodKey> = HashMap::new();
        loop {
            let wanted = std::mem::take(&mut self.lock().hooks);
            // Who runs a pod's hooks goes on with those that have become due; if it has just ended, the next one does.
            for pod in wanted {
                if busy.values().any(|other| *other == pod) {
                    self.lock().hooks.push(pod);
                    continue;
                }
                let (runs, shutdown, key) = (Arc::clone(&self), shutdown.clone(), pod.clone());
                let room = Arc::clone(&room);
                let work = async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = runs.hooks_of(&key, &room) => {}
                    }
                };
                busy.insert(pods.spawn(work).id(), pod);
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.signals.hooks.notified() => {}
                Some(ended) = pods.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => {
                            tracing::error!(error = %error, "running hooks has panicked");
                            error.id()
                        }
                    };
                    busy.remove(&id);
                }
            }
        }
        while pods.join_next().await.is_some() {}
    }

    async fn hooks_of(&self, pod: &PodKey, room: &Room) {
        loop {
            let Some(hook) = self.hook_to_run(pod) else {
                let (namespace, name) = (pod.namespace.clone(), pod.pod.clone());
                let left = Event::HooksLeft {
                    namespace,
                    pod: name,
                };
                self.lock().apply(&pod.run, left, self.now_ms());
                return;
            };
            let log = HookLog::new(&pod.run.name, &pod.namespace, &pod.pod, &hook);
            let end = match self.container_of(pod, &hook, room).await {
                Ready::Left => continue,
                Ready::Never(message) => HookEnd {
                    outcome: HookOutcome::Failed,
                    stdout: String::new(),
                    stderr: String::new(),
                    message,
                },
                Ready::Now => {
                    let _permit = room.of(hook.phase).acquire().await;
                    // One before volumes has begun, whatever happens to its run: its volumes wait for its end.
                    if hook.phase == HookPhase::Post
                        && self.hook_to_run(pod).as_ref() != Some(&hook)
                    {
                        continue;
                    }
                    self.log_record(pod, log.started(self.time()));
                    let cluster = &self.parts.cluster;
                    let end = cluster.run_hook(&pod.namespace, &pod.pod, &hook).await;
                    self.log_record(pod, log.stdout(self.time(), &end.stdout));
                    self.log_record(pod, log.stderr(self.time(), &end.stderr));
                    end
                }
            };
            if end.outcome == HookOutcome::Failed {
                self.log_record(pod, log.failed(self.time(), &end.message));
            }
            let ended = Event::HookEnded {
                namespace: pod.namespace.clone(),
                pod: pod.pod.clone(),
                outcome: end.outcome,
                message: end.message,
            };
            self.lock().apply(&pod.run, ended, self.now_ms());
        }
    }

    fn hook_to_run(&self, pod: &PodKey) -> Option<Hook> {
        let table = self.lock();
        let run = &table.document(&pod.run)?.run;
        run.hook_to_run(&pod.namespace, &pod.pod).cloned()
    }

    /// Waits until a hook of a restored pod may run: one of a backup may at once.
    async fn container_of(&self, pod: &PodKey, hook: &Hook, room: &Room) -> Ready {
        let wait = match self.wait_of(pod) {
            Ok(Some(wait)) => wait,
            Ok(None) => return Ready::Now,
            Err(reason) => return Ready::Never(format!("it was not run: {reason}")),
        };
        let until = Instant::now() + wait.timeout;
        let mut pause = LOOK;
        loop {
            let cluster = &self.parts.cluster;
            let look = room.looks.acquire().await;
            let state = cluster
                .container_state(&pod.namespace, &pod.pod, &hook.container)
                .await;
            drop(look);
            let reason = match state {
                Ok(ContainerState::Ready) => return Ready::Now,
                Ok(ContainerState::Running) if !wait.ready => return Ready::Now,
                Ok(ContainerState::Running) => "it is not ready".to_owned(),
                Ok(ContainerState::Starting { reason }) => reason,
                Ok(ContainerState::Never { reason }) => {
                    return Ready::Never(format!("it was not run: {reason}"));
                }
                Err(refusal) => refusal.to_string(),
            };
            // A cancel leaves the hook.
            if self.hook_to_run(pod).as_ref() != Some(hook) {
                return Ready::Left;
            }
            if Instant::now() >= until {
                let (container, waited) = (&hook.container, GoDuration::from(wait.timeout));
                return Ready::Never(format!(
                    "it was not run: container {container} was waited for in vain for {waited}: {reason}"
                ));
            }
            tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// How the next hook of a pod waits, `None` in a backup; or why it cannot run.
    fn wait_of(&self, pod: &PodKey) -> Result<Option<HookWait>, String> {
        let table = self.lock();
        let Some(document) = table.document(&pod.run) else {
            return Ok(None);
        };
        let run = &document.run;
        let Some(known) = run.pod(&pod.namespace, &pod.pod) else {
            return Ok(None);
        };
        let Some(wait) = known.next_wait() else {
            return Ok(None);
        };
        if known.is_stopped() {
            return Err(
                "a hook before it has failed, and says that none shall follow then".to_owned(),
            );
        }
        match run.unrestored(&pod.namespace, &pod.pod) {
            Some(task) => Err(format!("volume {} was not restored", task.volume)),
            None => Ok(Some(wait)),
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms()).unwrap_or_default()
    }

    fn log_record(&self, pod: &PodKey, record: Record) {
        let level = match record.level {
            Level::Debug | Level::Info => LogLevel::Info,
            Level::Warning => LogLevel::Warning,
            Level::Error => LogLevel::Error,
        };
        let fields = record.fields.into_iter();
        let fields: BTreeMap<String, String> = fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let now_ms = record.time.as_millisecond();
        self.lock()
            .log_fields(&pod.run, level, None, record.message, fields, now_ms);
    }
}
