//! Workers and assembler on files that are no longer what the walk has seen.

use std::fs::{self, File};

use orlop_core::{Issue, NoMonitor, Progress, SnapshotId};
use orlop_repository::{
    CommitInfo, Content, Entry, EntryKind, EntryStatus, Extent, InitOptions, Metadata, ReadSession,
    Repository, SnapshotState, SnapshotStats, Unlock, WriteOptions, WriteSession,
    store::MemoryStore,
};
use tempfile::TempDir;

use super::{
    job::{Further, Item, Job, Member, promise},
    report::Tally,
    small::SmallReader,
    *,
};
use crate::scan::FileStat;

/// A volume, and a session that writes a snapshot of it.
struct Bench {
    runtime: tokio::runtime::Runtime,
    session: WriteSession,
    volume: TempDir,
    root: Arc<Directory>,
    store: Arc<MemoryStore>,
    repository: Arc<Repository>,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let store = Arc::new(MemoryStore::new());
        let key = Unlock::KeyFile(vec![7; 32]);
        let options = InitOptions::default();
        let repository = runtime
            .block_on(Repository::init(store.clone(), &key, options))
            .unwrap();
        let session = WriteSession::open(
            Arc::clone(&repository) as _,
            store.clone(),
            VolumeRef::new("ns", "pod", "data"),
            Lineage("lineage".to_owned()),
            WriteOptions {
                uploads: 2,
                ignore_parent: true,
                upload_limit: None,
            },
            runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap();
        let volume = tempfile::tempdir().unwrap();
        let fd: OwnedFd = File::open(volume.path()).unwrap().into();
        let root = Directory::open_root(fd, &WalkOptions::default()).unwrap();
        Self {
            runtime,
            session,
            volume,
            root,
            store,
            repository,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.volume.path().join(name)
    }

    fn entries(&self, snapshot: SnapshotId) -> Vec<Entry> {
        let session = ReadSession::open(
            Arc::clone(&self.repository) as _,
            self.store.clone(),
            snapshot,
            self.runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap();
        let entries = session.entries().map(Result::unwrap).collect();
        session.end();
        entries
    }

    /// Backs the volume up with so many workers and reads one of its files from the snapshot.
    fn round(&self, workers: usize, chunking: Chunking, name: &str) -> (Entry, Vec<u8>) {
        let job = BackupJob {
            lineage: Lineage(format!("{workers} workers, {chunking}")),
            budget: Budget {
                workers,
                uploads: 1,
            },
            chunking,
            ..self.job()
        };
        let report = self.run(job).unwrap();
        assert_eq!(report.state, SnapshotState::Complete);
        let entries = self.entries(report.snapshot);
        let entry = entries
            .into_iter()
            .find(|entry| entry.path == name.as_bytes());
        let entry = entry.unwrap();
        let session = ReadSession::open(
            Arc::clone(&self.repository) as _,
            self.store.clone(),
            report.snapshot,
            self.runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap();
        let mut bytes = Vec::new();
        session.read_file(&entry, &mut bytes, 32 << 20).unwrap();
        session.end();
        (entry, bytes)
    }

    /// A backup of the volume with what is usual.
    fn job(&self) -> BackupJob {
        BackupJob {
            root: File::open(self.volume.path()).unwrap().into(),
            volume: VolumeRef::new("ns", "pod", "data"),
            lineage: Lineage("lineage".to_owned()),
            node: String::new(),
            backup: String::new(),
            tags: Vec::new(),
            exclude: Vec::new(),
            force_full: false,
            checkpoint_every: CheckpointEvery::default(),
            budget: Budget::default(),
            limits: Limits::default(),
            chunking: Chunking::default(),
        }
    }

    fn run(&self, job: BackupJob) -> Result<BackupReport, BackupError> {
        run(
            job,
            Arc::clone(&self.repository) as _,
            self.store.clone(),
            self.runtime.handle().clone(),
            Arc::new(NoMonitor),
            &CancellationToken::new(),
        )
    }

    fn back_up(&self) -> Result<BackupReport, BackupError> {
        self.run(self.job())
    }

    fn member(&self, name: &str) -> Member {
        let file = File::open(self.path(name)).unwrap();
        Member {
            dir: Arc::clone(&self.root),
            name: name.as_bytes().into(),
            stat: FileStat::of_file(&file).unwrap(),
            found: None,
        }
    }
}

/// A pool of which nobody takes jobs but who runs it.
fn with_pool<T>(
    bench: &Bench,
    monitor: Arc<dyn Monitor>,
    test: impl FnOnce(&work::Pool<'_>, crossbeam_channel::Sender<Job>) -> T,
) -> T {
    let (tally, stop) = (Tally::new(monitor), CancellationToken::new());
    let (jobs_in, jobs) = crossbeam_channel::bounded(4);
    let (help_in, help) = crossbeam_channel::bounded(1);
    let pool = work::Pool {
        session: &bench.session,
        tally: &tally,
        clock: detect::Clock::start(),
        stop: &stop,
        room: room::Room::default(),
        jobs,
        help,
        help_in,
        blocks: blocks::Blocks::new(bench.session.chunker().max(), 1),
        reading: read::Reading::default(),
        chunking: Chunking::Auto,
        read_limit: None,
        owners: 0.into(),
        idle: 0.into(),
        failure: None.into(),
    };
    test(&pool, jobs_in)
}

#[test]
fn a_name_whose_inode_was_used_again_gets_its_own_content() {
    let bench = Bench::new();
    fs::write(bench.path("a"), "first").unwrap();
    for name in ["b", "c"] {
        fs::hard_link(bench.path("a"), bench.path(name)).unwrap();
    }
    let snapshot = with_pool(&bench, Arc::new(NoMonitor), |pool, _| {
        let stat = bench.root.stat_self();
        let root = Entry::bare(Vec::new(), EntryKind::Directory, Metadata::default());
        let mut writer = bench.session.writer().unwrap();
        let mut small = SmallReader::default();
        let first = small
            .read(pool, &mut writer, &mut Vec::new(), &[bench.member("a")])
            .unwrap();
        // As if the inode were another file's by now.
        fs::write(bench.path("b"), "second!").unwrap();
        let (items_in, items) = crossbeam_channel::unbounded();
        let record = pool.clock.record(&stat);
        let (result, future) = promise();
        result.keep(first);
        for item in [
            Item::Ready(Box::new(root), record),
            Item::Small(future, Further::Links),
            Item::Link(Box::new(bench.member("b"))),
            Item::Link(Box::new(bench.member("c"))),
        ] {
            pool.room.take(1 << 10);
            items_in.send(item).unwrap();
        }
        drop((items_in, writer));
        let every = CheckpointEvery::default();
        let no_info = |_| unreachable!("no checkpoint is due");
        let checkpoints = checkpoint::Checkpoints::new(&bench.session, every, &no_info);
        let manifest = assemble::run(&bench.session, pool, checkpoints, items).unwrap();
        let info = CommitInfo {
            time_ms: 1,
            node: String::new(),
            backup: String::new(),
            tags: Vec::new(),
            state: SnapshotState::Complete,
            stats: SnapshotStats::default(),
        };
        bench.session.commit(manifest, info).unwrap().0
    });
    let entries = bench.entries(snapshot);
    let inline = |bytes: &[u8]| Content::Extents(vec![Extent::Inline(bytes.to_vec())]);
    let contents: Vec<_> = entries[1..].iter().map(|e| e.content.clone()).collect();
    assert_eq!(
        contents,
        [inline(b"first"), inline(b"second!"), inline(b"second!")]
    );
    let group = |at: usize| entries[at].hardlink.unwrap().id;
    assert_ne!(group(1), group(2));
    assert_eq!(group(2), group(3));
}

#[test]
fn files_that_have_grown_do_not_make_a_chunk_too_large() {
    let bench = Bench::new();
    let names: Vec<String> = (0..80).map(|n| format!("{n:03}")).collect();
    for (n, name) in (0..80_u32).zip(&names) {
        let bytes: Vec<u8> = (0..15_000_u32)
            .flat_map(|i| (i ^ n << 16).wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        fs::write(bench.path(name), bytes).unwrap();
    }
    let members: Vec<Member> = names.iter().map(|name| bench.member(name)).collect();
    with_pool(&bench, Arc::new(NoMonitor), |pool, _| {
        let mut writer = bench.session.writer().unwrap();
        let mut small = SmallReader::default();
        let finished = small
            .read(pool, &mut writer, &mut Vec::new(), &members)
            .unwrap();
        let mut bundled = 0;
        for (entry, _) in finished.into_iter().map(Option::unwrap) {
            assert_eq!(entry.size, 60_000);
            let Content::Extents(extents) = &entry.content else {
                panic!("{:?}", entry.content);
            };
            if let [Extent::Bundle { offset, len, .. }] = extents[..] {
                assert!(offset + len <= 4 << 20);
                bundled += 1;
            }
        }
        assert_eq!(bundled, (4 << 20) / 60_000);
    });
}

#[test]
fn a_panic_of_the_only_worker_ends_the_backup_and_is_told() {
    struct Panics;
    impl Monitor for Panics {
        fn progress(&self, _progress: Progress) {}

        fn issue(&self, _issue: &Issue) {
            panic!("a monitor that panics");
        }
    }
    let bench = Bench::new();
    fs::write(bench.path("gone"), "x").unwrap();
    let member = || bench.member("gone");
    let members = [member(), member(), member(), member(), member(), member()];
    fs::remove_file(bench.path("gone")).unwrap();
    with_pool(&bench, Arc::new(Panics), |pool, jobs| {
        std::thread::scope(|scope| {
            scope.spawn(|| pool.run());
            // More than there is room for in the queue.
            for member in members {
                let (result, _) = promise();
                jobs.send(Job::Large(member, result)).unwrap();
            }
            drop(jobs);
        });
        assert!(pool.stop.is_cancelled());
        let cause = pool.cause().to_string();
        assert!(cause.contains("a monitor that panics"), "{cause}");
    });
}

#[test]
fn a_file_that_was_replaced_by_a_rename_is_read_as_it_is_now() {
    let bench = Bench::new();
    fs::write(bench.path("state"), "old").unwrap();
    fs::write(bench.path("gone"), "gone").unwrap();
    fs::write(bench.path("pipe"), "file").unwrap();
    let members = ["state", "gone", "pipe"].map(|name| bench.member(name));
    fs::write(bench.path("new"), "new state").unwrap();
    fs::rename(bench.path("new"), bench.path("state")).unwrap();
    for name in ["gone", "pipe"] {
        fs::remove_file(bench.path(name)).unwrap();
    }
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("pipe"), mode).unwrap();
    with_pool(&bench, Arc::new(NoMonitor), |pool, _| {
        let mut writer = bench.session.writer().unwrap();
        let read = SmallReader::default().read(pool, &mut writer, &mut Vec::new(), &members);
        let read = read.unwrap();
        let (entry, record) = read[0].as_ref().unwrap();
        assert_eq!((entry.size, entry.status), (9, EntryStatus::Ok));
        assert!(record.racy, "it is younger than the backup");
        assert!(read[1].is_none() && read[2].is_none());
        let large = large::read(pool, &mut writer, &mut Vec::new(), &members[0]).unwrap();
        assert_eq!(large.unwrap().0.size, 9);
        // That something is there that was not read is told.
        let counts = pool.tally.counts();
        assert_eq!((counts.warnings, counts.errors), (2, 0));
        assert_eq!(counts.state(), SnapshotState::Inconsistent);
    });
}

#[test]
fn a_directory_that_is_not_walked_is_marked_every_time_as_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    let mounted = bench.path("mounted");
    fs::create_dir(&mounted).unwrap();
    fs::create_dir(bench.path("plain")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", &mounted, "tmpfs", flags, c"size=1m").is_err() {
        eprintln!("skipped: cannot mount");
        return;
    }
    fs::write(mounted.join("inside"), "not of this volume").unwrap();
    let reports = [(); 2].map(|()| bench.back_up());
    rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::empty()).unwrap();
    for report in reports.map(Result::unwrap) {
        assert_eq!(report.state, SnapshotState::Complete);
        assert_eq!(report.issues.len(), 1, "{:?}", report.issues);
        let entries = bench.entries(report.snapshot);
        let status: Vec<_> = entries.iter().map(|e| (&*e.path, e.status)).collect();
        let unread = EntryStatus::Unreadable(rustix::io::Errno::XDEV.raw_os_error());
        let ok = EntryStatus::Ok;
        assert_eq!(
            status,
            [(b"".as_slice(), ok), (b"mounted", unread), (b"plain", ok)]
        );
    }
}

#[test]
fn what_a_mount_covers_is_marked_though_it_looks_as_before_as_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    fs::create_dir(bench.path("dir")).unwrap();
    fs::write(bench.path("dir/below"), "of this volume").unwrap();
    fs::write(bench.path("file"), "of this volume").unwrap();
    // What was changed just now is looked at again in any case.
    std::thread::sleep(std::time::Duration::from_millis(60));
    bench.back_up().unwrap();
    let covered = ["dir", "file"].map(|name| bench.path(name));
    for path in &covered {
        if rustix::mount::mount_bind(path, path).is_err() {
            eprintln!("skipped: cannot mount");
            return;
        }
    }
    let report = bench.back_up();
    for path in &covered {
        rustix::mount::unmount(path, rustix::mount::UnmountFlags::empty()).unwrap();
    }
    let report = report.unwrap();
    assert_eq!(report.issues.len(), 2, "{:?}", report.issues);
    let unread = EntryStatus::Unreadable(rustix::io::Errno::XDEV.raw_os_error());
    let entries = bench.entries(report.snapshot);
    let status: Vec<_> = entries.iter().map(|e| (&*e.path, e.status)).collect();
    assert_eq!(
        status,
        [
            (b"".as_slice(), EntryStatus::Ok),
            (b"dir", unread),
            (b"file", unread)
        ]
    );
    // Uncovered they are what they were.
    let report = bench.back_up().unwrap();
    let entries = bench.entries(report.snapshot);
    assert_eq!(entries.len(), 4);
    assert!(entries.iter().all(|e| e.status == EntryStatus::Ok));
}

/// Bytes that no compressor makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 88_172_645_463_325_252_u64;
    let words = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    });
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}

