//! Restores of objects from the request to the record, with a cluster and an agent that do what the test says.

mod fake;
mod patience;
mod world;

use std::time::Duration;

use orlop_core::{
    hook::OnError,
    run::{Outcome, RunPhase, TaskPhase},
};
use orlop_kubernetes::files::{ResourceList, gunzip};
use orlop_proto::v1::{self, start_task::Work};

use self::{
    fake::{pod, report, waiting},
    world::{World, completed, key},
};
use crate::cluster::{ContainerState, ItemEnd, PodState};

const OBJECT: &str = r#"{"metadata": {"name": "r", "namespace": "velero"}, "spec": {}}"#;

/// The restore of a pod with two volumes that waits on node `n`, up to where its tasks begin.
async fn begun(hooks: &[(&str, OnError)]) -> (World, Vec<v1::StartTask>) {
    begun_while(hooks, false).await
}

async fn begun_while(hooks: &[(&str, OnError)], hangs: bool) -> (World, Vec<v1::StartTask>) {
    let world = World::new().await;
    let made = world.backup(&["old/db-0/a", "old/db-0/b"], &[]).await;
    {
        let mut script = world.fake.script();
        script.pods = vec![pod("db-0", &[("a", made[0]), ("b", made[1])], hooks)];
        script.reports = vec![report("one", ItemEnd::Created, &[])];
        script.hangs = hangs;
        script
            .states
            .insert("db-0".to_owned(), waiting(&["a", "b"]));
    }
    world.create(OBJECT).await.unwrap();
    let starts = world.started(2).await;
    (world, starts)
}

