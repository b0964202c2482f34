//! What is removed, what stays, and what is refused.

use std::{fs, path::Path, sync::Arc, time::Duration};

use orlop_core::{SnapshotId, VolumeRef};
use orlop_repository::{
    CollectOptions, CollectState, Committer as _, Error, ObjectStore as _,
    store::{Durability, MemoryStore},
};
use orlop_tests::{Engine, Random, Record};

use crate::{all, collect, collect_all, try_collect};

/// What must be freed at least: of `gone`, but what shares packs with what is kept.
const FREED: u64 = 5 << 20;

fn bytes(store: &MemoryStore, engine: &Engine) -> u64 {
    let objects = engine.wait(store.list("")).unwrap();
    let packs = objects
        .iter()
        .filter(|o| o.name.starts_with("p/") || o.name.starts_with("m/"));
    packs.map(|o| o.size).sum()
}

fn write(volume: &Path, name: &str, seed: u64, len: usize) {
    fs::write(volume.join(name), Random::new(seed).bytes(len)).unwrap();
}

/// A repository with two snapshots that share a part; the second is what the volume holds.
fn two_snapshots(volume: &Path) -> (Arc<MemoryStore>, Engine, [SnapshotId; 2]) {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    write(volume, "kept", 1, 5 << 20);
    write(volume, "gone", 2, 6 << 20);
    let first = engine.backup(volume).snapshot;
    fs::remove_file(volume.join("gone")).unwrap();
    write(volume, "new", 3, 2 << 20);
    let second = engine.backup(volume).snapshot;
    (store, engine, [first, second])
}

#[test]
fn what_only_a_forgotten_snapshot_needed_is_freed() {
    let volume = orlop_tests::quick_dir();
    let (store, engine, [first, second]) = two_snapshots(volume.path());
    let before = bytes(&store, &engine);
    assert_eq!(collect(&engine).state, CollectState::Clean);
    assert_eq!(bytes(&store, &engine), before);

    assert_eq!(
        engine.wait(engine.repository().forget(&[first])).unwrap(),
        [first]
    );
    assert_eq!(
        engine.wait(engine.repository().forget(&[first])).unwrap(),
        []
    );
    let planned = try_collect(
        &engine,
        CollectOptions {
            dry_run: true,
            ..all()
        },
    )
    .unwrap();
    assert_eq!(planned.state, CollectState::Planned);
    assert!(planned.removable_bytes > FREED, "{planned:?}");
    assert_eq!(bytes(&store, &engine), before, "a dry run changes nothing");

    let report = collect(&engine);
    assert_eq!(report.state, CollectState::Collected, "{report:?}");
    let after = bytes(&store, &engine);
    assert!(after + FREED <= before, "{before} → {after}: {report:?}");
    assert!(after < 9 << 20, "{after}");
    let now = Record::of(volume.path());
    engine.assert_restores(second, &now);
    engine.assert_sound();
    // Another process sees the same, and can go on.
    let other = Engine::open(store.clone()).unwrap();
    other.assert_restores(second, &now);
    other.assert_sound();
    assert!(matches!(
        other.try_restore(first, &volume.path().join("x")),
        Err(Error::NoSnapshot { .. })
    ));
    write(volume.path(), "gone", 2, 6 << 20);
    let third = other.backup(volume.path());
    assert!(
        third.uploaded_bytes > FREED,
        "what is gone is not believed in"
    );
    other.assert_restores(third.snapshot, &Record::of(volume.path()));
    let engine = Engine::open(store.clone()).unwrap();
    collect_all(&engine);
    engine.assert_sound();
}

