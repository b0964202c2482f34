//! Keys come and go, and nothing that was backed up is lost by it.

use std::{fs, path::Path, sync::Arc};

use async_trait::async_trait;
use orlop_core::{NoMonitor, SnapshotId};
use orlop_repository::{
    BeginWrite, ChunkId, CollectOptions, CommitRequest, Committer, Error, Location, ObjectStore,
    ReadGrant, Repository, Result, RotateOptions, RotateReport, SessionId, Unlock, WriteGrant,
    store::{Durability, FaultyStore, MemoryStore, Plan},
};
use orlop_tests::{Engine, Record, copy_store, key_file, sample};
use tokio_util::sync::CancellationToken;

use crate::incremental::rest;

fn other_key() -> Unlock {
    Unlock::KeyFile(b"another key of the tests, longer".to_vec())
}

fn drop_others() -> RotateOptions {
    RotateOptions {
        drop_others: true,
        ..RotateOptions::default()
    }
}

async fn rotate(repository: &Repository) -> Result<RotateReport> {
    repository
        .rotate(&drop_others(), &NoMonitor, &CancellationToken::new())
        .await
}

fn names(engine: &Engine, prefix: &str) -> Vec<String> {
    let objects = engine.wait(engine.store().list(prefix)).unwrap();
    objects.into_iter().map(|object| object.name).collect()
}

fn collect(engine: &Engine) {
    let options = CollectOptions {
        max_removed_percent: 100,
        ..CollectOptions::default()
    };
    let monitor = Arc::new(NoMonitor);
    let collected = engine
        .repository()
        .collect(options, monitor, CancellationToken::new());
    engine.wait(collected).unwrap();
}

fn small(at: &Path, seed: u64) {
    fs::write(
        at.join("large"),
        orlop_tests::Random::new(seed).bytes(300_000),
    )
    .unwrap();
    fs::write(
        at.join("small"),
        format!("a small file of {seed}").repeat(40),
    )
    .unwrap();
    fs::write(at.join("inline"), "in the entry").unwrap();
}

#[test]
fn of_rotations_at_the_same_time_one_leaves_key_objects() {
    let mut lost = 0;
    for _ in 0..8 {
        let store = Arc::new(MemoryStore::new());
        let engine = Engine::init(store.clone()).unwrap();
        let other = Engine::open(store.clone()).unwrap();
        let (one, two) = engine
            .wait(async { tokio::join!(rotate(engine.repository()), rotate(other.repository())) });
        lost += usize::from(one.is_err()) + usize::from(two.is_err());
        assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
        let opened = Engine::open(store.clone()).unwrap();
        let keys = opened.wait(opened.repository().keys()).unwrap();
        let epochs = one.into_iter().chain(two).map(|report| report.epoch);
        let good = keys.iter().filter(|key| !key.left_behind);
        assert_eq!(good.count(), 1, "{keys:?}");
        assert!(epochs.max() >= Some(1));
    }
    println!("{lost} rotations came second");
}

#[test]
fn after_a_rotation_only_what_was_kept_opens_the_repository() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 61, 1 << 20);
    let first = engine.backup(volume.path()).snapshot;
    let before = Record::of(volume.path());
    let repository = engine.repository();
    let added = engine
        .wait(repository.add_key(&other_key(), "the other"))
        .unwrap();
    assert!(!added.in_use && !added.left_behind);
    engine
        .wait(Repository::open(store.clone(), &other_key()))
        .unwrap();
    let refused = engine.wait(repository.rotate(
        &RotateOptions::default(),
        &NoMonitor,
        &CancellationToken::new(),
    ));
    assert!(refused.unwrap_err().to_string().contains(&added.id));
    // Somebody keeps a copy of all key objects.
    let old = copy_store(&*store);
    let report = engine.wait(rotate(repository)).unwrap();
    assert_eq!(
        (report.epoch, report.resealed, report.resumed),
        (1, 1, false)
    );
    assert_eq!((report.kept.len(), report.removed.len()), (1, 2));
    let error = engine.wait(Repository::open(store.clone(), &other_key()));
    assert!(matches!(error.err(), Some(Error::WrongKey { .. })));
    for object in engine.wait(old.list("keys/")).unwrap() {
        let bytes = engine.wait(old.get(&object.name)).unwrap();
        engine
            .wait(store.put(&object.name, vec![bytes], Durability::Now))
            .unwrap();
    }
    let error = engine.wait(Repository::open(store.clone(), &other_key()));
    let error = error.err().unwrap();
    assert!(matches!(error, Error::LeftBehind { .. }), "{error}");
    let keys = engine.wait(repository.keys()).unwrap();
    assert_eq!(keys.iter().filter(|key| key.left_behind).count(), 2);
    // Another process, and the one that did it.
    for engine in [Engine::open(store.clone()).unwrap(), engine] {
        engine.assert_restores(first, &before);
        engine.assert_sound();
    }
}

