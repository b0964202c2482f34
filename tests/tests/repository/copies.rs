//! A copy in another repository is the snapshot itself, and costs what is new.

use std::{fs, sync::Arc};

use orlop_core::{NoMonitor, SnapshotId};
use orlop_repository::{
    Copier, CopyReport, Error, RepairOptions, Result, SnapshotState,
    store::{FaultyStore, MemoryStore, Plan},
};
use orlop_tests::{Engine, Record, Tree, any_tree, copy_store, sample};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio_util::sync::CancellationToken;

use crate::incremental::rest;

/// A runtime for the one who copies between two.
struct Bench {
    from: Engine,
    to: Engine,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        Self::between(Engine::in_memory(), Engine::in_memory())
    }

    fn between(from: Engine, to: Engine) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self { from, to, runtime }
    }

    fn copier(&self) -> Result<Copier> {
        Copier::new(
            Arc::clone(self.from.repository()),
            Arc::clone(self.to.repository()),
            self.runtime.handle().clone(),
            Arc::new(NoMonitor),
            CancellationToken::new(),
        )
    }

    fn copy(&self, snapshot: SnapshotId) -> CopyReport {
        copy(&mut self.copier().unwrap(), snapshot).unwrap()
    }
}

fn copy(copier: &mut Copier, snapshot: SnapshotId) -> Result<CopyReport> {
    let infos = copier.snapshots().to_vec();
    let info = infos.iter().find(|info| info.id == snapshot).unwrap();
    copier.copy(info)
}

#[test]
fn a_copy_is_the_snapshot_and_a_second_one_costs_what_is_new() {
    let volume = orlop_tests::quick_dir();
    let bench = Bench::new();
    sample(volume.path(), 71, 4 << 20);
    rest();
    let first = bench.from.backup(volume.path()).snapshot;
    let before = Record::of(volume.path());
    let copied = bench.copy(first);
    assert!(!copied.existed && copied.base.is_none() && copied.chunks_read > 3);
    assert_eq!(copied.entries as usize, before.count());
    bench.to.assert_restores(copied.snapshot, &before);
    let again = bench.copy(first);
    assert_eq!((again.existed, again.snapshot), (true, copied.snapshot));
    assert_eq!((again.read_bytes, again.uploaded_bytes), (0, 0));

    // A small file, the middle of a large one, and times only.
    fs::write(volume.path().join("many/file-0003"), "changed").unwrap();
    let mut table = fs::read(volume.path().join("base/16384/table")).unwrap();
    let middle = table.len() / 2;
    table[middle] ^= 1;
    fs::write(volume.path().join("base/16384/table"), &table).unwrap();
    rest();
    let second = bench.from.backup(volume.path()).snapshot;
    let now = Record::of(volume.path());
    let next = bench.copy(second);
    assert_eq!(next.base, Some(copied.snapshot));
    assert!(next.chunks_read <= 4, "{next:?}");
    assert!(next.chunks_read < copied.chunks_read);
    bench.to.assert_restores(next.snapshot, &now);
    bench.to.assert_restores(copied.snapshot, &before);
    bench.to.assert_sound();
    bench.to.assert_stored_once();

    let here = bench
        .from
        .wait(bench.from.repository().snapshots())
        .unwrap();
    let there = bench.to.wait(bench.to.repository().snapshots()).unwrap();
    assert_eq!((here.len(), there.len()), (2, 2));
    for (here, there) in here.iter().zip(&there) {
        assert_eq!(
            (&here.volume, &here.lineage, here.time_ms, here.state),
            (&there.volume, &there.lineage, there.time_ms, there.state)
        );
        assert_eq!(
            (
                &here.tags,
                &here.backup,
                &here.node,
                here.stats.files,
                here.stats.logical_bytes
            ),
            (
                &there.tags,
                &there.backup,
                &there.node,
                there.stats.files,
                there.stats.logical_bytes
            )
        );
        assert_eq!(there.origin.unwrap().snapshot, here.id);
    }

    // The next backup there finds everything that it needs to read nothing.
    let backup = bench.to.backup(volume.path());
    assert_eq!(backup.files.unchanged, backup.files.total);
    assert_eq!((backup.read_bytes, backup.new_bytes), (0, 0));
    bench.to.assert_restores(backup.snapshot, &now);
}

#[test]
fn nothing_is_built_upon_a_copy_that_has_lost_something() {
    let volume = orlop_tests::quick_dir();
    let bench = Bench::new();
    sample(volume.path(), 75, 4 << 20);
    rest();
    let first = bench.from.backup(volume.path()).snapshot;
    let before = Record::of(volume.path());
    let lost = bench.copy(first).snapshot;
    let store = bench.to.store();
    for pack in bench.to.wait(store.list("p/")).unwrap() {
        bench.to.wait(store.delete(&pack.name)).unwrap();
    }
    let repair = bench.to.repository().repair(
        RepairOptions::default(),
        Arc::new(NoMonitor),
        CancellationToken::new(),
    );
    bench.to.wait(repair).unwrap();
    fs::write(volume.path().join("many/file-0003"), "changed").unwrap();
    rest();
    let second = bench.from.backup(volume.path()).snapshot;
    let next = bench.copy(second);
    assert_eq!(next.base, None, "what is lost tells nothing");
    bench
        .to
        .assert_restores(next.snapshot, &Record::of(volume.path()));
    let again = bench.copy(first);
    assert!(!again.existed && again.snapshot != lost, "{again:?}");
    bench.to.assert_restores(again.snapshot, &before);
    let known = bench.copy(first);
    assert_eq!((known.existed, known.snapshot), (true, again.snapshot));
}

