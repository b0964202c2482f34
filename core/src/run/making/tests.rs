//! Stories of restores that make Kubernetes objects again: what becomes known when, and how they end.

use super::*;
use crate::{
    SnapshotId, TaskId, VolumeRef,
    hook::{HookPhase, sample as hook},
    run::{Event, Limits, Outcome, RunKind, TaskResult, Turn, schedule},
};

const SNAPSHOT: SnapshotId = SnapshotId::from_bytes([9; 16]);

fn id(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

fn pod(uid: &str) -> PodId {
    PodId {
        namespace: "shop".to_owned(),
        pod: "db-0".to_owned(),
        uid: uid.to_owned(),
    }
}

/// The pod with volumes of these names, whose tasks have the numbers from `first` on.
fn made(uid: &str, first: u8, volumes: &[&str], hooks: Vec<crate::hook::Hook>) -> RestoreEvent {
    let task = |(number, volume): (u8, &&str)| NewTask {
        id: id(number),
        volume: VolumeRef::new("shop", "db-0", *volume),
        node: String::new(),
        lineage: None,
        snapshot: Some(SNAPSHOT),
        place: None,
        source: Some(VolumeRef::new("old", "db-0", *volume)),
    };
    let wait = HookWait {
        timeout: Duration::from_mins(1),
        ready: false,
    };
    RestoreEvent::PodMade(MadePod {
        id: pod(uid),
        tasks: (first..).zip(volumes).map(task).collect(),
        sizes: vec![7; volumes.len()],
        waits: vec![wait; hooks.len()],
        hooks: PodHooks {
            pre: vec![],
            post: hooks,
        },
    })
}

fn placed(uid: &str, node: &str) -> RestoreEvent {
    let place = |name: &str| {
        let directory = format!("dir-{name}");
        let place = Place {
            directory,
            ..Place::default()
        };
        (name.to_owned(), place)
    };
    RestoreEvent::PodPlaced {
        pod: pod(uid),
        node: node.to_owned(),
        places: vec![place("a"), place("b")],
    }
}

fn lost(uid: &str) -> RestoreEvent {
    RestoreEvent::PodLost {
        pod: pod(uid),
        message: "it is gone".to_owned(),
    }
}

/// A restore at a time that the test sets.
struct Story {
    run: Run,
    now_ms: i64,
    actions: Vec<Action>,
}

impl Story {
    fn opened() -> Self {
        let mut story = Self {
            run: Run::new(RunKind::Restore, "r", "default", 0),
            now_ms: 1,
            actions: Vec::new(),
        };
        story.make(RestoreEvent::Opened);
        story
    }

    /// All objects are made, among them a pod with two volumes.
    fn applied() -> Self {
        let mut story = Self::opened();
        story.make(RestoreEvent::Begun);
        story.make(made("1", 1, &["a", "b"], vec![]));
        story.make(RestoreEvent::Applied);
        story
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        self.actions = self.run.apply(event, self.now_ms);
        self
    }

    fn make(&mut self, event: RestoreEvent) -> &mut Self {
        self.tell(Event::Restore(event))
    }

    fn end(&mut self, number: u8, outcome: Outcome) -> &mut Self {
        self.tell(Event::Assigned { task: id(number) });
        self.tell(Event::Finished {
            task: id(number),
            outcome,
        })
    }

    fn complete(&mut self, number: u8) -> &mut Self {
        self.end(
            number,
            Outcome::Completed(TaskResult {
                snapshot: SNAPSHOT,
                logical_bytes: 1,
                transferred_bytes: 1,
                entries: 1,
                warnings: 0,
                errors: 0,
            }),
        )
    }

    fn fail(&mut self, number: u8, retry: bool) -> &mut Self {
        let message = "no space left".to_owned();
        self.end(number, Outcome::Failed { message, retry })
    }

    fn hook_ended(&mut self, outcome: HookOutcome) -> &mut Self {
        self.tell(Event::HookEnded {
            namespace: "shop".to_owned(),
            pod: "db-0".to_owned(),
            outcome,
            message: "exit code 1".to_owned(),
        })
    }

    fn hook(&self) -> Option<&str> {
        let hook = self.run.hook_to_run("shop", "db-0");
        hook.map(|hook| hook.name.as_str())
    }

    /// The end of the run once it is closed and recorded.
    fn close(&mut self) -> RunPhase {
        self.make(RestoreEvent::Closed);
        assert!(self.actions.contains(&Action::Record), "{:?}", self.run);
        self.tell(Event::Recorded);
        self.run.phase
    }

    /// The numbers of the tasks whose turn it is with an agent on `n` and one on `m`.
    fn due(&self) -> Vec<u8> {
        let limits = Limits {
            nodes: [("n".to_owned(), 9), ("m".to_owned(), 9)].into(),
            location: 0,
            now_ms: self.now_ms,
        };
        let runs = [&self.run];
        let due = schedule(runs, &limits);
        let number = |turn: Turn<'_>| match turn {
            Turn::Task(task) => task.to_bytes()[0],
            Turn::Hooks(_) => 0,
        };
        due.iter().map(|due| number(due.turn)).collect()
    }
}

