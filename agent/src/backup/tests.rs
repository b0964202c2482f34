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
    let (chunks_in, chunks) = crossbeam_channel::bounded(1);
    let pool = work::Pool {
        session: &bench.session,
        tally: &tally,
        clock: detect::Clock::start(),
        stop: &stop,
        room: room::Room::default(),
        jobs,
        chunks,
        chunks_in,
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
        let root = Entry {
            path: Vec::new(),
            kind: EntryKind::Directory,
            meta: Metadata::default(),
            size: 0,
            target: Vec::new(),
            hardlink: None,
            content: Content::None,
            digest: [0; 16],
            status: EntryStatus::Ok,
        };
        let mut writer = bench.session.writer().unwrap();
        let mut small = SmallReader::default();
        let first = small.read(pool, &mut writer, &[bench.member("a")]).unwrap();
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
        let finished = small.read(pool, &mut writer, &members).unwrap();
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
    let reports = [(); 2].map(|()| {
        let job = BackupJob {
            root: File::open(bench.volume.path()).unwrap().into(),
            volume: VolumeRef::new("ns", "pod", "data"),
            lineage: Lineage("lineage".to_owned()),
            node: String::new(),
            backup: String::new(),
            tags: Vec::new(),
            exclude: Vec::new(),
            force_full: false,
            checkpoint_every: CheckpointEvery::default(),
            budget: Budget::default(),
        };
        run(
            job,
            Arc::clone(&bench.repository) as _,
            bench.store.clone(),
            bench.runtime.handle().clone(),
            Arc::new(NoMonitor),
            &CancellationToken::new(),
        )
    });
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
