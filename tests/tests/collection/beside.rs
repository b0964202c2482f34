//! Writers, readers, forgetters and collectors all at once.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use orlop_agent::backup::BackupError;
use orlop_core::{SnapshotId, VolumeRef};
use orlop_repository::{
    CollectOptions, CollectState, Error, ObjectStore,
    store::{DirectoryStore, MemoryStore},
};
use orlop_tests::{Engine, Random, Record, sample};

use crate::{all, try_collect};

const WRITERS: usize = 8;

/// How long it goes on: some seconds, or as many as `ORLOP_STRESS_SECONDS` says.
fn duration() -> Duration {
    let seconds = std::env::var("ORLOP_STRESS_SECONDS").ok();
    Duration::from_secs(seconds.map_or(8, |s| s.parse().unwrap()))
}

/// After this it ends, whatever was collected.
const LIMIT: Duration = Duration::from_mins(3);

type Made = Mutex<Vec<(SnapshotId, Record)>>;

/// One writer: changes its volume, backs it up, now and then forgets an old snapshot.
fn write(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    number: usize,
    made: &Made,
    goes_on: impl Fn() -> bool,
) {
    let volume = VolumeRef::new("ns", format!("pod-{number}"), "data");
    fs::create_dir(path).unwrap();
    sample(path, 31, 1 << 20);
    let mut random = Random::new(number as u64);
    let mut own = Vec::new();
    let mut round = 0u64;
    while goes_on() {
        round += 1;
        // Like a process of its own each time.
        let engine = Engine::open(Arc::clone(store)).unwrap();
        let changed = path.join(format!("changed-{}", random.below(4)));
        // Chunks come back after they were gone, in this volume and others.
        let seed = random.below(6);
        fs::write(changed, Random::new(seed).bytes(400 << 10)).unwrap();
        // Shut out it begins again.
        let report = loop {
            match engine.try_backup_as(path, &volume) {
                Err(BackupError::Repository(Error::Fenced { .. } | Error::NoSession { .. })) => {}
                other => break other.unwrap(),
            }
        };
        own.push(report.snapshot);
        made.lock()
            .unwrap()
            .push((report.snapshot, Record::of(path)));
        if round.is_multiple_of(2) && own.len() > 1 {
            let old = own.remove(random.below(own.len() as u64 - 1) as usize);
            made.lock().unwrap().retain(|(id, _)| *id != old);
            engine.wait(engine.repository().forget(&[old])).unwrap();
        }
    }
}

fn all_at_once(store: &Arc<dyn ObjectStore>) {
    Engine::init(Arc::clone(store)).unwrap();
    let directory = orlop_tests::quick_dir();
    let (made, begun) = (Made::default(), Instant::now());
    let (collected, removed, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (made, path) = (&made, directory.path().join(number.to_string()));
                let collected = &collected;
                let goes_on = move || {
                    let enough =
                        begun.elapsed() >= duration() && collected.load(Ordering::SeqCst) > 0;
                    !enough && begun.elapsed() < LIMIT
                };
                scope.spawn(move || write(store, &path, number, made, goes_on))
            })
            .collect();
        // Two collectors: each takes over from the other, one of them shuts writers out.
        for mut fence_after in [Duration::from_secs(1), Duration::from_mins(10)] {
            let (collected, removed, stop) = (&collected, &removed, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let engine = Engine::open(Arc::clone(store)).unwrap();
                    let options = CollectOptions {
                        fence_after,
                        patience: Duration::from_millis(500),
                        ..all()
                    };
                    match try_collect(&engine, options) {
                        Ok(report) => {
                            if !report.fenced.is_empty() {
                                // On a slow machine nobody would ever come to an end.
                                fence_after *= 2;
                            }
                            if report.state == CollectState::Collected {
                                collected.fetch_add(1, Ordering::SeqCst);
                            }
                            removed.fetch_add(report.removed_bytes, Ordering::SeqCst);
                        }
                        Err(Error::Deposed) => {}
                        Err(error) => panic!("{error}: {error:?}"),
                    }
                }
            });
        }
        let (made, stop) = (&made, &stop);
        let reader = scope.spawn(move || {
            let mut random = Random::new(99);
            while !stop.load(Ordering::SeqCst) {
                let known = made.lock().unwrap().clone();
                if known.is_empty() {
                    std::thread::yield_now();
                    continue;
                }
                let (id, record) = &known[random.below(known.len() as u64) as usize];
                let engine = Engine::open(Arc::clone(store)).unwrap();
                let target = orlop_tests::quick_dir();
                match engine.try_restore(*id, &target.path().join("x")) {
                    Ok(_) => orlop_tests::assert_identical(record, &target.path().join("x")),
                    // It was forgotten before the session began.
                    Err(Error::NoSnapshot { .. }) => {}
                    Err(error) => panic!("{id}: {error}"),
                }
            }
        });
        let results: Vec<_> = writers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        stop.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        for result in results {
            result.unwrap();
        }
    });
    let engine = Engine::open(Arc::clone(store)).unwrap();
    let made = made.into_inner().unwrap();
    println!(
        "{} snapshots, {} collections, {} bytes removed",
        made.len(),
        collected.load(Ordering::SeqCst),
        removed.load(Ordering::SeqCst)
    );
    assert!(
        collected.load(Ordering::SeqCst) > 0,
        "nothing was collected meanwhile"
    );
    engine.assert_sound();
    for (id, record) in &made {
        engine.assert_restores(*id, record);
    }
    // When all is quiet, no garbage stays.
    let quiet = CollectOptions {
        fence_after: Duration::ZERO,
        ..all()
    };
    for _ in 0..3 {
        try_collect(&engine, quiet).unwrap();
    }
    let report = try_collect(&engine, quiet).unwrap();
    assert_eq!(report.removed_objects, 0, "{report:?}");
    engine.assert_sound();
}

#[test]
fn eight_writers_two_collectors_and_a_reader_in_memory() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    all_at_once(&store);
}

#[test]
fn eight_writers_two_collectors_and_a_reader_in_a_directory() {
    let directory = orlop_tests::quick_dir();
    let path = directory.path().join("repository");
    let store: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::new(path));
    all_at_once(&store);
}
