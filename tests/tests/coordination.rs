//! Coordinator and agent in one process over loopback TLS: whole runs, and what breaks in between.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "coordination/cut.rs"]
mod cut;
#[path = "coordination/world.rs"]
mod world;

use std::time::Duration;

use orlop_proto::v1::{self, RunPhase, TaskPhase};
use tonic::Code;
use world::World;

fn phase_of(backup: &v1::Backup) -> RunPhase {
    backup.phase()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_backed_up_is_restored_into_another_pod() {
    let mut world = World::new().await;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "a/b.txt", b"hello!");
    world.write("uid-db", "data", "c.bin", &world::noise(3 << 20, 1));
    world.start().await;

    let first = world.backup("b1").await;
    assert_eq!(phase_of(&first), RunPhase::Completed, "{first:?}");
    let before = world.read_tree("uid-db", "data");
    assert_eq!(
        first.volumes,
        Some(v1::VolumeCounts {
            total: 1,
            done: 1,
            failed: 0,
            skipped: 0
        })
    );
    assert!(first.logical_bytes > 3 << 20 && first.uploaded_bytes > 3 << 20);

    world.write("uid-db", "data", "a/b.txt", b"bye!");
    let second = world.backup("b2").await;
    assert_eq!(phase_of(&second), RunPhase::Completed);
    assert!(
        second.uploaded_bytes < 1 << 20,
        "only the difference: {}",
        second.uploaded_bytes
    );

    world.pod("shop", "db-2", "uid-db-2");
    world.empty_volume("uid-db-2", "data");
    world.empty_volume("uid-db-2", "orlop-restore");
    let request = v1::CreateRestoreRequest {
        name: "r1".to_owned(),
        from_backup: "b1".to_owned(),
        pod_mapping: [("db".to_owned(), "db-2".to_owned())].into(),
        ..Default::default()
    };
    let restore = world.restore(request).await;
    assert_eq!(restore.phase(), RunPhase::Completed, "{restore:?}");
    assert_eq!(world.read_tree("uid-db-2", "data"), before);
    let marks = world.read_tree("uid-db-2", "orlop-restore");
    assert!(
        marks.keys().any(|name| name.contains("success")),
        "{:?}",
        marks.keys()
    );

    let entries = world.entries("latest:shop/db/data").await;
    assert_eq!(entries, ["", "a", "c.bin", "a/b.txt"]);
    assert_eq!(
        world.read_file("latest:shop/db/data", "a/b.txt").await,
        b"bye!"
    );
    let (old, new) = (snapshot_of(&first), snapshot_of(&second));
    let changed = world.diff(&old, &new).await;
    assert!(changed.contains(&"a/b.txt".to_owned()) && !changed.contains(&"c.bin".to_owned()));
    assert!(
        world
            .log("b1")
            .await
            .iter()
            .any(|line| line.contains("shop/db/data: done"))
    );
    assert!(world.check().await.ok);
    world.stop().await;
}

fn snapshot_of(backup: &v1::Backup) -> String {
    backup.tasks[0].snapshot_id.clone()
}

