//! A store that fails at any call costs the backup that was running, and nothing else.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_core::SnapshotId;
use orlop_repository::{
    BeginWrite, ChunkId, CommitRequest, Committer, Error, Location, ObjectStore, ReadGrant,
    Repository, Result, SessionId, WriteGrant,
    store::{Durability, FaultyStore, MemoryStore, ObjectInfo, Plan, Put},
};
use orlop_tests::{Engine, Record, copy_store, sample};

/// A repository with one snapshot, and a volume that has changed since.
struct Before {
    store: Arc<MemoryStore>,
    first: SnapshotId,
    record: Record,
}

impl Before {
    fn new(volume: &Path) -> Self {
        let store = Arc::new(MemoryStore::new());
        let engine = Engine::init(store.clone()).unwrap();
        sample(volume, 21, 2 << 20);
        let first = engine.backup(volume).snapshot;
        let record = Record::of(volume);
        fs::write(
            volume.join("new"),
            orlop_tests::Random::new(22).bytes(5 << 20),
        )
        .unwrap();
        Self {
            store,
            first,
            record,
        }
    }

    /// A copy of the store that fails as `plan` says, and the copy.
    fn failing(&self, plan: Plan) -> (Arc<FaultyStore>, Arc<MemoryStore>) {
        let inner = copy_store(&*self.store);
        (Arc::new(FaultyStore::new(inner.clone(), plan)), inner)
    }

    /// After whatever happened: what was stored is there, and the next backup succeeds.
    fn assert_unharmed(&self, store: Arc<MemoryStore>, volume: &Path) {
        let engine = Engine::open(store).unwrap();
        engine.assert_restores(self.first, &self.record);
        let now = Record::of(volume);
        let report = engine.backup(volume);
        engine.assert_restores(report.snapshot, &now);
        engine.assert_sound();
    }
}

/// How many puts one backup makes when nothing fails.
fn puts(before: &Before, volume: &Path) -> u64 {
    let (faulty, _) = before.failing(Plan::PutsFrom(u64::MAX));
    Engine::open(faulty.clone()).unwrap().backup(volume);
    faulty.puts()
}

/// Calls `check` with each number below `total`, all at once: what takes long is the waiting between
/// one try of an upload and the next.
fn at_once(total: u64, check: impl Fn(u64) + Sync) {
    let check = &check;
    std::thread::scope(|scope| {
        for n in 0..total {
            scope.spawn(move || check(n));
        }
    });
}

#[test]
fn a_backup_that_fails_at_any_put_harms_nothing() {
    let volume = orlop_tests::quick_dir();
    let before = Before::new(volume.path());
    let total = puts(&before, volume.path());
    assert!(total > 8, "{total} puts");
    at_once(total, |n| {
        let (faulty, inner) = before.failing(Plan::PutsFrom(n));
        let result = Engine::open(faulty.clone())
            .unwrap()
            .try_backup(volume.path());
        // How many packs there are depends on who was faster: a run may end before its put fails.
        assert_eq!(result.is_ok(), faulty.puts() <= n, "put {n} of {total}");
        if let Err(error) = result {
            let text = error.to_string();
            assert!(text.contains("cannot write"), "put {n}: {text}");
            assert!(
                !error.is_permanent() && !error.is_cancelled(),
                "put {n}: {text}"
            );
        }
        before.assert_unharmed(inner, volume.path());
    });
}

#[test]
fn a_lost_answer_at_any_put_harms_nothing() {
    let volume = orlop_tests::quick_dir();
    let before = Before::new(volume.path());
    let total = puts(&before, volume.path());
    let now = Record::of(volume.path());
    at_once(total, |n| {
        let (faulty, inner) = before.failing(Plan::LoseAnswerOf(n));
        let result = Engine::open(faulty.clone())
            .unwrap()
            .try_backup(volume.path());
        // How many packs there are depends on who was faster: a run may end before its put is lost.
        assert_eq!(result.is_ok(), faulty.puts() <= n, "put {n} of {total}");
        // Whatever is listed is whole.
        let engine = Engine::open(inner.clone()).unwrap();
        for info in engine.wait(engine.repository().snapshots()).unwrap() {
            let record = if info.id == before.first {
                &before.record
            } else {
                &now
            };
            engine.assert_restores(info.id, record);
        }
        before.assert_unharmed(inner, volume.path());
    });
}

#[test]
fn a_full_store_is_said_to_be_full() {
    let volume = orlop_tests::quick_dir();
    let before = Before::new(volume.path());
    for n in 0..puts(&before, volume.path()) {
        let (faulty, inner) = before.failing(Plan::FullFrom(n));
        let result = Engine::open(faulty.clone())
            .unwrap()
            .try_backup(volume.path());
        assert_eq!(result.is_ok(), faulty.puts() <= n, "put {n}");
        if let Err(error) = result {
            let text = error.to_string();
            assert!(
                text.contains("no space left") && text.contains("free some space"),
                "{text}"
            );
            assert!(error.is_permanent());
        }
        if n % 4 == 0 {
            before.assert_unharmed(inner, volume.path());
        }
    }
}

/// A store that loses the answer of one put and goes on.
struct LoseOnce {
    inner: Arc<MemoryStore>,
    lost: u64,
    puts: AtomicU64,
}

#[async_trait]
impl ObjectStore for LoseOnce {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        let put = self.inner.put(name, parts, durability).await?;
        if self.puts.fetch_add(1, Ordering::SeqCst) == self.lost {
            return Err(Error::Store {
                action: "write",
                name: name.to_owned(),
                store: self.description(),
                source: std::io::Error::other("the answer was lost"),
            });
        }
        Ok(put)
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
        "a store behind a bad line".to_owned()
    }
}

/// A committer whose client asks again after an error, and always once more after an answer, as one
/// that did not hear it.
struct AskAgain(Arc<Repository>);

#[async_trait]
impl Committer for AskAgain {
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant> {
        self.0.begin_write(request).await
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        self.0.begin_read(snapshot).await
    }

    async fn locate(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>> {
        self.0.locate(session, ids, fresh).await
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        let first = self.0.commit(session, request.clone()).await;
        let second = self.0.commit(session, request).await?;
        assert!(first.is_err() || first.is_ok_and(|first| first == second));
        Ok(second)
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        self.0.end(session).await
    }
}

#[test]
fn a_commit_that_is_asked_for_twice_happens_once() {
    let volume = orlop_tests::quick_dir();
    let before = Before::new(volume.path());
    let now = Record::of(volume.path());
    let total = puts(&before, volume.path());
    let mut succeeded = 0;
    for lost in 0..=total {
        let inner = copy_store(&*before.store);
        let store = Arc::new(LoseOnce {
            inner: inner.clone(),
            lost,
            puts: 0.into(),
        });
        let engine = Engine::open(store).unwrap();
        let again = Arc::new(AskAgain(Arc::clone(engine.repository())));
        let engine = engine.with_committer(again);
        let result = engine.try_backup(volume.path());
        let engine = Engine::open(inner).unwrap();
        let listed = engine.wait(engine.repository().snapshots()).unwrap();
        match result {
            Ok(report) => {
                succeeded += 1;
                assert_eq!(listed.len(), 2, "put {lost}");
                engine.assert_restores(report.snapshot, &now);
            }
            Err(_) => assert_eq!(listed.len(), 1, "put {lost}"),
        }
        engine.assert_sound();
    }
    // Puts of the commit and of the log are made good by asking again.
    assert!(succeeded >= 4, "{succeeded} of {total}");
}
