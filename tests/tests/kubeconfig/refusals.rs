//! What does not work, and what is said about it.

use std::{fs, path::Path, time::Duration};

use orlop_tests::{free_port, kube_api::KubeUser};
use serde_json::json;

use crate::world::{ANN, ROOT, SPACE, World};

const BOB: &str = "token-of-bob";

/// What reaching the coordinator needs: verbs and resource.
const RIGHTS: [(&[&str], &str); 4] = [
    (&["get"], "configmaps"),
    (&["create"], "serviceaccounts/token"),
    (&["list"], "pods"),
    (&["get", "create"], "pods/portforward"),
];

#[test]
fn each_right_that_is_missing_is_named() {
    let (world, _coordinator) = World::running();
    let said = [
        "get configmaps/orlop-ca",
        "create serviceaccounts/token of orlop-client",
        "list pods",
        "get and create pods/portforward",
    ];
    for (number, wanted) in said.into_iter().enumerate() {
        let (user, token) = (format!("bob-{number}"), format!("{BOB}-{number}"));
        world.api.add_token(&token, KubeUser::new(&user), &[]);
        for (_, (verbs, resource)) in RIGHTS.iter().enumerate().filter(|(one, _)| *one != number) {
            world.api.allow(&user, verbs, &[resource], Some(SPACE));
        }
        let line = world.refusal(&token, ["status"]);
        let wanted = format!("you may not {wanted} in namespace velero");
        assert!(line.contains(&wanted), "{line}");
        assert!(
            line.contains(&user) && line.contains("docs/operations.md"),
            "{line}"
        );
    }
}

#[test]
fn a_namespace_without_orlop_is_told_from_one_that_is_not_there() {
    let world = World::new();
    let line = world.refusal(ROOT, ["status", "--orlop-namespace", "nowhere"]);
    assert!(line.contains("has no namespace nowhere"), "{line}");
    let line = world.refusal(ROOT, ["status", "--orlop-namespace", "shop"]);
    assert!(
        line.contains("namespace shop has no ConfigMap orlop-ca"),
        "{line}"
    );
    assert!(line.contains("--orlop-namespace"), "{line}");
}

#[test]
fn an_installation_without_the_account_for_clients_is_too_old() {
    let (world, _coordinator) = World::running();
    world.api.remove("serviceaccounts", SPACE, "orlop-client");
    let line = world.refusal(ANN, ["status"]);
    assert!(line.contains("no ServiceAccount orlop-client"), "{line}");
    assert!(line.contains("update it with orlop install"), "{line}");
}

#[test]
fn a_coordinator_that_does_not_take_the_token_is_too_old() {
    let (world, _coordinator) = World::running();
    // They have ended before they are shown.
    world.api.set_token_lifetime(Duration::ZERO);
    let line = world.refusal(ANN, ["status"]);
    assert!(line.contains("older than this program"), "{line}");
}

#[test]
fn a_coordinator_that_is_not_ready_or_not_there_is_named_with_what_shows_more() {
    let (world, coordinator) = World::running();
    drop(coordinator);
    let line = world.refusal(ANN, ["status"]);
    assert!(
        line.contains("the node of pod velero-0 cannot reach it"),
        "{line}"
    );
    assert!(line.contains("refused"), "{line}");
    world.api.set_pod_phase(SPACE, "velero-0", "Pending");
    let line = world.refusal(ANN, ["status"]);
    assert!(
        line.contains("pod velero-0 is not ready (Pending)"),
        "{line}"
    );
    assert!(
        line.contains("kubectl -n velero describe pod velero-0"),
        "{line}"
    );
    world.api.remove("pods", SPACE, "velero-0");
    let line = world.refusal(ANN, ["status"]);
    assert!(
        line.contains("kubectl -n velero describe deployment velero"),
        "{line}"
    );
}

#[test]
fn a_coordinator_of_another_authority_is_not_believed() {
    let (world, _coordinator) = World::running();
    let other = World::new();
    let _other = other.coordinator("velero-0");
    let map = other.api.get("configmaps", SPACE, "orlop-ca").unwrap();
    world.api.edit("configmaps", SPACE, "orlop-ca", |mine| {
        mine["data"] = map["data"].clone();
    });
    let line = world.refusal(ANN, ["status"]);
    assert!(
        line.contains("cannot reach the coordinator in namespace velero"),
        "{line}"
    );
    assert!(line.to_lowercase().contains("certificate"), "{line}");
}

#[test]
fn something_that_is_no_coordinator_is_not_waited_for() {
    let (world, coordinator) = World::running();
    drop(coordinator);
    // A listener that says nothing: the kernel accepts for it.
    let port = free_port();
    let _mute = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    world.api.remove("pods", SPACE, "velero-0");
    world.pod("velero-1", port);
    let began = std::time::Instant::now();
    let line = world.refusal(ANN, ["status"]);
    assert!(line.contains("cannot reach the coordinator"), "{line}");
    assert!(began.elapsed() < Duration::from_mins(2));
}

#[test]
fn a_context_or_a_file_that_is_not_there_is_named() {
    let world = World::new();
    let line = world.refusal(ANN, ["status", "--context", "production"]);
    assert!(line.contains("production"), "{line}");
    let absent = world.dir.path().join("absent");
    let output = world
        .laptop(["status", "--kubeconfig"])
        .arg(&absent)
        .run()
        .exits(1);
    let line = output.one_line();
    assert!(line.contains(absent.to_str().unwrap()), "{line}");
}

#[test]
fn who_has_nothing_is_told_both_ways() {
    let world = World::new();
    if Path::new("/run/orlop/token").exists() {
        println!("skipped: a server of this machine has left its token");
        return;
    }
    let output = world.laptop(["status"]).run().exits(1);
    let line = output.one_line();
    for way in [
        "is the server running?",
        "--server",
        "--token-file",
        "--kubeconfig",
        "KUBECONFIG",
    ] {
        assert!(line.contains(way), "no {way} in {line}");
    }
}

#[test]
fn two_servers_are_one_too_many() {
    let world = World::new();
    let output = world
        .with(ANN, ["status", "--server", "127.0.0.1:1"])
        .run()
        .exits(2);
    assert!(output.one_line().contains("leave either out"));
}

#[test]
fn a_broken_kubeconfig_says_what_is_wrong_with_it() {
    let world = World::new();
    let file = world.dir.path().join("broken");
    fs::write(&file, json!({"kind": "Config", "clusters": 7}).to_string()).unwrap();
    let output = world
        .laptop(["status", "--kubeconfig"])
        .arg(file)
        .run()
        .exits(1);
    assert!(
        output.one_line().contains("kubeconfig"),
        "{}",
        output.stderr
    );
}
