//! Any tree of any names is restored equal by content and all metadata.

use std::{fs::File, io::Write as _, os::fd::OwnedFd, path::Path};

use orlop_tests::{Engine, Record, Tree, any_tree, any_tree_as_root, require, sample};
use proptest::{prelude::*, test_runner::TestRunner};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

fn round_trip(tree: &Tree) {
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    tree.make(&volume);
    let before = Record::of(&volume);
    let engine = Engine::in_memory();
    let report = engine.backup(&volume);
    assert_eq!(report.files.total as usize, before.files());
    assert_eq!(
        (report.files.total + report.dirs + report.others) as usize,
        before.count()
    );
    engine.assert_restores_in(&directory, report.snapshot, &before);
    engine.assert_sound();
}

fn cases(number: u32) -> TestRunner {
    let config = ProptestConfig {
        cases: number,
        failure_persistence: None,
        ..Default::default()
    };
    TestRunner::new(config)
}

#[test]
fn any_tree_comes_back() {
    let result = cases(40).run(&any_tree(40), |tree| {
        round_trip(&tree);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn any_tree_of_root_comes_back() {
    if !require("root") {
        return;
    }
    let result = cases(40).run(&any_tree_as_root(40), |tree| {
        round_trip(&tree);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_volume_of_many_packs_comes_back() {
    let volume = tempfile::tempdir().unwrap();
    sample(volume.path(), 1, 12 << 20);
    let before = Record::of(volume.path());
    let engine = Engine::in_memory();
    let report = engine.backup(volume.path());
    assert!(report.objects_put > 5, "several packs: {report:?}");
    engine.assert_restores(report.snapshot, &before);
    engine.assert_sound();
}

const LEVELS: usize = 60;

fn name_of(level: usize) -> String {
    format!("{level:0>150}")
}

fn open(parent: &OwnedFd, name: &str, flags: OFlags) -> OwnedFd {
    openat(
        parent,
        name,
        flags | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .unwrap()
}

fn bottom(root: &Path, make: bool) -> OwnedFd {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = openat(CWD, root, directory, Mode::empty()).unwrap();
    for level in 0..LEVELS {
        if make {
            mkdirat(&at, name_of(level), Mode::from_raw_mode(0o755)).unwrap();
        }
        at = open(&at, &name_of(level), directory);
    }
    at
}

#[test]
fn paths_beyond_the_system_s_limit_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let (volume, target) = (
        directory.path().join("volume"),
        directory.path().join("target"),
    );
    std::fs::create_dir(&volume).unwrap();
    let at = bottom(&volume, true);
    let mut file = File::from(open(&at, "hidden", OFlags::CREATE | OFlags::WRONLY));
    file.write_all(b"9000 bytes deep").unwrap();
    let engine = Engine::in_memory();
    let report = engine.backup(&volume);
    assert_eq!((report.dirs as usize, report.files.total), (LEVELS + 1, 1));
    let restored = engine.try_restore(report.snapshot, &target).unwrap();
    assert_eq!(restored.issues, Vec::new());
    let at = bottom(&target, false);
    let text = std::io::read_to_string(File::from(open(&at, "hidden", OFlags::RDONLY))).unwrap();
    assert_eq!(text, "9000 bytes deep");
}

#[test]
fn an_empty_volume_comes_back() {
    let volume = tempfile::tempdir().unwrap();
    let engine = Engine::in_memory();
    let report = engine.backup(volume.path());
    assert_eq!((report.files.total, report.dirs), (0, 1));
    engine.assert_restores(report.snapshot, &Record::of(volume.path()));
}
