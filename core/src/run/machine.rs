//! The transitions of a run: what each event changes, and what is to be done about it.

use super::state::{MAX_ATTEMPTS, Run, RunPhase, Task, TaskPhase};
use crate::{Lineage, Progress, SnapshotId, TaskId, VolumeRef};

/// A volume that a run is to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// The task.
    pub id: TaskId,
    /// The volume that is backed up or restored into.
    pub volume: VolumeRef,
    /// The node that has the volume.
    pub node: String,
    /// The lineage that a backup writes to; `None` for a restore.
    pub lineage: Option<Lineage>,
    /// The snapshot to restore.
    pub snapshot: Option<SnapshotId>,
}

/// What a task has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskResult {
    /// The snapshot that was made or restored.
    pub snapshot: SnapshotId,
    /// Logical bytes of the volume.
    pub logical_bytes: u64,
    /// Bytes sent to the store or fetched from it.
    pub transferred_bytes: u64,
    /// Entries of the volume.
    pub entries: u64,
    /// Entries that changed, vanished or were left out.
    pub warnings: u64,
    /// Entries that could not be read or written.
    pub errors: u64,
}

/// How a task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Completed(TaskResult),
    /// Without one.
    Failed {
        /// Why, for a person.
        message: String,
        /// Whether another attempt may succeed.
        retry: bool,
    },
    /// It was stopped.
    Canceled,
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its volumes were chosen.
    Planned {
        /// One for each volume.
        tasks: Vec<NewTask>,
        /// Volumes of the selected pods that are left out.
        skipped: u32,
    },
    /// Its volumes cannot be chosen.
    Unplannable {
        /// Why, for a person.
        reason: String,
    },
    /// It is the turn of a queued task.
    Assigned {
        /// The task.
        task: TaskId,
    },
    /// A task has moved on.
    Progressed {
        /// The task.
        task: TaskId,
        /// Its counters.
        progress: Progress,
    },
    /// The agent of a restore looks for what it will write: the target was found fit for the mode, and from
    /// now on what it holds may be the restore's own.
    Touches {
        /// The task.
        task: TaskId,
    },
    /// A task has ended.
    Finished {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// The agent of a node is connected and tells which tasks it has.
    Reported {
        /// The node.
        node: String,
        /// All tasks that it runs or whose end it has still to tell.
        tasks: Vec<TaskId>,
    },
    /// The agent of a node has not been heard of for too long.
    NodeLost {
        /// The node.
        node: String,
        /// What to say of its tasks.
        message: String,
    },
    /// Somebody wants it to stop.
    Cancel,
    /// Its result is durable.
    Recorded,
    /// Somebody wants it gone.
    Delete,
    /// It cannot be removed yet.
    Delayed {
        /// Why, for a person.
        reason: String,
    },
}

/// What is to be done after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the agent of the task's node to begin the task.
    Start(TaskId),
    /// Tell the agent of the task's node to stop the task.
    Stop(TaskId),
    /// Tell the agent of the task's node that the end is known, once the new state is durable.
    Acknowledge(TaskId),
    /// Make the result durable, then apply [`Event::Recorded`].
    Record,
    /// Remove the run and everything recorded of it.
    Remove,
}