/// The value of a metric with its labels, if there is one.
fn measured(world: &World, what: &str) -> Option<f64> {
    let text = world.metrics.text().unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn monitoring_is_told_what_ends_and_how_things_are() {
    let mut world = World::new().await;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", &world::noise(1 << 20, 1));
    world.start().await;
    let has = |world: &World, wanted: &[(&str, f64)]| {
        for (what, value) in wanted {
            assert_eq!(measured(world, what), Some(*value), "{what}");
        }
    };
    has(
        &world,
        &[
            ("velero_backup_total", 0.0),
            (
                "velero_backup_location_status_gauge{backup_location_name=\"default\"}",
                1.0,
            ),
            ("orlop_build_info{version=\"0.1.0\"}", 1.0),
        ],
    );
    assert_eq!(
        measured(&world, "velero_backup_last_status{schedule=\"\"}"),
        None
    );

    world.backup("b1").await;
    world.backup("b2").await;
    has(
        &world,
        &[
            ("velero_backup_total", 2.0),
            ("velero_backup_attempt_total{schedule=\"\"}", 2.0),
            ("velero_backup_success_total{schedule=\"\"}", 2.0),
            ("velero_backup_partial_failure_total{schedule=\"\"}", 0.0),
            ("velero_backup_failure_total{schedule=\"\"}", 0.0),
            ("velero_backup_duration_seconds_count{schedule=\"\"}", 2.0),
            ("velero_backup_last_status{schedule=\"\"}", 1.0),
            (
                "orlop_volume_backups_total{node=\"node-1\",result=\"completed\"}",
                2.0,
            ),
            ("orlop_agent_connected{node=\"node-1\"}", 1.0),
            ("orlop_backups_running", 0.0),
        ],
    );
    let sent = measured(&world, "orlop_volume_uploaded_bytes_total{node=\"node-1\"}").unwrap();
    assert!(
        sent > f64::from(1 << 20) && sent < f64::from(2 << 20),
        "{sent}"
    );
    let read = measured(
        &world,
        "orlop_volume_backup_size_bytes_total{node=\"node-1\"}",
    )
    .unwrap();
    assert!(read >= f64::from(2 << 20), "{read}");
    let success = "velero_backup_last_successful_timestamp{schedule=\"\"}";
    let at = measured(&world, success).unwrap();
    let now = jiff::Timestamp::now().as_second() as f64;
    assert!(at <= now && at > now - 600.0, "{at} {now}");

    world.delete("b1").await;
    has(
        &world,
        &[
            ("velero_backup_total", 1.0),
            ("velero_backup_deletion_attempt_total{schedule=\"\"}", 1.0),
            ("velero_backup_deletion_success_total{schedule=\"\"}", 1.0),
            ("velero_backup_deletion_failure_total{schedule=\"\"}", 0.0),
        ],
    );

    // Counts begin anew with the process; what is there is known again even without the state database.
    world.stop_coordinator().await;
    world.remove_state();
    world.start_coordinator().await;
    world.until_connected().await;
    has(
        &world,
        &[
            ("velero_backup_total", 1.0),
            ("velero_backup_success_total{schedule=\"\"}", 0.0),
            ("velero_backup_last_status{schedule=\"\"}", 1.0),
            (success, at),
        ],
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_of_what_is_not_restored_is_refused() {
    let mut world = World::new().await;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", b"old");
    world.start().await;
    world.backup("b1").await;
    world.write("uid-db", "data", "x", b"new");
    let mut restores = world.restores().await;
    for (pod, namespace, says) in [
        ("dbb", "", "did you mean db?"),
        ("shop/db", "", "maps names"),
        ("", "shoop", "did you mean shop?"),
    ] {
        let map = |from: &str, to: &str| {
            let one = (!from.is_empty()).then(|| (from.to_owned(), to.to_owned()));
            one.into_iter().collect()
        };
        let request = v1::CreateRestoreRequest {
            name: "r1".to_owned(),
            from_backup: "b1".to_owned(),
            pod_mapping: map(pod, "db-2"),
            namespace_mapping: map(namespace, "shop-2"),
            ..Default::default()
        };
        let status = restores.create(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(says), "{status:?}");
    }
    assert_eq!(world.read_tree("uid-db", "data")["x"], b"new");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_do_not_share_a_data_directory() {
    let mut world = World::new().await;
    world.start_coordinator().await;
    let error = world.second_coordinator().await.err().unwrap().to_string();
    assert!(error.contains("another orlop works in"), "{error}");
    world.stop_coordinator().await;
    world.start_coordinator().await;
    world.stop_coordinator().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_checked_and_mistakes_are_named() {
    let mut world = World::new().await;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", b"x");
    world.start().await;

    let wrong = world
        .with_token("wrong")
        .await
        .list(v1::ListBackupsRequest {})
        .await;
    assert_eq!(wrong.unwrap_err().code(), Code::Unauthenticated);

    let mut backups = world.backups().await;
    let request = |volume: &str| v1::CreateBackupRequest {
        name: "b1".to_owned(),
        volumes: vec![(&volume.parse::<orlop_core::VolumeRef>().unwrap()).into()],
        ..Default::default()
    };
    let status = backups.create(request("shop/bd/data")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let expected = "volume shop/bd/data not found; did you mean shop/db/data?";
    assert_eq!(status.message(), expected);

    let created = backups
        .create(request("shop/db/data"))
        .await
        .unwrap()
        .into_inner();
    assert!(created.created);
    let again = backups
        .create(request("shop/db/data"))
        .await
        .unwrap()
        .into_inner();
    assert!(!again.created, "the same request is the same backup");
    let other = v1::CreateBackupRequest {
        force_full: true,
        ..request("shop/db/data")
    };
    let status = backups.create(other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let bad = v1::CreateBackupRequest {
        name: "B/1".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        backups.create(bad).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    world.wait("b1").await;

    world.delete("b1").await;
    let name = "b1".to_owned();
    backups
        .delete(v1::DeleteBackupRequest { name })
        .await
        .unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_nothing_from_an_earlier_backup_of_the_same_name() {
    let mut world = World::new().await;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", b"old");
    world.write("uid-db", "logs", "y", b"old");
    world.start().await;
    assert_eq!(phase_of(&world.backup("b1").await), RunPhase::Completed);
    world.delete("b1").await;

    let volume: orlop_core::VolumeRef = "shop/db/logs".parse().unwrap();
    let request = v1::CreateBackupRequest {
        name: "b1".to_owned(),
        volumes: vec![(&volume).into()],
        ..Default::default()
    };
    world.backups().await.create(request).await.unwrap();
    let second = world.wait("b1").await;
    let restore = v1::CreateRestoreRequest {
        name: "r1".to_owned(),
        from_backup: "b1".to_owned(),
        mode: v1::RestoreMode::Overwrite.into(),
        ..Default::default()
    };
    let restore = world.restore(restore).await;
    assert_eq!(restore.phase(), RunPhase::Completed, "{restore:?}");
    let restored: Vec<_> = restore.tasks.iter().map(|t| &t.snapshot_id).collect();
    assert_eq!(restored, [&snapshot_of(&second)]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_backup_ends_without_a_snapshot() {
    let mut world = World::large().await;
    world.start().await;
    world.create("b1").await;
    world.until_running("b1").await;
    let name = "b1".to_owned();
    world
        .backups()
        .await
        .cancel(v1::CancelBackupRequest { name })
        .await
        .unwrap();
    let backup = world.wait("b1").await;
    assert_eq!(phase_of(&backup), RunPhase::Canceled);
    assert_eq!(backup.tasks[0].phase(), TaskPhase::Canceled);
    assert_eq!(backup.tasks[0].snapshot_id, "");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_survives_a_stream_that_drops_again_and_again() {
    let mut world = World::large().await;
    world.start().await;
    world.create("b1").await;
    world.until_running("b1").await;
    for _ in 0..4 {
        world.hold(true);
        world.cut_connections();
        world.hold(false);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let backup = world.wait("b1").await;
    assert_eq!(phase_of(&backup), RunPhase::Completed, "{backup:?}");
    assert_eq!(backup.tasks[0].attempts, 1, "the task ran on: {backup:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_survives_a_restart_of_the_coordinator() {
    let mut world = World::large().await;
    world.start().await;
    world.create("b1").await;
    world.until_running("b1").await;
    world.hold(true);
    world.stop_coordinator().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.start_coordinator().await;
    assert_eq!(phase_of(&world.get("b1").await.unwrap()), RunPhase::Running);
    world.cut_connections();
    world.hold(false);
    let backup = world.wait("b1").await;
    assert_eq!(phase_of(&backup), RunPhase::Completed, "{backup:?}");
    assert_eq!(backup.tasks[0].attempts, 1, "the task ran on: {backup:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backup_is_found_again_without_the_state_database() {
    let mut world = World::large().await;
    world.start().await;
    world.create("b1").await;
    world.until_running("b1").await;
    world.hold(true);
    world.stop_coordinator().await;
    world.remove_state();
    world.start_coordinator().await;
    assert_eq!(world.get("b1").await.unwrap_err().code(), Code::NotFound);
    world.cut_connections();
    world.hold(false);
    world.until_known("b1").await;
    let backup = world.wait("b1").await;
    assert_eq!(phase_of(&backup), RunPhase::Completed, "{backup:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_survives_a_restart_of_the_agent() {
    let mut world = World::large().await;
    world.start().await;
    world.create("b1").await;
    world.until_running("b1").await;
    world.stop_agent().await;
    world.start_agent();
    let backup = world.wait("b1").await;
    assert_eq!(phase_of(&backup), RunPhase::Completed, "{backup:?}");
    assert_eq!(backup.tasks[0].attempts, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_neither_choose_a_lineage_nor_end_what_it_did_not_begin() {
    let mut world = World::large().await;
    world.start().await;
    world.create("b1").await;
    world.until_running("b1").await;
    world.hold(true);
    let task_id = world.get("b1").await.unwrap().tasks[0].task_id.clone();
    let mut sessions = world.sessions().await;
    let volume: orlop_core::VolumeRef = "shop/db/data".parse().unwrap();
    let mut begin = tonic::Request::new(v1::BeginWriteRequest {
        task_id: task_id.clone(),
        volume: Some((&volume).into()),
        lineage: "pv:of-somebody-else".to_owned(),
    });
    let node = || "node-1".parse().unwrap();
    begin.metadata_mut().insert("orlop-node", node());
    let status = sessions.begin_write(begin).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let mut end = tonic::Request::new(v1::EndRequest {
        task_id,
        session: u64::MAX >> 1,
    });
    end.metadata_mut().insert("orlop-node", node());
    let status = sessions.end(end).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    world.hold(false);
    assert_eq!(phase_of(&world.wait("b1").await), RunPhase::Completed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_empty_is_refused_once_and_told_what_to_do() {
    let mut world = World::new().await;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", b"x");
    world.start().await;
    world.backup("b1").await;
    world.write("uid-db", "data", "x", b"mine");
    let request = v1::CreateRestoreRequest {
        name: "r1".to_owned(),
        from_backup: "b1".to_owned(),
        mode: v1::RestoreMode::Empty.into(),
        ..Default::default()
    };
    let restore = world.restore(request).await;
    assert_eq!(restore.phase(), RunPhase::Failed, "{restore:?}");
    assert_eq!(restore.tasks[0].attempts, 1);
    let reason = &restore.failure_reason;
    assert!(
        reason.contains("a mode that allows it (overwrite"),
        "{reason}"
    );
    assert_eq!(world.read_tree("uid-db", "data")["x"], b"mine");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_backups_outlive_the_state_database() {
    let mut world = World::new().await;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", b"x");
    world.start().await;
    let before = world.backup("b1").await;
    let log = world.log("b1").await;
    world.stop_coordinator().await;
    world.remove_state();
    world.start_coordinator().await;
    assert_eq!(world.get("b1").await.unwrap(), before);
    assert_eq!(world.log("b1").await, log[..world.log("b1").await.len()]);
    let restore = v1::CreateRestoreRequest {
        name: "r1".to_owned(),
        from_backup: "b1".to_owned(),
        mode: v1::RestoreMode::Overwrite.into(),
        ..Default::default()
    };
    assert_eq!(world.restore(restore).await.phase(), RunPhase::Completed);
    world.stop().await;
}
