//! How much of one processor each stage of backup and restore takes: `cargo bench -p orlop-tests`, or with the names
//! of stages `cargo bench -p orlop-tests -- chunk hash`.
//!
//! A stage is repeated until it has taken a second of processor time, and the median of seven such rounds is shown:
//! time of the processor and not of the clock, so that a busy machine does not matter much.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on panics")]

use std::{
    fs::{self, File},
    hint::black_box,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use orlop_agent::scan::{Directory, FileStat, Visitor, WalkOptions, walk};
use orlop_core::{Issue, Lineage, SnapshotId, Timestamp, VolumeRef};
use orlop_repository::{
    ChunkProfile, Chunker, CommitInfo, Entry, EntryKind, Key, Metadata, SnapshotState,
    SnapshotStats, Stages, StatRecord, WriteOptions, WriteSession, store::MemoryStore,
};
use orlop_tests::Engine;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;
/// Rounds of which the median is shown.
const ROUNDS: usize = 7;
/// Processor time of a round, in seconds.
const ROUND_SECONDS: f64 = 0.5;
/// Files of the volume that is walked and restored.
const FILES: usize = 20_000;
/// Chunks that are looked up.
const CHUNKS: usize = 100_000;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let stages: [(&str, fn()); 8] = [
        ("walk", bench_walk),
        ("chunk", bench_chunk),
        ("hash", bench_hash),
        ("compress", bench_compress),
        ("seal", bench_seal),
        ("pack", bench_pack),
        ("lookup", bench_lookup),
        ("restore", bench_restore),
    ];
    for (name, bench) in stages {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            bench();
        }
    }
}

/// Processor time that this process has used, all threads together, in seconds.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything, come fields from the third on.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
    let ticks = |field: usize| fields[field - 2].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / 100.0
}

/// Runs a stage again and again, and shows how much of what `run` counts it does in a second of one processor.
fn show(stage: &str, unit: &str, scale: f64, mut run: impl FnMut() -> usize) {
    run();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (begun, mut done) = (processor_seconds(), 0);
            loop {
                done += run();
                let spent = processor_seconds() - begun;
                if spent >= ROUND_SECONDS {
                    return done as f64 / spent / scale;
                }
            }
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let (least, median, most) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
    println!("{stage:<28} {median:>9.3} {unit} ({least:.3} to {most:.3})");
}

/// The same bytes every time: xorshift64.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 88_172_645_463_325_252_u64;
    let mut words = Vec::with_capacity(len + 8);
    while words.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        words.extend_from_slice(&x.to_le_bytes());
    }
    words.truncate(len);
    words
}

/// Something that compresses as text does: words of a small vocabulary.
fn text(len: usize) -> Vec<u8> {
    let (vocabulary, choices) = (noise(8 * 2048), noise(len / 2));
    let mut out = Vec::with_capacity(len + 16);
    for pair in choices.chunks_exact(2).cycle() {
        // Squared, so that some words come often.
        let word = usize::from(pair[0]) * usize::from(pair[1]) / 32;
        let word = &vocabulary[8 * word..8 * word + 3 + word % 6];
        out.extend(word.iter().map(|byte| b'a' + byte % 26));
        out.push(b' ');
        if out.len() >= len {
            break;
        }
    }
    out.truncate(len);
    out
}

/// A volume of small files in some hundred directories.
fn small_files(top: &Path) {
    let bytes = text(16 << 10);
    for n in 0..FILES {
        let dir = top.join(format!("d{:03}", n / 100));
        if n % 100 == 0 {
            fs::create_dir(&dir).unwrap();
        }
        let len = 500 + n * 37 % 15_000;
        fs::write(dir.join(format!("f{n}")), &bytes[..len]).unwrap();
    }
}

fn bench_walk() {
    struct Count(usize);
    impl Visitor for Count {
        fn entry(&mut self, _: &Arc<Directory>, _: &[u8], _: &FileStat) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
        fn issue(&mut self, _: Issue) {}
        fn unreadable_directory(&mut self, _: &[u8], _: i32) {}
    }
    let volume = tempfile::tempdir().unwrap();
    small_files(volume.path());
    let options = WalkOptions::default();
    show("walk", "M entries/s", 1e6, || {
        let root = File::open(volume.path()).unwrap().into();
        let root = Directory::open_root(root, &options).unwrap();
        let mut count = Count(0);
        walk(&root, &options, &mut count, &CancellationToken::new()).unwrap();
        count.0
    });
}

fn bench_chunk() {
    let chunker = Chunker::new(&Key::from_bytes([3; 32]), ChunkProfile::GENERAL);
    for (kind, data) in [("noise", noise(64 * MIB)), ("text", text(64 * MIB))] {
        show(&format!("chunk, crate, {kind}"), "GB/s", 1e9, || {
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                rest = &rest[chunker.cut(rest)..];
            }
            data.len()
        });
        show(&format!("chunk, four lanes, {kind}"), "GB/s", 1e9, || {
            for block in data.chunks(4 * MIB) {
                black_box(chunker.scan(&[], block));
            }
            data.len()
        });
    }
}

