//! Killed and started again: what reached the store is not stored again, what a checkpoint covers is not read
//! again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orlop_core::SnapshotId;
use orlop_repository::store::DirectoryStore;
use orlop_tests::{Daemon, Engine, Machine, Orlop, Random, Record, assert_identical, eventually};
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// A volume whose backup takes long enough to be killed in the middle.
const FILES: u64 = 48;
/// In the middle of the listing.
const LARGE: u64 = 64 * MIB;

/// A volume, and a repository under a key file.
struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            directory: orlop_tests::quick_dir(),
        };
        fs::create_dir_all(world.volume().join("n")).unwrap();
        for n in 0..FILES {
            world.write(&format!("file-{n:02}"), n, MIB);
            world.write(&format!("n/file-{n:02}"), 100 + n, MIB / 2);
        }
        world.write("large", 200, LARGE);
        Orlop::write_key(&world.path("key"));
        world.repo("init").run().exits(0);
        world.rest();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn volume(&self) -> PathBuf {
        self.path("volume")
    }

    fn write(&self, name: &str, seed: u64, len: u64) {
        let bytes = Random::new(seed).bytes(len as usize);
        fs::write(self.volume().join(name), bytes).unwrap();
    }

    /// Times as young as the backup itself are not trusted.
    fn rest(&self) {
        assert!(self.volume().is_dir());
        std::thread::sleep(Duration::from_millis(50));
    }

    fn repo(&self, verb: &str) -> Orlop {
        Orlop::new(self.directory.path(), ["repo", verb, "-r"])
            .arg(self.path("R"))
            .arg("--key-file")
            .arg(self.path("key"))
    }

    fn backup(&self, checkpoint_every: &str) -> Orlop {
        self.repo("backup")
            .args(["--volume", "ns/pod/vol", "-q", "-o", "json"])
            .args(["--checkpoint-every", checkpoint_every])
            .arg(self.volume())
    }

    /// Names of the objects below a directory of the store.
    fn objects(&self, class: &str) -> BTreeSet<PathBuf> {
        objects(&self.path("R").join(class))
    }

    /// Kills a backup as soon as `when` is true; it must be running by then.
    fn kill(&self, checkpoint_every: &str, when: impl Fn() -> bool) {
        let mut backup = self.backup(checkpoint_every).start();
        kill(&mut backup, when);
        assert!(!backup.crash().success(), "it was killed");
    }

    fn engine(&self) -> Engine {
        Engine::open(Arc::new(DirectoryStore::new(self.path("R")))).unwrap()
    }

    /// The listed snapshots that are partial, the newest last.
    fn checkpoints(&self) -> Vec<SnapshotId> {
        let list = self.repo("snapshots").args(["-o", "json"]).run().exits(0);
        let list = list.json();
        let partial = list
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["state"] == "partial");
        partial
            .map(|s| s["id"].as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// Runs the backup to its end and proves what it did by the files that must be `read` unless the newest
    /// checkpoint covers them.
    fn go_on(&self, read: impl Fn(&[u8]) -> bool) -> Value {
        let checkpoint = self.checkpoints().pop();
        let covered = checkpoint.map_or_else(Default::default, |id| self.engine().files(id));
        let report = self.backup("8MiB").run().exits(0).json();
        let resumed = report["resumed_from"]
            .as_str()
            .map(|id| id.parse().unwrap());
        assert_eq!(resumed, checkpoint);
        let engine = self.engine();
        let snapshot = report["id"].as_str().unwrap().parse().unwrap();
        let all = engine.files(snapshot);
        let uncovered = all
            .iter()
            .filter(|(path, _)| read(path) && !covered.contains_key(*path));
        let (opened, bytes) = uncovered.fold((0, 0), |(n, sum), (_, size)| (n + 1, sum + size));
        assert_eq!(
            (&report["files"]["opened"], &report["read_bytes"]),
            (&opened.into(), &bytes.into())
        );
        engine.assert_stored_once();
        assert_eq!(self.checkpoints(), [], "a whole snapshot takes their place");
        let check = self
            .repo("check")
            .args(["--read-data", "-o", "json"])
            .run()
            .exits(0);
        assert_eq!(check.json()["ok"], true);
        let target = self.path("target");
        let restore = self
            .repo("restore")
            .args(["latest:ns/pod/vol", "-q", "--target"]);
        restore.arg(&target).run().exits(0);
        assert_identical(&Record::of(&self.volume()), &target);
        fs::remove_dir_all(target).unwrap();
        report
    }
}

/// Waits until `when` is true; the process must be running by then.
fn kill(process: &mut Daemon, when: impl Fn() -> bool) {
    while !when() {
        let ended = process.ended();
        assert!(
            ended.is_none(),
            "it ended before it was killed: {ended:?}, {}",
            process.said()
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn objects(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.map(Result::unwrap) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            } else {
                found.insert(entry.path());
            }
        }
    }
    found
}

fn any(_: &[u8]) -> bool {
    true
}

