//! What is lost is never trusted, and what is not lost is still restored.

use std::{fs, sync::Arc};

use orlop_core::{Lineage, VolumeRef};
use orlop_repository::{
    BeginWrite, Committer as _, ObjectStore as _, RepairOptions, RepairState, SnapshotState,
    store::MemoryStore,
};
use orlop_tests::{Engine, Record};

use crate::{fill, fill_many, flip, names, repair, state_of};

#[test]
fn unchanged_files_whose_chunks_are_gone_are_read_and_stored_again() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume.path());
    let first = engine.backup(volume.path()).snapshot;
    for name in names(&engine, "p/") {
        engine.wait(store.delete(&name)).unwrap();
    }
    let done = repair(&engine);
    assert_eq!(done.lost.len(), 1);
    assert!(
        done.lost[0]
            .paths
            .iter()
            .any(|path| path.ends_with("large"))
    );
    let second = engine.backup(volume.path());
    assert!(second.chunks_new > 0, "{second:?}");
    assert_eq!(second.parent, None, "what lacks chunks is no parent");
    engine.assert_restores(second.snapshot, &Record::of(volume.path()));
    let third = engine.backup(volume.path());
    assert_eq!(third.parent, Some(second.snapshot));
    assert_eq!(repair(&engine).whole, [first]);
    engine.assert_restores(first, &Record::of(volume.path()));
}

#[test]
fn what_is_lost_for_good_is_named_and_the_rest_is_restored() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume.path());
    let first = engine.backup(volume.path()).snapshot;
    // The largest has several chunks.
    let size = |name: &String| engine.wait(store.stat(name)).unwrap().map(|info| info.size);
    let pack = names(&engine, "p/").into_iter().max_by_key(size).unwrap();
    flip(&engine, &store, &pack, |len| len / 2);
    let done = repair(&engine);
    assert_eq!(done.state, RepairState::Repaired);
    let [part] = &done.packs[..] else {
        panic!("{done:#?}")
    };
    assert_eq!(part.lost, 1, "one flipped byte costs one chunk: {done:#?}");
    assert!(part.saved > 0);
    // The live volume is gone too.
    let target = orlop_tests::quick_dir();
    let report = engine
        .try_restore(first, &target.path().join("there"))
        .unwrap();
    let lost: Vec<String> = done.lost[0].paths.clone();
    let named: Vec<String> = report
        .issues
        .iter()
        .map(|issue| format!("/{}", String::from_utf8_lossy(&issue.path)))
        .collect();
    assert_eq!(named.len(), lost.len(), "{report:?}");
    assert!(
        named.iter().all(|path| lost.contains(path)),
        "{named:?} {lost:?}"
    );
    assert!(report.files > lost.len() as u64);
    assert_eq!(state_of(&engine, first), SnapshotState::Inconsistent);
    // Nothing more to do, and it is said again.
    let again = repair(&engine);
    assert_eq!((again.state, again.lost.len()), (RepairState::Sound, 1));
}

#[test]
fn a_lost_page_of_the_manifest_costs_its_entries_only() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init_with_packs(store.clone(), 64 << 10).unwrap();
    fill_many(volume.path());
    let first = engine.backup(volume.path());
    // Small packs: each holds a page or two. Harm one at a time until it is a leaf of the manifest.
    let mut seen = false;
    for name in names(&engine, "m/") {
        let copy = orlop_tests::copy_store(&*store);
        engine.wait(copy.delete(&name)).unwrap();
        let engine = Engine::open(copy).unwrap();
        let done = repair(&engine);
        let target = orlop_tests::quick_dir();
        let Ok(report) = engine.try_restore(first.snapshot, &target.path().join("there")) else {
            // The root itself.
            continue;
        };
        if report.issues.is_empty() {
            continue;
        }
        seen = true;
        assert!(
            !done.lost.is_empty() && !done.lost[0].paths.is_empty(),
            "{done:#?}"
        );
        assert!(report.files > 0 && report.files < 3000, "{}", report.files);
        let second = engine.backup(volume.path()).snapshot;
        engine.assert_restores(second, &Record::of(volume.path()));
        repair(&engine);
        engine.assert_sound();
    }
    assert!(seen, "some page of the manifest was hit");
}

#[test]
fn space_is_freed_beside_a_damaged_snapshot_and_what_it_still_has_stays() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init_with_packs(store.clone(), 64 << 10).unwrap();
    fill_many(volume.path());
    let first = engine.backup(volume.path()).snapshot;
    let before = {
        let target = orlop_tests::quick_dir();
        engine
            .try_restore(first, &target.path().join("there"))
            .unwrap()
            .files
    };
    for name in names(&engine, "m/").into_iter().step_by(4) {
        engine.wait(store.delete(&name)).unwrap();
    }
    repair(&engine);
    let restored = || {
        let target = orlop_tests::quick_dir();
        let report = engine.try_restore(first, &target.path().join("there"));
        report.map_or(0, |report| report.files)
    };
    let files = restored();
    assert!(files < before);
    let options = orlop_repository::CollectOptions {
        max_removed_percent: 100,
        dead_percent: 1,
        ..orlop_repository::CollectOptions::default()
    };
    let cancel = tokio_util::sync::CancellationToken::new();
    let collect = engine
        .repository()
        .collect(options, Arc::new(orlop_core::NoMonitor), cancel);
    engine.wait(collect).unwrap();
    assert_eq!(
        restored(),
        files,
        "what could be read before can be read after"
    );
}

#[test]
fn a_backup_that_runs_beside_a_repair_never_ends_with_what_is_lost_unsaid() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume.path());
    engine.backup(volume.path());
    let pack = names(&engine, "p/").remove(0);
    engine.wait(store.delete(&pack)).unwrap();
    let other = Engine::open(store.clone()).unwrap();
    // It begins before the repair and believes its parent.
    let volume_ref = VolumeRef::new("ns", "pod", "data");
    let begin = BeginWrite {
        lineage: Lineage(format!("lineage of {volume_ref}")),
        volume: volume_ref,
    };
    let grant = other.wait(other.repository().begin_write(begin)).unwrap();
    assert_eq!(grant.parents.len(), 1);
    let options = RepairOptions {
        patience: std::time::Duration::ZERO,
        ..RepairOptions::default()
    };
    let waits = crate::try_repair(&engine, options).unwrap();
    assert_eq!(waits.state, RepairState::Waiting);
    assert_eq!(waits.waiting.len(), 1);
    other.wait(other.repository().end(grant.session)).unwrap();
    let done = repair(&engine);
    assert_eq!(done.state, RepairState::Repaired);
    let next = engine.backup(volume.path()).snapshot;
    engine.assert_restores(next, &Record::of(volume.path()));
}

#[test]
fn another_volume_of_the_domain_does_not_build_upon_lost_chunks() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume.path());
    engine.backup(volume.path());
    let pack = names(&engine, "p/").remove(0);
    flip(&engine, &store, &pack, |len| len / 2);
    repair(&engine);
    let copy = orlop_tests::quick_dir();
    fs::create_dir(copy.path().join("copy")).unwrap();
    fill(&copy.path().join("copy"));
    let other = VolumeRef::new("ns", "other", "data");
    let report = engine.try_backup_as(copy.path(), &other).unwrap();
    engine.assert_restores(report.snapshot, &Record::of(copy.path()));
}
