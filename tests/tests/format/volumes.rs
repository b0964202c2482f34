//! Small repositories that hold every feature of the format at least once.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use orlop_core::{NoMonitor, SnapshotId, VolumeRef};
use orlop_repository::{
    ChunkProfile, CollectOptions, CollectState, Copier, InitOptions, ObjectStore, RepairOptions,
    RotateOptions, Sample, SnapshotInfo, SnapshotState, Unlock,
    store::{Durability, MemoryStore},
};
use orlop_tests::{Between, Engine, KEY, Random, StopAfter, is_root, key_file};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
use tokio_util::sync::CancellationToken;

/// A repository of the tests: its name, what opens it, and what makes it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// `None`: the tests' key file.
    pub(crate) passphrase: Option<&'static str>,
    make: fn(&Engine, &Arc<MemoryStore>),
}

/// A sealed file beside a repository.
pub(crate) const ARTIFACT: &str = "backups/b/b.tar.gz";
pub(crate) const ARTIFACT_TEXT: &[u8] = b"objects with secrets\n";

pub(crate) const CASES: [Case; 4] = [
    Case {
        name: "volumes",
        passphrase: None,
        make: volumes,
    },
    Case {
        name: "collected",
        passphrase: None,
        make: collected,
    },
    Case {
        name: "passphrase",
        passphrase: Some("correct horse battery staple: ä"),
        make: passphrase,
    },
    Case {
        name: "mended",
        passphrase: None,
        make: mended,
    },
];

impl Case {
    pub(crate) fn unlock(&self) -> Unlock {
        self.passphrase
            .map_or_else(key_file, |text| Unlock::Passphrase(text.to_owned()))
    }

    /// Makes the repository as files below `directory`, and what opens it as `key` or `password` beside it.
    pub(crate) fn write(&self, directory: &Path) {
        let store = Arc::new(MemoryStore::new());
        let options = InitOptions {
            chunks: ChunkProfile {
                min: 4 << 10,
                avg: 16 << 10,
                max: 64 << 10,
            },
            pack_bytes: 64 << 10,
        };
        let engine = Engine::init_as(store.clone(), &self.unlock(), options).unwrap();
        (self.make)(&engine, &store);
        let objects = engine.wait(store.list("")).unwrap();
        for object in objects {
            let path = directory.join("repository").join(&object.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, engine.wait(store.get(&object.name)).unwrap()).unwrap();
        }
        match self.passphrase {
            Some(text) => fs::write(directory.join("password"), format!("{text}\n")).unwrap(),
            None => fs::write(directory.join("key"), KEY).unwrap(),
        }
    }
}

fn age(path: &Path) {
    let modified = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::open(path).unwrap().set_modified(modified).unwrap();
}

