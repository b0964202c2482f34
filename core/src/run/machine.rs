//! The transitions of a run: what each event changes, and what is to be done about it.

use super::{
    event::{Action, Event, NewTask, Outcome, TaskResult},
    pods::PodRun,
    state::{AGAIN, MAX_ATTEMPTS, Objects, Run, RunPhase, Task, TaskPhase},
};
use crate::{Progress, TaskId};

impl Run {
    /// Takes the event into account. The same event again changes nothing and asks for nothing that is
    /// not safe to repeat; an event that does not fit the state is ignored.
    #[must_use = "the actions are the run's only way to get anything done"]
    pub fn apply(&mut self, event: Event, now_ms: i64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Planned {
                tasks,
                skipped,
                pods,
                objects,
            } => {
                self.plan(tasks, skipped, objects);
                if self.phase == RunPhase::Queued && self.pods.is_empty() {
                    self.pods = pods.into_iter().map(PodRun::new).collect();
                }
            }
            Event::Noted { warnings, errors } => {
                self.noted_warnings += warnings;
                self.noted_errors += errors;
            }
            Event::HooksBegun { namespace, pod } => {
                self.begin_hooks(&namespace, &pod, now_ms, &mut actions);
            }
            Event::HookEnded {
                namespace,
                pod,
                outcome,
                message,
            } => self.end_hook(&namespace, &pod, outcome, &message, now_ms),
            Event::HooksLeft { namespace, pod } => self.leave_hooks(&namespace, &pod),
            Event::Restore(event) => self.make(event, now_ms, &mut actions),
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
            Event::GivenUp { task, message } => {
                if let Some(running) = self.running(task) {
                    running.end(TaskPhase::Failed, &message, now_ms);
                    actions.push(Action::Stop(task));
                }
            }
            Event::Reported { node, tasks } => {
                self.reported(&node, &tasks, now_ms, &mut actions);
            }
            Event::NodeLost { node, message } => {
                let cancel = self.cancel;
                let open = |task: &&mut Task| task.node == node && !task.phase.is_final();
                for task in self.tasks.iter_mut().filter(open) {
                    task.lose(&message, cancel, now_ms);
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

    fn plan(&mut self, tasks: Vec<NewTask>, skipped: u32, objects: Option<Objects>) {
        if self.phase != RunPhase::New {
            return;
        }
        self.skipped = skipped;
        self.objects = objects;
        self.tasks = tasks.into_iter().map(Task::new).collect();
        self.tasks
            .sort_by(|a, b| (&a.volume, a.id).cmp(&(&b.volume, b.id)));
        if self.tasks.is_empty() && self.objects.is_none() && self.failure_reason.is_empty() {
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

    pub(super) fn running(&mut self, id: TaskId) -> Option<&mut Task> {
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
        self.cancel_pods();
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
        self.settle_pods(actions);
        let makes = self.making.is_some_and(|making| !making.closed);
        if makes || !self.is_idle() {
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

    /// Whether all tasks have ended and all hooks that are known.
    pub fn is_idle(&self) -> bool {
        let over = self.tasks.iter().all(|task| task.phase.is_final());
        over && self.pods.iter().all(PodRun::is_over)
    }

    fn verdict(&mut self) -> RunPhase {
        if let Some(making) = self.making {
            return self.verdict_of_objects(making);
        }
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
        self.name_failed_task();
        if counts.done == 0 && self.objects.is_none() {
            RunPhase::Failed
        } else {
            RunPhase::PartiallyFailed
        }
    }
}

impl Run {
    /// Gives the first task that failed as the reason, unless there is one.
    pub(super) fn name_failed_task(&mut self) {
        let mut tasks = self.tasks.iter();
        if self.failure_reason.is_empty()
            && let Some(task) = tasks.find(|task| task.phase == TaskPhase::Failed)
        {
            self.failure_reason = format!("{}: {}", task.volume, task.message);
        }
    }
}

impl Task {
    pub(super) fn new(new: NewTask) -> Self {
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
            place: new.place,
            source: new.source,
            snapshot_bytes: 0,
            awaited: false,
            not_before_ms: None,
        }
    }

    fn begin(&mut self, now_ms: i64) {
        self.phase = TaskPhase::Running;
        self.attempts += 1;
        self.started_ms = Some(now_ms);
        self.progress = Progress::default();
        self.not_before_ms = None;
        // Why a pod still waits is to be seen while it is tried again, too.
        if !self.awaited {
            self.message.clear();
        }
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

    pub(super) fn end(&mut self, phase: TaskPhase, message: &str, now_ms: i64) {
        self.phase = phase;
        self.completed_ms = Some(now_ms);
        message.clone_into(&mut self.message);
    }

    /// Another attempt may succeed. One that a pod waits for is never given up here: without it the pod would wait for
    /// ever, and who knows that the pod is gone, or has waited for too long, says so.
    pub(super) fn try_again(&mut self, message: &str, now_ms: i64) {
        if !self.awaited && self.attempts >= MAX_ATTEMPTS {
            let message = format!("{message} (attempt {} of {MAX_ATTEMPTS})", self.attempts);
            return self.end(TaskPhase::Failed, &message, now_ms);
        }
        self.phase = TaskPhase::Queued;
        self.not_before_ms = self
            .awaited
            .then(|| now_ms.saturating_add(pause_ms(self.attempts)));
        self.message = format!("{message}{AGAIN}");
    }

    /// Its node is lost. What a pod waits for waits for the node, as the pod does.
    fn lose(&mut self, message: &str, cancel: bool, now_ms: i64) {
        match self.phase {
            _ if !self.awaited => self.end(TaskPhase::Failed, message, now_ms),
            _ if cancel => self.end(TaskPhase::Canceled, message, now_ms),
            TaskPhase::Running => self.try_again(message, now_ms),
            _ => message.clone_into(&mut self.message),
        }
    }
}

/// How long a task that is awaited pauses after so many attempts: a second, then twice as long each time, a minute at
/// most.
fn pause_ms(attempts: u32) -> i64 {
    const LONGEST_MS: i64 = 60_000;
    let doublings = attempts.saturating_sub(1).min(6);
    (1000_i64 << doublings).min(LONGEST_MS)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