#[test]
fn what_is_stored_again_for_a_pack_that_is_lost_stays_and_is_read() {
    let volume = orlop_tests::quick_dir();
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    write(volume.path(), "a", 1, 6 << 20);
    write(volume.path(), "b", 2, 6 << 20);
    let first = engine.backup(volume.path()).snapshot;
    write(volume.path(), "small", 3, 100_000);
    let second = engine.backup(volume.path()).snapshot;
    let objects = engine.wait(store.list("p/")).unwrap();
    let largest = objects.iter().max_by_key(|object| object.size).unwrap();
    engine.wait(store.delete(&largest.name)).unwrap();

    // Another volume with the same content stores what is lost again.
    let engine = Engine::open(store.clone()).unwrap();
    let other = orlop_tests::quick_dir();
    write(other.path(), "a", 1, 6 << 20);
    write(other.path(), "b", 2, 6 << 20);
    let record = Record::of(other.path());
    let volume: VolumeRef = "ns/other/data".parse().unwrap();
    let made = engine.try_backup_as(other.path(), &volume).unwrap();
    assert!(made.uploaded_bytes > 1 << 20, "{made:?}");
    engine.assert_restores(made.snapshot, &record);
    // Its copy is the only one: neither a collection nor the order of segments, which that changes, may hide it.
    engine.wait(engine.repository().forget(&[first])).unwrap();
    for _ in 0..3 {
        collect(&engine);
        for engine in [&engine, &Engine::open(store.clone()).unwrap()] {
            engine.assert_restores(made.snapshot, &record);
        }
    }
    engine.wait(engine.repository().forget(&[second])).unwrap();
    collect_all(&engine);
    engine.assert_restores(made.snapshot, &record);
    engine.assert_sound();
}

#[test]
fn nothing_that_is_not_the_repository_s_is_touched() {
    let volume = orlop_tests::quick_dir();
    let (store, engine, [first, _]) = two_snapshots(volume.path());
    for name in ["records/backups/b1", "backups/x/velero-backup.json"] {
        let put = store.put(name, vec!["x".into()], Durability::Now);
        engine.wait(put).unwrap();
    }
    engine.wait(engine.repository().forget(&[first])).unwrap();
    collect(&engine);
    for name in [
        "records/backups/b1",
        "backups/x/velero-backup.json",
        "repo.cfg",
    ] {
        assert!(engine.wait(store.stat(name)).unwrap().is_some(), "{name}");
    }
}

#[test]
fn more_than_the_set_share_is_refused_by_its_figures() {
    let volume = orlop_tests::quick_dir();
    let (store, engine, ids) = two_snapshots(volume.path());
    let before = bytes(&store, &engine);
    engine.wait(engine.repository().forget(&ids)).unwrap();
    let options = CollectOptions {
        max_removed_percent: 50,
        ..all()
    };
    let error = try_collect(&engine, options).unwrap_err();
    let Error::TooMuch { percent, limit, .. } = error else {
        panic!("{error}");
    };
    assert!(percent > 90 && limit == 50, "{error}");
    assert!(error.to_string().contains("--max-removed"), "{error}");
    assert_eq!(bytes(&store, &engine), before);
    collect(&engine);
    assert_eq!(bytes(&store, &engine), 0);
}

#[test]
fn what_a_snapshot_needs_must_be_known_before_anything_goes() {
    let volume = orlop_tests::quick_dir();
    let (store, engine, [first, _]) = two_snapshots(volume.path());
    engine.wait(engine.repository().forget(&[first])).unwrap();
    let refset = engine.wait(store.list("r/")).unwrap().pop().unwrap().name;
    let good = engine.wait(store.get(&refset)).unwrap();
    store.overwrite(&refset, vec![1; good.len()].into());
    let before = bytes(&store, &engine);
    let error = try_collect(&engine, all()).unwrap_err();
    assert!(
        error.to_string().contains("nothing was collected"),
        "{error}"
    );
    assert_eq!(bytes(&store, &engine), before);
    store.overwrite(&refset, good);

    // An index that lacks packs would make them look like garbage.
    let segment = engine.wait(store.list("i/")).unwrap().pop().unwrap().name;
    engine.wait(store.delete(&segment)).unwrap();
    let other = Engine::open(store.clone()).unwrap();
    let error = try_collect(&other, all()).unwrap_err();
    assert!(matches!(error, Error::Unmarked { .. }), "{error}");
    assert_eq!(bytes(&store, &engine), before);
}