impl Run {
    /// Takes the event into account. The same event again changes nothing and asks for nothing that is
    /// not safe to repeat; an event that does not fit the state is ignored.
    #[must_use = "the actions are the run's only way to get anything done"]
    pub fn apply(&mut self, event: Event, now_ms: i64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Planned { tasks, skipped } => self.plan(tasks, skipped),
            Event::Unplannable { reason } if self.phase == RunPhase::New => {
                self.failure_reason = reason;
                self.phase = RunPhase::Queued;
            }
            Event::Assigned { task } => self.assign(task, now_ms, &mut actions),
            Event::Progressed { task, progress } => {
                if let Some(task) = self.running(task) {
                    task.progress = progress;
                    task.touched |= progress.entries_done > 0;
                }
            }
            Event::Touches { task } => {
                if let Some(task) = self.running(task) {
                    task.touched = true;
                }
            }
            Event::Finished { task, outcome } => {
                self.finish(task, outcome, now_ms);
                actions.push(Action::Acknowledge(task));
            }
            Event::Reported { node, tasks } => {
                self.reported(&node, &tasks, now_ms, &mut actions);
            }
            Event::NodeLost { node, message } => {
                for task in self.tasks.iter_mut().filter(|t| t.node == node) {
                    if !task.phase.is_final() {
                        task.end(TaskPhase::Failed, &message, now_ms);
                    }
                }
            }
            Event::Cancel => self.stop(now_ms, &mut actions),
            Event::Recorded if self.phase == RunPhase::Finalizing => {
                self.phase = self.verdict();
            }
            Event::Delete => {
                self.stop(now_ms, &mut actions);
                self.phase = RunPhase::Deleting;
            }
            Event::Delayed { reason } => {
                if self.phase == RunPhase::Deleting {
                    self.failure_reason = reason;
                }
                return actions;
            }
            Event::Unplannable { .. } | Event::Recorded => {}
        }
        self.conclude(now_ms, &mut actions);
        actions
    }

    fn plan(&mut self, tasks: Vec<NewTask>, skipped: u32) {
        if self.phase != RunPhase::New {
            return;
        }
        self.skipped = skipped;
        self.tasks = tasks.into_iter().map(Task::new).collect();
        self.tasks
            .sort_by(|a, b| (&a.volume, a.id).cmp(&(&b.volume, b.id)));
        if self.tasks.is_empty() && self.failure_reason.is_empty() {
            "no volume was selected".clone_into(&mut self.failure_reason);
        }
        self.phase = RunPhase::Queued;
    }

    fn assign(&mut self, id: TaskId, now_ms: i64, actions: &mut Vec<Action>) {
        if !matches!(self.phase, RunPhase::Queued | RunPhase::Running) {
            return;
        }
        let Some(task) = self.tasks.iter_mut().find(|t| t.id == id) else {
            return;
        };
        if task.phase != TaskPhase::Queued {
            return;
        }
        task.begin(now_ms);
        self.phase = RunPhase::Running;
        self.started_ms.get_or_insert(now_ms);
        actions.push(Action::Start(id));
    }

    fn running(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks
            .iter_mut()
            .find(|t| t.id == id && t.phase == TaskPhase::Running)
    }

    fn finish(&mut self, id: TaskId, outcome: Outcome, now_ms: i64) {
        let cancel = self.cancel;
        let Some(task) = self.tasks.iter_mut().find(|t| t.id == id) else {
            return;
        };
        if task.phase.is_final() {
            return;
        }
        match outcome {
            Outcome::Completed(result) => task.complete(&result, now_ms),
            Outcome::Failed {
                message,
                retry: true,
            } if !cancel => {
                task.try_again(&message, now_ms);
            }
            Outcome::Failed { message, .. } => task.end(TaskPhase::Failed, &message, now_ms),
            Outcome::Canceled if cancel => task.end(TaskPhase::Canceled, "canceled", now_ms),
            Outcome::Canceled => task.try_again("its agent stopped it", now_ms),
        }
    }

    fn reported(&mut self, node: &str, known: &[TaskId], now_ms: i64, actions: &mut Vec<Action>) {
        let cancel = self.cancel;
        let mut begun = false;
        for task in self.tasks.iter_mut().filter(|t| t.node == node) {
            match (task.phase, known.contains(&task.id)) {
                (TaskPhase::Queued, true) => {
                    task.begin(now_ms);
                    begun = true;
                }
                (TaskPhase::Running, true) if cancel => actions.push(Action::Stop(task.id)),
                (TaskPhase::Running, false) if cancel => {
                    task.end(TaskPhase::Canceled, "canceled", now_ms);
                }
                (TaskPhase::Running, false) => {
                    task.try_again("its agent was restarted", now_ms);
                }
                (phase, true) if phase.is_final() => actions.push(Action::Stop(task.id)),
                _ => {}
            }
        }
        if begun && self.phase == RunPhase::Queued {
            self.phase = RunPhase::Running;
            self.started_ms.get_or_insert(now_ms);
        }
    }

    fn stop(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        if self.phase.is_final() || self.phase == RunPhase::Finalizing {
            return;
        }
        self.cancel = true;
        if self.phase == RunPhase::New {
            self.phase = RunPhase::Queued;
        }
        for task in &mut self.tasks {
            match task.phase {
                TaskPhase::Queued => task.end(TaskPhase::Canceled, "canceled", now_ms),
                TaskPhase::Running => actions.push(Action::Stop(task.id)),
                _ => {}
            }
        }
    }

    /// Moves on when nothing is left to run.
    fn conclude(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        if self.tasks.iter().any(|task| !task.phase.is_final()) {
            return;
        }
        match self.phase {
            RunPhase::Queued | RunPhase::Running => {
                self.phase = RunPhase::Finalizing;
                self.completed_ms = Some(now_ms);
                actions.push(Action::Record);
            }
            RunPhase::Deleting => actions.push(Action::Remove),
            _ => {}
        }
    }

    fn verdict(&mut self) -> RunPhase {
        let counts = self.counts();
        let canceled = self
            .tasks
            .iter()
            .any(|task| task.phase == TaskPhase::Canceled);
        if self.cancel && (canceled || self.tasks.is_empty()) {
            return RunPhase::Canceled;
        }
        if counts.failed == 0 && self.errors() == 0 && self.failure_reason.is_empty() {
            return RunPhase::Completed;
        }
        if self.failure_reason.is_empty()
            && let Some(task) = self
                .tasks
                .iter()
                .find(|task| task.phase == TaskPhase::Failed)
        {
            self.failure_reason = format!("{}: {}", task.volume, task.message);
        }
        if counts.done == 0 {
            RunPhase::Failed
        } else {
            RunPhase::PartiallyFailed
        }
    }
}

