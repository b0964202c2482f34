//! What a backup costs that has an earlier one to build upon.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    time::Duration,
};

use orlop_core::VolumeRef;
use orlop_tests::{Engine, Record, sample};

/// Times as young as the backup itself are not trusted: the volume rests for more than a clock tick.
pub(crate) fn rest() {
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn an_unchanged_volume_costs_next_to_nothing() {
    let volume = orlop_tests::quick_dir();
    sample(volume.path(), 2, 8 << 20);
    rest();
    let engine = Engine::in_memory();
    let first = engine.backup(volume.path());
    let second = engine.backup(volume.path());
    assert_eq!(second.parent, Some(first.snapshot));
    assert_eq!(second.files.opened, 0, "no regular file is opened");
    assert_eq!(second.files.unchanged, first.files.total);
    assert_eq!(
        (second.files.new, second.files.changed, second.files.removed),
        (0, 0, 0)
    );
    assert_eq!(
        (second.chunks_new, second.new_bytes, second.read_bytes),
        (0, 0, 0)
    );
    assert!(
        second.uploaded_bytes < 16 << 10,
        "{} bytes",
        second.uploaded_bytes
    );
    assert_eq!(second.logical_bytes, first.logical_bytes);
    engine.assert_restores(second.snapshot, &Record::of(volume.path()));
    engine.assert_sound();
}

#[test]
fn a_small_change_uploads_little() {
    let volume = orlop_tests::quick_dir();
    sample(volume.path(), 3, 16 << 20);
    rest();
    let engine = Engine::in_memory();
    let first = engine.backup(volume.path());
    let before = Record::of(volume.path());
    let mut table = File::options()
        .write(true)
        .open(volume.path().join("base/16384/table"))
        .unwrap();
    table.seek(SeekFrom::Start(3 << 20)).unwrap();
    table.write_all(b"one row").unwrap();
    fs::write(volume.path().join("many/new"), "a new file").unwrap();
    fs::remove_file(volume.path().join("many/file-0007")).unwrap();
    let second = engine.backup(volume.path());
    let files = second.files;
    assert_eq!(
        (files.new, files.changed, files.removed, files.opened),
        (1, 1, 1, 2)
    );
    // One chunk, which has 4 MiB at most, and pages: where chunks end is up to a random key.
    assert!(
        second.uploaded_bytes < 5 << 20,
        "{} bytes",
        second.uploaded_bytes
    );
    engine.assert_restores(first.snapshot, &before);
    engine.assert_restores(second.snapshot, &Record::of(volume.path()));
}

#[test]
fn the_same_bytes_in_two_volumes_of_a_namespace_are_stored_once() {
    let volume = orlop_tests::quick_dir();
    sample(volume.path(), 4, 8 << 20);
    let engine = Engine::in_memory();
    let first = engine.backup(volume.path());
    let other = VolumeRef::new("ns", "pod-2", "data");
    let second = engine.try_backup_as(volume.path(), &other).unwrap();
    assert_eq!((second.parent, second.chunks_new), (None, 0));
    assert!(
        second.uploaded_bytes < first.uploaded_bytes / 20,
        "{} bytes",
        second.uploaded_bytes
    );
    let stranger = VolumeRef::new("other-ns", "pod", "data");
    let third = engine.try_backup_as(volume.path(), &stranger).unwrap();
    // Each domain cuts at places of its own and finds more or less that repeats within the volume.
    assert!(
        third.new_bytes > first.new_bytes / 2,
        "nothing is shared between namespaces"
    );
    assert!(third.uploaded_bytes > first.uploaded_bytes / 2);
    for report in [first, second, third] {
        engine.assert_restores(report.snapshot, &Record::of(volume.path()));
    }
}