/// Lengths of extents, those of zeros and holes negative.
fn shape(entry: &Entry) -> Vec<i64> {
    let Content::Extents(extents) = &entry.content else {
        panic!("{:?}", entry.content);
    };
    let length = |extent: &Extent| match extent {
        Extent::Data { len, .. } => i64::from(*len),
        other => -(other.len() as i64),
    };
    extents.iter().map(length).collect()
}

#[test]
fn a_large_file_is_cut_alike_however_many_read_it() {
    let bench = Bench::new();
    let bytes = noise((19 << 20) + 5);
    fs::write(bench.path("file"), &bytes).unwrap();
    let mut expected = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let len = bench.session.chunker().cut(rest);
        expected.push(len as i64);
        rest = &rest[len..];
    }
    for workers in [1, 2, 5] {
        let (entry, read) = bench.round(workers, Chunking::Auto, "file");
        assert_eq!(shape(&entry), expected, "{workers}");
        assert!(read == bytes, "{workers}");
    }
}

#[test]
fn pages_are_cut_at_fixed_places_also_behind_holes_and_zeros() {
    use std::os::unix::fs::FileExt as _;
    let page = class::PAGE_CHUNK;
    let bench = Bench::new();
    let mut bytes = noise(10 * page as usize);
    bytes[2 * page as usize..4 * page as usize].fill(0);
    bytes.extend([3; 1000]);
    let file = File::create(bench.path("file")).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    let page = page as i64;
    let whole = [vec![page; 2], vec![-2 * page], vec![page; 6], vec![1000]].concat();
    for workers in [1, 4] {
        let (entry, read) = bench.round(workers, Chunking::Page, "file");
        assert_eq!(shape(&entry), whole);
        assert!(read == bytes);
    }
    // A hole that ends within a page: the next chunk ends with it.
    let sparse = File::create(bench.path("file")).unwrap();
    let at = 20 * page + 8192;
    sparse.write_all_at(&bytes[..100_000], at as u64).unwrap();
    let (entry, read) = bench.round(3, Chunking::Page, "file");
    let first = shape(&entry);
    assert_eq!(first[..2], [-at, page - 8192]);
    assert!(read[at as usize..] == bytes[..100_000]);
    assert!(read[..at as usize].iter().all(|byte| *byte == 0));
}

