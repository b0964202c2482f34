//! The whole job over processes on loopback: standalone, and coordinator and agent apart, each of them
//! killed in mid backup once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use orlop_tests::{
    Daemon, Machine, Orlop, Pod, Random, Record, assert_identical, eventually, free_port,
    repository_root, sample,
};
use serde_json::Value;

/// A pod with a volume full of data.
fn filled(machine: &Machine, name: &str, bytes: usize) -> Pod {
    let pod = machine.node().pod(name);
    sample(&pod.path, 71, bytes);
    pod
}

/// Backup, change, second backup; the first is restored into a new pod whose init container waits.
fn end_to_end(machine: &Machine) {
    let pod = filled(machine, "db-0", 8 << 20);
    machine.knows(&pod);
    let first = machine.backup("b1", &pod);
    let before = Record::of(&pod.path);
    assert_eq!(first["volumes"]["done"], 1, "{first:#}");
    assert!(
        first["uploaded_bytes"].as_u64().unwrap() > 4 << 20,
        "{first:#}"
    );

    fs::write(pod.path.join("many/new"), "changed").unwrap();
    let mut log = fs::File::options()
        .append(true)
        .open(pod.path.join("log/current.log"))
        .unwrap();
    log.write_all(b"one more line\n").unwrap();
    let second = machine.backup("b2", &pod);
    let after = Record::of(&pod.path);
    let uploaded = second["uploaded_bytes"].as_u64().unwrap();
    assert!(uploaded < 1 << 20, "only the difference: {uploaded} bytes");

    for (backup, record, name) in [("b1", &before, "db-new-0"), ("b2", &after, "db-new-01")] {
        let target = machine.node().pod(name);
        let mut waiting = machine.restore_wait(&target);
        machine.knows(&target);
        assert!(
            waiting.ended().is_none(),
            "it ended before the restore: {}",
            waiting.said()
        );
        machine.restore(backup, &target).exits(0);
        waiting.wait().exits(0);
        assert_identical(record, &target.path);
        let marks = fs::read_dir(target.marks()).unwrap().count();
        assert!(marks > 0, "the marks are beside the volume, not in it");
    }

    let list = machine
        .client(["backup", "get", "-o", "json"])
        .run()
        .exits(0)
        .json();
    let names: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["b1", "b2"], "oldest first");
    let log = machine
        .client(["backup", "logs", "b1"])
        .run()
        .exits(0)
        .stdout;
    assert!(log.contains("INFO"), "{log}");
    let output = machine.client(["backup", "get", "b9"]).run().exits(4);
    assert!(output.one_line().contains("b9"), "{}", output.stderr);
}

#[test]
fn standalone_does_the_whole_job() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let _server = machine.standalone();
    end_to_end(&machine);
}

#[test]
fn coordinator_and_agent_apart_do_the_whole_job() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let _coordinator = machine.coordinator();
    let _agent = machine.agent();
    end_to_end(&machine);
}

/// Starts a backup of much data and waits until some of it is stored.
fn begin(machine: &Machine, name: &str, pod: &Pod, seed: u64) -> usize {
    fs::write(pod.path.join("much"), Random::new(seed).bytes(600 << 20)).unwrap();
    let packs = machine.data().join("repo/p");
    let before = count(&packs);
    machine
        .client(["backup", "create", name, "--volume", &pod.volume])
        .run()
        .exits(0);
    eventually("the backup stores packs", || {
        (count(&packs) > before + 2).then_some(())
    });
    before
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| {
        entries
            .map(|entry| fs::read_dir(entry.unwrap().path()).map_or(0, Iterator::count))
            .sum()
    })
}

/// Waits until the backup has ended as it should, and restores it.
fn completes(machine: &Machine, name: &str, pod: &Pod, target: &str) {
    eventually(&format!("backup {name} has completed"), || {
        let output = machine.client(["backup", "get", name, "-o", "json"]).run();
        let backup: Value = serde_json::from_str(&output.stdout).ok()?;
        let phase = backup["phase"].as_str()?;
        assert!(
            !["failed", "partially_failed", "canceled"].contains(&phase),
            "{backup:#}"
        );
        (phase == "completed").then_some(())
    });
    let target = machine.node().pod(target);
    target.marks();
    machine.knows(&target);
    machine.restore(name, &target).exits(0);
    assert_identical(&Record::of(&pod.path), &target.path);
}

fn is_running(machine: &Machine, name: &str) -> bool {
    let backup = machine
        .client(["backup", "get", name, "-o", "json"])
        .run()
        .exits(0)
        .json();
    ["new", "queued", "running"].contains(&backup["phase"].as_str().unwrap())
}

