//! A restore that makes Kubernetes objects again: its tasks and hooks become known while it runs, pod by pod.
//!
//! ```text
//! opened ─► begun ─► applied or broken ─► (tasks and hooks end) ─► closed
//!             │ pod made: its volumes' tasks and its hooks
//!             │ pod placed: it waits on a node, its tasks may begin there
//!             └ pod lost: its tasks end
//! ```
//! Who makes the objects begins anew after a restart; every event may come again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    event::{Action, NewPod, NewTask},
    place::Place,
    pods::PodRun,
    state::{AGAIN, Objects, Run, RunPhase, Task, TaskPhase},
};
use crate::hook::{HookOutcome, OnError, PodHooks};

/// How far a restore has come with the Kubernetes objects that it makes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Making {
    /// Whether all objects were gone through.
    pub applied: bool,
    /// Whether that had to be given up.
    pub broken: bool,
    /// Whether nothing more comes but the ends of tasks and hooks.
    pub closed: bool,
}

/// A pod, and which of those that had its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
}

/// How a hook waits for its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookWait {
    /// How long.
    pub timeout: Duration,
    /// Whether for a container that is ready, and not only one that runs.
    pub ready: bool,
}

/// What is known of a pod that a restore has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its UID.
    pub uid: String,
    /// How each of its hooks waits, in their order.
    pub waits: Vec<HookWait>,
}

/// A pod that was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadePod {
    /// The pod.
    pub id: PodId,
    /// A task for each of its volumes that has a snapshot; node and place are told later. Their ids are used for what is
    /// new.
    pub tasks: Vec<NewTask>,
    /// Logical bytes of the snapshots of these tasks, in their order; 0 for one that is not known.
    pub sizes: Vec<u64>,
    /// Its hooks, which all run after its volumes.
    pub hooks: PodHooks,
    /// How each of them waits.
    pub waits: Vec<HookWait>,
}

/// What happens to a restore that makes Kubernetes objects again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreEvent {
    /// It was accepted.
    Opened,
    /// It is gone through the objects, from the first one: counts of an earlier time are void.
    Begun,
    /// So many of them are done.
    Progressed(Objects),
    /// A pod was made, or found that was made before. Its tasks and hooks are added once.
    PodMade(MadePod),
    /// A pod waits on a node for its volumes.
    PodPlaced {
        /// The pod.
        pod: PodId,
        /// The node.
        node: String,
        /// Where volumes of it are, by their names in the pod.
        places: Vec<(String, Place)>,
    },
    /// A pod does not wait for its volumes any more, or never will.
    PodLost {
        /// The pod.
        pod: PodId,
        /// Why, for a person.
        message: String,
    },
    /// All objects were gone through.
    Applied,
    /// Objects cannot be gone through.
    Broken {
        /// Why, for a person.
        reason: String,
    },
    /// Nothing more is to be done for it but what tasks and hooks do.
    Closed,
}

impl PodId {
    /// Whether the task is of a volume of this very pod.
    pub fn has(&self, task: &Task) -> bool {
        let place = task.place.as_ref();
        (&task.volume.namespace, &task.volume.pod) == (&self.namespace, &self.pod)
            && place.is_some_and(|place| place.pod_uid == self.uid)
    }
}

impl PodRun {
    /// How the hook that runs next waits for its container; `None` in a backup.
    pub fn next_wait(&self) -> Option<HookWait> {
        let waits = &self.restored.as_ref()?.waits;
        waits.get(self.progress.post.len()).copied()
    }

    /// Whether a hook of a restored pod has failed that keeps those behind it from running: they fail too.
    pub fn is_stopped(&self) -> bool {
        let mut ended = self.hooks.post.iter().zip(&self.progress.post);
        self.restored.is_some()
            && ended.any(|(hook, end)| {
                *end == HookOutcome::Failed && hook.on_error == Some(OnError::Fail)
            })
    }
}

impl Run {
    /// The first volume of a pod that has not been restored whole: the pod will not start.
    pub fn unrestored(&self, namespace: &str, pod: &str) -> Option<&Task> {
        let mut tasks = self.tasks.iter();
        tasks.find(|task| {
            (task.volume.namespace.as_str(), task.volume.pod.as_str()) == (namespace, pod)
                && (task.phase != TaskPhase::Completed || task.errors > 0)
        })
    }

    pub(super) fn make(&mut self, event: RestoreEvent, now_ms: i64, actions: &mut Vec<Action>) {
        if event == RestoreEvent::Opened {
            if self.phase == RunPhase::New {
                self.phase = RunPhase::Queued;
                self.making = Some(Making::default());
                self.objects = Some(Objects::default());
            }
            return;
        }
        let Some(making) = self.making.as_mut().filter(|making| !making.closed) else {
            return;
        };
        match event {
            RestoreEvent::Closed => making.closed = true,
            // What is stopped is only closed, and makes no pod known that nobody would look after.
            _ if self.cancel => {}
            RestoreEvent::Opened => {}
            RestoreEvent::Begun => {
                if !making.applied {
                    self.begin_objects(now_ms);
                }
            }
            RestoreEvent::Progressed(objects) => self.objects = Some(objects),
            RestoreEvent::PodMade(pod) => self.take_pod(pod, actions),
            RestoreEvent::PodPlaced { pod, node, places } => {
                self.place_pod(&pod, &node, &places, actions);
            }
            RestoreEvent::PodLost { pod, message } => {
                self.lose_pod(&pod, &message, now_ms, actions);
            }
            RestoreEvent::Applied => {
                making.applied = true;
                making.broken = false;
                self.failure_reason.clear();
            }
            RestoreEvent::Broken { reason } => {
                if !making.applied {
                    making.broken = true;
                    self.failure_reason = reason;
                }
            }
        }
    }

