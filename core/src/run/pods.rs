//! Pods with hooks: what runs before their volumes, and what in any case after them.

use serde::{Deserialize, Serialize};

use super::{
    event::{Action, NewPod},
    making::Restored,
    state::{Run, RunPhase, Task, TaskPhase},
};
use crate::hook::{Hook, HookOutcome, HookPhase, HookTally, PodHooks, PodProgress, Step};

/// A pod of a run whose hooks run around its volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRun {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its hooks.
    pub hooks: PodHooks,
    /// How far it has come.
    #[serde(default)]
    pub progress: PodProgress,
    /// Whether its hooks are being run.
    #[serde(default)]
    pub running: bool,
    /// Whether nothing new is begun but what comes after volumes.
    #[serde(default)]
    pub canceled: bool,
    /// Whether nothing was begun and nothing will be.
    #[serde(default)]
    pub left: bool,
    /// What is known of it if a restore has made it: it has hooks after its volumes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

impl PodRun {
    pub(super) fn new(new: NewPod) -> Self {
        Self {
            namespace: new.namespace,
            pod: new.pod,
            hooks: new.hooks,
            progress: PodProgress::default(),
            running: false,
            canceled: false,
            left: false,
            restored: None,
        }
    }

    pub(super) fn has(&self, task: &Task) -> bool {
        task.volume.namespace == self.namespace && task.volume.pod == self.pod
    }

    /// What it does next.
    pub fn next(&self) -> Step<'_> {
        let done = Step::Done {
            volumes_left_out: true,
        };
        if self.left {
            return done;
        }
        if self.canceled {
            if !self.progress.volumes {
                return Step::Volumes;
            }
            let post = self.hooks.post.get(self.progress.post.len());
            return post.map_or(done, Step::Run);
        }
        crate::hook::next_step(&self.hooks, &self.progress)
    }

    /// Whether its volumes may begin, or have begun.
    pub fn is_open(&self) -> bool {
        !self.running && !self.canceled && self.next() == Step::Volumes
    }

    /// Whether it has begun and its volumes have not ended: it must not wait.
    pub fn is_held(&self) -> bool {
        self.running || (!self.progress.pre.is_empty() && !self.progress.volumes)
    }

    /// Whether nothing is left to be done.
    pub fn is_over(&self) -> bool {
        !self.running && matches!(self.next(), Step::Done { .. })
    }

    /// The count of its hooks.
    pub fn tally(&self) -> HookTally {
        crate::hook::tally(&self.hooks, &self.progress)
    }
}

impl Run {
    /// The pod's hooks; `None` if it has none.
    pub fn pod(&self, namespace: &str, pod: &str) -> Option<&PodRun> {
        let mut pods = self.pods.iter();
        pods.find(|known| known.namespace == namespace && known.pod == pod)
    }

    /// Whether a pod that comes before this one in the run's order has not ended.
    pub(super) fn waits_its_turn(&self, namespace: &str, pod: &str) -> bool {
        let is = |other: &(String, String)| other.0 == namespace && other.1 == pod;
        let Some(at) = self.order.iter().position(is) else {
            return false;
        };
        self.order[..at].iter().any(|(namespace, pod)| {
            let of = |task: &Task| task.volume.namespace == *namespace && task.volume.pod == *pod;
            let mut tasks = self.tasks.iter().filter(|task| of(task));
            tasks.any(|task| !task.phase.is_final())
                || self.pod(namespace, pod).is_some_and(|pod| !pod.is_over())
        })
    }

    /// The hook of a pod that is to run now, while the pod's hooks are being run.
    pub fn hook_to_run(&self, namespace: &str, pod: &str) -> Option<&Hook> {
        let pod = self.pod(namespace, pod).filter(|pod| pod.running)?;
        match pod.next() {
            Step::Run(hook) => Some(hook),
            _ => None,
        }
    }

    /// Counts of its hooks.
    pub fn hooks(&self) -> HookTally {
        let mut sum = HookTally::default();
        for tally in self.pods.iter().map(PodRun::tally) {
            sum.attempted += tally.attempted;
            sum.failed += tally.failed;
        }
        sum
    }