#[test]
fn unchanged_files_keep_what_they_have_and_new_data_is_of_the_new_epoch() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 62, 1 << 20);
    rest();
    let first = engine.backup(volume.path());
    let before = Record::of(volume.path());
    engine.wait(rotate(engine.repository())).unwrap();
    let second = engine.backup(volume.path());
    assert_eq!(second.files.unchanged, second.files.total);
    assert_eq!((second.new_bytes, second.read_bytes), (0, 0));
    // The same bytes in a new file are no longer known.
    let large = fs::read(volume.path().join("base/16384/table")).unwrap();
    fs::write(volume.path().join("again"), &large).unwrap();
    let third = engine.backup(volume.path());
    assert_eq!(third.new_bytes, large.len() as u64);
    fs::write(volume.path().join("once more"), &large).unwrap();
    let fourth = engine.backup(volume.path());
    assert_eq!(fourth.new_bytes, 0);
    let now = Record::of(volume.path());
    collect(&engine);
    for engine in [Engine::open(store).unwrap(), engine] {
        engine.assert_restores(first.snapshot, &before);
        engine.assert_restores(second.snapshot, &before);
        engine.assert_restores(fourth.snapshot, &now);
        engine.assert_sound();
    }
}

#[test]
fn what_was_sealed_to_old_keys_is_collected() {
    let volume = orlop_tests::quick_dir();
    let engine = Engine::in_memory();
    small(volume.path(), 1);
    let snapshot = engine.backup(volume.path()).snapshot;
    let before = Record::of(volume.path());
    let old = names(&engine, "s/");
    engine.wait(rotate(engine.repository())).unwrap();
    engine.wait(rotate(engine.repository())).unwrap();
    assert_eq!(names(&engine, "s/").len(), 3);
    collect(&engine);
    let new = names(&engine, "s/");
    assert_eq!(new.len(), 1);
    assert!(!old.contains(&new[0]) && new[0].contains(&snapshot.to_string()));
    engine.assert_restores(snapshot, &before);
    engine.assert_sound();
}

/// Two snapshots, two keys, and how often a rotation changes the store.
struct Before {
    store: Arc<MemoryStore>,
    snapshots: Vec<(SnapshotId, Record)>,
}

impl Before {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let engine = Engine::init(store.clone()).unwrap();
        let mut snapshots = Vec::new();
        for seed in 0..2 {
            let volume = orlop_tests::quick_dir();
            small(volume.path(), seed);
            let snapshot = engine.backup(volume.path()).snapshot;
            snapshots.push((snapshot, Record::of(volume.path())));
        }
        engine
            .wait(engine.repository().add_key(&other_key(), ""))
            .unwrap();
        Self { store, snapshots }
    }

    fn failing(&self, plan: Plan) -> (Arc<FaultyStore>, Arc<MemoryStore>) {
        let inner = copy_store(&*self.store);
        (Arc::new(FaultyStore::new(inner.clone(), plan)), inner)
    }

    fn assert_whole(&self, engine: &Engine) {
        for (snapshot, record) in &self.snapshots {
            engine.assert_restores(*snapshot, record);
        }
    }
}

