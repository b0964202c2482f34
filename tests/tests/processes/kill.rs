//! Killed at any moment: the next backup succeeds, nothing is damaged, older snapshots restore.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use orlop_tests::{Orlop, Output, Random, Record, assert_identical, sample};
use tempfile::TempDir;

/// Kills at random moments.
const KILLS: u64 = 200;
/// Everything is checked after so many.
const ROUND: u64 = 20;

/// A repository under a key file, so that no passphrase has to be stretched, and a volume.
pub(super) struct World {
    directory: TempDir,
    repository: PathBuf,
}

impl World {
    pub(super) fn new(bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("R");
        Self::at(directory, &repository, bytes)
    }

    /// A world whose repository is elsewhere.
    pub(super) fn at(directory: TempDir, repository: &Path, bytes: usize) -> Self {
        let world = Self {
            directory,
            repository: repository.to_owned(),
        };
        fs::create_dir(world.volume()).unwrap();
        sample(&world.volume(), 41, bytes);
        Orlop::write_key(&world.directory.path().join("key"));
        world.repo("init").run().exits(0);
        world
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    pub(super) fn repo(&self, verb: &str) -> Orlop {
        let at = self.directory.path();
        Orlop::new(at, ["repo", verb, "-r"])
            .arg(&self.repository)
            .arg("--key-file")
            .arg(at.join("key"))
    }

    fn backup_of(&self, volume: &str, path: &Path) -> Orlop {
        self.repo("backup")
            .arg("--volume")
            .arg(volume)
            .arg(path)
            .arg("-q")
            .arg("-o")
            .arg("json")
    }

    pub(super) fn backup(&self) -> Orlop {
        self.backup_of("ns/pod/vol", &self.volume())
    }

    pub(super) fn id(output: &Output) -> String {
        output.json()["id"].as_str().unwrap().to_owned()
    }

    pub(super) fn assert_sound(&self) {
        let report = self
            .repo("check")
            .arg("--read-data")
            .arg("-o")
            .arg("json")
            .run()
            .exits(0);
        assert_eq!(report.json()["ok"], true);
    }

    pub(super) fn assert_restores(&self, snapshot: &str, record: &Record) {
        let target = self.directory.path().join("target");
        self.repo("restore")
            .arg(snapshot)
            .arg("--target")
            .arg(&target)
            .arg("-q")
            .run()
            .exits(0);
        assert_identical(record, &target);
        fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn a_backup_killed_at_any_moment_harms_nothing() {
    let world = World::new(12 << 20);
    let first = World::id(&world.backup().run().exits(0));
    let record = Record::of(&world.volume());
    let table = world.volume().join("base/16384/fresh");
    let mut random = Random::new(42);
    // Each backup has new bytes to store, so that there is something to interrupt.
    let churn = |random: &mut Random| fs::write(&table, random.bytes(6 << 20)).unwrap();
    churn(&mut random);
    let began = Instant::now();
    World::id(&world.backup().run().exits(0));
    let mut whole = began.elapsed();
    let mut interrupted = 0;
    for number in 1..=KILLS {
        churn(&mut random);
        let backup = world.backup().start();
        let micros = whole.as_micros().max(1000) as u64;
        std::thread::sleep(Duration::from_micros(random.below(micros)));
        interrupted += u64::from(!backup.crash().success());
        if number % ROUND == 0 {
            let began = Instant::now();
            let next = World::id(&world.backup().run().exits(0));
            whole = began.elapsed();
            world.assert_sound();
            world.assert_restores(&next, &Record::of(&world.volume()));
            world.assert_restores(&first, &record);
        }
    }
    assert!(
        interrupted > KILLS / 2,
        "only {interrupted} kills met a running backup"
    );
}

#[test]
fn two_processes_write_to_one_repository_at_once() {
    let world = World::new(8 << 20);
    let other = world.directory.path().join("other");
    fs::create_dir(&other).unwrap();
    sample(&other, 41, 8 << 20);
    fs::write(other.join("own"), "only here").unwrap();
    for round in 0..5 {
        fs::write(
            world.volume().join("round"),
            format!("{round}").repeat(5000),
        )
        .unwrap();
        let both = [
            world.backup().start(),
            world.backup_of("ns/other/vol", &other).start(),
        ];
        let [one, two] = both.map(|process| World::id(&process.wait().exits(0)));
        world.assert_restores(&one, &Record::of(&world.volume()));
        world.assert_restores(&two, &Record::of(&other));
    }
    let list = world
        .repo("snapshots")
        .arg("-o")
        .arg("json")
        .run()
        .exits(0)
        .json();
    assert_eq!(list.as_array().unwrap().len(), 10);
    world.assert_sound();
}

#[test]
fn an_interrupted_backup_says_so_and_harms_nothing() {
    let world = World::new(4 << 20);
    // A large file gives the signal time to arrive.
    let large = world.volume().join("large");
    fs::write(&large, Random::new(43).bytes(300 << 20)).unwrap();
    let backup = world.backup().start();
    orlop_tests::eventually("the backup stores a pack", || {
        let packs = world.directory.path().join("R/p");
        fs::read_dir(packs).ok()?.next().map(|_| ())
    });
    backup.signal(Signal::SIGINT);
    let output = backup.wait().exits(130);
    assert!(
        output.one_line().starts_with("orlop: interrupted"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout, "");
    fs::remove_file(large).unwrap();
    let next = World::id(&world.backup().run().exits(0));
    world.assert_restores(&next, &Record::of(&world.volume()));
    world.assert_sound();
}

#[test]
fn a_restore_in_place_that_was_killed_is_finished_by_the_next() {
    let world = World::new(2 << 20);
    let large = world.volume().join("large");
    fs::write(&large, Random::new(44).bytes(64 << 20)).unwrap();
    let snapshot = World::id(&world.backup().run().exits(0));
    let record = Record::of(&world.volume());
    let mut random = Random::new(45);
    let mut interrupted = 0;
    let restore = || {
        world
            .repo("restore")
            .arg(&snapshot)
            .arg("--target")
            .arg(world.volume())
            .args(["--mode", "exact", "-q", "-o", "json"])
    };
    let disturb = |random: &mut Random| {
        // Of each of its chunks something, but for the last third.
        let file = File::options().write(true).open(&large).unwrap();
        for place in 0..40 {
            let bytes = random.bytes(64 << 10);
            file.write_all_at(&bytes, place << 20).unwrap();
        }
        fs::write(world.volume().join("more"), "not in the snapshot").unwrap();
    };
    disturb(&mut random);
    let began = Instant::now();
    restore().arg("--in-place").arg("always").run().exits(0);
    let whole = began.elapsed().as_micros().max(1000) as u64;
    for _ in 0..12 {
        disturb(&mut random);
        let killed = restore().arg("--in-place").arg("always").start();
        std::thread::sleep(Duration::from_micros(random.below(whole)));
        interrupted += u64::from(!killed.crash().success());
        let report = restore().run().exits(0).json();
        assert_eq!(report["issues_total"], 0);
        assert_identical(&record, &world.volume());
        let report = restore().run().exits(0).json();
        assert_eq!(report["written_bytes"], 0);
        assert_eq!(report["unchanged"], report["files"]);
    }
    assert!(interrupted > 3, "{interrupted} kills met a running restore");
}