#[test]
fn a_database_is_known_and_stays_what_it_was() {
    let page = class::PAGE_CHUNK as i64;
    let bench = Bench::new();
    let mut bytes = noise(2 << 20);
    bytes[..16].copy_from_slice(b"SQLite format 3\0");
    fs::write(bench.path("file"), &bytes).unwrap();
    let (entry, _) = bench.round(2, Chunking::Auto, "file");
    assert_eq!(shape(&entry), vec![page; 32]);
    // It no longer looks like one, but so it was cut; and the other way round.
    bytes[..16].fill(0xff);
    fs::write(bench.path("file"), &bytes).unwrap();
    let (entry, read) = bench.round(2, Chunking::Auto, "file");
    assert_eq!(shape(&entry), vec![page; 32]);
    assert!(read == bytes);
    let (entry, _) = bench.round(2, Chunking::Content, "file");
    assert!(shape(&entry).len() < 16);
}

#[test]
fn an_image_of_a_disk_is_cut_finely() {
    let bench = Bench::new();
    let bytes = noise(9 << 20);
    fs::write(bench.path("disk.img"), &bytes).unwrap();
    let mut expected = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let len = bench.session.finer_chunker().cut(rest);
        expected.push(len as i64);
        rest = &rest[len..];
    }
    for workers in [1, 3] {
        let (entry, read) = bench.round(workers, Chunking::Auto, "disk.img");
        assert_eq!(shape(&entry), expected, "{workers}");
        assert!(read == bytes);
    }
}

#[test]
fn files_are_read_no_faster_than_the_limit_says() {
    use std::{num::NonZeroU64, time::Instant};
    let bench = Bench::new();
    fs::write(bench.path("file"), noise(1 << 20)).unwrap();
    with_pool(&bench, Arc::new(NoMonitor), |pool, _| {
        let throttle = orlop_repository::Throttle::new(NonZeroU64::new(2 << 20).unwrap());
        let pool = work::Pool {
            read_limit: Some(&throttle),
            jobs: pool.jobs.clone(),
            help: pool.help.clone(),
            help_in: pool.help_in.clone(),
            blocks: Arc::clone(&pool.blocks),
            reading: read::Reading::default(),
            room: room::Room::default(),
            owners: 0.into(),
            idle: 0.into(),
            failure: None.into(),
            ..*pool
        };
        let mut writer = bench.session.writer().unwrap();
        let begun = Instant::now();
        let read = pool.read_one(&mut writer, bench.member("file"));
        let (entry, _) = read.unwrap().unwrap();
        assert_eq!(entry.size, 1 << 20);
        // Half a second's worth, of which half is free after a pause.
        assert!(begun.elapsed().as_millis() >= 240);
    });
}