/// Every kind of entry and of content.
fn fill(root: &Path) {
    let mut random = Random::new(6);
    let at = |name: &str| root.join(name);
    for dir in ["bundles", "empty", "links", "deep", "deep/er"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    fs::write(at("nothing"), "").unwrap();
    fs::write(at("inline"), "a few bytes").unwrap();
    for file in 0..12 {
        fs::write(at(&format!("bundles/{file}")), random.bytes(300 + file)).unwrap();
    }
    fs::write(at("incompressible"), random.bytes(150 << 10)).unwrap();
    fs::write(at("compressible"), b"all work and no play\n".repeat(5000)).unwrap();
    fs::write(at("zeros"), vec![0; 200 << 10]).unwrap();
    // So many extents that they need pages of their own.
    let mut sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(300 * 8192).unwrap();
    for piece in 0..300u64 {
        sparse.seek(SeekFrom::Start(piece * 8192)).unwrap();
        let byte = 1 + (piece % 200) as u8;
        sparse.write_all(&[byte; 4096]).unwrap();
    }
    // So many bytes of entries that there are several pages.
    for link in 0..300 {
        let target = format!("../{}", "far/".repeat(220 + link % 9));
        symlink(target, at(&format!("links/{link:03}"))).unwrap();
    }
    fs::hard_link(at("incompressible"), at("deep/er/second name")).unwrap();
    let odd = root.join(std::ffi::OsStr::from_bytes(b"deep/not \xff\xfe UTF-8\n"));
    fs::write(odd, random.bytes(1000)).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"\x80"), at("deep/link")).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    for (name, kind) in [("fifo", FileType::Fifo), ("socket", FileType::Socket)] {
        mknodat(CWD, at(name), kind, mode, 0).unwrap();
    }
    lsetxattr(at("inline"), "user.x", b"\0value\xff", XattrFlags::empty()).unwrap();
    if is_root() {
        for (name, kind) in [
            ("deep/block", FileType::BlockDevice),
            ("deep/char", FileType::CharacterDevice),
        ] {
            mknodat(CWD, at(name), kind, mode, rustix::fs::makedev(7, 300)).unwrap();
        }
        std::os::unix::fs::lchown(at("inline"), Some(1234), Some(4_000_000_000)).unwrap();
    }
    fs::set_permissions(at("inline"), fs::Permissions::from_mode(0o4750)).unwrap();
    for name in ["inline", "incompressible", "bundles/3", "deep", "empty"] {
        age(&at(name));
    }
    let old = UNIX_EPOCH - Duration::from_millis(1500);
    File::open(at("nothing"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    settle();
}

/// Times as young as the backup itself are not trusted.
fn settle() {
    std::thread::sleep(Duration::from_millis(50));
}

fn backup_as(engine: &Engine, root: &Path, volume: &VolumeRef) -> SnapshotId {
    let report = engine.try_backup_as(root, volume).unwrap();
    assert_eq!(report.issues, Vec::new());
    report.snapshot
}

/// All kinds of entries; two snapshots of one volume, one forgotten, one partial, one of another namespace.
fn volumes(engine: &Engine, store: &Arc<MemoryStore>) {
    let root = tempfile::tempdir().unwrap();
    fill(root.path());
    let forgotten = engine.backup(root.path()).snapshot;
    fs::write(root.path().join("inline"), "other bytes").unwrap();
    fs::remove_file(root.path().join("zeros")).unwrap();
    settle();
    engine.backup(root.path());
    fs::write(root.path().join("bundles/new"), Random::new(7).bytes(2000)).unwrap();
    settle();
    engine.backup(root.path());
    let other = VolumeRef::new("other namespace", "pod", "data");
    backup_as(engine, root.path(), &other);
    engine
        .wait(engine.repository().forget(&[forgotten]))
        .unwrap();
    partial(store, root.path());
    let sealed = engine
        .repository()
        .seal_artifact(ARTIFACT, ARTIFACT_TEXT)
        .unwrap();
    let put = store.put(ARTIFACT, vec![sealed.into()], Durability::Now);
    engine.wait(put).unwrap();
}

/// Leaves a checkpoint of a backup that is cut off.
fn partial(store: &Arc<MemoryStore>, root: &Path) {
    let mut random = Random::new(8);
    for file in 0..4 {
        let path = root.join(format!("deep/er/{file}"));
        fs::write(path, random.bytes(100 << 10)).unwrap();
    }
    settle();
    let volume = VolumeRef::new("ns", "cut-off", "data");
    let engine = Engine::open(store.clone()).unwrap();
    let stopped = Arc::new(Between::new(&engine, StopAfter(2)));
    let engine = engine.with_checkpoints(64 << 10).with_committer(stopped);
    engine.try_backup_as(root, &volume).unwrap_err();
    let all = engine.wait(engine.repository().snapshots()).unwrap();
    let partial = |info: &SnapshotInfo| info.state == SnapshotState::Partial;
    assert!(all.iter().any(partial), "there is a checkpoint");
}

/// Snapshots that lived through a collection, which moved frames, deleted packs and joined segments.
fn collected(engine: &Engine, _: &Arc<MemoryStore>) {
    let root = tempfile::tempdir().unwrap();
    let mut random = Random::new(9);
    let mut write = |name: &str, len: usize| {
        fs::write(root.path().join(name), random.bytes(len)).unwrap();
    };
    let mut snapshots = Vec::new();
    for round in 0..3 {
        write("changes", 40 << 10);
        write("grows", (70 << 10) + round * 1000);
        write(&format!("stays-{round}"), 9 << 10);
        settle();
        snapshots.push(engine.backup(root.path()).snapshot);
    }
    engine
        .wait(engine.repository().forget(&snapshots[..2]))
        .unwrap();
    let options = CollectOptions {
        max_removed_percent: 100,
        dead_percent: 10,
        patience: Duration::ZERO,
        ..CollectOptions::default()
    };
    for round in 0..2 {
        let collect =
            engine
                .repository()
                .collect(options, Arc::new(NoMonitor), CancellationToken::new());
        let report = engine.wait(collect).unwrap();
        assert_eq!(report.state, CollectState::Collected, "{report:?}");
        assert!(round > 0 || report.moved_packs > 0, "{report:?}");
    }
    write("changes", 30 << 10);
    settle();
    engine.backup(root.path());
}

/// A pack that was lost, snapshots that were marked for it and whole again, a record of a check, rotated keys, snapshots of
/// both epochs, and one that was copied from another repository.
fn mended(engine: &Engine, store: &Arc<MemoryStore>) {
    let root = tempfile::tempdir().unwrap();
    let mut random = Random::new(10);
    let mut write = |name: &str, len: usize| {
        fs::write(root.path().join(name), random.bytes(len)).unwrap();
    };
    write("large", 200 << 10);
    write("small", 3000);
    settle();
    let first = engine.backup(root.path()).snapshot;
    let packs = engine.wait(store.list("p/")).unwrap();
    engine.wait(store.delete(&packs[0].name)).unwrap();
    repair(engine);
    let state = |id: SnapshotId| {
        let all = engine.wait(engine.repository().snapshots()).unwrap();
        all.into_iter().find(|info| info.id == id).unwrap()
    };
    assert!(state(first).damaged, "it has lost a pack");
    engine.backup(root.path());
    repair(engine);
    assert!(!state(first).damaged, "what it had lost was stored again");
    let other = Unlock::KeyFile(b"another key of the golden repository".to_vec());
    let add = engine.repository().add_key(&other, "in the safe");
    engine.wait(add).unwrap();
    let options = RotateOptions {
        keep: vec![other],
        ..RotateOptions::default()
    };
    let cancel = CancellationToken::new();
    engine
        .wait(engine.repository().rotate(&options, &NoMonitor, &cancel))
        .unwrap();
    write("small", 4000);
    settle();
    engine.backup(root.path());
    copied(engine, root.path());
}

fn repair(engine: &Engine) {
    let options = RepairOptions {
        read: Some(Sample::All),
        ..RepairOptions::default()
    };
    let monitor = Arc::new(NoMonitor);
    let repair = engine
        .repository()
        .repair(options, monitor, CancellationToken::new());
    engine.wait(repair).unwrap();
}

/// Copies a snapshot of another repository.
fn copied(engine: &Engine, root: &Path) {
    let from = Engine::in_memory();
    backup_as(&from, root, &VolumeRef::new("elsewhere", "pod", "data"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (there, here) = (
        Arc::clone(from.repository()),
        Arc::clone(engine.repository()),
    );
    let (handle, cancel) = (runtime.handle().clone(), CancellationToken::new());
    let mut copier = Copier::new(there, here, handle, Arc::new(NoMonitor), cancel).unwrap();
    let info = copier.snapshots()[0].clone();
    copier.copy(&info).unwrap();
}

fn passphrase(engine: &Engine, _: &Arc<MemoryStore>) {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "opened with a passphrase").unwrap();
    settle();
    engine.backup(root.path());
}
