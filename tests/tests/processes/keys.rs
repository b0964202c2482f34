//! Keys, copies, archives, searches and comparisons by the program.

use std::{fs, path::Path, process::Command};

use orlop_tests::{Orlop, Record, assert_identical, sample};
use tempfile::TempDir;

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    sample(&volume, 91, 1 << 20);
    fs::write(directory.path().join("second"), "second\n").unwrap();
    repo(directory.path(), "init").run().exits(0);
    directory
}

fn repo(at: &Path, verb: &str) -> Orlop {
    Orlop::new(at, ["repo", verb])
        .env("ORLOP_REPOSITORY", at.join("R"))
        .env("ORLOP_PASSWORD", "first")
}

fn key(at: &Path, verb: &str) -> Orlop {
    repo(at, "key").arg(verb)
}

fn backup(at: &Path) -> String {
    let report = repo(at, "backup")
        .arg("--volume")
        .arg("ns/pod/vol")
        .arg(at.join("volume"))
        .arg("-o")
        .arg("json")
        .run()
        .exits(0)
        .json();
    report["id"].as_str().unwrap().to_owned()
}

#[test]
fn passwords_come_and_go() {
    let directory = directory();
    let at = directory.path();
    backup(at);
    let before = Record::of(&at.join("volume"));
    let added = key(at, "add")
        .arg("--new-password-file")
        .arg(at.join("second"))
        .arg("--label")
        .arg("in the safe")
        .arg("-o")
        .arg("json")
        .run()
        .exits(0)
        .json();
    assert_eq!(
        (&added["kind"], &added["in_use"]),
        (&"password".into(), &false.into())
    );
    let list = key(at, "list").arg("-o").arg("json").run().exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let refused = key(at, "rotate").run().exits(1);
    assert!(refused.one_line().contains(added["id"].as_str().unwrap()));
    let rotated = key(at, "rotate")
        .arg("--keep-password-file")
        .arg(at.join("second"))
        .arg("-o")
        .arg("json")
        .run()
        .exits(0)
        .json();
    assert_eq!(
        (&rotated["epoch"], &rotated["resealed"]),
        (&1.into(), &1.into())
    );
    // The first password goes; the second reads everything.
    let list = key(at, "list").arg("-o").arg("json").run().exits(0).json();
    let own = list
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["in_use"] == true);
    let own = own.unwrap()["id"].as_str().unwrap().to_owned();
    let refused = key(at, "remove").arg(&own).run().exits(1);
    assert!(refused.one_line().contains("--own"));
    key(at, "remove").arg(&own[..8]).arg("--own").run().exits(0);
    repo(at, "snapshots").run().exits(1);
    let target = at.join("D");
    repo(at, "restore")
        .env("ORLOP_PASSWORD", "second")
        .arg("latest")
        .arg("--target")
        .arg(&target)
        .run()
        .exits(0);
    assert_identical(&before, &target);
}

#[test]
fn snapshots_are_copied_under_another_password() {
    let directory = directory();
    let at = directory.path();
    let first = backup(at);
    fs::write(at.join("volume/new"), vec![1; 100_000]).unwrap();
    backup(at);
    let before = Record::of(&at.join("volume"));
    Orlop::new(at, ["repo", "init", "-r"])
        .arg(at.join("R2"))
        .env("ORLOP_PASSWORD", "other")
        .run()
        .exits(0);
    let copy = || repo(at, "copy").arg("--to").arg(at.join("R2"));
    copy().run().exits(1);
    let copy = || {
        copy()
            .env("ORLOP_TO_PASSWORD", "other")
            .arg("-o")
            .arg("json")
    };
    let one = copy().arg(&first).run().exits(0).json();
    assert_eq!(
        (one.as_array().unwrap().len(), &one[0]["existed"]),
        (1, &false.into())
    );
    let all = copy().run().exits(0).json();
    assert_eq!(
        (&all[0]["existed"], &all[1]["existed"]),
        (&true.into(), &false.into())
    );
    let again = copy().arg("--all").run().exits(0).json();
    assert_eq!(&again[1]["existed"], &true);
    let target = at.join("D");
    Orlop::new(at, ["repo", "restore", "-r"])
        .arg(at.join("R2"))
        .env("ORLOP_PASSWORD", "other")
        .arg("latest:ns/pod/vol")
        .arg("--target")
        .arg(&target)
        .run()
        .exits(0);
    assert_identical(&before, &target);
}

