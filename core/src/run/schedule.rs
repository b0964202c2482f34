//! Whose turn it is: which queued tasks may begin now.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    pods::PodRun,
    state::{Run, RunPhase, Task, TaskPhase},
};
use crate::{TaskId, VolumeRef, hook::Step};

/// Tasks of one node that run at once, unless it is said otherwise: half as many as it has processors, and no more than its
/// agent has memory for (256 MiB in the manifests).
pub fn tasks_at_once(cores: u64) -> u64 {
    (cores / 2).clamp(1, 2)
}

/// How much may run at once.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Tasks of each node whose agent is connected; tasks of other nodes wait.
    pub nodes: BTreeMap<String, u32>,
    /// Tasks of one location over all nodes; 0 for no limit.
    pub location: u32,
    /// The time, milliseconds since 1970: tasks that pause begin when theirs has come.
    pub now_ms: i64,
}

/// Something whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due<'a> {
    /// Its run.
    pub run: &'a Run,
    /// What.
    pub turn: Turn<'a>,
}

/// What may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn<'a> {
    /// A task.
    Task(TaskId),
    /// The hooks that run before the volumes of a pod; its tasks follow.
    Hooks(&'a PodRun),
}

/// The queued tasks that may begin now, in the order in which they should.
///
/// `runs` are served in the order given (oldest first), pods in order of name. All queued volumes of a
/// pod begin together, after the hooks that run before them, and at once after those; a pod with more volumes than the node allows begins when the node has nothing
/// else to do. A pod that does not fit keeps its node from those behind it, so that it is not starved.
/// A volume is never in two tasks at once. Pods for which the run has an order begin one after the other.
pub fn schedule<'a>(
    runs: impl IntoIterator<Item = &'a Run> + Clone,
    limits: &Limits,
) -> Vec<Due<'a>> {
    let mut room = Room::of(runs.clone(), limits);
    let mut due = Vec::new();
    for run in runs {
        if !matches!(run.phase, RunPhase::Queued | RunPhase::Running) || run.cancel {
            continue;
        }
        for pod in queued_pods(run, limits.now_ms) {
            let hooks = run.pod(&pod[0].volume.namespace, &pod[0].volume.pod);
            let held = hooks.is_some_and(PodRun::is_held);
            let goes_on = held && room.is_connected(&pod[0].node);
            let first = &pod[0].volume;
            let waits = !held && run.waits_its_turn(&first.namespace, &first.pod);
            if waits || (!goes_on && (held || !room.take(run, &pod))) {
                continue;
            }
            match hooks {
                Some(hooks) if !hooks.is_open() => {
                    if !held {
                        let turn = Turn::Hooks(hooks);
                        due.push(Due { run, turn });
                    }
                }
                _ => due.extend(pod.iter().map(|task| Due {
                    run,
                    turn: Turn::Task(task.id),
                })),
            }
        }
        // Hooks of pods without volumes take no room.
        let bare = run.pods.iter().filter(|pod| {
            let waits = !pod.running && pod.progress.pre.is_empty();
            waits
                && matches!(pod.next(), Step::Run(_))
                && !run.tasks.iter().any(|t| pod.has(t))
                && !run.waits_its_turn(&pod.namespace, &pod.pod)
        });
        due.extend(bare.map(|pod| Due {
            run,
            turn: Turn::Hooks(pod),
        }));
    }
    due
}

fn queued_pods(run: &Run, now_ms: i64) -> Vec<Vec<&Task>> {
    let mut pods: BTreeMap<(&str, &str, &str), Vec<&Task>> = BTreeMap::new();
    let due = |task: &&Task| {
        task.phase == TaskPhase::Queued && task.not_before_ms.is_none_or(|ms| ms <= now_ms)
    };
    for task in run.tasks.iter().filter(due) {
        let pod = (
            task.node.as_str(),
            task.volume.namespace.as_str(),
            task.volume.pod.as_str(),
        );
        pods.entry(pod).or_default().push(task);
    }
    pods.into_values().collect()
}

/// What is taken so far.
struct Room<'a, 'l> {
    limits: &'l Limits,
    nodes: BTreeMap<&'a str, u32>,
    locations: BTreeMap<&'a str, u32>,
    volumes: BTreeSet<&'a VolumeRef>,
    blocked: BTreeSet<&'a str>,
}

impl<'a, 'l> Room<'a, 'l> {
    fn of(runs: impl IntoIterator<Item = &'a Run>, limits: &'l Limits) -> Self {
        let mut room = Self {
            limits,
            nodes: BTreeMap::new(),
            locations: BTreeMap::new(),
            volumes: BTreeSet::new(),
            blocked: BTreeSet::new(),
        };
        for run in runs {
            // What waits for hooks that run has its room already.
            let held = |task: &Task| {
                let pod = run.pod(&task.volume.namespace, &task.volume.pod);
                task.phase == TaskPhase::Queued && pod.is_some_and(PodRun::is_held)
            };
            for task in run
                .tasks
                .iter()
                .filter(|task| task.phase == TaskPhase::Running || held(task))
            {
                room.count(run, task);
            }
        }
        room
    }