#[test]
fn tasks_become_known_with_their_pods_and_begin_where_these_wait() {
    let mut story = Story::opened();
    assert_eq!(story.run.phase, RunPhase::Queued);
    story.make(RestoreEvent::Begun);
    assert_eq!(story.run.phase, RunPhase::Running);
    let objects = Objects { total: 7, done: 3 };
    story.make(RestoreEvent::Progressed(objects));
    assert_eq!(story.run.objects, Some(objects));
    story.make(made("1", 1, &["b", "a"], vec![]));
    story.make(made("1", 3, &["b", "a"], vec![]));
    let ids: Vec<u8> = story.run.tasks.iter().map(|t| t.id.to_bytes()[0]).collect();
    assert_eq!(ids, [2, 1], "in order of volume, each once");
    assert_eq!(story.due(), [0; 0], "it is not known where");
    story.make(placed("1", "n"));
    assert_eq!(story.due(), [2, 1]);
    let task = &story.run.tasks[0];
    let place = task.place.clone().unwrap();
    assert_eq!(
        (place.pod_uid.as_str(), place.directory.as_str()),
        ("1", "dir-a")
    );
    assert_eq!(task.source, Some(VolumeRef::new("old", "db-0", "a")));
    story.complete(1).complete(2);
    assert_eq!(story.run.phase, RunPhase::Running, "more objects may come");
    story.make(RestoreEvent::Applied);
    assert!(!story.actions.contains(&Action::Record));
    assert!(story.run.is_idle());
    assert_eq!(story.close(), RunPhase::Completed);
}

#[test]
fn any_error_makes_it_partially_failed_and_only_what_is_broken_failed() {
    let mut story = Story::applied();
    story.make(placed("1", "n")).complete(1).fail(2, false);
    assert_eq!(story.close(), RunPhase::PartiallyFailed);
    assert_eq!(story.run.failure_reason, "shop/db-0/b: no space left");

    let mut story = Story::applied();
    story.make(lost("1"));
    assert_eq!(
        story.close(),
        RunPhase::PartiallyFailed,
        "no volume, but objects"
    );

    let mut story = Story::opened();
    story.make(RestoreEvent::Begun).make(RestoreEvent::Applied);
    story.tell(Event::Noted {
        warnings: 1,
        errors: 2,
    });
    assert_eq!(story.close(), RunPhase::PartiallyFailed);
    assert_eq!(story.run.failure_reason, "2 errors: its log has them");

    let mut story = Story::opened();
    story.make(RestoreEvent::Begun).make(RestoreEvent::Applied);
    story.tell(Event::Noted {
        warnings: 3,
        errors: 0,
    });
    assert_eq!(
        story.close(),
        RunPhase::Completed,
        "warnings change nothing"
    );

    let mut story = Story::opened();
    let reason = "snapshot x is gone".to_owned();
    story.make(RestoreEvent::Begun);
    story.make(RestoreEvent::Broken { reason });
    assert_eq!(story.close(), RunPhase::Failed);
    assert_eq!(story.run.failure_reason, "snapshot x is gone");
}