#[test]
fn killed_before_its_first_checkpoint_it_uploads_nothing_twice() {
    let world = World::new();
    world.kill("1h", || world.objects("p").len() >= 3);
    assert_eq!(world.checkpoints(), []);
    let stored = world.objects("p").len() as u64;
    let report = world.go_on(any);
    assert!(
        report["chunks"]["reused"].as_u64().unwrap() >= stored,
        "{report:#}"
    );
}

#[test]
fn killed_after_its_second_checkpoint_it_goes_on_from_there() {
    let world = World::new();
    // The beginning and two commits.
    let before = world.objects("log").len();
    world.kill("8MiB", || world.objects("log").len() >= before + 3);
    assert_eq!(world.checkpoints().len(), 1);
    let report = world.go_on(any);
    assert!(
        report["files"]["unchanged"].as_u64().unwrap() > 0,
        "{report:#}"
    );
}

#[test]
fn killed_in_the_middle_of_a_large_file_it_reads_that_again_and_stores_the_rest() {
    let world = World::new();
    let stored = |world: &World| -> u64 {
        let packs = world.objects("p").into_iter().chain(world.objects("m"));
        packs
            .filter_map(|pack| Some(fs::metadata(pack).ok()?.len()))
            .sum()
    };
    // All that comes before the file, and a part of it.
    world.kill("8MiB", || stored(&world) > (FILES + 24) * MIB);
    let id = world.checkpoints().pop().unwrap();
    assert!(!world.engine().files(id).contains_key(b"large".as_slice()));
    let report = world.go_on(any);
    assert!(
        report["chunks"]["reused"].as_u64().unwrap() > 0,
        "{report:#}"
    );
}

#[test]
fn killed_in_the_commit_of_a_checkpoint_it_goes_on_from_what_is_whole() {
    let world = World::new();
    for round in 0..3 {
        // The refset comes before the snapshot, that before the entry of the log.
        let class = ["r", "s", "i"][round];
        let before = world.objects(class).len();
        world.kill("6MiB", || world.objects(class).len() > before);
    }
    world.go_on(any);
}

#[test]
fn killed_twice_an_incremental_backup_goes_on_from_both_checkpoints_and_the_whole_snapshot() {
    let world = World::new();
    let first = world.backup("1h").run().exits(0).json();
    let changed: Vec<String> = (0..FILES)
        .filter(|n| n % 4 != 0)
        .flat_map(|n| [format!("file-{n:02}"), format!("n/file-{n:02}")])
        .collect();
    for (n, name) in changed.iter().enumerate() {
        world.write(name, 1000 + n as u64, MIB);
    }
    world.rest();
    for _ in 0..2 {
        let before = world.objects("log").len();
        world.kill("8MiB", || world.objects("log").len() >= before + 2);
    }
    assert_eq!(world.checkpoints().len(), 2, "one of each attempt");
    let read = |path: &[u8]| changed.iter().any(|name| name.as_bytes() == path);
    let report = world.go_on(read);
    assert_eq!(report["parent"], first["id"]);
    let total = 2 * FILES + 1;
    assert_eq!(report["files"]["total"], total);
    let opened = report["files"]["opened"].as_u64().unwrap();
    assert_eq!(report["files"]["unchanged"], total - opened);
}

#[test]
fn a_standalone_server_that_is_killed_goes_on_with_its_backup() {
    let directory = orlop_tests::quick_dir();
    let machine = Machine::new(directory.path());
    let key = directory.path().join("key");
    Orlop::write_key(&key);
    // 64 of its small packs are a checkpoint's distance.
    let store = Arc::new(DirectoryStore::new(machine.data().join("repo")));
    Engine::init_with_packs(store.clone(), 256 << 10).unwrap();
    let pod = machine.node().pod("db");
    for n in 0..64 {
        let bytes = Random::new(n).bytes(2 << 20);
        fs::write(pod.path.join(format!("file-{n:02}")), bytes).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    let start = || machine.standalone_with(&["--key-file", key.to_str().unwrap()]);
    let mut server = start();
    machine.knows(&pod);
    let create = [
        "backup",
        "create",
        "nightly",
        "--volume",
        &pod.volume,
        "-o",
        "json",
    ];
    machine.client(create).run().exits(0);
    let log = || objects(&machine.data().join("repo/log")).len();
    // The beginning and a checkpoint.
    kill(&mut server, || log() >= 2);
    assert!(!server.crash().success());

    let server = start();
    let backup = eventually("the backup ends", || {
        let output = machine
            .client(["backup", "get", "nightly", "-o", "json"])
            .run();
        let backup: Value = serde_json::from_str(&output.stdout).ok()?;
        let ended =
            !["queued", "running", "new", "finalizing"].contains(&backup["phase"].as_str()?);
        ended.then_some(backup)
    });
    assert_eq!(backup["phase"], "completed", "{backup:#}");
    let engine = Engine::open(store).unwrap();
    engine.assert_stored_once();
    engine.assert_sound();
    let snapshot = backup["tasks"][0]["snapshot"].as_str().unwrap();
    engine.assert_restores(snapshot.parse().unwrap(), &Record::of(&pod.path));
    let sessions = engine.wait(engine.repository().open_sessions()).unwrap();
    assert_eq!(
        sessions, 0,
        "the session of the attempt that died was ended"
    );
    drop(server);
}
