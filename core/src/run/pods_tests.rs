//! Stories of pods with hooks: what runs when, whatever fails, is canceled or restarted.

use super::*;
use crate::{
    SnapshotId, TaskId,
    hook::{OnError, sample as hook},
    run::{Event, NewTask, Objects, Outcome, RunKind, TaskResult},
};

const A: TaskId = TaskId::from_bytes([1; 16]);
const B: TaskId = TaskId::from_bytes([2; 16]);

/// A backup of a pod with two volumes, two hooks before them and one after.
struct Story {
    run: Run,
    actions: Vec<Action>,
}

impl Story {
    fn new(on_error: Option<OnError>) -> Self {
        let task = |id, volume: &str| NewTask {
            id,
            volume: volume.parse().unwrap(),
            node: "n".to_owned(),
            lineage: None,
            snapshot: None,
            place: None,
            source: None,
        };
        let hooks = PodHooks {
            pre: vec![
                hook("freeze", HookPhase::Pre, on_error),
                hook("dump", HookPhase::Pre, on_error),
            ],
            post: vec![hook("thaw", HookPhase::Post, None)],
        };
        let mut story = Self {
            run: Run::new(RunKind::Backup, "b", "default", 0),
            actions: Vec::new(),
        };
        story.tell(Event::Planned {
            tasks: vec![task(A, "ns/p/a"), task(B, "ns/p/b")],
            skipped: 0,
            pods: vec![NewPod {
                namespace: "ns".to_owned(),
                pod: "p".to_owned(),
                hooks,
            }],
            objects: Some(Objects { total: 7, done: 7 }),
        });
        story
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        self.actions = self.run.apply(event, 1);
        self
    }

    fn begin(&mut self) -> &mut Self {
        self.tell(Event::HooksBegun {
            namespace: "ns".to_owned(),
            pod: "p".to_owned(),
        })
    }

    fn end_hook(&mut self, outcome: HookOutcome) -> &mut Self {
        self.tell(Event::HookEnded {
            namespace: "ns".to_owned(),
            pod: "p".to_owned(),
            outcome,
            message: "exit code 1".to_owned(),
        })
    }

    fn finish(&mut self, task: TaskId) -> &mut Self {
        self.tell(Event::Assigned { task });
        let outcome = Outcome::Completed(TaskResult {
            snapshot: SnapshotId::from_bytes([9; 16]),
            logical_bytes: 1,
            transferred_bytes: 1,
            entries: 1,
            warnings: 0,
            errors: 0,
        });
        self.tell(Event::Finished { task, outcome })
    }

    fn hook(&self) -> Option<&str> {
        let hook = self.run.hook_to_run("ns", "p");
        hook.map(|hook| hook.name.as_str())
    }

    fn runs_hooks(&self) -> bool {
        let runs = |action: &Action| matches!(action, Action::RunHooks { .. });
        self.actions.iter().any(runs)
    }

    fn phase(&mut self) -> RunPhase {
        self.tell(Event::Recorded);
        self.run.phase
    }
}

use HookOutcome::{Failed, Succeeded};

#[test]
fn hooks_run_around_the_volumes_of_their_pod() {
    let mut story = Story::new(None);
    assert_eq!(story.hook(), None, "nobody runs them yet");
    story.begin();
    assert!(story.runs_hooks());
    assert_eq!(story.hook(), Some("freeze"));
    story.begin();
    assert!(!story.runs_hooks(), "they are being run");
    story.end_hook(Succeeded);
    assert_eq!(story.hook(), Some("dump"));
    story.end_hook(Succeeded);
    assert_eq!(story.hook(), None);
    story.finish(A);
    assert!(!story.runs_hooks());
    story.finish(B);
    assert!(story.runs_hooks());
    assert_eq!(story.hook(), Some("thaw"));
    assert_eq!(story.run.phase, RunPhase::Running);
    story.end_hook(Succeeded);
    assert!(story.actions.contains(&Action::Record));
    assert_eq!(story.phase(), RunPhase::Completed);
    let tally = story.run.hooks();
    assert_eq!((tally.attempted, tally.failed), (3, 0));
}

#[test]
fn a_hook_that_fails_is_an_error_and_the_volumes_are_kept() {
    let mut story = Story::new(None);
    story.begin().end_hook(Failed).end_hook(Succeeded);
    story.finish(A).finish(B).end_hook(Succeeded);
    assert_eq!(story.phase(), RunPhase::PartiallyFailed);
    assert_eq!(story.run.errors(), 1);
    assert_eq!(story.run.counts().done, 2);
}