#[test]
fn copies_go_round_and_an_older_one_may_come_later() {
    let volume = orlop_tests::quick_dir();
    let bench = Bench::new();
    sample(volume.path(), 72, 1 << 20);
    let first = bench.from.backup(volume.path()).snapshot;
    let before = Record::of(volume.path());
    fs::write(
        volume.path().join("more"),
        orlop_tests::Random::new(5).bytes(300_000),
    )
    .unwrap();
    let second = bench.from.backup(volume.path()).snapshot;
    let newer = bench.copy(second);
    let older = bench.copy(first);
    assert_eq!((older.base, older.chunks_read), (Some(newer.snapshot), 0));
    bench.to.assert_restores(older.snapshot, &before);
    // Back again: it is there, as itself.
    let Bench { from, to, .. } = bench;
    let back = Bench::between(to, from);
    let report = back.copy(newer.snapshot);
    assert_eq!((report.existed, report.snapshot), (true, second));
    // A third repository takes it from either for the same.
    let third = Bench::between(back.from, Engine::in_memory());
    let from_copy = third.copy(newer.snapshot);
    let third = Bench::between(back.to, third.to);
    assert_eq!(third.copy(second).snapshot, from_copy.snapshot);
}

#[test]
fn a_copy_that_breaks_off_goes_on_from_its_checkpoint() {
    let volume = orlop_tests::quick_dir();
    for file in 0..6 {
        let bytes = orlop_tests::Random::new(file).bytes(3 << 20);
        fs::write(volume.path().join(format!("{file}")), bytes).unwrap();
    }
    for small in 0..9000 {
        fs::write(
            volume.path().join(format!("s{small:05}")),
            format!("{small}"),
        )
        .unwrap();
    }
    let from = Engine::in_memory();
    let snapshot = from.backup(volume.path()).snapshot;
    let record = Record::of(volume.path());
    let empty = Arc::new(MemoryStore::new());
    Engine::init(empty.clone()).unwrap();
    let counting = Arc::new(FaultyStore::new(copy_store(&*empty), Plan::Never));
    let bench = Bench::between(from, Engine::open(counting.clone()).unwrap());
    let mut copier = bench.copier().unwrap().with_checkpoints(1);
    copy(&mut copier, snapshot).unwrap();
    // The commit of the whole is not reached. How many checkpoints there are depends on which thread is faster.
    let (bench, store) = breaks_off(bench.from, &empty, counting.puts(), snapshot);
    let bench = Bench::between(bench, Engine::open(store).unwrap());
    let partial = bench.to.wait(bench.to.repository().snapshots()).unwrap();
    assert_eq!(partial.len(), 1);
    assert_eq!(partial[0].state, SnapshotState::Partial);
    let report = bench.copy(snapshot);
    assert_eq!(report.resumed_from, Some(partial[0].id));
    assert!(report.chunks_read < 12, "{report:?}");
    bench.to.assert_restores(report.snapshot, &record);
    bench.to.assert_sound();
}

/// A copy that fails at its last objects, of about so many; the source, and the store as it is then.
fn breaks_off(
    mut from: Engine,
    empty: &MemoryStore,
    puts: u64,
    snapshot: SnapshotId,
) -> (Engine, Arc<MemoryStore>) {
    for before_end in 2..10 {
        let store = copy_store(empty);
        let plan = Plan::PutsFrom(puts - before_end);
        let faulty = Arc::new(FaultyStore::new(store.clone(), plan));
        let bench = Bench::between(from, Engine::open(faulty).unwrap());
        let mut copier = bench.copier().unwrap().with_checkpoints(1);
        if let Err(error) = copy(&mut copier, snapshot) {
            assert!(error.to_string().contains("cannot write"), "{error}");
            drop(copier);
            return (bench.from, store);
        }
        drop(copier);
        from = bench.from;
    }
    panic!("no copy of {puts} objects breaks off");
}

#[test]
fn what_cannot_be_copied_is_said() {
    let volume = orlop_tests::quick_dir();
    sample(volume.path(), 73, 1 << 20);
    let store = Arc::new(MemoryStore::new());
    let from = Engine::init(store.clone()).unwrap();
    let snapshot = from.backup(volume.path()).snapshot;
    let same = Bench::between(Engine::open(store.clone()).unwrap(), from);
    let error = same.copier().err().unwrap();
    assert!(
        error.to_string().contains("the repository itself"),
        "{error}"
    );
    // A chunk that is damaged here is not stored there.
    let packs = same.to.wait(same.to.store().list("p/")).unwrap();
    for pack in packs {
        let mut bytes = same
            .to
            .wait(same.to.store().get(&pack.name))
            .unwrap()
            .to_vec();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        store.overwrite(&pack.name, bytes.into());
    }
    let bench = Bench::between(Engine::open(store).unwrap(), Engine::in_memory());
    let error = copy(&mut bench.copier().unwrap(), snapshot).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(
        bench
            .to
            .wait(bench.to.repository().snapshots())
            .unwrap()
            .len(),
        0
    );
    bench.to.assert_sound();
}

#[test]
fn any_tree_is_copied() {
    let config = ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..Default::default()
    };
    let copied = |tree: &Tree| {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volume");
        fs::create_dir(&volume).unwrap();
        tree.make(&volume);
        let bench = Bench::new();
        let snapshot = bench.from.backup(&volume).snapshot;
        let report = bench.copy(snapshot);
        bench
            .to
            .assert_restores_in(&directory, report.snapshot, &Record::of(&volume));
        bench.to.assert_sound();
    };
    let result = TestRunner::new(config).run(&any_tree(40), |tree| {
        copied(&tree);
        Ok(())
    });
    result.unwrap();
}
