//! Schedules as people make them, and what is left of them after a crash.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use orlop_tests::{Machine, Output, Pod, eventually};
use serde_json::{Value, json};

/// A machine with one small volume.
fn machine(root: &Path) -> (Machine, Pod) {
    let machine = Machine::new(root);
    let pod = machine.node().pod("db-0");
    fs::write(pod.path.join("data"), "some data").unwrap();
    (machine, pod)
}

fn schedule(machine: &Machine, args: &[&str]) -> Output {
    machine.client(["schedule"]).args(args).run()
}

fn shown(machine: &Machine, name: &str) -> Value {
    schedule(machine, &["get", name, "-o", "json"])
        .exits(0)
        .json()
}

#[test]
fn a_schedule_is_made_shown_paused_triggered_and_outlives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (machine, pod) = machine(directory.path());
    let server = machine.standalone();
    machine.knows(&pod);
    let rules = "daily=7,weekly=4";
    let create = ["create", "nightly", "--cron", "0 2 * * *", "--keep", rules];
    schedule(&machine, &create).exits(0);
    let list = schedule(&machine, &["get", "-o", "json"]).exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let first = &list[0];
    assert_eq!(first["name"], "nightly");
    assert_eq!(
        (&first["cron"], &first["keep"]),
        (&json!("0 2 * * *"), &json!(rules))
    );
    assert!(
        first["next"].as_str().unwrap().ends_with("T02:00:00Z"),
        "{first:#}"
    );
    let status = machine
        .client(["status", "-o", "json"])
        .run()
        .exits(0)
        .json();
    assert_eq!(status["schedules"][0]["name"], "nightly");
    let table = machine.client(["status"]).run().exits(0).stdout;
    assert!(
        table.contains("nightly") && table.contains(rules),
        "{table}"
    );

    for (args, code, said) in [
        (
            ["create", "n", "--cron", "0 2 * *"],
            2,
            "is not a cron expression",
        ),
        (
            ["create", "nightly", "--cron", "@daily"],
            1,
            "exists already",
        ),
        (["get", "nigthly", "-o", "json"], 4, "did you mean nightly?"),
    ] {
        let output = schedule(&machine, &args).exits(code);
        assert!(output.one_line().contains(said), "{}", output.stderr);
    }

    schedule(&machine, &["pause", "nightly"]).exits(0);
    let before = shown(&machine, "nightly");
    assert_eq!(
        (&before["paused"], &before["next"]),
        (&json!(true), &Value::Null)
    );
    server.crash();
    let _server = machine.standalone();
    assert_eq!(shown(&machine, "nightly"), before);

    machine.knows(&pod);
    let trigger = ["trigger", "nightly", "--wait", "-q", "-o", "json"];
    let backup = schedule(&machine, &trigger).exits(0).json();
    assert_eq!(
        (&backup["phase"], &backup["schedule"]),
        (&json!("completed"), &json!("nightly"))
    );
    let resumed = schedule(&machine, &["resume", "nightly", "-o", "json"]);
    let resumed = resumed.exits(0).json();
    assert_eq!(
        (&resumed["paused"], &resumed["last_backup"]),
        (&json!(false), &backup["name"])
    );
    schedule(&machine, &["delete", "nightly"]).exits(0);
    schedule(&machine, &["get", "nightly"]).exits(4);
    machine
        .client(["backup", "get", backup["name"].as_str().unwrap()])
        .run()
        .exits(0);
}

#[test]
fn turns_that_passed_while_no_server_ran_are_made_up_for_once() {
    let directory = tempfile::tempdir().unwrap();
    let (machine, pod) = machine(directory.path());
    let server = machine.standalone();
    machine.knows(&pod);
    // Half a day away, so that no turn comes while this runs.
    let now = Timestamp::now();
    let hour = (now.to_zoned(TimeZone::UTC).hour() + 12) % 24;
    let cron = format!("0 {hour} * * *");
    schedule(&machine, &["create", "daily", "--cron", &cron]).exits(0);
    server.crash();
    // Five days pass: nothing but the record in the store says when the schedule was made.
    let record = machine.data().join("repo/records/schedules/daily/1");
    let mut content: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    content["from_ms"] = (now - 120.hours()).as_millisecond().into();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&record, content.to_string()).unwrap();
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
    let server = machine.standalone();
    let made = eventually("the backup is made", || {
        let schedule = shown(&machine, "daily");
        (schedule["last_phase"] == "completed").then_some(schedule)
    });
    assert_eq!(made["skipped_count"], 4, "five turns, one backup: {made:#}");
    // What was made up for is not made up for again, not even after a crash.
    server.crash();
    let _server = machine.standalone();
    let again = shown(&machine, "daily");
    assert_eq!(again["last_backup"], made["last_backup"]);
    let backups = machine.client(["backup", "get", "-o", "json"]).run();
    let backups = backups.exits(0).json();
    assert_eq!(backups.as_array().unwrap().len(), 1, "{backups:#}");
}
