//! Pods that do not move on: what is said of them and when, and that they do move on once that is mended.

use tokio::time::{Instant, sleep};

use super::*;

fn full() -> Outcome {
    Outcome::Failed {
        message: "volume shop/db-0/a takes no more data".to_owned(),
        retry: true,
    }
}

/// Notes of the events that were written of a kind of object for this reason.
fn told(world: &World, kind: &str, reason: &str) -> Vec<String> {
    let script = world.fake.script();
    let told = script
        .told
        .iter()
        .filter(|it| (it.0.as_str(), it.2.as_str()) == (kind, reason));
    told.map(|it| it.3.clone()).collect()
}

async fn warned(world: &World) {
    let since = Instant::now();
    world
        .until("somebody is told", |world| world.run().warnings() > 0)
        .await;
    let took = since.elapsed();
    assert!(took < Duration::from_mins(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_full_is_told_of_and_restored_once_there_is_room() {
    let (world, starts) = begun(&[]).await;
    let awaited = |start: &v1::StartTask| match &start.work {
        Some(Work::Restore(work)) => work.awaited,
        _ => false,
    };
    assert!(starts.iter().all(awaited));
    finish_all(&world, &starts[1..]);
    world.finish(&starts[0], full());
    // Each attempt fails until somebody makes room.
    let (mut answered, since) = (2, Instant::now());
    while since.elapsed() < Duration::from_mins(8) {
        sleep(Duration::from_secs(1)).await;
        let starts = world.started(answered).await;
        for start in &starts[answered..] {
            world.finish(start, full());
        }
        answered = starts.len();
        let run = world.run();
        assert!(!run.phase.is_final());
        assert!(
            run.tasks[0].message.contains("takes no more data"),
            "{:?}",
            run.tasks[0]
        );
        if since.elapsed() > Duration::from_mins(1) {
            assert_eq!(told(&world, "Pod", "RestoreWaits").len(), 1);
        }
    }
    assert!(answered > 9, "it is tried about once a minute: {answered}");
    let notes = told(&world, "Pod", "RestoreWaits");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("volume a: volume shop/db-0/a takes no more data"),
        "{notes:?}"
    );
    assert_eq!(told(&world, "Restore", "PodWaits"), notes);
    let lines = world.log().len();
    assert!(lines < 60, "the log does not fill with attempts: {lines}");
    let last = world.started(answered + 1).await.pop().unwrap();
    finish_all(&world, &[last]);
    let run = world.ended().await;
    assert_eq!((run.phase, run.errors()), (RunPhase::Completed, 0));
    assert_eq!(run.tasks[0].message, "");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_stays_full_is_given_up_with_its_reason() {
    let world = World::new().await;
    let made = world.backup(&["old/db-0/a"], &[]).await;
    {
        let mut script = world.fake.script();
        script.pods = vec![pod("db-0", &[("a", made[0])], &[])];
        script.states.insert("db-0".to_owned(), waiting(&["a"]));
    }
    let object = r#"{"metadata": {"annotations": {"velero.io/pod-volume-timeout": "5m"}}}"#;
    world.create(object).await.unwrap();
    let mut answered = 0;
    while !world.run().phase.is_final() {
        let starts = world.started(1).await;
        for start in &starts[answered..] {
            world.finish(start, full());
        }
        answered = starts.len();
        sleep(Duration::from_secs(1)).await;
    }
    let run = world.run();
    assert_eq!((run.phase, run.errors()), (RunPhase::PartiallyFailed, 1));
    let message = &run.tasks[0].message;
    assert!(
        message.contains("5m0s: volume a: volume shop/db-0/a takes no more"),
        "{message}"
    );
    assert!(
        run.failure_reason.contains("takes no more"),
        "{}",
        run.failure_reason
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_image_is_told_of_within_a_minute_and_the_restore_goes_on_when_it_is_mended() {
    let world = World::new().await;
    let made = world.backup(&["old/db-0/a"], &[]).await;
    let stuck = PodState::Stuck {
        node: "n".to_owned(),
        reason: "the image no/such:1 of restore-wait cannot be pulled, ImagePullBackOff".to_owned(),
    };
    {
        let mut script = world.fake.script();
        script.pods = vec![pod("db-0", &[("a", made[0])], &[])];
        script.states.insert("db-0".to_owned(), stuck);
    }
    world.create(OBJECT).await.unwrap();
    warned(&world).await;
    let notes = told(&world, "Pod", "RestoreWaits");
    assert!(
        notes[0].contains("pod shop/db-0: ") && notes[0].contains("no/such:1"),
        "{notes:?}"
    );
    assert_eq!(told(&world, "Restore", "PodWaits"), notes);
    assert!(world.log().contains(&notes[0]));
    sleep(Duration::from_mins(5)).await;
    assert_eq!(world.run().phase, RunPhase::Running);
    let mended = waiting(&["a"]);
    world.fake.script().states.insert("db-0".to_owned(), mended);
    let starts = world.started(1).await;
    finish_all(&world, &starts);
    let run = world.ended().await;
    assert_eq!((run.phase, run.errors()), (RunPhase::Completed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_on_another_node_is_followed() {
    let (world, starts) = begun(&[]).await;
    let PodState::Waiting { places, .. } = waiting(&["a", "b"]) else {
        unreachable!("it waits");
    };
    let node = "m".to_owned();
    let elsewhere = PodState::Waiting { node, places };
    world
        .fake
        .script()
        .states
        .insert("db-0".to_owned(), elsewhere);
    world
        .until("the tasks are there", |world| {
            world.run().tasks.iter().all(|task| task.node == "m")
        })
        .await;
    assert!(world.stopped(), "the agent of the node before is told");
    for start in &starts {
        world.finish(start, full());
    }
    let before = world.run();
    assert!(
        before
            .tasks
            .iter()
            .all(|task| task.attempts == 1 && task.phase == TaskPhase::Queued)
    );
    let back = waiting(&["a", "b"]);
    world.fake.script().states.insert("db-0".to_owned(), back);
    let starts = world.started(4).await.split_off(2);
    finish_all(&world, &starts);
    assert_eq!(world.ended().await.phase, RunPhase::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_made_again_and_waits_gets_all_its_volumes_again() {
    let (world, starts) = begun(&[("warm", OnError::Continue)]).await;
    finish_all(&world, &starts[..1]);
    let replaced = PodState::Replaced {
        uid: "2".to_owned(),
        waits: true,
    };
    world
        .fake
        .script()
        .states
        .insert("db-0".to_owned(), replaced);
    world
        .until("the tasks are of the other pod", |world| {
            let tasks = world.run().tasks;
            let uids = tasks.iter().map(|task| task.place.clone().unwrap().pod_uid);
            uids.eq(["2", "2"])
        })
        .await;
    let now = waiting(&["a", "b"]);
    world.fake.script().states.insert("db-0".to_owned(), now);
    let again = world.started(4).await.split_off(2);
    let ids = |starts: &[v1::StartTask]| -> Vec<String> {
        starts.iter().map(|start| start.task_id.clone()).collect()
    };
    assert!(ids(&again).iter().all(|id| !ids(&starts).contains(id)));
    assert!(
        again
            .iter()
            .all(|start| start.place.clone().unwrap().pod_uid == "2")
    );
    // What the agent says of the volumes of the pod before counts for nothing.
    finish_all(&world, &starts);
    assert!(!world.run().phase.is_final());
    finish_all(&world, &again);
    assert_eq!(world.ended().await.phase, RunPhase::Completed);
    assert_eq!(world.calls(), ["make", "hook warm", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_of_a_container_that_does_not_exist_is_an_error_and_does_not_hold_the_restore() {
    let (world, starts) = begun(&[("warm", OnError::Continue)]).await;
    let reason = "there is no container app: did you mean api".to_owned();
    world.fake.script().container = Some(ContainerState::Never { reason });
    let since = Instant::now();
    finish_all(&world, &starts);
    let run = world.ended().await;
    assert!(since.elapsed() < Duration::from_secs(30));
    assert_eq!(run.phase, RunPhase::PartiallyFailed);
    let tally = run.hooks();
    assert_eq!((tally.attempted, tally.failed, run.errors()), (1, 1, 1));
    assert!(
        world
            .log()
            .iter()
            .any(|line| line == "Error executing hook")
    );
    assert_eq!(world.calls(), ["make", "finish"], "it was not run");
}

#[tokio::test(start_paused = true)]
async fn hooks_of_many_pods_run_some_at_once() {
    let world = World::new().await;
    world.backup(&["old/db-0/a"], &[]).await;
    let names: Vec<String> = (0..50).map(|number| format!("web-{number}")).collect();
    {
        let mut script = world.fake.script();
        let hooks = [("warm", OnError::Continue)];
        script.pods = names.iter().map(|name| pod(name, &[], &hooks)).collect();
        script.hook_takes = Duration::from_secs(20);
    }
    world.create(OBJECT).await.unwrap();
    let run = world.ended().await;
    assert_eq!(
        (run.phase, run.hooks().attempted),
        (RunPhase::Completed, 50)
    );
    assert_eq!(world.fake.script().running, (0, 16));
}
