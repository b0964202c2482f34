//! A collection that is killed, and a disk that is full: nothing that a snapshot needs is lost, and the next
//! collection ends what was begun.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::statvfs,
};
use orlop_tests::{Orlop, Output, Random, Record, require};

use super::kill::World;

/// Collections killed at random moments.
const KILLS: u64 = 60;
/// Everything is checked after so many.
const ROUND: u64 = 15;

/// All that may go goes, now.
fn collect(world: &World) -> Orlop {
    world
        .repo("collect")
        .args(["--max-removed", "100", "--dead-share", "20"])
        .args(["--wait", "0s", "--fence-after", "0s", "-q", "-o", "json"])
}

fn forget(world: &World, snapshot: &str) {
    world.repo("forget").arg(snapshot).run().exits(0);
}

#[test]
fn a_collection_killed_at_any_moment_loses_nothing() {
    let world = World::new(4 << 20);
    let mut random = Random::new(4711);
    let (kept, churned) = (world.volume().join("kept"), world.volume().join("churned"));
    let mut snapshots: Vec<(String, Record)> = Vec::new();
    let (mut whole, mut interrupted) = (Duration::from_millis(50), 0);
    for number in 1..=KILLS {
        // Some of what a backup stores stays, some does not: packs go, and packs are written anew.
        let mut bytes = fs::read(&kept).unwrap_or_default();
        bytes.extend(random.bytes(200 << 10));
        fs::write(&kept, bytes).unwrap();
        fs::write(&churned, random.bytes(1 << 20)).unwrap();
        let id = World::id(&world.backup().run().exits(0));
        snapshots.push((id, Record::of(&world.volume())));
        while snapshots.len() > 2 {
            let old = random.below(snapshots.len() as u64 - 1) as usize;
            forget(&world, &snapshots.remove(old).0);
        }
        // Sometimes a backup runs beside it, and is shut out by it or killed as well.
        let beside = number.is_multiple_of(3).then(|| world.backup().start());
        let collector = collect(&world).start();
        let micros = whole.as_micros().max(1000) as u64;
        std::thread::sleep(Duration::from_micros(random.below(micros * 5 / 4)));
        interrupted += u64::from(!collector.crash().success());
        if let Some(beside) = beside {
            if number.is_multiple_of(2) {
                beside.crash();
            } else {
                let id = World::id(&beside.wait().exits(0));
                snapshots.push((id, Record::of(&world.volume())));
            }
        }
        if number.is_multiple_of(ROUND) {
            world.assert_sound();
            for (id, record) in &snapshots {
                world.assert_restores(id, record);
            }
            let began = Instant::now();
            collect(&world).run().exits(0);
            whole = began.elapsed();
        }
    }
    assert!(
        interrupted > KILLS / 4,
        "only {interrupted} kills met a running collection"
    );
    // Nothing is left behind when all is quiet.
    for _ in 0..3 {
        collect(&world).run().exits(0);
    }
    let last = collect(&world).run().exits(0).json();
    assert_eq!(last["removed_objects"], 0, "{last}");
    world.assert_sound();
    for (id, record) in &snapshots {
        world.assert_restores(id, record);
    }
}

/// A file system in memory of a given size.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounted at `path`; `None`, and a line that says so, if this machine does not let it.
    fn mount(path: &Path, mib: u64) -> Option<Self> {
        if !require("root") {
            return None;
        }
        fs::create_dir_all(path).unwrap();
        let size = format!("size={mib}m");
        let flags = MsFlags::empty();
        let mounted = mount(
            Some("orlop-test"),
            path,
            Some("tmpfs"),
            flags,
            Some(size.as_str()),
        );
        if mounted.is_ok() {
            return Some(Self(path.to_owned()));
        }
        println!("skipped: needs root that may mount");
        None
    }

    fn free_bytes(&self) -> u64 {
        let found = statvfs(&self.0).unwrap();
        found.blocks_free() * found.fragment_size()
    }

    /// Leaves so many bytes.
    fn leave(&self, bytes: u64) {
        let fill = self.0.join("ballast");
        let _ = fs::remove_file(&fill);
        let len = self.free_bytes().saturating_sub(bytes);
        fs::write(fill, vec![1; usize::try_from(len).unwrap()]).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn is_full(output: &Output) -> bool {
    output.stderr.contains("no space left in")
}

/// Root only: a file system of the test's own is filled up.
#[test]
fn a_disk_that_is_full_at_any_object_costs_only_the_backup_that_met_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&directory.path().join("disk"), 48) else {
        return;
    };
    let world = World::at(directory, &disk.0.join("R"), 4 << 20);
    let first = World::id(&world.backup().run().exits(0));
    let record = Record::of(&world.volume());
    // No room for packs.
    let large = world.volume().join("large");
    fs::write(&large, Random::new(5).bytes(80 << 20)).unwrap();
    let output = world.backup().run().exits(1);
    assert!(is_full(&output), "{}", output.stderr);
    fs::remove_file(&large).unwrap();
    // What it left behind goes, and there is room again.
    collect(&world).run().exits(0);
    assert!(disk.free_bytes() > 30 << 20, "{}", disk.free_bytes());
    // No room for one of the objects after the packs: pages, segments, entries of the log, the snapshot.
    let fresh = world.volume().join("fresh");
    let (mut refused, mut made) = (0, Vec::new());
    for free_pages in 0..40 {
        fs::write(&fresh, Random::new(free_pages).bytes(20 << 10)).unwrap();
        disk.leave(free_pages * 4096);
        let output = world.backup().run();
        if output.code == Some(0) {
            made.push((World::id(&output), Record::of(&world.volume())));
        } else {
            assert!(is_full(&output), "{}", output.stderr);
            refused += 1;
        }
    }
    assert!(refused > 5 && !made.is_empty(), "{refused} were refused");
    disk.leave(16 << 20);
    world.assert_sound();
    collect(&world).run().exits(0);
    world.assert_sound();
    world.assert_restores(&first, &record);
    for (id, record) in made.iter().rev().take(3) {
        world.assert_restores(id, record);
    }
    let last = World::id(&world.backup().run().exits(0));
    world.assert_restores(&last, &Record::of(&world.volume()));
}
