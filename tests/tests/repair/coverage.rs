//! The record of what was read.

use std::sync::Arc;

use orlop_core::NoMonitor;
use orlop_repository::{
    CheckDepth, CheckOptions, CollectOptions, ObjectStore as _, Sample, store::MemoryStore,
};
use orlop_tests::Engine;
use tokio_util::sync::CancellationToken;

use crate::{check, fill, flip, names, repair};

fn filled() -> (Arc<MemoryStore>, Engine, tempfile::TempDir) {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init_with_packs(store.clone(), 256 << 10).unwrap();
    fill(volume.path());
    engine.backup(volume.path());
    (store, engine, volume)
}

fn share(depth: CheckDepth, of: u32) -> CheckOptions {
    CheckOptions {
        depth,
        sample: Sample::Share { part: 1, of },
        ..CheckOptions::default()
    }
}

#[test]
fn samples_cover_everything_in_as_many_rounds_across_processes() {
    for depth in [CheckDepth::Scrub, CheckDepth::Data] {
        let (store, engine, _volume) = filled();
        drop(engine);
        let mut read = 0;
        for round in 1..=5 {
            let engine = Engine::open(store.clone()).unwrap();
            let report = check(&engine, share(depth, 5));
            assert!(report.ok);
            assert!(
                report.bytes < report.covered.total_bytes / 2,
                "only a part is read"
            );
            read += report.bytes;
            let covered = report.covered;
            let all = covered.read_bytes == covered.total_bytes;
            assert_eq!(covered.since_ms.is_some(), all, "round {round}");
            assert!(all || round < 5, "after five fifths all is covered");
            assert_eq!(covered.read_bytes, read.min(covered.total_bytes));
        }
        let engine = Engine::open(store.clone()).unwrap();
        let known = engine
            .wait(engine.repository().covered(&share(depth, 5)))
            .unwrap();
        assert!(known.covered.since_ms.is_some() && known.ended_ms.is_some());
        // However many rounds there are, the records stay few.
        for _ in 0..40 {
            check(&engine, share(depth, 5));
        }
        assert!(names(&engine, "v/").len() <= 17);
    }
}

#[test]
fn a_check_that_was_cut_short_goes_on_where_it_was() {
    let (store, engine, _volume) = filled();
    let packs: u64 = check(&engine, CheckOptions::default()).covered.total_bytes;
    let cancel = CancellationToken::new();
    let options = CheckOptions {
        depth: CheckDepth::Scrub,
        // So slow that it cannot end.
        bytes_per_second: 400 << 10,
        ..CheckOptions::default()
    };
    let cut_short = engine.wait(async {
        let check = engine
            .repository()
            .check(options, Arc::new(NoMonitor), cancel.clone());
        let cut = async {
            tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
            cancel.cancel();
        };
        tokio::join!(check, cut).0
    });
    assert!(cut_short.unwrap_err().is_cancelled());
    let engine = Engine::open(store).unwrap();
    let resume = |resume| CheckOptions {
        depth: CheckDepth::Scrub,
        resume,
        ..CheckOptions::default()
    };
    let report = check(&engine, resume(true));
    assert!(report.resumed_bytes > 0 && report.bytes > 0, "{report:?}");
    assert_eq!(report.resumed_bytes + report.bytes, packs);
    // It was finished, so the next one begins anew.
    let report = check(&engine, resume(true));
    assert_eq!((report.resumed_bytes, report.bytes), (0, packs));
}

#[test]
fn a_part_of_several_is_always_the_same_and_all_parts_are_the_whole() {
    let (_store, engine, _volume) = filled();
    let part = |number| {
        let options = CheckOptions {
            depth: CheckDepth::Scrub,
            sample: Sample::Part { number, of: 3 },
            ..CheckOptions::default()
        };
        check(&engine, options)
    };
    let sizes: Vec<u64> = (1..=3).map(|number| part(number).bytes).collect();
    assert_eq!(sizes[0], part(1).bytes);
    let last = part(3);
    assert_eq!(sizes.iter().sum::<u64>(), last.covered.total_bytes);
    assert!(last.covered.since_ms.is_some());
}

#[test]
fn damage_that_a_scrub_found_is_remembered_until_it_is_repaired() {
    let (store, engine, volume) = filled();
    let pack = names(&engine, "p/").remove(0);
    flip(&engine, &store, &pack, |len| len / 2);
    let scrub = CheckOptions {
        depth: CheckDepth::Scrub,
        ..CheckOptions::default()
    };
    assert_eq!(check(&engine, scrub).covered.damaged_packs, 1);
    let engine = Engine::open(store).unwrap();
    let known = engine.wait(engine.repository().covered(&scrub)).unwrap();
    assert_eq!(known.covered.damaged_packs, 1);
    // A check that does not read it does not forget it, and a repair without reading anything else finds it.
    assert_eq!(
        check(&engine, CheckOptions::default())
            .covered
            .damaged_packs,
        1
    );
    let options = orlop_repository::RepairOptions::default();
    let done = crate::try_repair(&engine, options).unwrap();
    let packs: Vec<&str> = done.packs.iter().map(|pack| &*pack.object).collect();
    assert_eq!(packs, [&*pack]);
    engine.backup(volume.path());
    let whole = check(&engine, CheckOptions::data());
    assert_eq!((whole.ok, whole.covered.damaged_packs), (true, 0));
}

#[test]
fn a_collection_leaves_one_record_of_packs_that_are_there() {
    let (_store, engine, volume) = filled();
    for _ in 0..4 {
        check(&engine, CheckOptions::data());
    }
    assert!(names(&engine, "v/").len() > 1);
    let all = engine.wait(engine.repository().snapshots()).unwrap();
    engine
        .wait(engine.repository().forget(&[all[0].id]))
        .unwrap();
    std::fs::remove_dir_all(volume.path().join("dir-1")).unwrap();
    let kept = engine.backup(volume.path()).snapshot;
    let options = CollectOptions {
        max_removed_percent: 100,
        ..CollectOptions::default()
    };
    let collect =
        engine
            .repository()
            .collect(options, Arc::new(NoMonitor), CancellationToken::new());
    engine.wait(collect).unwrap();
    assert_eq!(names(&engine, "v/").len(), 1);
    let covered = check(&engine, CheckOptions::default()).covered;
    assert!(covered.read_bytes <= covered.total_bytes);
    engine.assert_restores(kept, &orlop_tests::Record::of(volume.path()));
}

#[test]
fn a_damaged_record_is_named_and_costs_only_what_it_knew() {
    let (store, engine, _volume) = filled();
    check(&engine, CheckOptions::data());
    let record = names(&engine, "v/").remove(0);
    flip(&engine, &store, &record, |len| len - 1);
    let report = check(&engine, CheckOptions::default());
    let damage: Vec<&str> = report.damage.iter().map(|one| &*one.object).collect();
    assert_eq!(damage, [&*record]);
    assert_eq!(repair(&engine).records, [record]);
    engine.assert_sound();
}

#[test]
fn a_store_that_cannot_be_written_can_be_checked() {
    let (store, engine, _volume) = filled();
    drop(engine);
    let before = orlop_tests::copy_store(&*store);
    let faulty = orlop_repository::store::FaultyStore::new(
        before.clone(),
        orlop_repository::store::Plan::ChangesFrom(0),
    );
    let engine = Engine::open(Arc::new(faulty)).unwrap();
    let report = check(&engine, CheckOptions::data());
    assert!(report.ok && report.covered.since_ms.is_some());
    assert!(engine.wait(before.list("v/")).unwrap().is_empty());
}