fn bench_hash() {
    let stages = Stages::new().unwrap();
    let data = noise(64 * MIB);
    for size in [64 << 10, MIB] {
        show(&format!("hash, {} KiB", size >> 10), "GB/s", 1e9, || {
            for chunk in data.chunks(size) {
                black_box(stages.hash(chunk));
            }
            data.len()
        });
    }
}

fn bench_compress() {
    let mut stages = Stages::new().unwrap();
    let data = text(32 * MIB);
    for (level, free) in [(2, 1), (3, 0)] {
        let mut lens = 0;
        show(&format!("compress, level {level}"), "GB/s", 1e9, || {
            lens = 0;
            for chunk in data.chunks(MIB) {
                lens += stages.compress(chunk, free).unwrap().unwrap_or(MIB);
            }
            data.len()
        });
        println!("{:<28} {:>9.3} : 1", "", data.len() as f64 / lens as f64);
    }
    let data = noise(64 * MIB);
    show("compress, noise", "GB/s", 1e9, || {
        for chunk in data.chunks(MIB) {
            black_box(stages.compress(chunk, 0).unwrap());
        }
        data.len()
    });
}

fn bench_seal() {
    let mut stages = Stages::new().unwrap();
    let data = noise(64 * MIB);
    for size in [64 << 10, MIB] {
        let secret = stages.hash(&data);
        show(&format!("seal, {} KiB", size >> 10), "GB/s", 1e9, || {
            for chunk in data.chunks(size) {
                black_box(stages.seal(chunk, &secret).unwrap());
            }
            data.len()
        });
    }
}

fn bench_pack() {
    let mut stages = Stages::new().unwrap();
    let data = noise(16 * MIB);
    let secret = stages.hash(&data);
    show("seal and pack", "GB/s", 1e9, || {
        let sealed = data
            .chunks(MIB)
            .map(|chunk| stages.seal(chunk, &secret).unwrap())
            .collect();
        black_box(stages.pack(sealed).unwrap());
        data.len()
    });
}

fn bench_lookup() {
    let engine = Engine::init_with_packs(Arc::new(MemoryStore::new()), 16 << 20).unwrap();
    let runtime = Runtime::new().unwrap();
    let open = || {
        WriteSession::open(
            Arc::clone(engine.repository()) as _,
            Arc::clone(engine.store()),
            VolumeRef::new("ns", "pod", "data"),
            Lineage("lineage".to_owned()),
            WriteOptions::default(),
            runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap()
    };
    let chunk = |n: usize| n.to_le_bytes().repeat(5);
    let session = open();
    let mut writer = session.writer().unwrap();
    for n in 0..CHUNKS {
        assert!(writer.store(&chunk(n)).unwrap().new);
    }
    commit(&session);
    show("lookup", "M chunks/s", 1e6, || {
        let session = open();
        let mut writer = session.writer().unwrap();
        for n in 0..CHUNKS {
            assert!(!writer.store(&chunk(n)).unwrap().new);
        }
        session.abandon();
        CHUNKS
    });
}

/// A snapshot of an empty directory, so that what was stored has an index and a parent.
fn commit(session: &WriteSession) -> SnapshotId {
    let info = CommitInfo {
        time_ms: 1,
        node: String::new(),
        backup: String::new(),
        tags: Vec::new(),
        state: SnapshotState::Complete,
        stats: SnapshotStats::default(),
    };
    let root = Entry::bare(Vec::new(), EntryKind::Directory, Metadata::default());
    let record = StatRecord {
        kind: EntryKind::Directory,
        racy: false,
        ino: 1,
        size: 0,
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
    };
    let mut manifest = session.manifest().unwrap();
    manifest.push(&root, &record).unwrap();
    session.commit(manifest, info).unwrap().0
}

fn bench_restore() {
    let (volume, targets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_files(volume.path());
    let large = tempfile::tempdir().unwrap();
    fs::write(large.path().join("file"), noise(256 * MIB)).unwrap();
    for (kind, path, bytes, unit, scale) in [
        ("small files", volume.path(), FILES, "k files/s", 1e3),
        ("one file", large.path(), 256 * MIB, "GB/s", 1e9),
    ] {
        let engine = Engine::init_with_packs(Arc::new(MemoryStore::new()), 16 << 20).unwrap();
        let snapshot = engine.backup(path).snapshot;
        let mut number = 0;
        show(&format!("restore, {kind}"), unit, scale, || {
            number += 1;
            let target = targets.path().join(format!("{kind} {number}"));
            engine.try_restore(snapshot, &target).unwrap();
            bytes
        });
    }
}
