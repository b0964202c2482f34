//! Each kind of object, damaged in each way.

use std::{collections::BTreeSet, sync::Arc};

use orlop_repository::{
    CheckDepth, CheckOptions, DamageKind, RepairState, SnapshotState, store::MemoryStore,
};
use orlop_tests::{Engine, Record};

use crate::{check, cut, fill, flip, names, repair, repair_options, state_of, try_repair};
use orlop_repository::ObjectStore as _;

/// A way of damaging an object.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// A byte near the beginning.
    Frames,
    /// A byte at the very end: of packs, the trailer.
    End,
    Truncated,
    Deleted,
}

const ALL: [Harm; 4] = [Harm::Frames, Harm::End, Harm::Truncated, Harm::Deleted];

fn harm(engine: &Engine, store: &MemoryStore, name: &str, how: Harm) {
    match how {
        Harm::Frames => flip(engine, store, name, |len| (len / 3).max(40).min(len - 1)),
        Harm::End => flip(engine, store, name, |len| len - 1),
        Harm::Truncated => cut(engine, store, name, |len| len / 2),
        Harm::Deleted => engine.wait(store.delete(name)).unwrap(),
    }
}

/// Harms the objects below `prefix` that `which` takes, and sees them found, repaired, stored again by the next
/// backup, and both snapshots whole then.
#[track_caller]
fn heals(prefix: &str, which: usize, kinds: &[DamageKind]) {
    for how in ALL {
        let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
        fill(volume.path());
        let record = Record::of(volume.path());
        let engine = Engine::init(store.clone()).unwrap();
        let first = engine.backup(volume.path()).snapshot;
        let harmed: Vec<String> = names(&engine, prefix).into_iter().take(which).collect();
        assert!(!harmed.is_empty());
        for name in &harmed {
            harm(&engine, &store, name, how);
        }
        let what = format!("{how:?} {harmed:?}");

        let engine = Engine::open(store.clone()).unwrap();
        let found = check(&engine, CheckOptions::data());
        assert!(!found.ok, "{what}");
        for name in &harmed {
            let mut damage = found.damage.iter().filter(|one| one.object == *name);
            assert!(
                damage.any(|one| kinds.contains(&one.kind) && one.repairable),
                "{what}: {found:#?}"
            );
        }

        let planned = try_repair(&engine, repair_options(true)).unwrap();
        let again = try_repair(&engine, repair_options(true)).unwrap();
        assert_eq!(planned, again, "{what}: a dry run changes nothing");
        assert_eq!(planned.state, RepairState::Planned);
        let done = repair(&engine);
        assert_eq!(done.state, RepairState::Repaired, "{what}");
        assert_eq!(
            (
                &planned.packs,
                &planned.lost,
                &planned.index,
                &planned.refsets
            ),
            (&done.packs, &done.lost, &done.index, &done.refsets),
            "{what}: what was planned is done"
        );
        let lost = !done.lost.is_empty();
        assert!(
            !lost || done.packs.iter().any(|pack| pack.lost > 0),
            "{what}: {done:#?}"
        );
        let state = if lost {
            SnapshotState::Inconsistent
        } else {
            SnapshotState::Complete
        };
        assert_eq!(state_of(&engine, first), state, "{what}");

        // In another process, and with nothing changed in the volume.
        let engine = Engine::open(store.clone()).unwrap();
        let second = engine.backup(volume.path()).snapshot;
        let healed = repair(&engine);
        assert!(healed.lost.is_empty(), "{what}: {healed:#?}");
        assert_eq!(
            healed.whole,
            if lost { vec![first] } else { vec![] },
            "{what}"
        );
        let engine = Engine::open(store.clone()).unwrap();
        for snapshot in [first, second] {
            engine.assert_restores(snapshot, &record);
            assert_eq!(state_of(&engine, snapshot), SnapshotState::Complete);
        }
        engine.assert_sound();
    }
}

#[test]
fn packs_of_data() {
    let kinds = [DamageKind::DamagedPack, DamageKind::MissingPack];
    heals("p/", 1, &kinds);
}

#[test]
fn all_packs_of_data() {
    let kinds = [DamageKind::DamagedPack, DamageKind::MissingPack];
    heals("p/", 1000, &kinds);
}

#[test]
fn packs_of_pages() {
    let kinds = [
        DamageKind::DamagedPack,
        DamageKind::MissingPack,
        DamageKind::DamagedSnapshot,
    ];
    heals("m/", 1000, &kinds);
}