#[test]
fn a_killed_agent_and_a_killed_coordinator_cost_no_backup() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let coordinator = machine.coordinator();
    let agent = machine.agent();
    let pod = filled(&machine, "db-0", 1 << 20);
    machine.knows(&pod);

    begin(&machine, "without-agent", &pod, 1);
    assert!(is_running(&machine, "without-agent"));
    agent.crash();
    let _agent = machine.agent();
    completes(&machine, "without-agent", &pod, "new-1");

    begin(&machine, "without-coordinator", &pod, 2);
    assert!(is_running(&machine, "without-coordinator"));
    coordinator.crash();
    let _coordinator = machine.coordinator();
    completes(&machine, "without-coordinator", &pod, "new-22");
    assert_sound(&machine);
}

#[test]
fn a_killed_standalone_server_goes_on_with_its_backup() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let server = machine.standalone();
    let pod = filled(&machine, "db-0", 1 << 20);
    machine.knows(&pod);
    begin(&machine, "b1", &pod, 3);
    server.crash();
    let _server = machine.standalone();
    completes(&machine, "b1", &pod, "new-1");
    assert_sound(&machine);
}

fn assert_sound(machine: &Machine) {
    let data = machine.data();
    machine
        .client(["repo", "check", "--read-data", "-q", "-r"])
        .arg(data.join("repo"))
        .arg("--key-file")
        .arg(data.join("repository.key"))
        .run()
        .exits(0);
}

#[test]
fn without_its_state_database_a_server_loses_nothing_that_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let server = machine.standalone();
    let pod = filled(&machine, "db-0", 2 << 20);
    machine.knows(&pod);
    machine.backup("b1", &pod);
    let before = Record::of(&pod.path);
    stop(server);
    for entry in fs::read_dir(machine.data()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("state.db")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let _server = machine.standalone();
    let backup = machine
        .client(["backup", "get", "b1", "-o", "json"])
        .run()
        .exits(0)
        .json();
    assert_eq!(backup["phase"], "completed", "{backup:#}");
    let target = machine.node().pod("new-1");
    target.marks();
    machine.knows(&target);
    machine.restore("b1", &target).exits(0);
    assert_identical(&before, &target.path);
}

fn stop(server: Daemon) {
    server.signal(nix::sys::signal::Signal::SIGTERM);
    let output = server.wait();
    assert!(matches!(output.code, Some(0 | 130)), "{output:?}");
}

#[test]
fn a_failed_restore_ends_the_init_container_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let _server = machine.standalone();
    let pod = filled(&machine, "db-0", 1 << 20);
    machine.knows(&pod);
    machine.backup("b1", &pod);
    let target = machine.node().pod("new-1");
    fs::write(target.path.join("in the way"), "the volume is not empty").unwrap();
    let waiting = machine.restore_wait(&target);
    machine.knows(&target);
    machine
        .restore_with("b1", &target, &["--mode", "empty"])
        .exits(1);
    let output = waiting.wait().exits(1);
    assert!(
        output.stderr.contains("the restore failed: "),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("not empty"), "{}", output.stderr);
    let left: Vec<_> = fs::read_dir(&target.path).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing was written into the volume");
}

#[test]
fn nobody_is_served_without_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let _server = machine.standalone();
    let stranger = directory.path().join("guess");
    fs::write(&stranger, "00".repeat(32)).unwrap();
    fs::set_permissions(
        &stranger,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let output = machine
        .client(["status"])
        .env("ORLOP_TOKEN_FILE", stranger)
        .run()
        .exits(1);
    assert!(
        output.one_line().contains("the token is not the server's"),
        "{}",
        output.stderr
    );
}

#[test]
fn the_systemd_unit_starts_a_server() {
    let unit =
        fs::read_to_string(repository_root().join("deploy/orlop-standalone.service")).unwrap();
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/orlop"));
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let data = machine.data();
    let args: Vec<PathBuf> = words
        .map(|word| {
            if word == "/var/lib/orlop" {
                data.clone()
            } else {
                PathBuf::from(word)
            }
        })
        .collect();
    assert!(
        args.contains(&data),
        "the unit names the data directory: {line}"
    );
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = Orlop::new(directory.path(), args)
        .args(["--listen", &address])
        .arg("--kubelet-dir")
        .arg(machine.node().kubelet())
        .start();
    server.listens(&address);
    assert!(data.join("token").exists() && data.join("repo/repo.cfg").exists());
    stop(server);
}