impl Task {
    fn new(new: NewTask) -> Self {
        Self {
            id: new.id,
            volume: new.volume,
            lineage: new.lineage,
            node: new.node,
            phase: TaskPhase::Queued,
            attempts: 0,
            snapshot: new.snapshot,
            progress: Progress::default(),
            started_ms: None,
            completed_ms: None,
            message: String::new(),
            warnings: 0,
            errors: 0,
            touched: false,
        }
    }

    fn begin(&mut self, now_ms: i64) {
        self.phase = TaskPhase::Running;
        self.attempts += 1;
        self.started_ms = Some(now_ms);
        self.progress = Progress::default();
        self.message.clear();
    }

    fn complete(&mut self, result: &TaskResult, now_ms: i64) {
        self.end(TaskPhase::Completed, "", now_ms);
        self.snapshot = Some(result.snapshot);
        self.warnings = result.warnings;
        self.errors = result.errors;
        self.progress = Progress {
            entries_done: result.entries,
            entries_total: result.entries,
            bytes_done: result.logical_bytes,
            bytes_total: result.logical_bytes,
            transferred_bytes: result.transferred_bytes,
        };
    }

    fn end(&mut self, phase: TaskPhase, message: &str, now_ms: i64) {
        self.phase = phase;
        self.completed_ms = Some(now_ms);
        message.clone_into(&mut self.message);
    }

    fn try_again(&mut self, message: &str, now_ms: i64) {
        if self.attempts >= MAX_ATTEMPTS {
            let message = format!("{message} (attempt {} of {MAX_ATTEMPTS})", self.attempts);
            return self.end(TaskPhase::Failed, &message, now_ms);
        }
        self.phase = TaskPhase::Queued;
        self.message = format!("{message}; it will be tried again");
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