/// `orlop repo export …` through a shell.
fn shell(at: &Path, line: &str) -> String {
    let output = Command::new("sh")
        .arg("-c")
        .arg(line)
        .current_dir(at)
        .env("ORLOP", orlop_tests::program())
        .env("ORLOP_REPOSITORY", at.join("R"))
        .env("ORLOP_PASSWORD", "first")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{line}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_archive_is_read_by_tar_and_may_be_cut_off() {
    let directory = directory();
    let at = directory.path();
    backup(at);
    let before = Record::of(&at.join("volume"));
    let list = shell(at, "$ORLOP repo export latest:ns/pod/vol | tar tvf -");
    assert_eq!(list.lines().count(), before.count());
    fs::create_dir(at.join("D")).unwrap();
    shell(
        at,
        "$ORLOP repo export -q latest | tar -x -p --delay-directory-restore --xattrs \
            --xattrs-include='*' -C D -f -",
    );
    assert_identical(&before, &at.join("D"));
    let cut = shell(at, "$ORLOP repo export -q latest | head -c 1000 | wc -c");
    assert_eq!(cut.trim(), "1000");
    let part = shell(at, "$ORLOP repo export latest --path log | tar tf -");
    assert_eq!(part, "./\n./log/\n./log/current.log\n./log/second name\n");
    let text = Orlop::new(at, ["repo", "export", "--documentation"])
        .run()
        .exits(0);
    assert_eq!(
        text.stdout,
        fs::read_to_string(orlop_tests::repository_root().join("docs/format.md")).unwrap()
    );
    Orlop::new(at, ["repo", "export", "latest"]).run().exits(2);
}

#[test]
fn snapshots_are_compared_and_searched() {
    let directory = directory();
    let at = directory.path();
    fs::write(at.join("volume/base/dump.sql"), "one").unwrap();
    let first = backup(at);
    fs::write(at.join("volume/base/dump.sql"), "three").unwrap();
    fs::remove_file(at.join("volume/nothing")).unwrap();
    fs::create_dir(at.join("volume/nothing")).unwrap();
    let second = backup(at);
    let diff = repo(at, "diff").arg(&first).arg(&second);
    let diff = diff.arg("-o").arg("json").run().exits(0).json();
    let told: Vec<(&str, &str)> = diff
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["path"].as_str().unwrap(),
                one["change"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("nothing", "type_changed"), ("base/dump.sql", "changed")]
    );
    assert_eq!(
        (&diff[1]["old"]["size"], &diff[1]["new"]["size"]),
        (&3.into(), &5.into())
    );
    let same = repo(at, "diff").arg(&first).arg(&first).run().exits(0);
    assert_eq!(same.stdout, "");
    let found = repo(at, "find")
        .arg("*.sql")
        .arg("-o")
        .arg("json")
        .run()
        .exits(0)
        .json();
    let found: Vec<(&str, u64)> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["snapshot"].as_str().unwrap(),
                one["size"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, [(&*first, 3), (&*second, 5)]);
    let newest = repo(at, "find").arg("*.sql").arg("--newest").run().exits(0);
    assert!(newest.stdout.starts_with(&second), "{}", newest.stdout);
    assert_eq!(newest.stdout.lines().count(), 2);
    let none = repo(at, "find").arg("*.sql").arg("-n").arg("ns/pod/other");
    none.run().exits(4);
}
