//! Data restored into volumes that exist, and single files of snapshots.

use std::{fs, os::unix::fs::symlink};

use orlop_tests::{Machine, Output, Pod, Record, assert_identical, sample};
use tempfile::TempDir;

/// A machine with a server, and a pod whose volume was backed up as `b1`; its snapshot.
fn backed_up(directory: &TempDir) -> (Machine, orlop_tests::Daemon, Pod, String) {
    let machine = Machine::new(directory.path());
    let server = machine.standalone();
    let pod = machine.node().pod("db-0");
    sample(&pod.path, 73, 1 << 20);
    machine.knows(&pod);
    machine.backup("b1", &pod);
    let snapshot = machine.snapshot_of("b1");
    (machine, server, pod, snapshot)
}

fn restore(machine: &Machine, from: &str, to: &str, more: &[&str]) -> Output {
    let args = [
        "volume", "restore", "--from", from, "--to", to, "--wait", "-o", "json",
    ];
    machine.client(args).args(more).run()
}

#[test]
fn data_comes_back_into_a_volume_that_exists() {
    let directory = tempfile::tempdir().unwrap();
    let (machine, _server, pod, snapshot) = backed_up(&directory);
    let before = Record::of(&pod.path);
    let at = |name: &str| pod.path.join(name);

    // Entries of the snapshot replace what is there; others stay.
    fs::write(at("many/file-0042"), "spoiled").unwrap();
    fs::write(at("mine"), "mine").unwrap();
    let done = restore(&machine, &snapshot, &pod.volume, &[]).exits(0);
    assert!(done.stderr.contains("a pod that runs"), "{}", done.stderr);
    let done = done.json();
    assert_eq!(done["mode"], "overwrite");
    assert_eq!(done["phase"], "completed");
    assert_eq!(fs::read_to_string(at("mine")).unwrap(), "mine");
    fs::remove_file(at("mine")).unwrap();
    restore(&machine, &snapshot, &pod.volume, &["--mode", "exact", "-q"]).exits(0);
    assert_identical(&before, &pod.path);

    // A part of it alone.
    fs::write(at("many/file-0042"), "spoiled").unwrap();
    fs::write(at("log/current.log"), "spoiled").unwrap();
    restore(
        &machine,
        &snapshot,
        &pod.volume,
        &["--path", "/many/file-0042"],
    )
    .exits(0);
    assert_ne!(fs::read(at("many/file-0042")).unwrap(), b"spoiled");
    assert_eq!(
        fs::read_to_string(at("log/current.log")).unwrap(),
        "spoiled"
    );

    // Beside what is there.
    let aside = restore(
        &machine,
        &snapshot,
        &pod.volume,
        &["--mode", "new-dir", "--name", "aside"],
    );
    let aside = aside.exits(0).json();
    assert_eq!(aside["mode"], "new-dir");
    assert_eq!(aside["directory"], "aside");
    assert_identical(&before, &at("aside"));
    assert_eq!(
        fs::read_to_string(at("log/current.log")).unwrap(),
        "spoiled"
    );
    let said = machine
        .client(["restore", "describe", "aside"])
        .run()
        .exits(0)
        .stdout;
    assert!(said.contains("Directory:  aside"), "{said}");
}

#[test]
fn what_is_in_the_way_of_a_new_directory_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (machine, _server, pod, snapshot) = backed_up(&directory);
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), pod.path.join("way")).unwrap();
    fs::create_dir(pod.path.join("full")).unwrap();
    fs::write(pod.path.join("full/x"), "x").unwrap();
    for name in ["way", "full"] {
        let refused = restore(
            &machine,
            &snapshot,
            &pod.volume,
            &["--mode", "new-dir", "--name", name, "-q"],
        );
        let refused = refused.exits(1);
        assert!(refused.stdout.contains(name), "{}", refused.stdout);
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(pod.path.join("full")).unwrap().count(), 1);
    // A link that the pod has put in place of a directory is replaced, and leads nowhere.
    fs::rename(pod.path.join("many"), pod.path.join("moved")).unwrap();
    symlink(outside.path(), pod.path.join("many")).unwrap();
    restore(&machine, &snapshot, &pod.volume, &["-q"]).exits(0);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(pod.path.join("many").symlink_metadata().unwrap().is_dir());
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (machine, _server, pod, snapshot) = backed_up(&directory);
    let gone = restore(&machine, &snapshot, "default/db-1/pvc-db-0", &["-q"]).exits(4);
    assert!(gone.stderr.contains("db-1"), "{}", gone.stderr);
    let none = restore(&machine, "01ZZZZZZZZZZ", &pod.volume, &["-q"]).exits(4);
    assert!(none.stderr.contains("01ZZZZZZZZZZ"), "{}", none.stderr);
    let claim = restore(&machine, &snapshot, "default/data", &["-q"]).exits(2);
    assert!(
        claim.stderr.contains("NAMESPACE/POD/VOLUME"),
        "{}",
        claim.stderr
    );
    restore(&machine, &snapshot, "data", &[]).exits(2);
    // Objects are for backups that have them.
    let objects = [
        "restore",
        "create",
        "--from-backup",
        "b1",
        "--include-namespaces",
        "default",
    ];
    let refused = machine.client(objects).run().exits(2);
    assert!(
        refused.stderr.contains("--from-backup"),
        "{}",
        refused.stderr
    );
    let list = machine
        .client(["restore", "get", "-o", "json"])
        .run()
        .exits(0)
        .json();
    assert_eq!(list.as_array().unwrap().len(), 0, "nothing was begun");
}

#[test]
fn a_file_of_a_snapshot_is_written_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (machine, _server, pod, snapshot) = backed_up(&directory);
    let get = |more: &[&str]| {
        machine
            .client(["snapshot", "get", &snapshot])
            .args(more)
            .run()
    };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    let to = file.to_str().unwrap();
    let wanted = fs::read(pod.path.join("many/file-0042")).unwrap();
    get(&["/many/file-0042", "-o", to]).exits(0);
    assert_eq!(fs::read(&file).unwrap(), wanted);
    fs::write(&file, "mine").unwrap();
    let refused = get(&["/many/file-0042", "-o", to]).exits(1);
    assert!(refused.one_line().contains("--force"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    get(&["/many/no-such", "-o", to, "--force"]).exits(4);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    get(&["/many/file-0042", "--output", to, "--force"]).exits(0);
    assert_eq!(fs::read(&file).unwrap(), wanted);
    assert_eq!(
        fs::read_dir(place.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    for target in ["-", "./json"] {
        let printed = machine
            .client([
                "snapshot",
                "get",
                &snapshot,
                "/many/file-0042",
                "-o",
                target,
            ])
            .run_in(place.path())
            .exits(0);
        assert_eq!(printed.stdout.is_empty(), target != "-");
    }
    assert_eq!(fs::read(place.path().join("json")).unwrap(), wanted);
    let directory = get(&["/many"]).exits(1);
    assert!(
        directory.one_line().contains("orlop volume restore"),
        "{}",
        directory.stderr
    );
    assert_eq!(
        get(&["-o", "json"]).exits(0).json()["id"],
        snapshot.as_str()
    );
}
