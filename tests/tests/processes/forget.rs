//! `repo forget`: by rules, by name, and what it refuses.

use std::{collections::BTreeSet, fs, path::Path};

use orlop_tests::Orlop;
use serde_json::Value;
use tempfile::TempDir;

/// A repository with three snapshots of one volume and one of another.
fn repository() -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::create_dir(at.join("volume")).unwrap();
    repo(at, &["init"]).run().exits(0);
    let mut ids = Vec::new();
    for (i, volume) in ["ns/p/a", "ns/p/a", "ns/p/b", "ns/p/a"].iter().enumerate() {
        fs::write(at.join("volume/x"), format!("{i}")).unwrap();
        let tag = format!("t{i}");
        let args = [
            "backup", "--volume", volume, "--tag", &tag, "-o", "json", "volume",
        ];
        let made = repo(at, &args).run_in(at).exits(0).json();
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    (directory, ids)
}

fn repo(at: &Path, args: &[&str]) -> Orlop {
    let mut all = vec!["repo", args[0], "-r"];
    let place = at.join("R");
    all.push(place.to_str().unwrap());
    all.extend(&args[1..]);
    Orlop::new(at, all).env("ORLOP_PASSWORD", "x")
}

fn forget(at: &Path, args: &[&str]) -> Value {
    let all: Vec<&str> = ["forget", "-o", "json"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    repo(at, &all).run().exits(0).json()
}

fn kept(list: &Value) -> Vec<&str> {
    let kept = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["keep"] == true);
    kept.map(|s| s["id"].as_str().unwrap()).collect()
}

fn left(at: &Path) -> Vec<String> {
    let list = repo(at, &["snapshots", "-o", "json"]).run().exits(0).json();
    let ids = list.as_array().unwrap().iter();
    ids.map(|s| s["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn rules_forget_what_they_do_not_keep() {
    let (directory, ids) = repository();
    let at = directory.path();
    let args = ["--keep-last", "1", "--keep-tag", "t0", "--dry-run"];
    let said = forget(at, &args);
    assert_eq!(kept(&said), [&ids[0], &ids[2], &ids[3]]);
    let reasons: Vec<&Value> = said
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["reasons"])
        .collect();
    assert_eq!(reasons[0], &serde_json::json!(["tag t0"]));
    assert_eq!(reasons[1], &serde_json::json!(["no rule keeps it"]));
    assert_eq!(
        reasons[3],
        &serde_json::json!(["newest complete", "last 1 of 1"])
    );
    let keys: BTreeSet<&str> = said[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "id",
        "keep",
        "lineage",
        "namespace",
        "pod",
        "reasons",
        "time",
        "volume",
    ];
    assert_eq!(keys, BTreeSet::from(expected));
    assert_eq!(left(at), ids, "a dry run changes nothing");
    let shown = repo(at, &["forget", "--keep-last", "2", "--dry-run"])
        .run()
        .exits(0)
        .stdout;
    assert!(
        shown.contains("would keep 3 snapshots, forget 1"),
        "{shown}"
    );
    assert!(shown.contains("newest complete, last 1 of 2"), "{shown}");

    forget(at, &["--keep-last", "1", "--volume", "ns/p/b"]);
    assert_eq!(left(at), ids, "another volume is not looked at");
    forget(at, &["--keep-tag", "none", "--tag", "t1", "--tag", "t2"]);
    assert_eq!(
        left(at),
        [&ids[0][..], &ids[2], &ids[3]],
        "the newest of b is guarded"
    );
    forget(at, &["--keep-last", "1"]);
    assert_eq!(left(at), [&ids[2][..], &ids[3]]);
    forget(at, &["--keep-tag", "none", "--allow-last"]);
    assert_eq!(left(at), [""; 0]);
    repo(at, &["check"]).run().exits(0);
}

#[test]
fn named_snapshots_are_forgotten_together_or_not_at_all() {
    let (directory, ids) = repository();
    let at = directory.path();
    let said = repo(at, &["forget", &ids[0], &ids[3]]).run().exits(1);
    let line = said.one_line();
    assert!(
        line.contains("newest complete") && line.contains("--allow-last"),
        "{line}"
    );
    assert_eq!(left(at), ids);
    repo(at, &["forget", &ids[0], "0000"]).run().exits(4);
    assert_eq!(left(at), ids);
    forget(at, &[&ids[0], &ids[3], "--allow-last"]);
    assert_eq!(left(at), [&ids[1][..], &ids[2]]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (directory, ids) = repository();
    let at = directory.path();
    let said = repo(at, &["forget"]).run().exits(2);
    assert!(said.one_line().contains("say what to keep"));
    repo(at, &["forget", "--keep-daily", "0"]).run().exits(2);
    repo(at, &["forget", "--keep-daily", "x"]).run().exits(2);
    repo(at, &["forget", "--keep-last", "1", &ids[0]])
        .run()
        .exits(2);
    repo(at, &["forget", "--volume", "ns/p/a", &ids[0]])
        .run()
        .exits(2);
    repo(at, &["forget", "--keep-last", "1", "--time-zone", "Mars"])
        .run()
        .exits(2);
    let said = repo(at, &["forget", "--keep-last", "1", "--release-backup", "b"])
        .run()
        .exits(4);
    assert!(said.one_line().contains("backup b not found"));
    assert_eq!(left(at), ids);
}
