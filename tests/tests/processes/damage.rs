//! What is lost is found, told, and mended by the program, and does no harm to the rest.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use orlop_tests::{Orlop, Random, Record, assert_identical};
use tempfile::TempDir;

fn repo(at: &Path, verb: &str) -> Orlop {
    Orlop::new(at, ["repo", verb])
        .env("ORLOP_REPOSITORY", at.join("R"))
        .env("ORLOP_PASSWORD", "first")
        .arg("-o")
        .arg("json")
}

fn backup(at: &Path, volume: &str) -> String {
    let report = repo(at, "backup")
        .arg("--volume")
        .arg(format!("ns/pod/{volume}"))
        .arg(at.join(volume))
        .run()
        .exits(0)
        .json();
    report["id"].as_str().unwrap().to_owned()
}

fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
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

/// Two volumes with a snapshot each, of which the first has lost some bytes of its data.
fn damaged() -> (TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    repo(at, "init").run().exits(0);
    let mut ids = Vec::new();
    for (seed, volume) in ["lost", "whole"].into_iter().enumerate() {
        fs::create_dir(at.join(volume)).unwrap();
        let bytes = Random::new(seed as u64).bytes(300_000);
        fs::write(at.join(volume).join("file"), bytes).unwrap();
        ids.push(backup(at, volume));
        if seed == 0 {
            let packs = files(&at.join("R/p"));
            assert_eq!(packs.len(), 1);
            let mut bytes = fs::read(&packs[0]).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::set_permissions(&packs[0], fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&packs[0], bytes).unwrap();
        }
    }
    let whole = ids.pop().unwrap();
    (directory, ids.pop().unwrap(), whole)
}

#[test]
fn samples_find_damage_in_time_and_without_a_password() {
    let (directory, lost, _) = damaged();
    let at = directory.path();
    // What was read longest ago comes first, so two halves are the whole.
    let reads = (0..2).map(|_| {
        let check = repo(at, "check").arg("--read-data=50%").run();
        let report = check.json();
        report["ok"].as_bool().unwrap()
    });
    assert!(reads.collect::<Vec<_>>().contains(&false));
    let keyless = Orlop::new(at, ["repo", "check", "--keyless", "-o", "json", "-r"])
        .arg(at.join("R"))
        .run()
        .exits(3)
        .json();
    assert_eq!(keyless["damage"].as_array().unwrap().len(), 1, "{keyless}");
    let pack = files(&at.join("R/p"));
    let object = keyless["damage"][0]["object"].as_str().unwrap();
    assert!(pack.iter().any(|pack| pack.ends_with(object)), "{object}");
    let report = repo(at, "check").arg("--read-data").run().exits(3).json();
    assert_eq!(report["damage"][0]["object"], object);
    assert_eq!(report["damage"][0]["snapshots"][0], lost.as_str());
    let none = at.join("whole");
    let refused = Orlop::new(at, ["repo", "check", "--keyless", "-r"])
        .arg(&none)
        .run()
        .exits(4);
    assert!(refused.one_line().contains("holds no repository"));
}

#[test]
fn a_repair_says_first_what_it_would_do_and_the_next_backup_heals() {
    let (directory, lost, _) = damaged();
    let at = directory.path();
    let before = files(&at.join("R"));
    let dry = repo(at, "repair")
        .arg("--dry-run")
        .arg("--read-data")
        .run()
        .exits(3)
        .json();
    assert!(dry.to_string().contains(&lost), "{dry}");
    let packs = |files: &[PathBuf]| -> Vec<PathBuf> {
        let is_pack = |path: &&PathBuf| path.starts_with(at.join("R/p"));
        files.iter().filter(is_pack).cloned().collect()
    };
    assert_eq!(packs(&files(&at.join("R"))), packs(&before));
    repo(at, "repair").arg("--read-data").run().exits(3);
    backup(at, "lost");
    repo(at, "repair").arg("--read-data").run().exits(0);
    repo(at, "check").arg("--read-data").run().exits(0);
    let target = at.join("T");
    repo(at, "restore")
        .arg(&lost)
        .arg("--target")
        .arg(&target)
        .run()
        .exits(0);
    assert_identical(&Record::of(&at.join("lost")), &target);
}

#[test]
fn one_damaged_snapshot_keeps_no_other_from_being_copied_or_searched() {
    let (directory, lost, whole) = damaged();
    let at = directory.path();
    Orlop::new(at, ["repo", "init", "-r"])
        .arg(at.join("R2"))
        .env("ORLOP_PASSWORD", "first")
        .run()
        .exits(0);
    let output = repo(at, "copy")
        .arg("--to")
        .arg(at.join("R2"))
        .run()
        .exits(3);
    assert!(output.stderr.contains(&lost), "{}", output.stderr);
    let copied = output.json();
    assert_eq!(copied.as_array().unwrap().len(), 1, "{copied}");
    assert_eq!(copied[0]["snapshot"], whole.as_str());
    // After a repair the index has none of what was lost: that is another error, and no other end.
    repo(at, "repair").arg("--read-data").run().exits(3);
    fs::write(at.join("whole/new"), "new").unwrap();
    let newer = backup(at, "whole");
    let output = repo(at, "copy")
        .arg("--to")
        .arg(at.join("R2"))
        .run()
        .exits(3);
    assert!(output.stderr.contains(&lost), "{}", output.stderr);
    assert_eq!(output.json()[1]["snapshot"], newer.as_str());
    // Manifests are whole: names are found in all.
    let found = repo(at, "find").arg("file").run().exits(0).json();
    assert_eq!(found.as_array().unwrap().len(), 3, "{found}");
}
