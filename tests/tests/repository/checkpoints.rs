//! A backup that is cut off is gone on with: nothing is stored twice, little is read again.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_agent::backup::{BackupError, BackupReport};
use orlop_core::{Issue, Monitor, NoMonitor, Progress};
use orlop_repository::{
    CollectOptions, Error, ObjectStore, Repository, Result, SnapshotInfo, SnapshotState,
    store::{Durability, FaultyStore, MemoryStore, ObjectInfo, Plan, Put},
};
use orlop_tests::{Before, Between, Engine, Random, Record, StopAfter};
use tokio_util::sync::CancellationToken;

/// Some packs of the tests' repositories, which have 1 MiB.
const EVERY: u64 = 2 << 20;

/// Files of all sizes in several directories; `seed` makes the contents.
fn fill(volume: &Path, seed: u64) {
    let mut random = Random::new(seed);
    for dir in ["a", "b", "b/deep", "z"] {
        fs::create_dir_all(volume.join(dir)).unwrap();
        for n in 0..20 {
            fs::write(
                volume.join(dir).join(format!("small-{n}")),
                random.bytes(9000),
            )
            .unwrap();
        }
        for n in 0..3 {
            fs::write(
                volume.join(dir).join(format!("large-{n}")),
                random.bytes(700 << 10),
            )
            .unwrap();
        }
    }
    // Times as young as the backup itself are not trusted.
    std::thread::sleep(Duration::from_millis(50));
}

fn snapshots(engine: &Engine) -> Vec<SnapshotInfo> {
    engine.wait(engine.repository().snapshots()).unwrap()
}

/// Goes on after a backup was cut off, in what is another process by then.
fn assert_goes_on(store: &Arc<MemoryStore>, volume: &Path, what: &str) -> BackupReport {
    let engine = Engine::open(store.clone()).unwrap();
    engine.assert_sound();
    let checkpoint = snapshots(&engine)
        .into_iter()
        .filter(|info| info.state == SnapshotState::Partial)
        .map(|info| info.id)
        .next_back();
    let covered = checkpoint.map_or_else(Default::default, |id| engine.files(id));
    let report = engine.backup(volume);
    let files = engine.files(report.snapshot);
    let uncovered = files
        .iter()
        .filter(|(path, _)| !covered.contains_key(*path));
    let (opened, read) = uncovered.fold((0, 0), |(n, sum), (_, size)| (n + 1, sum + size));
    let again = (report.files.opened, report.read_bytes);
    assert!(
        again.0 <= opened && again.1 <= read,
        "{what}: {again:?} of {:?}",
        (opened, read)
    );
    assert_eq!(report.resumed_from, checkpoint, "{what}");
    engine.assert_stored_once();
    engine.assert_restores(report.snapshot, &Record::of(volume));
    engine.assert_sound();
    let partial = |info: &SnapshotInfo| info.state == SnapshotState::Partial;
    assert!(
        !snapshots(&engine).iter().any(partial),
        "{what}: a checkpoint is left"
    );
    report
}

#[test]
fn a_backup_cut_off_at_any_put_is_gone_on_with() {
    let volume = orlop_tests::quick_dir();
    fill(volume.path(), 1);
    let whole = Arc::new(MemoryStore::new());
    Engine::init(whole.clone()).unwrap();
    let total = {
        let faulty = Arc::new(FaultyStore::new(
            orlop_tests::copy_store(&*whole),
            Plan::Never,
        ));
        let engine = Engine::open(faulty.clone())
            .unwrap()
            .with_checkpoints(EVERY);
        engine.backup(volume.path());
        faulty.puts()
    };
    let (volume, resumed) = (volume.path(), AtomicU64::new(0));
    // How many checkpoints there are depends on who was faster, too.
    assert!(total > 8, "{total} puts");
    std::thread::scope(|scope| {
        for n in 0..total {
            let (whole, resumed) = (&whole, &resumed);
            scope.spawn(move || {
                let inner = orlop_tests::copy_store(&**whole);
                let faulty = Arc::new(FaultyStore::new(inner.clone(), Plan::PutsFrom(n)));
                let engine = Engine::open(faulty.clone())
                    .unwrap()
                    .with_checkpoints(EVERY);
                // How many packs there are depends on who was faster.
                assert_eq!(engine.try_backup(volume).is_ok(), faulty.puts() <= n);
                drop(engine);
                let report = assert_goes_on(&inner, volume, &format!("put {n} of {total}"));
                resumed.fetch_add(u64::from(report.resumed_from.is_some()), SeqCst);
            });
        }
    });
    assert!(resumed.load(SeqCst) > 0, "{resumed:?} of {total}");
}

