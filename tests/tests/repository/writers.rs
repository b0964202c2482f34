//! Several writers of one repository at once.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use orlop_core::VolumeRef;
use orlop_repository::{
    BeginWrite, Committer as _, ObjectStore,
    store::{DirectoryStore, MemoryStore},
};
use orlop_tests::{Engine, Record, sample};

const WRITERS: usize = 4;
const ROUNDS: usize = 4;

/// Each writer has the repository open for itself, as a process of its own has.
fn write_at_once(store: &Arc<dyn ObjectStore>, volume_of: impl Fn(usize) -> VolumeRef + Sync) {
    Engine::init(Arc::clone(store)).unwrap();
    let directory = orlop_tests::quick_dir();
    let engines: Vec<Engine> = (0..WRITERS)
        .map(|_| Engine::open(Arc::clone(store)).unwrap())
        .collect();
    let made: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = engines
            .iter()
            .enumerate()
            .map(|(number, engine)| {
                let path = directory.path().join(number.to_string());
                let volume = volume_of(number);
                scope.spawn(move || write(engine, &volume, &path, number))
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let engine = Engine::open(Arc::clone(store)).unwrap();
    let listed = engine.wait(engine.repository().snapshots()).unwrap();
    assert_eq!(listed.len(), WRITERS * ROUNDS);
    for (snapshot, record) in &made {
        assert!(listed.iter().any(|info| info.id == *snapshot));
        engine.assert_restores(*snapshot, record);
    }
    engine.assert_sound();
}

fn write(
    engine: &Engine,
    volume: &VolumeRef,
    path: &Path,
    number: usize,
) -> Vec<(orlop_core::SnapshotId, Record)> {
    fs::create_dir(path).unwrap();
    // Much is the same in all volumes: all writers store the same chunks at once.
    sample(path, 31, 1 << 20);
    let mut made = Vec::new();
    for round in 0..ROUNDS {
        fs::write(
            path.join(format!("{number}-{round}")),
            format!("{number}").repeat(9000),
        )
        .unwrap();
        let report = engine.try_backup_as(path, volume).unwrap();
        made.push((report.snapshot, Record::of(path)));
    }
    made
}

#[test]
fn writers_of_several_volumes_do_not_disturb_each_other() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    write_at_once(&store, |number| {
        VolumeRef::new("ns", format!("pod-{number}"), "data")
    });
}

#[test]
fn writers_of_one_volume_in_a_directory_do_not_disturb_each_other() {
    let directory = orlop_tests::quick_dir();
    let store: Arc<dyn ObjectStore> =
        Arc::new(DirectoryStore::new(directory.path().join("repository")));
    write_at_once(&store, |_| VolumeRef::new("ns", "pod", "data"));
}

#[test]
fn writers_who_begin_in_the_same_moment_get_sessions_of_their_own() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    Engine::init(Arc::clone(&store)).unwrap();
    let volume = VolumeRef::new("ns", "pod", "data");
    let begin = BeginWrite {
        lineage: volume.default_lineage(),
        volume,
    };
    let engines: Vec<Engine> = (0..WRITERS)
        .map(|_| Engine::open(Arc::clone(&store)).unwrap())
        .collect();
    let sessions: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = engines
            .iter()
            .map(|engine| {
                let begin = || engine.repository().begin_write(begin.clone());
                scope.spawn(move || {
                    (0..50)
                        .map(|_| engine.wait(begin()).unwrap().session)
                        .collect()
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| -> Vec<u64> { writer.join().unwrap() })
            .collect()
    });
    let distinct: BTreeSet<u64> = sessions.iter().copied().collect();
    assert_eq!(distinct.len(), sessions.len(), "{sessions:?}");
}
