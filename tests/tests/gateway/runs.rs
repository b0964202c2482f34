//! Whole backups and restores over a store that no agent can reach.

use std::{fs, path::Path, sync::Arc, time::Duration};

use orlop_coordinator::GatewayLimits;
use orlop_proto::v1::RunPhase;
use orlop_repository::{ObjectStore, store::MemoryStore};
use orlop_tests::{Random, Record, assert_identical, sample};

use super::{double::Double, world::World};

fn fill(volume: &Path, seed: u64, bytes: usize) {
    fs::write(volume.join("much"), Random::new(seed).bytes(bytes)).unwrap();
}

async fn over(store: Arc<dyn ObjectStore>) -> World {
    World::over(store, GatewayLimits::default()).await
}

/// Restores a backup of pod `db` into a new pod and compares.
async fn assert_restores(world: &World, backup: &str, record: &Record, into: &str) {
    let target = world.pod(into);
    let restore = world
        .restore(&format!("of-{backup}-into-{into}"), backup, "db", into)
        .await;
    assert_eq!(restore.phase(), RunPhase::Completed, "{restore:?}");
    assert_identical(record, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_an_incremental_and_restores_pass_through_the_gateway() {
    let mut world = over(Arc::new(MemoryStore::new())).await;
    let volume = world.pod("db");
    sample(&volume, 41, 6 << 20);
    world.start_agent().await;

    let first = world.backup("b1").await;
    assert_eq!(first.phase(), RunPhase::Completed, "{first:?}");
    let before = Record::of(&volume);
    fs::write(volume.join("new file"), "that was not there").unwrap();
    let second = world.backup("b2").await;
    assert_eq!(second.phase(), RunPhase::Completed, "{second:?}");
    let (full, little) = (first.uploaded_bytes, second.uploaded_bytes);
    assert!(
        little < full / 10,
        "{little} of {full} bytes were sent again"
    );
    let after = Record::of(&volume);

    assert_restores(&world, "b1", &before, "first").await;
    assert_restores(&world, "b2", &after, "second").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_restarts_in_the_middle_of_a_put_costs_no_backup() {
    for forgetful in [false, true] {
        let double = Arc::new(Double::over(Arc::new(MemoryStore::new())));
        let mut world = over(Arc::<Double>::clone(&double)).await;
        let volume = world.pod("db");
        fill(&volume, 1, 8 << 20);
        let record = Record::of(&volume);
        world.start_agent().await;

        double.hold(true);
        world.create("b1").await;
        double.until_waiting(1).await;
        world.stop_coordinator().await;
        double.hold(false);
        assert!(world.store.list("p/").await.unwrap().is_empty());
        if forgetful {
            world.remove_state();
        }
        world.start_coordinator().await;
        if forgetful {
            world.until_known("b1").await;
        }
        let backup = world.wait("b1").await;
        assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
        assert!(forgetful || backup.tasks[0].attempts == 1, "{backup:?}");
        assert_restores(&world, "b1", &record, "new").await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_again_and_again_cost_no_backup() {
    let double = Arc::new(Double::over(Arc::new(MemoryStore::new())));
    let mut world = over(Arc::<Double>::clone(&double)).await;
    let volume = world.pod("db");
    fill(&volume, 2, 12 << 20);
    let record = Record::of(&volume);
    world.start_agent().await;
    double.hold(true);
    world.create("b1").await;
    for _ in 0..4 {
        // An answer is on its way, bytes are, or neither.
        double.until_waiting(1).await;
        world.relay().hold(true);
        double.hold(false);
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.relay().cut();
        double.hold(true);
        world.relay().hold(false);
    }
    double.hold(false);
    let backup = world.wait("b1").await;
    assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
    assert_eq!(backup.tasks[0].attempts, 1, "the task ran on: {backup:?}");
    assert_restores(&world, "b1", &record, "new").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_bad_moments_costs_no_backup() {
    let inner = Arc::new(MemoryStore::new());
    let mut world = over(Arc::new(Double::failing(inner, 3))).await;
    let volume = world.pod("db");
    fill(&volume, 3, 8 << 20);
    world.start_agent().await;
    let backup = world.backup("b1").await;
    assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
    assert_eq!(backup.tasks[0].attempts, 1, "{backup:?}");
    assert_restores(&world, "b1", &Record::of(&volume), "new").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_fails_the_backup_with_what_to_do_and_the_next_succeeds() {
    let double = Arc::new(Double::over(Arc::new(MemoryStore::new())));
    let mut world = over(Arc::<Double>::clone(&double)).await;
    let volume = world.pod("db");
    fill(&volume, 4, 8 << 20);
    world.start_agent().await;
    double.fill(true);
    let backup = world.backup("b1").await;
    assert_eq!(backup.phase(), RunPhase::Failed, "{backup:?}");
    let reason = &backup.tasks[0].message;
    assert!(
        reason.contains("no space left in the coordinator's store (memory)"),
        "{reason}"
    );
    double.fill(false);
    let backup = world.backup("b2").await;
    assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
    assert_restores(&world, "b2", &Record::of(&volume), "new").await;
    world.stop().await;
}
