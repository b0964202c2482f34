//! A repair that ends at any call, and the next one.

use std::sync::Arc;

use orlop_core::SnapshotId;
use orlop_repository::store::{FaultyStore, MemoryStore, Plan};
use orlop_tests::{Engine, Record, copy_store};

use crate::{fill, flip, names, repair, repair_options, try_repair};
use orlop_repository::ObjectStore as _;

/// A repository with damage of several kinds.
fn damaged(volume: &std::path::Path) -> (Arc<MemoryStore>, [SnapshotId; 2]) {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume);
    let first = engine.backup(volume).snapshot;
    std::fs::write(
        volume.join("more"),
        orlop_tests::Random::new(77).bytes(900 << 10),
    )
    .unwrap();
    let second = engine.backup(volume).snapshot;
    let packs = names(&engine, "p/");
    flip(&engine, &store, &packs[0], |len| len / 2);
    engine.wait(store.delete(&packs[1])).unwrap();
    let segment = names(&engine, "i/").remove(0);
    engine.wait(store.delete(&segment)).unwrap();
    let refset = names(&engine, "r/").remove(0);
    flip(&engine, &store, &refset, |len| len - 1);
    (store, [first, second])
}

fn assert_heals(
    store: &Arc<MemoryStore>,
    snapshots: &[SnapshotId],
    volume: &std::path::Path,
    what: &str,
) {
    let engine = Engine::open(store.clone()).unwrap();
    repair(&engine);
    let third = engine.backup(volume).snapshot;
    let healed = repair(&engine);
    assert!(healed.lost.is_empty(), "{what}: {healed:#?}");
    let engine = Engine::open(store.clone()).unwrap();
    engine.assert_sound();
    engine.assert_restores(third, &Record::of(volume));
    engine.assert_restores(snapshots[1], &Record::of(volume));
    assert_eq!(
        engine.wait(engine.repository().open_sessions()).unwrap(),
        0,
        "{what}"
    );
}

#[test]
fn a_repair_that_fails_at_any_call_is_finished_by_the_next() {
    let volume = orlop_tests::quick_dir();
    let (store, snapshots) = damaged(volume.path());
    let calls = {
        let faulty = Arc::new(FaultyStore::new(copy_store(&*store), Plan::Never));
        repair(&Engine::open(faulty.clone()).unwrap());
        faulty.changes()
    };
    assert!(calls > 10, "{calls} calls");
    for plan in [
        Plan::ChangesFrom as fn(u64) -> Plan,
        Plan::LoseAnswerOfChange,
    ] {
        for n in 0..calls {
            let inner = copy_store(&*store);
            let engine = Engine::open(Arc::new(FaultyStore::new(inner.clone(), plan(n)))).unwrap();
            let result = try_repair(&engine, repair_options(false));
            assert!(result.is_err(), "call {n}: {result:?}");
            drop(engine);
            assert_heals(
                &inner,
                &snapshots,
                volume.path(),
                &format!("call {n} of {calls}"),
            );
        }
    }
}

#[test]
fn a_backup_after_a_repair_that_was_cut_short_refers_to_nothing_that_is_lost() {
    let volume = orlop_tests::quick_dir();
    let (store, _) = damaged(volume.path());
    let record = Record::of(volume.path());
    let calls = {
        let faulty = Arc::new(FaultyStore::new(copy_store(&*store), Plan::Never));
        repair(&Engine::open(faulty.clone()).unwrap());
        faulty.changes()
    };
    for n in 0..calls {
        let inner = copy_store(&*store);
        let engine = Engine::open(Arc::new(FaultyStore::new(
            inner.clone(),
            Plan::ChangesFrom(n),
        )))
        .unwrap();
        let _ = try_repair(&engine, repair_options(false));
        let engine = Engine::open(inner.clone()).unwrap();
        let next = engine.backup(volume.path()).snapshot;
        repair(&engine);
        // Whatever the backup believed, the repair either found it right or marked it.
        let state = crate::state_of(&engine, next);
        if state == orlop_repository::SnapshotState::Complete {
            engine.assert_restores(next, &record);
        }
        let after = engine.backup(volume.path()).snapshot;
        engine.assert_restores(after, &record);
    }
}