#[test]
fn a_rotation_that_breaks_off_at_any_change_is_finished_by_the_next() {
    let before = Before::new();
    let (counting, _) = before.failing(Plan::ChangesFrom(u64::MAX));
    let engine = Engine::open(counting.clone()).unwrap();
    engine.wait(rotate(engine.repository())).unwrap();
    let total = counting.changes();
    assert!(total >= 8, "{total} changes");
    for n in 0..total {
        for plan in [Plan::ChangesFrom(n), Plan::LoseAnswerOfChange(n)] {
            let (faulty, inner) = before.failing(plan);
            let engine = Engine::open(faulty).unwrap();
            let broke = engine.wait(rotate(engine.repository()));
            // The log settles an answer that was lost by asking again.
            if broke.is_ok() {
                assert!(matches!(plan, Plan::LoseAnswerOfChange(_)), "{plan:?}");
            }
            // Whoever is still to open it does so, and reads everything.
            let engine = Engine::open(inner.clone()).unwrap();
            before.assert_whole(&engine);
            let report = engine.wait(rotate(engine.repository())).unwrap();
            assert!(
                report.epoch == 1 || report.epoch == 2,
                "{plan:?}: {report:?}"
            );
            assert_eq!(report.damaged, Vec::<String>::new());
            before.assert_whole(&engine);
            let error = engine.wait(Repository::open(inner.clone(), &other_key()));
            assert!(error.is_err(), "{plan:?}: the other key was dropped");
            let next = engine.wait(rotate(engine.repository())).unwrap();
            assert!(!next.resumed, "{plan:?}: nothing was left to do: {next:?}");
            // The session of a process that died would be waited for.
            let options = CollectOptions {
                fence_after: std::time::Duration::ZERO,
                max_removed_percent: 100,
                ..CollectOptions::default()
            };
            let cancel = CancellationToken::new();
            let collected = engine
                .repository()
                .collect(options, Arc::new(NoMonitor), cancel);
            engine.wait(collected).unwrap();
            assert_eq!(names(&engine, "s/").len(), 2, "{plan:?}");
            before.assert_whole(&engine);
            engine.assert_sound();
        }
    }
}

/// Rotates the keys from elsewhere before each commit.
struct Rotated {
    inner: Arc<Repository>,
    other: Arc<Repository>,
}

#[async_trait]
impl Committer for Rotated {
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant> {
        self.inner.begin_write(request).await
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        self.inner.begin_read(snapshot).await
    }

    async fn locate(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>> {
        self.inner.locate(session, ids, fresh).await
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        rotate(&self.other).await?;
        self.inner.commit(session, request).await
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        self.inner.end(session).await
    }
}

#[test]
fn a_backup_that_began_with_old_keys_is_committed_for_the_new_ones() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let elsewhere = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 63, 1 << 20);
    elsewhere.backup(volume.path());
    fs::write(volume.path().join("new"), "new").unwrap();
    rest();
    let engine = Engine::open(store.clone()).unwrap();
    let committer = Rotated {
        inner: Arc::clone(engine.repository()),
        other: Arc::clone(elsewhere.repository()),
    };
    // A checkpoint after each pack: the keys are rotated several times.
    let engine = engine
        .with_committer(Arc::new(committer))
        .with_checkpoints(1 << 19);
    let report = engine.backup(volume.path());
    let now = Record::of(volume.path());
    let fresh = Engine::open(store).unwrap();
    fresh.assert_restores(report.snapshot, &now);
    // Its root is of the newest epoch: nothing is left to do.
    let next = fresh.wait(rotate(fresh.repository())).unwrap();
    assert!(!next.resumed && next.epoch >= 2, "{next:?}");
    let again = fresh.backup(volume.path());
    assert_eq!(again.files.unchanged, again.files.total);
    fresh.assert_restores(again.snapshot, &now);
    fresh.assert_sound();
}

