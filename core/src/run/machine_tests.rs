//! The run's table: every state against every event, then the stories that cross several states.

use super::*;
use crate::{SnapshotId, run::RunKind};

const A: TaskId = TaskId::from_bytes([1; 16]);
const B: TaskId = TaskId::from_bytes([2; 16]);
const SNAPSHOT: SnapshotId = SnapshotId::from_bytes([9; 16]);

fn planned() -> Event {
    let task = |id, volume: &str| NewTask {
        id,
        volume: volume.parse().unwrap(),
        node: "n".to_owned(),
        lineage: None,
        snapshot: None,
        place: None,
        source: None,
    };
    Event::Planned {
        tasks: vec![task(A, "ns/p/a"), task(B, "ns/p/b")],
        skipped: 1,
        pods: vec![],
        objects: None,
    }
}

fn result(errors: u64) -> Outcome {
    Outcome::Completed(TaskResult {
        snapshot: SNAPSHOT,
        logical_bytes: 10,
        transferred_bytes: 5,
        entries: 3,
        warnings: 1,
        errors,
    })
}

fn finished(task: TaskId, outcome: Outcome) -> Event {
    Event::Finished { task, outcome }
}

fn failed(retry: bool) -> Outcome {
    Outcome::Failed {
        message: "broken".to_owned(),
        retry,
    }
}

fn reported(tasks: &[TaskId]) -> Event {
    Event::Reported {
        node: "n".to_owned(),
        tasks: tasks.to_vec(),
    }
}

fn after(events: &[Event]) -> (Run, Vec<Action>) {
    let mut run = Run::new(RunKind::Backup, "b", "default", 1);
    let mut last = Vec::new();
    for event in events {
        last = run.apply(event.clone(), 2);
    }
    (run, last)
}

fn both(outcomes: [Outcome; 2]) -> Vec<Event> {
    let [a, b] = outcomes;
    vec![
        planned(),
        Event::Assigned { task: A },
        Event::Assigned { task: B },
        finished(A, a),
        finished(B, b),
    ]
}

fn states() -> Vec<(RunPhase, Vec<Event>)> {
    let recorded = |mut events: Vec<Event>| {
        events.push(Event::Recorded);
        events
    };
    let running = vec![planned(), Event::Assigned { task: A }];
    let deleting = vec![planned(), Event::Assigned { task: A }, Event::Delete];
    vec![
        (RunPhase::New, vec![]),
        (RunPhase::Queued, vec![planned()]),
        (RunPhase::Running, running),
        (RunPhase::Finalizing, both([result(0), result(0)])),
        (RunPhase::Completed, recorded(both([result(0), result(0)]))),
        (
            RunPhase::PartiallyFailed,
            recorded(both([result(0), failed(false)])),
        ),
        (
            RunPhase::Failed,
            recorded(both([failed(false), failed(false)])),
        ),
        (
            RunPhase::Canceled,
            vec![planned(), Event::Cancel, Event::Recorded],
        ),
        (RunPhase::Deleting, deleting),
    ]
}