#[test]
fn beginning_again_counts_nothing_twice() {
    let mut story = Story::opened();
    let noted = Event::Noted {
        warnings: 1,
        errors: 1,
    };
    for _ in 0..2 {
        story.make(RestoreEvent::Begun).tell(noted.clone());
        story.make(made("1", 1, &["a"], vec![]));
    }
    assert_eq!((story.run.warnings(), story.run.errors()), (1, 1));
    assert_eq!(story.run.tasks.len(), 1);
    story.make(RestoreEvent::Applied).make(RestoreEvent::Begun);
    assert_eq!(story.run.errors(), 1, "what is applied is not begun again");
}

#[test]
fn a_task_that_its_pod_waits_for_is_tried_again_with_longer_and_longer_pauses() {
    let mut story = Story::applied();
    story.make(placed("1", "n")).complete(2);
    let mut pauses = Vec::new();
    for attempt in 1..=9 {
        story.fail(1, true);
        let task = &story.run.tasks[0];
        assert_eq!((task.phase, task.attempts), (TaskPhase::Queued, attempt));
        let until = task.not_before_ms.unwrap();
        pauses.push((until - story.now_ms) / 1000);
        story.now_ms = until - 1;
        assert_eq!(story.due(), [0; 0], "it pauses");
        story.now_ms = until;
        assert_eq!(story.due(), [1]);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    story.complete(1);
    assert_eq!(story.close(), RunPhase::Completed);
    assert_eq!(story.run.tasks[0].attempts, 10);
}

#[test]
fn a_task_that_cannot_succeed_is_not_tried_again_though_its_pod_waits() {
    let mut story = Story::applied();
    story.make(placed("1", "n")).fail(1, false);
    assert_eq!(story.run.tasks[0].phase, TaskPhase::Failed);
}

#[test]
fn a_pod_that_waits_outlives_its_agent() {
    let mut story = Story::applied();
    story.make(placed("1", "n"));
    story.tell(Event::Assigned { task: id(1) });
    story.tell(Event::NodeLost {
        node: "n".to_owned(),
        message: "the agent is silent".to_owned(),
    });
    let phases: Vec<TaskPhase> = story.run.tasks.iter().map(|task| task.phase).collect();
    assert_eq!(phases, [TaskPhase::Queued, TaskPhase::Queued]);
    assert_eq!(story.run.tasks[1].message, "the agent is silent");
    story.make(lost("1"));
    assert_eq!(story.close(), RunPhase::PartiallyFailed);
    assert_eq!(story.run.counts().failed, 2);
}

#[test]
fn a_pod_that_waits_elsewhere_takes_its_tasks_along() {
    let mut story = Story::applied();
    story.make(placed("1", "n"));
    story.tell(Event::Assigned { task: id(1) });
    story.make(placed("1", "n"));
    assert_eq!(story.actions, [], "it is where it was");
    story.make(placed("1", "m"));
    let stop = |node: &str| Action::StopThere {
        task: id(1),
        node: node.to_owned(),
    };
    assert_eq!(story.actions, [stop("n")]);
    assert_eq!(story.due(), [1, 2]);
    story.complete(1);
    assert_eq!(story.run.tasks[0].node, "m");
}

#[test]
fn a_pod_that_was_made_again_gets_all_its_volumes_again() {
    let mut story = Story::applied();
    story.make(placed("1", "n")).complete(2);
    story.tell(Event::Assigned { task: id(1) });
    story.make(made("2", 3, &["a", "b"], vec![]));
    let stop = Action::StopThere {
        task: id(1),
        node: "n".to_owned(),
    };
    assert_eq!(story.actions, [stop]);
    assert_eq!(story.run.tasks.len(), 2);
    story.make(placed("1", "n")).make(lost("1"));
    assert_eq!(story.due(), [0; 0], "the one before is of no account");
    story.make(placed("2", "m"));
    assert_eq!(story.due(), [3, 4]);
    story.complete(1);
    assert_eq!(story.run.counts().done, 0, "so is what was done for it");
    story.complete(3).complete(4);
    assert_eq!(story.close(), RunPhase::Completed);
}

#[test]
fn losing_a_pod_stops_what_runs_for_it() {
    let mut story = Story::applied();
    story.make(placed("1", "n")).complete(2);
    story.tell(Event::Assigned { task: id(1) });
    story.make(lost("1"));
    assert_eq!(story.actions, [Action::Stop(id(1))]);
    assert_eq!(story.run.tasks[0].message, "it is gone");
    assert_eq!(story.run.tasks[1].phase, TaskPhase::Completed);
    story.make(lost("1"));
    assert_eq!(story.actions, []);
}

fn hooked(on_error: Option<OnError>, volumes: &[&str]) -> Story {
    let mut story = Story::opened();
    let hooks = vec![
        hook("migrate", HookPhase::Post, on_error),
        hook("warm", HookPhase::Post, None),
    ];
    story.make(RestoreEvent::Begun);
    story.make(made("1", 1, volumes, hooks));
    story.make(RestoreEvent::Applied);
    story
}

fn runs_hooks(story: &Story) -> bool {
    let runs = |action: &Action| matches!(action, Action::RunHooks { .. });
    story.actions.iter().any(runs)
}

#[test]
fn hooks_of_a_restored_pod_run_after_its_volumes() {
    let mut story = hooked(None, &["a"]);
    assert_eq!(story.hook(), None);
    story.make(placed("1", "n"));
    assert_eq!(story.due(), [1], "no hook comes before the volume");
    story.complete(1);
    assert!(runs_hooks(&story));
    assert_eq!(story.hook(), Some("migrate"));
    let pod = story.run.pod("shop", "db-0").unwrap();
    assert_eq!(pod.next_wait().unwrap().timeout, Duration::from_mins(1));
    story.hook_ended(HookOutcome::Failed);
    assert_eq!(story.hook(), Some("warm"));
    assert!(!story.run.pod("shop", "db-0").unwrap().is_stopped());
    story.hook_ended(HookOutcome::Succeeded);
    assert_eq!(story.close(), RunPhase::PartiallyFailed);
    let tally = story.run.hooks();
    assert_eq!((tally.attempted, tally.failed), (2, 1));
}

#[test]
fn a_hook_of_a_restored_pod_that_says_fail_stops_those_behind_it() {
    let mut story = hooked(Some(OnError::Fail), &[]);
    assert_eq!(story.hook(), Some("migrate"), "without volumes at once");
    story.hook_ended(HookOutcome::Failed);
    assert!(story.run.pod("shop", "db-0").unwrap().is_stopped());
    story.hook_ended(HookOutcome::Failed);
    assert_eq!(story.close(), RunPhase::PartiallyFailed);
    assert_eq!(story.run.errors(), 2, "what never ran is an error too");
}

#[test]
fn hooks_of_a_pod_whose_volumes_are_missing_know_it() {
    let mut story = hooked(None, &["a"]);
    story.make(lost("1"));
    assert_eq!(story.hook(), Some("migrate"));
    let missing = story.run.unrestored("shop", "db-0").unwrap();
    assert_eq!(missing.volume.volume, "a");
    assert!(story.run.unrestored("shop", "other").is_none());
}

#[test]
fn a_canceled_restore_waits_for_who_makes_its_objects_and_runs_no_hook() {
    let mut story = hooked(None, &["a"]);
    story.make(placed("1", "n"));
    story
        .tell(Event::Assigned { task: id(1) })
        .tell(Event::Cancel);
    assert_eq!(story.actions, [Action::Stop(id(1))]);
    story.make(made("2", 3, &["a", "b"], vec![]));
    assert_eq!(story.run.tasks.len(), 1, "nothing is added any more");
    story.tell(Event::Finished {
        task: id(1),
        outcome: Outcome::Canceled,
    });
    assert!(!runs_hooks(&story));
    assert_eq!(story.run.phase, RunPhase::Running);
    assert_eq!(story.close(), RunPhase::Canceled);
}

#[test]
fn a_canceled_restore_does_not_wait_for_a_node_that_is_lost() {
    let mut story = Story::applied();
    story.make(placed("1", "n"));
    story
        .tell(Event::Assigned { task: id(1) })
        .tell(Event::Cancel);
    story.tell(Event::NodeLost {
        node: "n".to_owned(),
        message: "the agent is silent".to_owned(),
    });
    assert_eq!(story.close(), RunPhase::Canceled);
}

#[test]
fn a_cancel_while_a_hook_waits_lets_go_of_it() {
    let mut story = hooked(None, &[]);
    story.tell(Event::Cancel);
    assert_eq!(story.hook(), None);
    assert!(!story.run.is_idle(), "somebody still runs it");
    story.tell(Event::HooksLeft {
        namespace: "shop".to_owned(),
        pod: "db-0".to_owned(),
    });
    assert!(story.run.is_idle());
    assert_eq!(story.close(), RunPhase::Canceled);
    assert_eq!(story.run.errors_of_parts(), 0);
}

#[test]
fn hooks_that_are_to_run_are_not_left() {
    let mut story = hooked(None, &[]);
    story.tell(Event::HooksLeft {
        namespace: "shop".to_owned(),
        pod: "db-0".to_owned(),
    });
    assert_eq!(story.hook(), Some("migrate"));
}

#[test]
fn it_can_be_canceled_and_deleted_in_every_state() {
    let begun = |mut story: Story| {
        story.make(RestoreEvent::Begun);
        story
    };
    let running = || {
        let mut story = Story::applied();
        story.make(placed("1", "n"));
        story.complete(1).complete(2);
        story
    };
    let states: [fn() -> Story; 3] = [Story::opened, || Story::opened(), Story::applied];
    for (number, state) in states.into_iter().enumerate() {
        let mut story = if number == 1 { begun(state()) } else { state() };
        story.tell(Event::Cancel);
        assert_eq!(story.close(), RunPhase::Canceled, "state {number}");

        let mut story = if number == 1 { begun(state()) } else { state() };
        story.tell(Event::Delete);
        assert_eq!(story.run.phase, RunPhase::Deleting);
        assert!(!story.actions.contains(&Action::Remove), "it is at work");
        story.make(RestoreEvent::Closed);
        assert_eq!(story.actions, [Action::Remove], "state {number}");
    }
    let mut late = running();
    late.tell(Event::Cancel);
    assert_eq!(late.close(), RunPhase::Completed, "it came too late");
}

#[test]
fn a_restore_of_an_older_state_database_is_read_as_it_was() {
    let mut run = Run::new(RunKind::Restore, "r", "default", 0);
    let task = NewTask {
        id: id(1),
        volume: "ns/p/v".parse().unwrap(),
        node: "n".to_owned(),
        lineage: None,
        snapshot: Some(SNAPSHOT),
        place: None,
        source: None,
    };
    let _ = run.apply(
        Event::Planned {
            tasks: vec![task],
            skipped: 0,
            pods: vec![],
            objects: None,
        },
        0,
    );
    let mut json = serde_json::to_value(&run).unwrap();
    assert!(json.get("making").is_none());
    let task = json["tasks"][0].as_object_mut().unwrap();
    for field in ["awaited", "source", "not_before_ms"] {
        task.remove(field);
    }
    let read: Run = serde_json::from_value(json).unwrap();
    assert_eq!(read, run);
    let spec: crate::run::RestoreSpec = serde_json::from_str(r#"{"from_backup": "b"}"#).unwrap();
    assert!(!spec.makes_objects());
}

#[test]
fn a_restart_in_the_middle_goes_on_with_what_is_known() {
    let mut story = hooked(None, &["a"]);
    story.make(placed("1", "n"));
    let json = serde_json::to_string(&story.run).unwrap();
    let read: Run = serde_json::from_str(&json).unwrap();
    assert_eq!(read, story.run);
}

#[test]
fn why_a_pod_waits_is_known_while_it_is_tried_again_and_when_it_is_given_up() {
    let story = || {
        let mut story = Story::applied();
        story.make(placed("1", "n")).fail(1, true);
        let again = "no space left; it will be tried again";
        assert_eq!(story.run.tasks[0].message, again);
        story.now_ms = 2000;
        story.tell(Event::Assigned { task: id(1) });
        let task = &story.run.tasks[0];
        assert_eq!(
            (task.phase, task.message.as_str()),
            (TaskPhase::Running, again)
        );
        assert_eq!(task.snapshot_bytes, 7);
        story
    };
    let mut given_up = story();
    given_up.make(lost("1"));
    let task = &given_up.run.tasks[0];
    let last = "no space left; and then: it is gone";
    assert_eq!(
        (task.phase, task.message.as_str()),
        (TaskPhase::Failed, last)
    );
    let mut mended = story();
    mended.complete(1).complete(2);
    assert_eq!(
        (mended.run.tasks[0].message.as_str(), mended.run.errors()),
        ("", 0)
    );
    assert_eq!(mended.close(), RunPhase::Completed);
}