#[test]
fn a_reader_goes_on_while_the_keys_are_rotated_and_old_roots_collected() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume.path(), 64, 1 << 20);
    let snapshot = engine.backup(volume.path()).snapshot;
    let session = engine.read(snapshot).unwrap();
    let elsewhere = Engine::open(store).unwrap();
    elsewhere.wait(rotate(elsewhere.repository())).unwrap();
    elsewhere
        .wait(elsewhere.repository().forget(&[snapshot]))
        .unwrap();
    collect(&elsewhere);
    for entry in session.entries() {
        let entry = entry.unwrap();
        if entry.kind == orlop_repository::EntryKind::File {
            let mut bytes = Vec::new();
            session.read_file(&entry, &mut bytes, 8 << 20).unwrap();
            assert_eq!(bytes.len() as u64, entry.size);
        }
    }
    session.end();
}

#[test]
fn a_process_whose_key_is_left_behind_stops_and_says_why() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    small(volume.path(), 3);
    engine.backup(volume.path());
    engine
        .wait(engine.repository().add_key(&other_key(), ""))
        .unwrap();
    let other = engine.wait(Repository::open(store, &other_key())).unwrap();
    engine.wait(rotate(engine.repository())).unwrap();
    let error = engine.wait(other.snapshots()).unwrap_err();
    assert!(error.to_string().contains("were rotated"), "{error}");
}

#[test]
fn what_is_kept_keeps_its_label_and_opens_also_afterwards() {
    let (volume, store) = (orlop_tests::quick_dir(), Arc::new(MemoryStore::new()));
    let engine = Engine::init(store.clone()).unwrap();
    small(volume.path(), 4);
    let snapshot = engine.backup(volume.path()).snapshot;
    engine
        .wait(engine.repository().add_key(&other_key(), "in the safe"))
        .unwrap();
    let other = engine
        .wait(Repository::open(store.clone(), &other_key()))
        .unwrap();
    let options = RotateOptions {
        keep: vec![other_key()],
        drop_others: false,
    };
    let cancel = CancellationToken::new();
    let report = engine
        .wait(engine.repository().rotate(&options, &NoMonitor, &cancel))
        .unwrap();
    assert_eq!((report.kept.len(), report.removed.len()), (2, 2));
    // One that was open finds the new key by itself.
    assert_eq!(engine.wait(other.snapshots()).unwrap()[0].id, snapshot);
    let keys = engine.wait(other.keys()).unwrap();
    let labels: Vec<(&str, bool)> = keys.iter().map(|k| (&*k.label, k.in_use)).collect();
    assert!(labels.contains(&("in the safe", true)), "{labels:?}");
    assert!(labels.contains(&("", false)), "{labels:?}");
}

#[test]
fn the_last_key_and_the_one_in_use_stay() {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    let repository = engine.repository();
    let own = engine.wait(repository.keys()).unwrap().remove(0);
    assert!(own.in_use);
    let refused = |id: &str, own: bool| {
        let error = engine.wait(repository.remove_key(id, own)).unwrap_err();
        error.to_string()
    };
    assert!(refused(&own.id, true).contains("the last one"));
    assert!(refused(&own.id, false).contains("--own"));
    assert!(refused("0000000000", true).contains("does not exist"));
    let twice = engine
        .wait(repository.add_key(&key_file(), ""))
        .unwrap_err();
    assert!(twice.to_string().contains(&own.id), "{twice}");
    let other = engine.wait(repository.add_key(&other_key(), "x")).unwrap();
    assert!(refused("", true).contains("more characters"));
    engine
        .wait(repository.remove_key(&own.id[..8], true))
        .unwrap();
    let error = engine.wait(Repository::open(store.clone(), &key_file()));
    assert!(matches!(error.err(), Some(Error::WrongKey { .. })));
    let opened = engine.wait(Repository::open(store, &other_key())).unwrap();
    let keys = engine.wait(opened.keys()).unwrap();
    assert_eq!(
        (keys.len(), &keys[0].id, keys[0].in_use),
        (1, &other.id, true)
    );
}
