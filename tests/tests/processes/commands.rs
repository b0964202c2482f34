//! The acceptance commands of `repo`, exit codes and error lines.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use orlop_tests::{Orlop, Record, assert_identical, is_root, sample};
use tempfile::TempDir;

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    sample(&volume, 51, 1 << 20);
    directory
}

fn repo(at: &Path, verb: &str) -> Orlop {
    Orlop::new(at, ["repo", verb, "-r"])
        .arg(at.join("R"))
        .env("ORLOP_PASSWORD", "x")
}

fn backup(at: &Path) -> Orlop {
    repo(at, "backup")
        .arg("--volume")
        .arg("ns/pod/vol")
        .arg(at.join("volume"))
}

#[test]
fn a_directory_is_backed_up_and_restored_under_a_password() {
    let directory = directory();
    let at = directory.path();
    repo(at, "init").run().exits(0);
    let report = backup(at).arg("-o").arg("json").run().exits(0).json();
    let list = repo(at, "snapshots")
        .arg("-o")
        .arg("json")
        .run()
        .exits(0)
        .json();
    assert_eq!(list[0]["id"], report["id"]);
    let target = at.join("D");
    repo(at, "restore")
        .arg("latest:ns/pod/vol")
        .arg("--target")
        .arg(&target)
        .run()
        .exits(0);
    assert_identical(&Record::of(&at.join("volume")), &target);
    let id = report["id"].as_str().unwrap();
    let part = at.join("part");
    repo(at, "restore")
        .arg(&id[..12])
        .arg("--path")
        .arg("base/1")
        .arg("--target")
        .arg(&part)
        .run()
        .exits(0);
    assert_eq!(
        fs::read(part.join("base/1/copy of a part")).unwrap(),
        fs::read(at.join("volume/base/1/copy of a part")).unwrap()
    );
    let listed = repo(at, "ls").arg("latest").arg("-R").run().exits(0).stdout;
    assert!(listed.contains("many/file-0042"), "{listed}");
    let printed = repo(at, "cat")
        .arg("latest:/log/current.log")
        .run()
        .exits(0)
        .stdout;
    assert_eq!(
        printed,
        fs::read_to_string(at.join("volume/log/current.log")).unwrap()
    );
    repo(at, "stats").run().exits(0);
    repo(at, "check").arg("--read-data").run().exits(0);
    let again = backup(at).arg("-o").arg("json").run().exits(0).json();
    assert_eq!(
        (&again["files"]["opened"], &again["chunks"]["new"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn a_wrong_password_is_one_clear_line() {
    let directory = directory();
    let at = directory.path();
    repo(at, "init").run().exits(0);
    let output = repo(at, "snapshots")
        .env("ORLOP_PASSWORD", "wrong")
        .run()
        .exits(1);
    assert_eq!(output.stdout, "");
    assert!(
        output
            .one_line()
            .starts_with("orlop: wrong password for the repository at ")
    );
    let output = Orlop::new(at, ["repo", "snapshots", "-r"])
        .arg(at.join("R"))
        .run()
        .exits(2);
    assert!(
        output.one_line().contains("set ORLOP_PASSWORD"),
        "{}",
        output.stderr
    );
}

#[test]
fn what_does_not_exist_is_said_and_exits_with_4() {
    let directory = directory();
    let at = directory.path();
    let output = repo(at, "snapshots").run().exits(4);
    assert!(
        output.one_line().contains("holds no repository"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("orlop repo init"),
        "{}",
        output.stderr
    );
    repo(at, "init").run().exits(0);
    let restore = |what: &str| {
        repo(at, "restore")
            .arg(what)
            .arg("--target")
            .arg(at.join("T"))
            .run()
            .exits(4)
    };
    assert!(restore("latest").one_line().contains("no snapshots yet"));
    backup(at).run().exits(0);
    let output = restore("latest:ns/pod/other");
    assert!(
        output
            .one_line()
            .contains("there are snapshots of ns/pod/vol"),
        "{}",
        output.stderr
    );
    restore("0123456789");
    let output = repo(at, "cat").arg("latest:/nowhere").run().exits(4);
    assert!(output.one_line().contains("nowhere"), "{}", output.stderr);
    let missing = at.join("missing");
    let output = repo(at, "backup")
        .arg("--volume")
        .arg("a/b/c")
        .arg(missing)
        .run()
        .exits(4);
    assert!(
        output.one_line().contains("missing does not exist"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let directory = directory();
    let at = directory.path();
    Orlop::new(at, ["frobnicate"]).run().exits(2);
    repo(at, "init").run().exits(0);
    let output = repo(at, "backup")
        .arg("--volume")
        .arg("no-volume")
        .arg(at)
        .run()
        .exits(2);
    assert!(
        output.stderr.contains("NAMESPACE/POD/VOLUME"),
        "{}",
        output.stderr
    );
    let file = at.join("volume/nothing");
    let output = repo(at, "backup")
        .arg("--volume")
        .arg("a/b/c")
        .arg(file)
        .run()
        .exits(2);
    assert!(
        output.one_line().contains("is not a directory"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_place_that_is_taken_is_refused() {
    let directory = directory();
    let at = directory.path();
    repo(at, "init").run().exits(0);
    let output = repo(at, "init").run().exits(1);
    assert!(
        output.one_line().contains("holds a repository already"),
        "{}",
        output.stderr
    );
    backup(at).run().exits(0);
    let output = repo(at, "restore")
        .arg("latest")
        .arg("--target")
        .arg(at.join("volume"))
        .run()
        .exits(1);
    let line = output.one_line();
    assert!(
        line.contains("not empty") && line.contains("overwrite"),
        "{line}"
    );
    let output = Orlop::new(at, ["repo", "init", "-r"])
        .arg(at.join("volume"))
        .env("ORLOP_PASSWORD", "x")
        .run()
        .exits(1);
    assert!(
        output
            .one_line()
            .contains("is not empty and holds no repository"),
        "{}",
        output.stderr
    );
}

#[test]
fn found_damage_exits_with_3_and_names_the_object() {
    let directory = directory();
    let at = directory.path();
    repo(at, "init").run().exits(0);
    backup(at).run().exits(0);
    let pack = largest(&at.join("R/p"));
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let report = repo(at, "check")
        .arg("--read-data")
        .arg("-o")
        .arg("json")
        .run()
        .exits(3)
        .json();
    assert_eq!(
        (&report["ok"], &report["depth"]),
        (&false.into(), &"data".into())
    );
    let object = report["damage"][0]["object"].as_str().unwrap();
    assert!(pack.ends_with(object), "{object} is not {}", pack.display());
    assert!(!report["damage"][0]["paths"].as_array().unwrap().is_empty());
}

fn largest(below: &Path) -> std::path::PathBuf {
    let mut pending = vec![below.to_owned()];
    let mut found = (0, below.to_owned());
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let stat = entry.metadata().unwrap();
            if stat.is_dir() {
                pending.push(entry.path());
            } else {
                found = found.max((stat.len(), entry.path()));
            }
        }
    }
    found.1
}

#[test]
fn an_unreadable_file_is_reported_and_exits_with_3() {
    if is_root() {
        // Root reads everything: there is nothing to show.
        return;
    }
    let directory = directory();
    let at = directory.path();
    repo(at, "init").run().exits(0);
    let secret = at.join("volume/many/file-0001");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let report = backup(at).arg("-o").arg("json").run().exits(3).json();
    assert_eq!(
        (&report["state"], &report["issues_total"]),
        (&"inconsistent".into(), &1.into())
    );
    let issue = &report["issues"][0];
    assert_eq!(
        (&issue["path"], &issue["kind"]),
        (&"many/file-0001".into(), &"unreadable".into())
    );
    assert_eq!(issue["errno"], 13);
}

#[test]
fn a_part_of_a_snapshot_is_restored_listed_and_printed() {
    let directory = directory();
    let at = directory.path();
    let volume = at.join("volume");
    fs::create_dir_all(volume.join("etc/app")).unwrap();
    fs::write(volume.join("etc/app/a.conf"), "a").unwrap();
    fs::write(volume.join("etc/b.conf"), "b").unwrap();
    fs::write(volume.join("etc/app/large"), vec![b'x'; 3 << 20]).unwrap();
    repo(at, "init").run().exits(0);
    backup(at).run().exits(0);
    let restore = |target: &str, args: &[&str]| {
        let command = repo(at, "restore").arg("latest:ns/pod/vol").arg("-q");
        command.args(args).arg("--target").arg(at.join(target))
    };
    restore("T1", &["--include", "*.conf", "--include", "/etc/app/"])
        .run()
        .exits(0);
    assert!(at.join("T1/etc/app/large").exists() && at.join("T1/etc/b.conf").exists());
    restore("T2", &["--path", "/etc/b.conf"]).run().exits(0);
    assert!(!at.join("T2/etc/app").exists() && at.join("T2/etc/b.conf").exists());
    let output = restore("T3", &["--path", "etc/c.conf"]).run().exits(4);
    let line = output.one_line();
    assert!(line.contains("there is etc/b.conf"), "{line}");
    let output = restore("T3", &["--include", "*.CONF"]).run().exits(4);
    let line = output.one_line();
    assert!(
        line.contains("there is etc/b.conf, etc/app/a.conf"),
        "{line}"
    );
    let output = restore("T3", &["--include", "a//b"]).run().exits(2);
    assert!(
        output.stderr.contains("empty component"),
        "{}",
        output.stderr
    );

    let list = |args: &[&str]| {
        let command = repo(at, "ls").arg("latest").args(args);
        let list = command.arg("-o").arg("json").run().exits(0).json();
        let paths = list.as_array().unwrap().iter();
        let paths = paths.map(|entry| entry["path"].as_str().unwrap().to_owned());
        paths.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(&["etc"]), "etc/app etc/b.conf");
    assert_eq!(list(&["/etc/b.conf"]), "etc/b.conf");
    assert_eq!(
        list(&["etc", "-R"]),
        "etc/app etc/b.conf etc/app/a.conf etc/app/large"
    );
    assert_eq!(
        list(&["--include", "/etc/**/*.conf"]),
        "etc/b.conf etc/app/a.conf"
    );
    assert_eq!(list(&["etc/app", "--include", "*.conf"]), "etc/app/a.conf");
    let output = repo(at, "cat")
        .arg("latest:ns/pod/vol:/etc/app/large")
        .run()
        .exits(0);
    assert_eq!(output.stdout.len(), 3 << 20);
    // Who reads no further is no reason to complain.
    let script = format!(
        "{} repo cat -r {} latest:/etc/app/large | head -c 10",
        orlop_tests::program().display(),
        at.join("R").display()
    );
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .env("ORLOP_PASSWORD", "x")
        .output()
        .unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (b"xxxxxxxxxx".as_slice(), b"".as_slice())
    );
}