    fn begin_objects(&mut self, now_ms: i64) {
        if self.phase == RunPhase::Queued {
            self.phase = RunPhase::Running;
        }
        self.started_ms.get_or_insert(now_ms);
        self.objects = Some(Objects::default());
        self.noted_warnings = 0;
        self.noted_errors = 0;
    }

    fn take_pod(&mut self, made: MadePod, actions: &mut Vec<Action>) {
        let MadePod {
            id,
            tasks,
            sizes,
            hooks,
            waits,
        } = made;
        let sizes = sizes.into_iter().chain(std::iter::repeat(0));
        for (mut new, size) in tasks.into_iter().zip(sizes) {
            let task = |new| Task {
                snapshot_bytes: size,
                ..Task::new(new)
            };
            new.place = Some(Place {
                pod_uid: id.uid.clone(),
                ..new.place.unwrap_or_default()
            });
            match self.tasks.iter().position(|t| t.volume == new.volume) {
                Some(known) if id.has(&self.tasks[known]) => {}
                // Another pod has its name now: what was done for the one before is of no use to it.
                Some(known) => {
                    let before = std::mem::replace(&mut self.tasks[known], task(new));
                    if before.phase == TaskPhase::Running {
                        actions.push(Action::StopThere {
                            task: before.id,
                            node: before.node,
                        });
                    }
                }
                None => self.tasks.push(task(new)),
            }
        }
        self.tasks
            .sort_by(|a, b| (&a.volume, a.id).cmp(&(&b.volume, b.id)));
        let known = self.pod(&id.namespace, &id.pod);
        let same = known.is_some_and(|pod| pod.restored.as_ref().is_some_and(|r| r.uid == id.uid));
        if same || hooks.is_empty() {
            return;
        }
        self.pods
            .retain(|pod| (&pod.namespace, &pod.pod) != (&id.namespace, &id.pod));
        let mut pod = PodRun::new(NewPod {
            namespace: id.namespace,
            pod: id.pod,
            hooks,
        });
        pod.restored = Some(Restored { uid: id.uid, waits });
        self.pods.push(pod);
    }

    fn place_pod(
        &mut self,
        pod: &PodId,
        node: &str,
        places: &[(String, Place)],
        actions: &mut Vec<Action>,
    ) {
        let open = |task: &&mut Task| pod.has(task) && !task.phase.is_final();
        for task in self.tasks.iter_mut().filter(open) {
            let volume = &task.volume.volume;
            let Some((_, place)) = places.iter().find(|(name, _)| name == volume) else {
                continue;
            };
            task.awaited = true;
            if task.node == node && task.phase == TaskPhase::Running {
                continue;
            }
            if task.node != node {
                if task.phase == TaskPhase::Running {
                    actions.push(Action::StopThere {
                        task: task.id,
                        node: task.node.clone(),
                    });
                    task.phase = TaskPhase::Queued;
                    task.message = format!("its pod waits on {node} now");
                }
                task.not_before_ms = None;
                node.clone_into(&mut task.node);
            }
            task.place = Some(Place {
                pod_uid: pod.uid.clone(),
                ..place.clone()
            });
        }
    }

    fn lose_pod(&mut self, pod: &PodId, message: &str, now_ms: i64, actions: &mut Vec<Action>) {
        let open = |task: &&mut Task| pod.has(task) && !task.phase.is_final();
        for task in self.tasks.iter_mut().filter(open) {
            if task.phase == TaskPhase::Running {
                actions.push(Action::Stop(task.id));
            }
            let before = task.message.strip_suffix(AGAIN).unwrap_or_default();
            if before.is_empty() || message.contains(before) {
                task.end(TaskPhase::Failed, message, now_ms);
            } else {
                let message = format!("{before}; and then: {message}");
                task.end(TaskPhase::Failed, &message, now_ms);
            }
        }
    }

    pub(super) fn verdict_of_objects(&mut self, making: Making) -> RunPhase {
        let tasks = self.tasks.iter();
        let mut canceled = tasks.filter(|task| task.phase == TaskPhase::Canceled);
        if making.broken {
            return RunPhase::Failed;
        }
        let left = |pod: &PodRun| pod.left;
        if self.cancel
            && (!making.applied || canceled.next().is_some() || self.pods.iter().any(left))
        {
            return RunPhase::Canceled;
        }
        let errors = self.errors();
        if errors == 0 {
            return RunPhase::Completed;
        }
        self.name_failed_task();
        if self.failure_reason.is_empty() {
            self.failure_reason = match errors {
                1 => "1 error: its log has it".to_owned(),
                many => format!("{many} errors: its log has them"),
            };
        }
        RunPhase::PartiallyFailed
    }
}

#[cfg(test)]
mod tests;
