//! What is lost costs no more than it must: other snapshots stay readable, the next backup is whole.

use std::{fs, sync::Arc};

use bytes::Bytes;
use orlop_core::VolumeRef;
use orlop_repository::{ObjectStore as _, store::MemoryStore};
use orlop_tests::{Engine, Record, sample};

/// Names of the objects below `prefix`.
fn names(engine: &Engine, prefix: &str) -> Vec<String> {
    let objects = engine.wait(engine.store().list(prefix)).unwrap();
    objects.into_iter().map(|object| object.name).collect()
}

/// Flips a byte in the middle of every object below `prefix`.
fn flip_all(engine: &Engine, store: &MemoryStore, prefix: &str) {
    for name in names(engine, prefix) {
        let mut bytes = engine.wait(store.get(&name)).unwrap().to_vec();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        store.overwrite(&name, Bytes::from(bytes));
    }
}

#[test]
fn a_backup_after_damage_to_its_parent_is_whole() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 31, 600 << 10);
    engine.backup(volume.path());
    flip_all(&engine, &store, "m/");
    let engine = Engine::open(store.clone()).unwrap();
    // Something that makes the parent's pages needed.
    fs::write(volume.path().join("changed"), "changed").unwrap();
    let report = engine.backup(volume.path());
    engine.assert_restores(report.snapshot, &Record::of(volume.path()));
}

#[test]
fn a_first_backup_does_not_believe_in_packs_that_are_gone() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 32, 600 << 10);
    engine.backup(volume.path());
    for name in names(&engine, "p/") {
        engine.wait(store.delete(&name)).unwrap();
    }
    let engine = Engine::open(store.clone()).unwrap();
    let other = VolumeRef::new("ns", "other", "data");
    let report = engine.try_backup_as(volume.path(), &other).unwrap();
    engine.assert_restores(report.snapshot, &Record::of(volume.path()));
}

#[test]
fn one_damaged_snapshot_hides_no_other() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 33, 300 << 10);
    let good = engine.backup(volume.path()).snapshot;
    let before = names(&engine, "s/");
    let other = VolumeRef::new("ns", "other", "data");
    engine.try_backup_as(volume.path(), &other).unwrap();
    let added = names(&engine, "s/")
        .into_iter()
        .find(|name| !before.contains(name))
        .unwrap();
    flip_all(&engine, &store, &added[..=added.rfind('/').unwrap()]);
    let engine = Engine::open(store.clone()).unwrap();
    let listed = engine.wait(engine.repository().snapshots()).unwrap();
    assert_eq!(
        listed.iter().map(|info| info.id).collect::<Vec<_>>(),
        [good]
    );
    engine
        .wait(engine.repository().resolve("latest:ns/pod/data"))
        .unwrap();
    engine.assert_restores(good, &Record::of(volume.path()));
    let report = engine.try_check().unwrap();
    assert!(report.damage.iter().any(|damage| damage.object == added));
}

#[test]
fn a_lost_index_segment_is_made_again_from_its_packs() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 34, 600 << 10);
    let snapshot = engine.backup(volume.path()).snapshot;
    let segment = names(&engine, "i/").pop().unwrap();
    engine.wait(store.delete(&segment)).unwrap();
    let engine = Engine::open(store.clone()).unwrap();
    engine.assert_restores(snapshot, &Record::of(volume.path()));
    let report = engine.try_check().unwrap();
    assert!(
        report
            .damage
            .iter()
            .any(|damage| damage.object == segment && damage.repairable)
    );
}

#[test]
fn a_key_of_an_init_that_was_cut_short_hides_nothing() {
    // Keys have random names: with several, one that does not fit is tried first sooner or later.
    for _ in 0..8 {
        let store = Arc::new(MemoryStore::new());
        let engine = Engine::init(store.clone()).unwrap();
        let cut_short = Engine::in_memory();
        for name in names(&cut_short, "keys/") {
            let bytes = cut_short.wait(cut_short.store().get(&name)).unwrap();
            store.overwrite(&name, bytes);
        }
        drop(engine);
        Engine::open(store).unwrap();
    }
}
