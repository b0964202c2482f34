//! Repositories as they were written by earlier versions: both readers read them for ever.
//!
//! `ORLOP_WRITE_GOLDEN=1 cargo test -p orlop-tests --test format golden`, as root, writes those of the format's
//! present number that are not there yet. What is there stays as it is; a new case is added beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orlop_repository::FORMAT;
use orlop_tests::{is_root, require};
use serde_json::Value;

use crate::{
    reader,
    second::{assert_reads, described},
    volumes::{ARTIFACT, ARTIFACT_TEXT, CASES, Case},
};

/// Where the repositories of a format are.
fn directory(format: u32) -> PathBuf {
    let name = format!("golden/format-{format}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What the repository `directory` is known to hold: lines of JSON, a snapshot and then its entries.
fn expected(directory: &Path) -> Vec<(Value, Vec<Value>)> {
    let text = fs::read_to_string(directory.join("expected.jsonl")).unwrap();
    let mut all: Vec<(Value, Vec<Value>)> = Vec::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        match all.last_mut() {
            Some((_, entries)) if value.get("path").is_some() => entries.push(value),
            _ => all.push((value, Vec::new())),
        }
    }
    all
}

fn write(case: &Case, directory: &Path) {
    assert!(is_root(), "devices are made by root only");
    fs::create_dir_all(directory).unwrap();
    case.write(directory);
    let mut text = String::new();
    for (info, entries) in described(case, directory) {
        for line in std::iter::once(&info).chain(&entries) {
            text.push_str(&line.to_string());
            text.push('\n');
        }
    }
    fs::write(directory.join("expected.jsonl"), text).unwrap();
}

/// Every kept repository with its case.
fn kept() -> Vec<(&'static Case, PathBuf)> {
    if std::env::var_os("ORLOP_WRITE_GOLDEN").is_some() {
        for case in &CASES {
            let directory = directory(FORMAT).join(case.name);
            if !directory.exists() {
                write(case, &directory);
            }
        }
    }
    let formats = (1..=FORMAT).map(directory);
    let all =
        formats.flat_map(|format| CASES.iter().map(move |case| (case, format.join(case.name))));
    all.collect()
}

#[test]
fn golden_repositories_are_read_by_both_readers() {
    let both = require("python");
    for (case, directory) in kept() {
        let expected = expected(&directory);
        assert!(!expected.is_empty(), "{}", directory.display());
        assert_eq!(described(case, &directory), expected);
        if both {
            assert_reads(&directory, &expected);
        }
        let artifact = directory.join("repository").join(ARTIFACT);
        if both && artifact.exists() {
            let file = artifact.to_str().unwrap();
            let opened = reader::bytes(&directory, &["artifact", file, ARTIFACT]);
            assert_eq!(opened, ARTIFACT_TEXT);
        }
    }
}