#[test]
fn the_budget_bounds_what_is_written_anew() {
    let volume = orlop_tests::quick_dir();
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    for n in 0..40 {
        write(volume.path(), &n.to_string(), n, 300 << 10);
    }
    let first = engine.backup(volume.path()).snapshot;
    for n in (0..40).filter(|n| n % 4 != 0) {
        fs::remove_file(volume.path().join(n.to_string())).unwrap();
    }
    let second = engine.backup(volume.path()).snapshot;
    engine.wait(engine.repository().forget(&[first])).unwrap();
    let some = CollectOptions {
        budget_bytes: 1 << 20,
        ..all()
    };
    let report = try_collect(&engine, some).unwrap();
    assert!(
        report.moved_bytes <= 1 << 20 && report.moved_packs > 0,
        "{report:?}"
    );
    assert!(report.postponed_bytes > 0, "{report:?}");
    let report = collect(&engine);
    assert!(
        report.moved_bytes > 0 && report.postponed_bytes == 0,
        "{report:?}"
    );
    assert!(bytes(&store, &engine) < 5 << 20);
    engine.assert_restores(second, &Record::of(volume.path()));
    engine.assert_sound();
}

#[test]
fn leftovers_of_a_dead_writer_go_when_it_is_shut_out() {
    let volume = orlop_tests::quick_dir();
    let (store, engine, _) = two_snapshots(volume.path());
    let other = VolumeRef::new("ns", "pod", "other");
    let begin = orlop_repository::BeginWrite {
        lineage: other.default_lineage(),
        volume: other,
    };
    let grant = engine.wait(engine.repository().begin_write(begin)).unwrap();
    let name = format!("p/aa/{}.{}", "a".repeat(64), grant.session);
    let put = store.put(&name, vec![vec![7; 100].into()], Durability::Now);
    engine.wait(put).unwrap();
    let there = |name: &str| engine.wait(store.stat(name)).unwrap().is_some();

    // While it is open its packs are not garbage.
    assert_eq!(collect(&engine).state, CollectState::Clean);
    assert!(there(&name));
    engine.wait(engine.repository().end(grant.session)).unwrap();
    let report = collect(&engine);
    assert_eq!(report.state, CollectState::Collected, "{report:?}");
    assert!(!there(&name));
    engine.assert_sound();
}

#[test]
fn an_open_session_is_waited_for_and_then_shut_out() {
    let volume = orlop_tests::quick_dir();
    let (store, engine, [first, second]) = two_snapshots(volume.path());
    let other = VolumeRef::new("ns", "pod", "other");
    let begin = orlop_repository::BeginWrite {
        lineage: other.default_lineage(),
        volume: other,
    };
    let session = engine
        .wait(engine.repository().begin_write(begin))
        .unwrap()
        .session;
    engine.wait(engine.repository().forget(&[first])).unwrap();
    let before = bytes(&store, &engine);
    let report = collect(&engine);
    assert_eq!(report.state, CollectState::Waiting, "{report:?}");
    assert_eq!(report.waiting.len(), 1);
    assert_eq!(report.waiting[0].session, session);
    assert!(bytes(&store, &engine) >= before);

    // The next collection, in another process, goes on with what was condemned.
    let later = Engine::open(store.clone()).unwrap();
    let report = collect(&later);
    assert_eq!(report.state, CollectState::Waiting, "{report:?}");
    let now = CollectOptions {
        fence_after: Duration::ZERO,
        ..all()
    };
    let report = try_collect(&later, now).unwrap();
    assert_eq!(report.fenced, [session]);
    assert!(bytes(&store, &engine) + FREED <= before, "{report:?}");
    engine.assert_restores(second, &Record::of(volume.path()));
    later.assert_sound();
}

#[test]
fn a_snapshot_that_is_being_read_stays_readable_after_it_was_forgotten() {
    let volume = orlop_tests::quick_dir();
    let (store, engine, [first, _]) = two_snapshots(volume.path());
    let grant = engine.wait(engine.repository().begin_read(first)).unwrap();
    engine.wait(engine.repository().forget(&[first])).unwrap();
    assert_eq!(collect(&engine).state, CollectState::Clean);
    // A check reads it as long as it is needed.
    engine.assert_sound();
    engine.wait(engine.repository().end(grant.session)).unwrap();
    let before = bytes(&store, &engine);
    assert_eq!(collect(&engine).state, CollectState::Collected);
    assert!(bytes(&store, &engine) + FREED <= before);
}