#[test]
fn an_incremental_backup_goes_on_from_its_checkpoint_and_then_from_the_whole_snapshot() {
    let volume = orlop_tests::quick_dir();
    fill(volume.path(), 2);
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    let first = engine.backup(volume.path());
    // Changes before and behind the checkpoint, some of the same size.
    for (dir, seed) in [("a", 3), ("z", 4)] {
        let mut random = Random::new(seed);
        for n in 0..3 {
            let path = volume.path().join(dir).join(format!("large-{n}"));
            fs::write(path, random.bytes(700 << 10)).unwrap();
        }
        fs::remove_file(volume.path().join(dir).join("small-7")).unwrap();
        fs::write(
            volume.path().join(dir).join("added"),
            random.bytes(700 << 10),
        )
        .unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    for stop_at in [1, 2] {
        let stopped = Arc::new(Between::new(&engine, StopAfter(stop_at)));
        let engine = Engine::open(store.clone())
            .unwrap()
            .with_checkpoints(EVERY / 2)
            .with_committer(stopped);
        engine.try_backup(volume.path()).unwrap_err();
    }
    let partial = snapshots(&engine).pop().unwrap();
    let covered = engine.files(partial.id);
    let uncovered = |name: &str| !covered.contains_key(name.as_bytes());
    let changed = ["large-0", "large-1", "large-2", "added"];
    let changed = ["a", "z"].map(|dir| changed.map(|name| format!("{dir}/{name}")));
    let changed = changed.iter().flatten();
    let changed = changed.filter(|name| uncovered(name)).count();
    assert_eq!(
        (partial.state, partial.parent),
        (SnapshotState::Partial, Some(first.snapshot))
    );
    let report = Engine::open(store.clone()).unwrap().backup(volume.path());
    let files = report.files;
    assert_eq!(
        (report.resumed_from, report.parent),
        (Some(partial.id), Some(first.snapshot))
    );
    assert_eq!(
        files.opened, changed as u64,
        "{files:?}: what is covered is not opened"
    );
    assert_eq!(files.opened, files.new + files.changed);
    assert_eq!(files.unchanged + files.opened, files.total);
    // What was removed before the position, the checkpoint has seen already.
    let removed = ["a/small-8", "z/small-8"]
        .iter()
        .filter(|next| uncovered(next));
    assert_eq!(files.removed, removed.count() as u64, "{files:?}");
    let engine = Engine::open(store).unwrap();
    engine.assert_stored_once();
    engine.assert_restores(report.snapshot, &Record::of(volume.path()));
    engine.assert_sound();
    let listed: Vec<_> = snapshots(&engine).iter().map(|info| info.id).collect();
    assert_eq!(listed, [first.snapshot, report.snapshot]);
}

/// Collects with no patience at all before the first commits, so that they are shut out.
struct Collecting {
    times: u64,
}

#[async_trait]
impl Before for Collecting {
    async fn commit(&self, repository: &Repository, number: u64, _: bool) -> Result<()> {
        if number > self.times {
            return Ok(());
        }
        let options = CollectOptions {
            max_removed_percent: 100,
            patience: Duration::ZERO,
            fence_after: Duration::ZERO,
            ..CollectOptions::default()
        };
        // Something that nobody needs, so that there is something to collect.
        let garbage = format!("s/none/of-these/{number}");
        let put = repository
            .store()
            .put(&garbage, vec!["x".into()], Durability::Now);
        put.await?;
        let report = repository.collect(options, Arc::new(NoMonitor), CancellationToken::new());
        assert_eq!(report.await?.fenced.len(), 1);
        Ok(())
    }
}

/// Remembers why work has begun again.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Monitor for Ears {
    fn progress(&self, _progress: Progress) {}
    fn issue(&self, _issue: &Issue) {}
    fn begins_again(&self, reason: &str) {
        self.0.lock().unwrap().push(reason.to_owned());
    }
}

/// A backup that a collection shuts out so often, and how often it has begun again.
fn shut_out(
    volume: &Path,
    times: u64,
) -> (Arc<MemoryStore>, Result<BackupReport, BackupError>, usize) {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    let committer = Arc::new(Between::new(&engine, Collecting { times }));
    let ears = Arc::new(Ears::default());
    let engine = engine
        .with_checkpoints(EVERY)
        .with_committer(committer)
        .with_monitor(ears.clone());
    let result = engine.try_backup(volume);
    let told = ears.0.lock().unwrap();
    assert!(told.iter().all(|reason| reason.contains("collection")));
    let again = told.len();
    drop(told);
    (store, result, again)
}

#[test]
fn a_backup_that_is_shut_out_begins_again_and_uploads_nothing_twice() {
    let volume = orlop_tests::quick_dir();
    fill(volume.path(), 5);
    for times in [1, 2, 5] {
        let (store, result, again) = shut_out(volume.path(), times);
        let report = result.unwrap();
        assert_eq!(again as u64, times);
        assert_eq!(report.files.total, 4 * 23);
        let engine = Engine::open(store.clone()).unwrap();
        engine.assert_stored_once();
        engine.assert_restores(report.snapshot, &Record::of(volume.path()));
        engine.assert_sound();
        // The uploads of all attempts are in the report and in the snapshot.
        let packs: u64 = ["p/", "m/"]
            .iter()
            .flat_map(|class| engine.wait(store.list(class)).unwrap())
            .map(|pack| pack.size)
            .sum();
        assert!(
            report.uploaded_bytes >= packs,
            "{} of {packs}",
            report.uploaded_bytes
        );
        let told = snapshots(&engine).pop().unwrap().stats;
        assert_eq!(
            (told.uploaded_bytes, told.files),
            (report.uploaded_bytes, 4 * 23)
        );
    }
}

