//! What a reader asks of the store: few ranges, each byte once, bounded memory, and the way to chunks
//! that have moved.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_core::SnapshotId;
use orlop_repository::{
    Batch, BeginWrite, ChunkId, CommitRequest, Committer, Content, Error, Extent, FetchLimits,
    Location, ObjectStore, ReadGrant, ReadSession, Repository, Result, SessionId, Wanted,
    WriteGrant,
    store::{Durability, MemoryStore},
};
use orlop_tests::{
    Content as FileContent, Engine, Random, Record, WatchedStore, quick_dir, sample,
};

fn watched() -> (Arc<MemoryStore>, Arc<WatchedStore>, Engine) {
    let inner = Arc::new(MemoryStore::new());
    let store = Arc::new(WatchedStore::new(Arc::clone(&inner) as _));
    let engine = Engine::init(Arc::clone(&store) as _).unwrap();
    (inner, store, engine)
}

/// Names of packs with their sizes.
fn packs(engine: &Engine, class: &str) -> BTreeMap<String, u64> {
    let list = engine.wait(engine.store().list(class)).unwrap();
    list.into_iter()
        .map(|info| (info.name, info.size))
        .collect()
}

/// Every chunk of the snapshot, once.
fn wanted(session: &ReadSession) -> Vec<Wanted> {
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::new();
    for entry in session.entries() {
        let entry = entry.unwrap();
        for extent in session.extents(&entry) {
            let (Extent::Data { secret, .. } | Extent::Bundle { secret, .. }) = extent.unwrap()
            else {
                continue;
            };
            if seen.insert(*secret.as_bytes()) {
                wanted.push(Wanted { secret, len: 0 });
            }
        }
    }
    wanted
}

#[test]
fn a_restore_asks_once_for_each_pack() {
    let volume = quick_dir();
    sample(volume.path(), 7, 12 << 20);
    let before = Record::of(volume.path());
    let (_, store, engine) = watched();
    let report = engine.backup(volume.path());
    let (data, meta) = (packs(&engine, "p/"), packs(&engine, "m/"));
    // How full packs are depends on which thread was faster.
    assert!(data.len() > 2, "{data:?}");
    store.take_reads("");
    engine.assert_restores(report.snapshot, &before);
    let reads = store.take_reads("");
    let count = |class: &str| {
        reads
            .iter()
            .filter(|read| read.name.starts_with(class))
            .count()
    };
    assert_eq!(count("p/"), data.len(), "{reads:#?}");
    assert!(count("m/") <= meta.len() + 1, "{reads:#?}");
    for read in reads.iter().filter(|read| read.name.starts_with("p/")) {
        assert!(read.offset + read.len <= data[&read.name]);
    }
}

/// A batch that counts what it gets.
struct Count {
    wanted: Vec<Wanted>,
    got: Vec<AtomicUsize>,
    parts: AtomicUsize,
    lost: Mutex<Vec<Error>>,
}

impl Count {
    fn new(wanted: &[Wanted]) -> Arc<Self> {
        Arc::new(Self {
            wanted: wanted.to_vec(),
            got: wanted.iter().map(|_| AtomicUsize::new(0)).collect(),
            parts: AtomicUsize::new(0),
            lost: Mutex::default(),
        })
    }

    fn assert_complete(&self) {
        assert!(self.lost.lock().unwrap().is_empty(), "{:?}", self.lost);
        assert!(self.got.iter().all(|got| got.load(Ordering::SeqCst) == 1));
        assert_eq!(self.parts.load(Ordering::SeqCst), 5);
    }
}

impl Batch for Count {
    fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    fn chunk(&self, index: usize, chunk: Result<&[u8]>) {
        self.got[index].fetch_add(1, Ordering::SeqCst);
        if let Err(error) = chunk {
            self.lost.lock().unwrap().push(error);
        }
    }

    fn parts(&self) -> usize {
        5
    }