fn finish_all(world: &World, starts: &[v1::StartTask]) {
    for start in starts {
        let Some(Work::Restore(work)) = &start.work else {
            panic!("it is no restore");
        };
        world.finish(start, completed(work.snapshot_id.parse().unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_makes_objects_fills_volumes_runs_hooks_and_is_recorded() {
    let (world, starts) = begun(&[("warm", OnError::Continue)]).await;
    for start in &starts {
        let Some(Work::Restore(work)) = &start.work else {
            panic!("it is no restore");
        };
        assert_eq!(work.marks_expected, ["a", "b"]);
        assert_eq!(work.mode(), v1::RestoreMode::Overwrite);
        let place = start.place.clone().unwrap();
        assert_eq!(place.pod_uid, "1");
    }
    let running = world.run();
    assert_eq!(running.phase, RunPhase::Running);
    let sources = running.tasks.iter().map(|task| task.source.clone());
    let sources: Vec<String> = sources.map(|it| it.unwrap().to_string()).collect();
    assert_eq!(sources, ["old/db-0/a", "old/db-0/b"]);
    assert_eq!(world.calls(), ["make"]);
    finish_all(&world, &starts);
    let run = world.ended().await;
    assert_eq!((run.phase, run.warnings()), (RunPhase::Completed, 1));
    assert_eq!(world.calls(), ["make", "hook warm", "finish"]);
    let objects = run.objects.unwrap();
    assert_eq!((objects.total, objects.done), (1, 1));
    {
        let script = world.fake.script();
        assert_eq!(
            (script.tarball.as_slice(), script.backed),
            (&b"objects"[..], 2)
        );
    }
    let list = world
        .artifact("restores/r/restore-r-resource-list.json.gz")
        .await;
    let list: ResourceList =
        serde_json::from_slice(&gunzip(list.as_slice(), 10_000).unwrap()).unwrap();
    assert_eq!(list.objects["v1/ConfigMap"], ["shop/one(created)"]);
    for file in [
        "restore-r-logs.gz",
        "restore-r-results.gz",
        "r-volumeinfo.json.gz",
    ] {
        let bytes = world.artifact(&format!("restores/r/{file}")).await;
        assert!(!gunzip(bytes.as_slice(), 100_000).unwrap().is_empty());
    }
    let again = world.create(OBJECT).await.unwrap();
    assert_eq!(again.run.phase, RunPhase::Completed, "the same request");
}

#[tokio::test(start_paused = true)]
async fn the_next_coordinator_goes_on_where_this_one_was() {
    let (mut world, starts) = begun_while(&[("warm", OnError::Continue)], true).await;
    let ids = starts.iter().map(|start| start.task_id.parse().unwrap());
    world.fake.script().hangs = false;
    world.restart(ids.collect()).await;
    world
        .until("objects are gone through again", |world| {
            world.calls() == ["make", "cancelled", "make"]
        })
        .await;
    let before: Vec<String> = starts.iter().map(|start| start.task_id.clone()).collect();
    let now: Vec<String> = world
        .run()
        .tasks
        .iter()
        .map(|task| task.id.to_string())
        .collect();
    assert_eq!(now, before, "no task is added twice");
    finish_all(&world, &starts);
    let run = world.ended().await;
    assert_eq!(run.phase, RunPhase::Completed);
    assert!(run.tasks.iter().all(|task| task.attempts == 1));
    assert_eq!(run.warnings(), 1, "nothing is counted twice");
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_is_not_applied_again_after_a_restart() {
    let (mut world, starts) = begun(&[]).await;
    world
        .until("all is applied", |world| {
            world.run().making.is_some_and(|making| making.applied)
        })
        .await;
    let ids = starts.iter().map(|start| start.task_id.parse().unwrap());
    world.restart(ids.collect()).await;
    finish_all(&world, &starts);
    assert_eq!(world.ended().await.phase, RunPhase::Completed);
    assert_eq!(world.calls(), ["make", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_snapshot_fails_the_restore_before_anything_is_made() {
    let world = World::new().await;
    world.backup(&["old/db-0/a"], &["old/db-0/b"]).await;
    world.create(OBJECT).await.unwrap();
    let run = world.ended().await;
    assert_eq!(run.phase, RunPhase::Failed);
    let reason = &run.failure_reason;
    assert!(reason.contains("of old/db-0/b"), "{reason}");
    assert!(!reason.contains("old/db-0/a"), "{reason}");
    assert_eq!(world.calls(), [""; 0]);
    let log = world.artifact("restores/r/restore-r-logs.gz").await;
    let log = String::from_utf8(gunzip(log.as_slice(), 100_000).unwrap()).unwrap();
    assert!(log.contains("restore=velero/r"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_read_is_as_good_as_missing() {
    let world = World::new().await;
    world.backup(&["old/db-0/a"], &[]).await;
    let store = std::sync::Arc::clone(world.repository.store());
    for object in store.list("m/").await.unwrap() {
        store.delete(&object.name).await.unwrap();
    }
    world.create(OBJECT).await.unwrap();
    let run = world.ended().await;
    assert_eq!(run.phase, RunPhase::Failed, "{:?}", world.log());
    assert!(run.failure_reason.contains("of old/db-0/a"));
    assert_eq!(world.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn snapshots_of_other_namespaces_may_be_missing() {
    let world = World::new().await;
    world.backup(&["old/db-0/a"], &["other/db-0/b"]).await;
    let object = r#"{"spec": {"includedNamespaces": ["old"]}}"#;
    world.create(object).await.unwrap();
    assert_eq!(world.ended().await.phase, RunPhase::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_replaced_does_not_start_silently_on_half_a_volume() {
    let (world, starts) = begun(&[]).await;
    world.finish(
        &starts[0],
        completed(world.run().tasks[0].snapshot.unwrap()),
    );
    let replaced = PodState::Replaced {
        uid: "2".to_owned(),
        waits: false,
    };
    world
        .fake
        .script()
        .states
        .insert("db-0".to_owned(), replaced);
    let run = world.ended().await;
    assert_eq!(run.phase, RunPhase::PartiallyFailed);
    let message = &run.tasks[1].message;
    assert!(
        message.contains("pod shop/db-0 was made again"),
        "{message}"
    );
    assert!(message.contains("scale the controller down"), "{message}");
    assert!(world.stopped());
    assert_eq!(world.calls(), ["make", "delete shop/db-0 2", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_hook_stops_those_behind_it_and_all_of_them_are_errors() {
    let hooks = [("migrate", OnError::Fail), ("warm", OnError::Continue)];
    let (world, starts) = begun(&hooks).await;
    world.fake.script().failing = vec!["migrate"];
    finish_all(&world, &starts);
    let run = world.ended().await;
    assert_eq!(run.phase, RunPhase::PartiallyFailed);
    let tally = run.hooks();
    assert_eq!((tally.attempted, tally.failed, run.errors()), (2, 2, 2));
    assert_eq!(world.calls(), ["make", "hook migrate", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_whose_container_never_comes_is_an_error_after_its_wait() {
    let (world, starts) = begun(&[("warm", OnError::Continue)]).await;
    let reason = "image not found".to_owned();
    world.fake.script().container = Some(ContainerState::Starting { reason });
    finish_all(&world, &starts);
    let run = world.ended().await;
    assert_eq!((run.phase, run.errors()), (RunPhase::PartiallyFailed, 1));
    assert_eq!(world.calls(), ["make", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn hooks_of_a_pod_without_its_volumes_fail_at_once() {
    let (world, starts) = begun(&[("warm", OnError::Continue)]).await;
    let failed = Outcome::Failed {
        message: "no space left".to_owned(),
        retry: false,
    };
    for start in &starts {
        world.finish(start, failed.clone());
    }
    let run = world.ended().await;
    assert_eq!((run.phase, run.errors()), (RunPhase::PartiallyFailed, 3));
    assert_eq!(world.calls(), ["make", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_tried_again_while_its_pod_waits() {
    let (world, starts) = begun(&[]).await;
    finish_all(&world, &starts[1..]);
    for attempt in 1..=5 {
        let last = world.started(attempt + 1).await.pop().unwrap();
        let first = if attempt == 1 { &starts[0] } else { &last };
        world.finish(
            first,
            Outcome::Failed {
                message: "the disk is away".to_owned(),
                retry: true,
            },
        );
    }
    let last = world.started(7).await.pop().unwrap();
    finish_all(&world, &[last]);
    let run = world.ended().await;
    assert_eq!(run.phase, RunPhase::Completed);
    assert_eq!(run.tasks[0].attempts, 6);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_stops_making_objects_and_restoring_volumes() {
    let world = World::new().await;
    let made = world.backup(&["old/db-0/a"], &[]).await;
    {
        let mut script = world.fake.script();
        script.pods = vec![pod(
            "db-0",
            &[("a", made[0])],
            &[("warm", OnError::Continue)],
        )];
        script.states.insert("db-0".to_owned(), waiting(&["a"]));
        script.hangs = true;
    }
    world.create(OBJECT).await.unwrap();
    let starts = world.started(1).await;
    world.runs.cancel(&key()).unwrap();
    world.until("the agent is told", World::stopped).await;
    assert!(!world.run().phase.is_final());
    world.finish(&starts[0], Outcome::Canceled);
    let run = world.ended().await;
    assert_eq!(run.phase, RunPhase::Canceled);
    assert_eq!(world.calls(), ["make", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_is_deleted_at_work_is_gone_in_the_end() {
    let world = World::new().await;
    world.backup(&["old/db-0/a"], &[]).await;
    world.fake.script().hangs = true;
    world.create(OBJECT).await.unwrap();
    world
        .until("it is at work", |world| !world.calls().is_empty())
        .await;
    world.runs.delete(&key());
    world
        .until("it is gone", |world| world.runs.get(&key()).is_err())
        .await;
    assert_eq!(world.calls(), ["make", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_finds_no_node_is_given_up_with_the_reason_after_its_limit() {
    let world = World::new().await;
    let made = world.backup(&["old/db-0/a"], &[]).await;
    {
        let mut script = world.fake.script();
        script.pods = vec![pod("db-0", &[("a", made[0])], &[])];
        let reason = "0/3 nodes are available".to_owned();
        let state = PodState::Unscheduled { reason };
        script.states.insert("db-0".to_owned(), state);
    }
    let object = r#"{"metadata": {"annotations": {"velero.io/pod-volume-timeout": "90s"}}}"#;
    let before = tokio::time::Instant::now();
    world.create(object).await.unwrap();
    let run = world.ended().await;
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(90) && took < Duration::from_mins(3),
        "{took:?}"
    );
    assert_eq!(run.phase, RunPhase::PartiallyFailed);
    assert_eq!(run.tasks[0].phase, TaskPhase::Failed);
    let message = &run.tasks[0].message;
    assert!(
        message.contains("1m30s: it is on no node yet: 0/3"),
        "{message}"
    );
    assert!(
        world
            .log()
            .iter()
            .any(|line| line.contains("is on no node yet"))
    );
}

#[tokio::test(start_paused = true)]
async fn errors_of_objects_make_it_partially_failed() {
    let world = World::new().await;
    world.backup(&["old/db-0/a"], &[]).await;
    world.fake.script().reports = vec![
        report("one", ItemEnd::Created, &[]),
        report("two", ItemEnd::Failed, &["the webhook says no"]),
    ];
    world.create(OBJECT).await.unwrap();
    let run = world.ended().await;
    assert_eq!((run.phase, run.errors()), (RunPhase::PartiallyFailed, 1));
    let objects = run.objects.unwrap();
    assert_eq!((objects.total, objects.done), (2, 2));
    let line = "configmaps shop/two: the webhook says no";
    assert!(world.log().iter().any(|known| known == line));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_not_known_is_refused_at_once() {
    let world = World::new().await;
    let refused = world.create(OBJECT).await.unwrap_err();
    assert!(refused.to_string().contains('b'), "{refused}");
    assert!(world.runs.get(&key()).is_err());
}