#[test]
fn a_backup_that_is_always_shut_out_says_so_in_the_end() {
    let volume = orlop_tests::quick_dir();
    fill(volume.path(), 6);
    let (_, result, again) = shut_out(volume.path(), 6);
    let error = result.unwrap_err();
    assert!(
        matches!(error, BackupError::Repository(Error::Fenced { .. })),
        "{error}"
    );
    assert_eq!(again, 5);
}

/// A store that fails some puts of objects whose names begin so.
struct Failing {
    inner: Arc<MemoryStore>,
    prefix: &'static str,
    left: AtomicU64,
    tried: AtomicU64,
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        if name.starts_with(self.prefix) {
            self.tried.fetch_add(1, SeqCst);
            let one_less = |left: u64| left.checked_sub(1);
            if self.left.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
                return Err(Error::Store {
                    action: "write",
                    name: name.to_owned(),
                    store: self.description(),
                    source: std::io::Error::other("it passes"),
                });
            }
        }
        self.inner.put(name, parts, durability).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        self.inner.get_range(name, offset, len).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix).await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.inner.stat(name).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }

    async fn barrier(&self) -> Result<()> {
        self.inner.barrier().await
    }

    fn description(&self) -> String {
        "a store with a bad day".to_owned()
    }
}

#[test]
fn a_checkpoint_that_fails_for_now_is_made_up_for_later() {
    let volume = orlop_tests::quick_dir();
    fill(volume.path(), 7);
    let empty = Arc::new(MemoryStore::new());
    Engine::init(empty.clone()).unwrap();
    // A segment is tried five times for each checkpoint.
    for (prefix, failures) in [("r/", 1), ("s/", 1), ("i/", 5)] {
        let inner = orlop_tests::copy_store(&*empty);
        let failing = Arc::new(Failing {
            inner: inner.clone(),
            prefix,
            left: failures.into(),
            tried: 0.into(),
        });
        let engine = Engine::open(failing.clone())
            .unwrap()
            .with_checkpoints(EVERY / 4);
        let report = engine.backup(volume.path());
        assert_eq!(failing.left.load(SeqCst), 0, "{prefix}");
        // There were checkpoints after those that failed, or the snapshot itself.
        assert!(
            failing.tried.load(SeqCst) > failures,
            "{prefix}: {:?}",
            failing.tried
        );
        let engine = Engine::open(inner).unwrap();
        engine.assert_restores(report.snapshot, &Record::of(volume.path()));
        engine.assert_stored_once();
        engine.assert_sound();
    }
}

#[test]
fn a_checkpoint_is_listed_and_never_chosen() {
    let volume = orlop_tests::quick_dir();
    fill(volume.path(), 8);
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    let stopped = Arc::new(Between::new(&engine, StopAfter(4)));
    let engine = engine.with_checkpoints(EVERY / 4).with_committer(stopped);
    engine.try_backup(volume.path()).unwrap_err();
    let listed = snapshots(&engine);
    assert_eq!(listed.len(), 1, "each takes the place of the one before");
    let (partial, state) = (listed[0].id, listed[0].state);
    assert_eq!(state, SnapshotState::Partial);
    for latest in ["latest", "latest:ns/pod/data"] {
        let error = engine
            .wait(engine.repository().resolve(latest))
            .unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
    let stats = engine.wait(engine.repository().stats()).unwrap();
    assert_eq!((stats.snapshots, stats.logical_bytes), (0, 0));
    let roots = engine.wait(store.list("s/")).unwrap().len() as u64;
    assert_eq!(
        (stats.objects.checkpoints, stats.objects.snapshots),
        (1, roots - 1)
    );
    // Asked for by its id it is what the volume was up to its position, and its counts are of that.
    let id = partial.to_string();
    let info = engine.wait(engine.repository().resolve(&id)).unwrap();
    let files = engine.files(partial);
    assert_eq!(info.stats.files, files.len() as u64);
    assert_eq!(info.stats.logical_bytes, files.values().sum::<u64>());
    assert!(files.len() < 4 * 23, "{}", files.len());
    let target = orlop_tests::quick_dir();
    let report = engine
        .try_restore(partial, &target.path().join("x"))
        .unwrap();
    assert_eq!(report.files, files.len() as u64);

    let report = Engine::open(store.clone()).unwrap().backup(volume.path());
    let engine = Engine::open(store).unwrap();
    let latest = engine.wait(engine.repository().resolve("latest")).unwrap();
    assert_eq!(latest.id, report.snapshot);
    let stats = engine.wait(engine.repository().stats()).unwrap();
    assert_eq!((stats.snapshots, stats.objects.checkpoints), (1, 0));
    assert_eq!(stats.logical_bytes, report.logical_bytes);
    let gone = engine.wait(engine.repository().resolve(&id)).unwrap_err();
    assert!(gone.is_not_found());
}