    pub(super) fn begin_hooks(
        &mut self,
        namespace: &str,
        pod: &str,
        now_ms: i64,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(self.phase, RunPhase::Queued | RunPhase::Running) || self.cancel {
            return;
        }
        let mut pods = self.pods.iter_mut();
        let found = pods.find(|known| known.namespace == namespace && known.pod == pod);
        let Some(found) = found.filter(|found| !found.running) else {
            return;
        };
        if !matches!(found.next(), Step::Run(hook) if hook.phase == HookPhase::Pre) {
            return;
        }
        found.running = true;
        actions.push(run_hooks(found));
        self.phase = RunPhase::Running;
        self.started_ms.get_or_insert(now_ms);
    }

    pub(super) fn end_hook(
        &mut self,
        namespace: &str,
        pod: &str,
        outcome: HookOutcome,
        message: &str,
        now_ms: i64,
    ) {
        let mut pods = self.pods.iter_mut();
        let found = pods.find(|known| known.namespace == namespace && known.pod == pod);
        let Some(found) = found.filter(|found| found.running) else {
            return;
        };
        // A hook that ran when the run was canceled is still a pre hook.
        let pre = !found.progress.volumes && found.progress.post.is_empty();
        let hook = match found.next() {
            Step::Run(hook) => Some(hook.clone()),
            _ if pre => found.hooks.pre.get(found.progress.pre.len()).cloned(),
            _ => None,
        };
        let Some(hook) = hook else {
            found.running = false;
            return;
        };
        match hook.phase {
            HookPhase::Pre => found.progress.pre.push(outcome),
            HookPhase::Post => found.progress.post.push(outcome),
        }
        found.running = matches!(found.next(), Step::Run(_));
        if outcome == HookOutcome::Failed && hook.fails_pod() {
            let message = format!("the hook before it has failed: {message}");
            let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
            let tasks = self.tasks.iter_mut();
            for task in tasks.filter(|task| {
                (&task.volume.namespace, &task.volume.pod) == (&namespace, &pod)
                    && !task.phase.is_final()
            }) {
                task.end(TaskPhase::Failed, &message, now_ms);
            }
        }
    }

    /// Nothing is left to run of a pod whose hooks are being run.
    pub(super) fn leave_hooks(&mut self, namespace: &str, pod: &str) {
        let mut pods = self.pods.iter_mut();
        let found = pods.find(|known| known.namespace == namespace && known.pod == pod);
        if let Some(found) = found.filter(|found| matches!(found.next(), Step::Done { .. })) {
            found.running = false;
        }
    }

    pub(super) fn cancel_pods(&mut self) {
        for pod in &mut self.pods {
            if pod.restored.is_some() {
                // Nothing thaws after a restore.
                pod.left |= !matches!(pod.next(), Step::Done { .. });
                continue;
            }
            let began = |task: &Task| task.attempts > 0 && pod.has(task);
            let begun = pod.running || !pod.progress.pre.is_empty() || self.tasks.iter().any(began);
            if begun {
                pod.canceled = true;
            } else {
                pod.left = true;
            }
        }
    }

    /// Lets hooks after volumes run where all volumes have ended. A pod whose volumes have all ended before its
    /// hooks began, because its node is lost, is left as it is.
    pub(super) fn settle_pods(&mut self, actions: &mut Vec<Action>) {
        for pod in &mut self.pods {
            let open = |task: &Task| pod.has(task) && !task.phase.is_final();
            if pod.running || self.tasks.iter().any(open) {
                continue;
            }
            let waits = matches!(pod.next(), Step::Run(hook) if hook.phase == HookPhase::Pre);
            if waits && self.tasks.iter().any(|task| pod.has(task)) {
                // What it has frozen is thawed.
                pod.canceled = !pod.progress.pre.is_empty();
                pod.left = !pod.canceled;
            }
            if pod.next() == Step::Volumes {
                pod.progress.volumes = true;
            }
            if matches!(pod.next(), Step::Run(hook) if hook.phase == HookPhase::Post) {
                pod.running = true;
                actions.push(run_hooks(pod));
            }
        }
    }

    /// What was begun and is to be gone on with after a restart.
    pub fn resume(&self) -> Vec<Action> {
        let running = self.pods.iter().filter(|pod| pod.running);
        running.map(run_hooks).collect()
    }
}

fn run_hooks(pod: &PodRun) -> Action {
    Action::RunHooks {
        namespace: pod.namespace.clone(),
        pod: pod.pod.clone(),
    }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