#[test]
fn every_state_takes_every_event() {
    use RunPhase::{
        Canceled, Completed, Deleting, Failed, Finalizing, New, PartiallyFailed, Queued, Running,
    };
    let lost = Event::NodeLost {
        node: "n".to_owned(),
        message: "gone".to_owned(),
    };
    let progressed = Event::Progressed {
        task: A,
        progress: Progress::default(),
    };
    let touches = Event::Touches { task: A };
    let given_up = Event::GivenUp {
        task: A,
        message: "it stands still".to_owned(),
    };
    let unplannable = Event::Unplannable {
        reason: "nothing".to_owned(),
    };
    // The columns are the states in the order of `states`.
    #[rustfmt::skip]
    let table: Vec<(&str, Event, [RunPhase; 9])> = vec![
        ("planned",      planned(),                     [Queued,     Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("unplannable",  unplannable,                   [Finalizing, Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("assigned",     Event::Assigned { task: B },   [New,        Running,    Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("progressed",   progressed,                    [New,        Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("touches",      touches,                       [New,        Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("finished",     finished(A, result(0)),        [New,        Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("failed",       finished(A, failed(true)),     [New,        Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("given up",     given_up,                      [New,        Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("reported",     reported(&[A]),                [New,        Running,    Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("forgotten",    reported(&[]),                 [New,        Queued,     Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("node lost",    lost,                          [New,        Finalizing, Finalizing, Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("cancel",       Event::Cancel,                 [Finalizing, Finalizing, Running,    Finalizing, Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("recorded",     Event::Recorded,               [New,        Queued,     Running,    Completed,  Completed, PartiallyFailed, Failed,   Canceled, Deleting]),
        ("delete",       Event::Delete,                 [Deleting,   Deleting,   Deleting,   Deleting,   Deleting,  Deleting,        Deleting, Deleting, Deleting]),
    ];
    for (name, event, expected) in table {
        for ((state, history), expected) in states().into_iter().zip(expected) {
            let (mut run, _) = after(&history);
            assert_eq!(run.phase, state, "the history of {state:?}");
            let actions = run.apply(event.clone(), 3);
            assert_eq!(run.phase, expected, "{name} in {state:?}");
            let recorded = actions.contains(&Action::Record);
            let enters = expected == Finalizing && state != Finalizing;
            assert_eq!(recorded, enters, "{name} in {state:?} records");
            let idle = run.tasks.iter().all(|task| task.phase.is_final());
            let removed = actions.contains(&Action::Remove);
            assert_eq!(
                removed,
                expected == Deleting && idle,
                "{name} in {state:?} removes"
            );
            let ended = matches!(event, Event::Finished { .. });
            assert_eq!(
                actions.contains(&Action::Acknowledge(A)),
                ended,
                "{name} in {state:?}"
            );
        }
    }
}

#[test]
fn a_run_whose_entries_have_errors_is_partially_failed() {
    let mut events = both([result(0), result(2)]);
    events.push(Event::Recorded);
    let (run, _) = after(&events);
    assert_eq!(run.phase, RunPhase::PartiallyFailed);
    assert_eq!((run.warnings(), run.errors()), (2, 2));
    assert_eq!((run.logical_bytes(), run.transferred_bytes()), (20, 10));
}

#[test]
fn a_task_that_its_agent_forgot_is_begun_three_times() {
    let (mut run, _) = after(&[planned()]);
    for attempt in 1..=3 {
        assert_eq!(
            run.apply(Event::Assigned { task: A }, 3),
            [Action::Start(A)]
        );
        assert_eq!(run.task(A).unwrap().attempts, attempt);
        let _ = run.apply(reported(&[]), 4);
    }
    let task = run.task(A).unwrap();
    assert_eq!(task.phase, TaskPhase::Failed);
    assert_eq!(task.message, "its agent was restarted (attempt 3 of 3)");
}

#[test]
fn a_task_that_its_agent_still_has_runs_on() {
    let (mut run, _) = after(&[planned(), Event::Assigned { task: A }]);
    assert_eq!(run.apply(reported(&[A]), 3), []);
    assert_eq!(run.task(A).unwrap().attempts, 1);
    assert_eq!(run.task(A).unwrap().phase, TaskPhase::Running);
}

#[test]
fn canceling_stops_what_runs_and_waits_for_it() {
    let (mut run, actions) = after(&[planned(), Event::Assigned { task: A }, Event::Cancel]);
    assert_eq!(actions, [Action::Stop(A)]);
    assert_eq!(run.phase, RunPhase::Running);
    let actions = run.apply(finished(A, Outcome::Canceled), 3);
    assert_eq!(actions, [Action::Acknowledge(A), Action::Record]);
    assert_eq!(run.errors(), 0);
    let _ = run.apply(Event::Recorded, 4);
    assert_eq!(run.phase, RunPhase::Canceled);
    assert_eq!((run.errors(), run.errors_of_parts()), (1, 0));
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let mut events = vec![
        planned(),
        Event::Assigned { task: A },
        Event::Assigned { task: B },
    ];
    events.extend([
        Event::Cancel,
        finished(A, result(0)),
        finished(B, result(0)),
    ]);
    events.push(Event::Recorded);
    assert_eq!(after(&events).0.phase, RunPhase::Completed);
}

#[test]
fn a_task_that_stands_still_is_stopped_and_its_late_end_changes_nothing() {
    let (mut run, _) = after(&[planned(), Event::Assigned { task: A }]);
    let given_up = Event::GivenUp {
        task: A,
        message: "it stands still".to_owned(),
    };
    assert_eq!(run.apply(given_up.clone(), 3), [Action::Stop(A)]);
    let task = run.task(A).unwrap();
    assert_eq!(
        (task.phase, task.message.as_str()),
        (TaskPhase::Failed, "it stands still")
    );
    assert_eq!(run.apply(given_up, 4), []);
    let _ = run.apply(finished(A, result(0)), 5);
    assert_eq!(run.task(A).unwrap().phase, TaskPhase::Failed);
}

#[test]
fn an_end_told_twice_counts_once_and_is_acknowledged_twice() {
    let (mut run, _) = after(&[planned(), Event::Assigned { task: A }]);
    assert_eq!(
        run.apply(finished(A, result(0)), 3),
        [Action::Acknowledge(A)]
    );
    assert_eq!(
        run.apply(finished(A, failed(false)), 4),
        [Action::Acknowledge(A)]
    );
    assert_eq!(run.task(A).unwrap().phase, TaskPhase::Completed);
}

#[test]
fn an_empty_plan_fails_and_says_so() {
    let (mut run, actions) = after(&[Event::Planned {
        tasks: vec![],
        skipped: 4,
        pods: vec![],
        objects: None,
    }]);
    assert_eq!(actions, [Action::Record]);
    let _ = run.apply(Event::Recorded, 3);
    assert_eq!(run.phase, RunPhase::Failed);
    assert_eq!(run.failure_reason, "no volume was selected");
    assert_eq!(run.counts().skipped, 4);
}

#[test]
fn a_task_that_ended_elsewhere_is_stopped_when_its_node_returns() {
    let lost = Event::NodeLost {
        node: "n".to_owned(),
        message: "gone".to_owned(),
    };
    let (mut run, _) = after(&[planned(), Event::Assigned { task: A }, lost]);
    assert_eq!(run.apply(reported(&[A]), 3), [Action::Stop(A)]);
}

#[test]
fn an_attempt_that_dies_before_it_tells_anything_has_touched_its_target_once_it_may_write() {
    let (mut run, _) = after(&[planned(), Event::Assigned { task: A }]);
    let _ = run.apply(reported(&[]), 3);
    assert!(!run.task(A).unwrap().touched, "it may never have begun");
    let _ = run.apply(Event::Assigned { task: A }, 4);
    let _ = run.apply(Event::Touches { task: A }, 5);
    let _ = run.apply(reported(&[]), 6);
    let task = run.task(A).unwrap();
    assert_eq!((task.phase, task.touched), (TaskPhase::Queued, true));
}

#[test]
fn a_target_that_was_refused_is_not_tried_again() {
    let (mut run, _) = after(&[planned(), Event::Assigned { task: A }]);
    let _ = run.apply(finished(A, failed(false)), 3);
    let task = run.task(A).unwrap();
    assert_eq!((task.phase, task.touched), (TaskPhase::Failed, false));
}