    fn part(&self, _number: usize) {
        self.parts.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn batches_are_served_in_order_within_the_memory_that_is_allowed() {
    let volume = quick_dir();
    for n in 0..40_u64 {
        let bytes = Random::new(n).bytes(700_000);
        fs::write(volume.path().join(format!("{n:02}")), bytes).unwrap();
    }
    let (_, store, engine) = watched();
    let report = engine.backup(volume.path());
    let session = engine.read(report.snapshot).unwrap();
    let wanted = wanted(&session);
    for (memory_bytes, workers, size) in [(3 << 20, 4, 9), (64 << 10, 2, 30), (1 << 30, 1, 7)] {
        let batches: Vec<_> = wanted.chunks(size).map(Count::new).collect();
        store.take_reads("");
        let limits = FetchLimits {
            workers,
            memory_bytes,
        };
        let mut next = 0;
        let mut finished = || {
            batches[next].assert_complete();
            next += 1;
            true
        };
        let mut list = batches
            .iter()
            .map(|batch| Arc::clone(batch) as Arc<dyn Batch>);
        session
            .fetch_batches(&mut list, limits, &mut finished)
            .unwrap();
        assert_eq!(next, batches.len());
        // A frame that is larger than all that is allowed comes alone.
        let most = store.most_held();
        let single = store
            .take_reads("p/")
            .iter()
            .map(|read| read.len)
            .max()
            .unwrap();
        assert!(most <= memory_bytes.max(single), "{most} of {memory_bytes}");
    }
    // Who has enough ends the work.
    let batches: Vec<_> = wanted.chunks(5).map(Count::new).collect();
    let mut list = batches
        .iter()
        .map(|batch| Arc::clone(batch) as Arc<dyn Batch>);
    let limits = FetchLimits {
        workers: 2,
        memory_bytes: 1 << 20,
    };
    let mut calls = 0;
    let mut finished = || {
        calls += 1;
        calls < 2
    };
    session
        .fetch_batches(&mut list, limits, &mut finished)
        .unwrap();
    assert_eq!(calls, 2);
    session.end();
}

/// Tells of packs by their old names until it is asked to look afresh.
struct Mover {
    inner: Arc<Repository>,
    moved: HashMap<String, String>,
    fresh: AtomicUsize,
}

#[async_trait]
impl Committer for Mover {
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
        let mut found = self.inner.locate(session, ids, false).await?;
        if fresh {
            self.fresh.fetch_add(1, Ordering::SeqCst);
            for location in found.iter_mut().flatten() {
                if let Some(name) = self.moved.get(&location.pack) {
                    location.pack.clone_from(name);
                }
            }
        }
        Ok(found)
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        self.inner.commit(session, request).await
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        self.inner.end(session).await
    }
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    Cut,
}

/// Backs the volume up, then moves all packs of a class to other names, with an end to the old ones.
fn moved(
    volume: &Path,
    class: &str,
    fate: Fate,
    also_new: bool,
) -> (Engine, SnapshotId, Arc<Mover>) {
    let inner = Arc::new(MemoryStore::new());
    let engine = Engine::init(Arc::clone(&inner) as _).unwrap();
    let report = engine.backup(volume);
    let mut names = HashMap::new();
    for (old, size) in packs(&engine, class) {
        let new = format!("{class}zz/{}", old.rsplit('/').next().unwrap());
        let bytes = engine.wait(inner.get(&old)).unwrap();
        if !also_new {
            engine
                .wait(inner.put(&new, vec![bytes.clone()], Durability::Now))
                .unwrap();
        }
        match fate {
            Fate::Gone => engine.wait(inner.delete(&old)).unwrap(),
            Fate::Cut => {
                inner.overwrite(&old, Bytes::copy_from_slice(&bytes[..size as usize / 50]));
            }
        }
        names.insert(old, new);
    }
    let mover = Arc::new(Mover {
        inner: Arc::clone(engine.repository()),
        moved: names,
        fresh: AtomicUsize::new(0),
    });
    let engine = engine.with_committer(Arc::clone(&mover) as _);
    (engine, report.snapshot, mover)
}

#[test]
fn chunks_that_were_moved_meanwhile_are_found() {
    let volume = quick_dir();
    sample(volume.path(), 9, 6 << 20);
    let before = Record::of(volume.path());
    for fate in [Fate::Gone, Fate::Cut] {
        let (engine, snapshot, mover) = moved(volume.path(), "p/", fate, false);
        engine.assert_restores(snapshot, &before);
        assert_eq!(mover.fresh.load(Ordering::SeqCst), 1, "{fate:?}");
        let (engine, snapshot, mover) = moved(volume.path(), "m/", fate, false);
        engine.assert_restores(snapshot, &before);
        assert!(mover.fresh.load(Ordering::SeqCst) >= 1, "{fate:?}");
    }
}

#[test]
fn a_chunk_that_is_nowhere_is_named_with_its_pack() {
    let volume = quick_dir();
    sample(volume.path(), 9, 3 << 20);
    for fate in [Fate::Gone, Fate::Cut] {
        let (engine, snapshot, mover) = moved(volume.path(), "p/", fate, true);
        let target = quick_dir();
        let report = engine.try_restore(snapshot, target.path()).unwrap();
        // Once for all, and once for hard links that are then tried as copies.
        assert!(mover.fresh.load(Ordering::SeqCst) <= 2);
        assert!(!report.issues.is_empty());
        for issue in &report.issues {
            // A further name of a file that could not be restored is tried as a copy, and told so.
            if issue.message.contains("cannot be linked") {
                continue;
            }
            let new = mover
                .moved
                .values()
                .any(|pack| issue.message.contains(pack));
            let old = mover.moved.keys().any(|pack| issue.message.contains(pack));
            let named = issue.message.contains("chunk ") && (new || old);
            assert!(named, "{}", issue.message);
        }
        // The last place where they were looked for.
        let mut messages = report.issues.iter().map(|issue| &issue.message);
        assert!(messages.any(|message| message.contains("does not exist")));
        let (engine, snapshot, _) = moved(volume.path(), "m/", fate, true);
        let error = engine
            .try_restore(snapshot, &target.path().join("no"))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("m/") && text.contains("chunk"), "{text}");
    }
}