    fn count(&mut self, run: &'a Run, task: &'a Task) {
        *self.nodes.entry(&task.node).or_default() += 1;
        *self.locations.entry(&run.location).or_default() += 1;
        self.volumes.insert(&task.volume);
    }

    fn is_connected(&self, node: &str) -> bool {
        self.limits.nodes.contains_key(node)
    }

    /// Takes the room for all of `pod`'s tasks or for none.
    fn take(&mut self, run: &'a Run, pod: &[&'a Task]) -> bool {
        let node = pod[0].node.as_str();
        let Some(limit) = self.limits.nodes.get(node) else {
            return false;
        };
        if self.blocked.contains(node) || pod.iter().any(|t| self.volumes.contains(&t.volume)) {
            return false;
        }
        let wanted = pod.len() as u32;
        let fits = |used: u32, limit: u32| used == 0 || used + wanted <= limit;
        let used = self.nodes.get(node).copied().unwrap_or_default();
        let used_there = self
            .locations
            .get(run.location.as_str())
            .copied()
            .unwrap_or_default();
        let fits_location = self.limits.location == 0 || fits(used_there, self.limits.location);
        if !fits(used, *limit) || !fits_location {
            self.blocked.insert(node);
            return false;
        }
        for task in pod {
            self.count(run, task);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hook::{DEFAULT_TIMEOUT, Hook, HookOutcome, HookPhase, HookSource, PodHooks},
        run::{Event, NewPod, NewTask, RunKind},
    };

    fn run(name: &str, volumes: &[(&str, &str, u8)]) -> Run {
        with_hooks(name, volumes, Vec::new())
    }

    fn with_hooks(name: &str, volumes: &[(&str, &str, u8)], pods: Vec<NewPod>) -> Run {
        let mut run = Run::new(RunKind::Backup, name, "default", 0);
        let tasks = volumes
            .iter()
            .map(|(node, volume, id)| NewTask {
                id: TaskId::from_bytes([*id; 16]),
                volume: volume.parse().unwrap(),
                node: (*node).to_owned(),
                lineage: None,
                snapshot: None,
                place: None,
                source: None,
            })
            .collect();
        let planned = Event::Planned {
            tasks,
            skipped: 0,
            pods,
            objects: None,
        };
        let _ = run.apply(planned, 0);
        run
    }

    fn hooked(pod: &str) -> NewPod {
        let hook = |phase| Hook {
            name: "h".to_owned(),
            container: "c".to_owned(),
            command: vec!["x".to_owned()],
            on_error: None,
            timeout: DEFAULT_TIMEOUT,
            kill: false,
            source: HookSource::Annotation,
            phase,
        };
        NewPod {
            namespace: "x".to_owned(),
            pod: pod.to_owned(),
            hooks: PodHooks {
                pre: vec![hook(HookPhase::Pre)],
                post: vec![hook(HookPhase::Post)],
            },
        }
    }

    fn limits(nodes: &[(&str, u32)], location: u32) -> Limits {
        Limits {
            nodes: nodes.iter().map(|(n, l)| ((*n).to_owned(), *l)).collect(),
            location,
            now_ms: 0,
        }
    }

    fn ids(due: &[Due<'_>]) -> Vec<u8> {
        let id = |due: &Due<'_>| match due.turn {
            Turn::Task(task) => task.to_bytes()[0],
            Turn::Hooks(_) => 0,
        };
        due.iter().map(id).collect()
    }

    #[test]
    fn hooks_take_the_room_of_their_pods_volumes_which_follow_at_once() {
        let volumes = [("n", "x/p1/a", 1), ("n", "x/p1/b", 2), ("n", "x/p2/a", 3)];
        let mut runs = [with_hooks("a", &volumes, vec![hooked("p1")])];
        let limits = limits(&[("n", 2)], 0);
        assert_eq!(ids(&schedule(&runs, &limits)), [0]);
        let (namespace, pod) = ("x".to_owned(), "p1".to_owned());
        let begun = Event::HooksBegun {
            namespace: namespace.clone(),
            pod: pod.clone(),
        };
        let _ = runs[0].apply(begun, 1);
        assert_eq!(ids(&schedule(&runs, &limits)), [0; 0], "the room is taken");
        let ended = Event::HookEnded {
            namespace,
            pod,
            outcome: HookOutcome::Succeeded,
            message: String::new(),
        };
        let _ = runs[0].apply(ended, 2);
        assert_eq!(ids(&schedule(&runs, &limits)), [1, 2]);
        let away = Limits::default();
        assert_eq!(ids(&schedule(&runs, &away)), [0; 0], "its agent is away");
    }

    #[test]
    fn hooks_of_a_pod_without_volumes_run_too() {
        let volumes = [("n", "x/p2/a", 3)];
        let runs = [with_hooks("a", &volumes, vec![hooked("p1")])];
        assert_eq!(ids(&schedule(&runs, &limits(&[("n", 1)], 0))), [3, 0]);
    }

    #[test]
    fn pods_in_an_order_begin_when_those_before_them_have_ended() {
        let volumes = [
            ("n", "x/p1/a", 1),
            ("n", "x/p2/a", 2),
            ("m", "x/p3/a", 3),
            ("m", "x/p4/a", 4),
        ];
        let mut runs = [with_hooks("a", &volumes, vec![hooked("p3")])];
        let order = ["p3", "gone", "p1", "p2"].map(|pod| ("x".to_owned(), pod.to_owned()));
        runs[0].order = order.into();
        let limits = limits(&[("n", 9), ("m", 9)], 0);
        assert_eq!(ids(&schedule(&runs, &limits)), [0, 4], "p3 with its hooks");
        let pod = || ("x".to_owned(), "p3".to_owned());
        let hook_ended = || Event::HookEnded {
            namespace: pod().0,
            pod: pod().1,
            outcome: HookOutcome::Succeeded,
            message: String::new(),
        };
        let finish = |run: &mut Run, id: u8| {
            let task = TaskId::from_bytes([id; 16]);
            let _ = run.apply(Event::Assigned { task }, 1);
            let outcome = crate::run::Outcome::Failed {
                message: "away".to_owned(),
                retry: false,
            };
            let _ = run.apply(Event::Finished { task, outcome }, 1);
        };
        let (namespace, name) = pod();
        let begun = Event::HooksBegun {
            namespace,
            pod: name,
        };
        let _ = runs[0].apply(begun, 1);
        let _ = runs[0].apply(hook_ended(), 1);
        assert_eq!(ids(&schedule(&runs, &limits)), [3, 4]);
        finish(&mut runs[0], 4);
        finish(&mut runs[0], 3);
        assert_eq!(ids(&schedule(&runs, &limits)), [0; 0], "its last hook runs");
        let _ = runs[0].apply(hook_ended(), 1);
        assert_eq!(ids(&schedule(&runs, &limits)), [1]);
        finish(&mut runs[0], 1);
        assert_eq!(ids(&schedule(&runs, &limits)), [2]);
    }

    #[test]
    fn nodes_work_in_parallel_up_to_their_limits() {
        let runs = [run(
            "a",
            &[
                ("n1", "x/p1/v", 1),
                ("n1", "x/p2/v", 2),
                ("n2", "x/p3/v", 3),
            ],
        )];
        assert_eq!(
            ids(&schedule(&runs, &limits(&[("n1", 1), ("n2", 1)], 0))),
            [1, 3]
        );
        assert_eq!(
            ids(&schedule(&runs, &limits(&[("n1", 2), ("n2", 1)], 0))),
            [1, 2, 3]
        );
        assert_eq!(
            ids(&schedule(&runs, &limits(&[("n2", 1)], 0))),
            [3],
            "n1 is not connected"
        );
        assert_eq!(
            ids(&schedule(&runs, &limits(&[("n1", 9), ("n2", 9)], 2))),
            [1, 2]
        );
    }

    #[test]
    fn volumes_of_a_pod_begin_together_even_beyond_the_limit() {
        let runs = [run(
            "a",
            &[("n", "x/p1/a", 1), ("n", "x/p1/b", 2), ("n", "x/p2/a", 3)],
        )];
        assert_eq!(ids(&schedule(&runs, &limits(&[("n", 1)], 0))), [1, 2]);
    }

    #[test]
    fn a_pod_that_waits_is_not_overtaken_on_its_node() {
        let mut runs = vec![run("a", &[("n", "x/p1/a", 1)])];
        let _ = runs[0].apply(
            Event::Assigned {
                task: TaskId::from_bytes([1; 16]),
            },
            0,
        );
        runs.push(run("b", &[("n", "x/p2/a", 2), ("n", "x/p2/b", 3)]));
        runs.push(run("c", &[("n", "x/p3/a", 4), ("m", "x/p4/a", 5)]));
        assert_eq!(
            ids(&schedule(&runs, &limits(&[("n", 2), ("m", 1)], 0))),
            [5]
        );
    }

    #[test]
    fn a_volume_is_never_in_two_tasks() {
        let runs = [
            run("a", &[("n", "x/p/v", 1)]),
            run("b", &[("n", "x/p/v", 2)]),
        ];
        assert_eq!(ids(&schedule(&runs, &limits(&[("n", 4)], 0))), [1]);
    }

    #[test]
    fn a_canceled_run_begins_nothing() {
        let mut runs = [run("a", &[("n", "x/p/v", 1)])];
        let _ = runs[0].apply(Event::Cancel, 0);
        assert!(schedule(&runs, &limits(&[("n", 4)], 0)).is_empty());
    }
}
