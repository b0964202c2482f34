//! Coordinator and agent as processes, the agent without the directory of the repository.

use std::fs;

use orlop_tests::{Machine, Pod, Record, assert_identical, require, sample};

fn filled(machine: &Machine) -> Pod {
    let pod = machine.node().pod("db-0");
    sample(&pod.path, 7, 4 << 20);
    pod
}

#[test]
fn an_agent_on_another_node_backs_up_and_restores() {
    if !require("root") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let _coordinator = machine.coordinator();
    let _agent = machine.agent_elsewhere();
    let pod = filled(&machine);
    machine.knows(&pod);
    machine.backup("b1", &pod);
    let before = Record::of(&pod.path);
    fs::write(pod.path.join("new file"), "that was not there").unwrap();
    let second = machine.backup("b2", &pod);
    let sent = second["uploaded_bytes"].as_u64().unwrap();
    assert!(sent < 1 << 20, "only the difference: {sent}");
    let after = Record::of(&pod.path);
    for (backup, record) in [("b1", &before), ("b2", &after)] {
        let target = machine.node().pod(&format!("new-{backup}"));
        target.marks();
        machine.knows(&target);
        machine.restore(backup, &target).exits(0);
        assert_identical(record, &target.path);
    }
}

#[test]
fn an_agent_that_is_sent_to_a_directory_it_does_not_have_writes_nothing_there() {
    if !require("root") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::new(directory.path());
    let _coordinator = machine.coordinator_with(&["--store-access", "direct"]);
    let _agent = machine.agent_elsewhere();
    let pod = filled(&machine);
    machine.knows(&pod);
    let args = [
        "backup",
        "create",
        "b1",
        "--volume",
        &pod.volume,
        "--wait",
        "-q",
    ];
    let output = machine.client(args).run().exits(1);
    assert!(
        output.stderr.contains("--store-access gateway"),
        "{}",
        output.stderr
    );
}
