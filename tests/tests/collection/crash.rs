//! A collection that ends at any call, and the next one.

use std::{fs, path::Path, sync::Arc};

use orlop_core::SnapshotId;
use orlop_repository::{
    ObjectStore as _,
    store::{FaultyStore, MemoryStore, Plan},
};
use orlop_tests::{Engine, Random, Record, copy_store};

use crate::{all, collect, collect_all, try_collect};

/// A repository in which a collection has dead packs, packs to write anew and leftovers.
fn worth_collecting(volume: &Path) -> (Arc<MemoryStore>, SnapshotId) {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    for n in 0..12 {
        let bytes = Random::new(n).bytes(300 << 10);
        fs::write(volume.join(n.to_string()), bytes).unwrap();
    }
    let first = engine.backup(volume).snapshot;
    for n in (0..12).filter(|n| n % 3 != 0) {
        fs::remove_file(volume.join(n.to_string())).unwrap();
    }
    let second = engine.backup(volume).snapshot;
    engine.wait(engine.repository().forget(&[first])).unwrap();
    (store, second)
}

fn assert_goes_on(store: &Arc<MemoryStore>, kept: SnapshotId, record: &Record, what: &str) {
    let engine = Engine::open(store.clone()).unwrap();
    engine.assert_restores(kept, record);
    engine.assert_sound();
    collect_all(&engine);
    let objects = engine.wait(store.list("")).unwrap();
    let packs = objects.iter().filter(|o| o.name.starts_with("p/"));
    let bytes: u64 = packs.map(|o| o.size).sum();
    assert!(bytes < 2 << 20, "{what}: {bytes} bytes of data");
    engine.assert_restores(kept, record);
    engine.assert_sound();
}

#[test]
fn a_collection_that_fails_at_any_call_loses_nothing_and_is_finished_by_the_next() {
    let volume = orlop_tests::quick_dir();
    let (store, kept) = worth_collecting(volume.path());
    let record = Record::of(volume.path());
    let calls = {
        let faulty = Arc::new(FaultyStore::new(copy_store(&*store), Plan::Never));
        collect(&Engine::open(faulty.clone()).unwrap());
        faulty.changes()
    };
    assert!(calls > 15, "{calls} calls");
    for plan in [
        Plan::ChangesFrom as fn(u64) -> Plan,
        Plan::LoseAnswerOfChange,
    ] {
        for n in 0..calls {
            let inner = copy_store(&*store);
            let engine = Engine::open(Arc::new(FaultyStore::new(inner.clone(), plan(n)))).unwrap();
            // It fails, or was done before.
            let result = try_collect(&engine, all());
            assert!(result.is_err(), "call {n}: {result:?}");
            assert_goes_on(&inner, kept, &record, &format!("call {n} of {calls}"));
        }
    }
}