/// Does not listen any more.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_of_all_kinds_are_read_in_order_in_little_memory() {
    let volume = quick_dir();
    let at = |name: &str| volume.path().join(name);
    fs::write(at("inline"), "tiny").unwrap();
    fs::write(at("empty"), "").unwrap();
    for n in 0..50 {
        fs::write(
            at(&format!("bundle-{n}")),
            Random::new(n).bytes(3000 + n as usize),
        )
        .unwrap();
    }
    let islands = (0..900).map(|n| (n, n * 20_000, 4096)).collect();
    FileContent::Sparse(40_000_000, islands).write(&at("paged"));
    fs::write(at("zeros"), vec![0; 5_000_000]).unwrap();
    fs::write(at("large"), Random::new(5).bytes(20 << 20)).unwrap();
    let (_, store, engine) = watched();
    let report = engine.backup(volume.path());
    let session = engine.read(report.snapshot).unwrap();
    let paged = session.entry(b"paged").unwrap();
    assert!(matches!(paged.content, Content::Pages(_)));
    for entry in session.entries() {
        let entry = entry.unwrap();
        if entry.path.is_empty() {
            continue;
        }
        store.take_reads("");
        let mut out = Vec::new();
        let memory = 6 << 20;
        let total = session.read_file(&entry, &mut out, memory).unwrap();
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        assert!(out == fs::read(at(&name)).unwrap(), "{name}");
        assert_eq!(total, out.len() as u64);
        if name == "large" {
            assert!(store.most_held() <= memory, "{}", store.most_held());
        }
    }
    // Who does not listen any more ends it.
    let large = session.entry(b"large").unwrap();
    let error = session.read_file(&large, &mut Closed, 6 << 20).unwrap_err();
    assert!(
        matches!(&error, Error::System { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    );
    session.end();
}

#[test]
fn a_path_that_is_not_there_brings_the_nearest() {
    let volume = quick_dir();
    fs::create_dir_all(volume.path().join("etc/nginx")).unwrap();
    fs::write(volume.path().join("etc/nginx/nginx.conf"), "x").unwrap();
    let engine = Engine::in_memory();
    let report = engine.backup(volume.path());
    let session = engine.read(report.snapshot).unwrap();
    let hint = |path: &str| session.entry(path.as_bytes()).unwrap_err().to_string();
    assert!(hint("etc/nginx/ngnix.conf").contains("there is etc/nginx/nginx.conf"));
    assert!(hint("ect/nginx/nginx.conf").contains("there is etc"));
    assert!(hint("etc/nginx/zzz").contains("etc/nginx holds etc/nginx/nginx.conf"));
    session.end();
}