#[test]
fn a_hook_that_says_fail_leaves_the_volumes_out_and_what_thaws_still_runs() {
    let mut story = Story::new(Some(OnError::Fail));
    story.begin().end_hook(Failed);
    assert_eq!(story.hook(), Some("thaw"), "the executor goes on with it");
    let counts = story.run.counts();
    assert_eq!((counts.done, counts.failed), (0, 2));
    assert!(story.run.tasks[0].message.contains("exit code 1"));
    story.end_hook(Succeeded);
    assert_eq!(story.phase(), RunPhase::PartiallyFailed);
    let tally = story.run.hooks();
    assert_eq!((tally.attempted, tally.failed), (3, 1));
}

#[test]
fn a_canceled_run_thaws_what_was_frozen_and_begins_nothing_else() {
    let mut story = Story::new(None);
    story.begin().end_hook(Succeeded).end_hook(Succeeded);
    story.tell(Event::Assigned { task: A });
    story.tell(Event::Cancel);
    assert!(!story.runs_hooks(), "a volume is still being read");
    story.tell(Event::Finished {
        task: A,
        outcome: Outcome::Canceled,
    });
    assert_eq!(story.hook(), Some("thaw"));
    story.end_hook(Failed);
    assert_eq!(story.phase(), RunPhase::Canceled);
}

#[test]
fn a_run_that_is_canceled_between_its_hooks_thaws_too() {
    let mut story = Story::new(None);
    story.begin().end_hook(Succeeded);
    story.tell(Event::Cancel);
    assert_eq!(story.run.counts().failed, 2);
    // The second hook was running.
    story.end_hook(Succeeded);
    assert_eq!(story.hook(), Some("thaw"));
    story.end_hook(Succeeded);
    assert_eq!(story.phase(), RunPhase::Canceled);
}

#[test]
fn a_run_that_is_canceled_before_anything_runs_no_hook() {
    let mut story = Story::new(None);
    story.tell(Event::Cancel);
    assert!(!story.runs_hooks());
    assert!(story.actions.contains(&Action::Record));
    assert_eq!(story.phase(), RunPhase::Canceled);
    assert_eq!(story.run.hooks(), HookTally::default());
}

#[test]
fn a_run_ends_though_the_node_of_a_pod_with_hooks_is_lost() {
    let lost = || Event::NodeLost {
        node: "n".to_owned(),
        message: "its agent is away".to_owned(),
    };
    let mut story = Story::new(None);
    story.tell(lost());
    assert!(
        !story.runs_hooks(),
        "nothing is frozen that is not backed up"
    );
    assert!(story.actions.contains(&Action::Record));
    assert_eq!(story.run.counts().failed, 2);
    assert_eq!(story.phase(), RunPhase::PartiallyFailed);

    // Between the hooks: what was frozen is thawed.
    let mut story = Story::new(None);
    story.begin().end_hook(Succeeded).tell(lost());
    story.end_hook(Succeeded);
    assert_eq!(story.hook(), Some("thaw"));
    story.end_hook(Succeeded);
    assert_eq!(story.phase(), RunPhase::PartiallyFailed);

    // A run that another version left so goes on.
    let mut story = Story::new(None);
    story.begin().end_hook(Succeeded);
    story.run.pods[0].running = false;
    story.tell(lost());
    assert_eq!(story.hook(), Some("thaw"));
    story.end_hook(Succeeded);
    assert_eq!(story.phase(), RunPhase::PartiallyFailed);
}

#[test]
fn what_was_being_run_is_gone_on_with_after_a_restart() {
    let mut story = Story::new(None);
    assert_eq!(story.run.resume(), []);
    story.begin().end_hook(Succeeded);
    let json = serde_json::to_string(&story.run).unwrap();
    story.run = serde_json::from_str(&json).unwrap();
    assert_eq!(story.run.resume().len(), 1);
    assert_eq!(story.hook(), Some("dump"));
}

#[test]
fn nothing_but_objects_is_a_complete_backup() {
    let mut run = Run::new(RunKind::Backup, "b", "default", 0);
    let planned = |objects| Event::Planned {
        tasks: vec![],
        skipped: 0,
        pods: vec![],
        objects,
    };
    let _ = run.apply(planned(Some(Objects { total: 3, done: 3 })), 1);
    let mut flawed = run.clone();
    let _ = run.apply(Event::Recorded, 2);
    assert_eq!(run.phase, RunPhase::Completed);
    let noted = Event::Noted {
        warnings: 2,
        errors: 1,
    };
    let _ = flawed.apply(noted, 2);
    let _ = flawed.apply(Event::Recorded, 2);
    assert_eq!(flawed.phase, RunPhase::PartiallyFailed);
    assert_eq!((flawed.warnings(), flawed.errors()), (2, 1));
}
