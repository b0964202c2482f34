//! The second reader, written from `docs/format.md` alone, reads what this program writes, and misses no damage.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use orlop_repository::store::DirectoryStore;
use orlop_tests::{Engine, copy_store, require};
use serde_json::Value;

use crate::{
    described, reader,
    volumes::{ARTIFACT, ARTIFACT_TEXT, CASES, Case},
};

/// What this program reads of a repository: its snapshots, and for each the entries.
pub(crate) fn described(case: &Case, directory: &Path) -> Vec<(Value, Vec<Value>)> {
    // Readers leave entries in the log: they read a copy.
    let copy = copy_store(&DirectoryStore::new(directory.join("repository")));
    let engine = Engine::open_as(copy, &case.unlock()).unwrap();
    let snapshots = described::snapshots(&engine);
    let all = snapshots.into_iter().map(|info| {
        let id = info["id"].as_str().unwrap().parse().unwrap();
        let entries = described::entries(&engine, id);
        (info, entries)
    });
    let all = all.collect();
    engine.assert_sound();
    all
}

/// Asserts that the second reader reads the same, and finds all of it sound.
pub(crate) fn assert_reads(directory: &Path, expected: &[(Value, Vec<Value>)]) {
    let mut listed = reader::lines(directory, &["list", "--json"]);
    listed.sort_by_key(|info| (info["time_ms"].as_i64(), info["id"].to_string()));
    let infos: Vec<&Value> = expected.iter().map(|(info, _)| info).collect();
    assert_eq!(listed.iter().collect::<Vec<_>>(), infos);
    for (info, entries) in expected {
        let id = info["id"].as_str().unwrap();
        let read = reader::lines(directory, &["ls", "--json", "--content", id]);
        for (ours, theirs) in entries.iter().zip(&read) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(entries.len(), read.len(), "{id}");
    }
    let seen = reader::lines(directory, &["verify"]).pop().unwrap();
    let count: usize = expected.iter().map(|(_, entries)| entries.len()).sum();
    assert_eq!(seen["snapshots"], expected.len());
    assert_eq!(seen["entries"], count);
}

#[test]
fn what_is_written_now_is_read_by_the_second_reader() {
    if !require("python") {
        return;
    }
    for case in &CASES {
        let directory = tempfile::tempdir().unwrap();
        case.write(directory.path());
        let expected = described(case, directory.path());
        assert!(!expected.is_empty());
        assert_reads(directory.path(), &expected);
    }
}

#[test]
fn the_second_reader_gives_a_file_as_it_was() {
    if !require("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let volume = orlop_tests::quick_dir();
    let text = "line of a log\n".repeat(20_000);
    fs::write(volume.path().join("log"), &text).unwrap();
    let store = Arc::new(DirectoryStore::new(directory.path().join("repository")));
    let id = Engine::init(store).unwrap().backup(volume.path()).snapshot;
    fs::write(directory.path().join("key"), orlop_tests::KEY).unwrap();
    let id = id.to_string();
    assert_eq!(
        reader::bytes(directory.path(), &["cat", &id, "log"]),
        text.as_bytes()
    );
    let error = reader::error(directory.path(), &["cat", &id, "other"]);
    assert!(error.contains("holds no file 'other'"), "{error}");
    fs::write(directory.path().join("key"), [1; 32]).unwrap();
    let error = reader::error(directory.path(), &["list"]);
    assert!(error.contains("none of 1 keys opens"), "{error}");
}

#[test]
fn the_second_reader_opens_artifacts_under_their_name_only() {
    if !require("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    CASES[0].write(directory.path());
    let file = directory.path().join("repository").join(ARTIFACT);
    let file = file.to_str().unwrap();
    let opened = reader::bytes(directory.path(), &["artifact", file, ARTIFACT]);
    assert_eq!(opened, ARTIFACT_TEXT);
    let error = reader::error(directory.path(), &["artifact", file, "backups/c/c.tar.gz"]);
    assert!(error.contains("cannot be opened"), "{error}");
}

/// The files below `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn the_second_reader_misses_no_damage() {
    if !require("python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let case = &CASES[1];
    case.write(directory.path());
    let repository = directory.path().join("repository");
    let mut seen: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for path in files(&repository) {
        // Two of each kind are enough.
        let class = path.strip_prefix(&repository).unwrap().iter().next();
        let count = seen.entry(class.unwrap().into()).or_default();
        *count += 1;
        if *count > 2 {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 1;
        fs::write(&path, changed).unwrap();
        reader::error(directory.path(), &["verify"]);
        fs::write(&path, bytes).unwrap();
    }
    let classes = ["i", "keys", "log", "m", "p", "r", "repo.cfg", "s"];
    assert!(
        seen.keys().eq(classes.map(PathBuf::from).iter()),
        "{seen:?}"
    );
    reader::lines(directory.path(), &["verify"]);
}

#[test]
fn the_second_reader_s_primitives_are_those_of_their_specifications() {
    if !require("python") {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/test_primitives.py");
    let python = orlop_tests::python().unwrap();
    let output = Command::new(python).arg("-B").arg(script).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