#[test]
fn index_segments() {
    heals("i/", 1000, &[DamageKind::DamagedIndex]);
}

#[test]
fn refsets() {
    heals("r/", 1, &[DamageKind::DamagedSnapshot]);
}

#[test]
fn a_segment_that_collection_has_joined_is_made_again_too() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume.path());
    let old = engine.backup(volume.path()).snapshot;
    std::fs::remove_dir_all(volume.path().join("dir-3")).unwrap();
    let kept = engine.backup(volume.path()).snapshot;
    let record = Record::of(volume.path());
    engine.wait(engine.repository().forget(&[old])).unwrap();
    let options = orlop_repository::CollectOptions {
        dead_percent: 1,
        ..orlop_repository::CollectOptions::default()
    };
    let cancel = tokio_util::sync::CancellationToken::new();
    let collect = engine
        .repository()
        .collect(options, Arc::new(orlop_core::NoMonitor), cancel);
    engine.wait(collect).unwrap();
    let joined = names(&engine, "i/1/");
    assert!(!joined.is_empty(), "there is a joined segment");
    for name in &joined {
        engine.wait(store.delete(name)).unwrap();
    }
    let engine = Engine::open(store.clone()).unwrap();
    engine.assert_restores(kept, &record);
    assert_eq!(repair(&engine).index, joined);
    let engine = Engine::open(store).unwrap();
    engine.assert_restores(kept, &record);
    engine.assert_sound();
}

#[test]
fn a_snapshot_root_that_is_lost_is_named_and_hides_no_other() {
    for how in ALL {
        let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
        let engine = Engine::init(store.clone()).unwrap();
        fill(volume.path());
        let first = engine.backup(volume.path()).snapshot;
        let root = names(&engine, "s/").remove(0);
        harm(&engine, &store, &root, how);
        let engine = Engine::open(store.clone()).unwrap();
        let found = check(&engine, CheckOptions::default());
        let damage = found.damage.iter().find(|one| one.object == root).unwrap();
        assert_eq!(
            (&*damage.snapshots, damage.repairable),
            (&[first][..], false)
        );
        let done = repair(&engine);
        assert_eq!(done.lost.len(), 1, "{how:?}");
        assert!(done.lost[0].unreadable && done.lost[0].snapshot == first);
        let second = engine.backup(volume.path()).snapshot;
        engine.assert_restores(second, &Record::of(volume.path()));
        engine.wait(engine.repository().forget(&[first])).unwrap();
        assert!(repair(&engine).lost.is_empty());
        engine.assert_sound();
    }
}

#[test]
fn a_log_entry_and_a_key_that_are_damaged_are_named() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume.path());
    engine.backup(volume.path());
    let entry = names(&engine, "log/").remove(0);
    flip(&engine, &store, &entry, |len| len / 2);
    let key = format!("keys/{}", "ab".repeat(16));
    store.overwrite(&key, bytes::Bytes::from_static(b"no key"));
    // The process that has it open knows the log; another would not even open it.
    let found = check(&engine, CheckOptions::default());
    let kinds: BTreeSet<(&str, DamageKind)> = found
        .damage
        .iter()
        .map(|one| (&*one.object, one.kind))
        .collect();
    let wanted = [
        (&*entry, DamageKind::DamagedLog),
        (&*key, DamageKind::DamagedKey),
    ];
    assert_eq!(kinds, BTreeSet::from(wanted));
    assert!(found.damage.iter().all(|one| !one.repairable));
    let error = Engine::open(store).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains(&entry), "{error}");
}

#[test]
fn each_depth_sees_what_it_looks_at() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    fill(volume.path());
    engine.backup(volume.path());
    let packs = names(&engine, "p/");
    flip(&engine, &store, &packs[0], |len| len / 2);
    engine.wait(store.delete(&packs[1])).unwrap();
    let seen = |depth| {
        let engine = Engine::open(store.clone()).unwrap();
        let options = CheckOptions {
            depth,
            ..CheckOptions::default()
        };
        let report = check(&engine, options);
        let objects = report.damage.iter().map(|one| one.object.clone());
        objects.collect::<BTreeSet<String>>()
    };
    assert_eq!(seen(CheckDepth::Structure), BTreeSet::new());
    assert_eq!(
        seen(CheckDepth::Existence),
        BTreeSet::from([packs[1].clone()])
    );
    let both = BTreeSet::from([packs[0].clone(), packs[1].clone()]);
    assert_eq!(seen(CheckDepth::Scrub), both);
    assert_eq!(seen(CheckDepth::Data), both);
}
