//! What works: everything, and for as long as it takes.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use orlop_tests::kube_api::KubeUser;
use serde_json::json;

use crate::world::{ANN, ROOT, SPACE, World, names, soon};

#[test]
fn a_backup_and_its_restore_need_no_more_than_a_kubeconfig() {
    let (world, _coordinator) = World::running();
    let file = world.db(&json!({})).join("app.conf");
    let _agent = world.agent();
    let status = world.ann(["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["locations"][0]["available"], true, "{status:#}");
    let backup = world
        .ann([
            "backup", "create", "b1", "-n", "shop", "--wait", "-q", "-o", "json",
        ])
        .exits(0)
        .json();
    assert_eq!(backup["phase"], "completed", "{backup:#}");
    // Objects are kept where a BackupStorageLocation says so, and nobody is left to believe that they are here.
    assert_eq!(backup["warnings"], 1, "{backup:#}");
    let log = world.ann(["backup", "logs", "b1"]).exits(0);
    let wanted = "keeps no Kubernetes objects";
    assert!(log.stdout.contains(wanted), "{}", log.stdout);
    let list = world.ann(["backup", "get", "-o", "json"]).exits(0).json();
    assert_eq!(names(&list), ["b1"]);
    fs::write(&file, "damaged").unwrap();
    let args = [
        "restore",
        "create",
        "r1",
        "--from-backup",
        "b1",
        "--wait",
        "-q",
        "-o",
        "json",
    ];
    let restore = world.ann(args).exits(0).json();
    assert_eq!(restore["phase"], "completed", "{restore:#}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "colour = red\n");
    fs::write(&file, "damaged").unwrap();
    let from = "latest:shop/db/data";
    let got = world.ann(["snapshot", "get", from, "/app.conf"]).exits(0);
    assert_eq!(got.stdout, "colour = red\n");
    let to = "shop/db/data";
    world
        .ann([
            "volume", "restore", "--from", from, "--to", to, "--wait", "-q",
        ])
        .exits(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "colour = red\n");
    let log = world.ann(["restore", "logs", "r1"]).exits(0);
    assert!(!log.stdout.is_empty());
    world.ann(["backup", "get", "b2"]).exits(4);
    // What was sent to the coordinator is worth nothing to the API server.
    let requests = world.api.take_requests();
    let asked = |end: &str| requests.iter().any(|one| one.path.ends_with(end));
    assert!(asked("/serviceaccounts/orlop-client/token") && asked("/portforward"));
    assert!(
        !requests
            .iter()
            .any(|one| one.user.ends_with("orlop-client"))
    );
}

#[test]
fn the_kubeconfig_is_found_where_kubectl_finds_it() {
    let (world, _coordinator) = World::running();
    let file = world.kubeconfig(ANN);
    world
        .laptop(["backup", "get"])
        .env("KUBECONFIG", &file)
        .run()
        .exits(0);
    world
        .laptop(["backup", "get", "--context", "tests"])
        .env("KUBECONFIG", &file)
        .run()
        .exits(0);
    let home = world.dir.path().join("laptop/.kube");
    fs::create_dir(&home).unwrap();
    fs::copy(&file, home.join("config")).unwrap();
    world
        .laptop(["backup", "get"])
        .env("ORLOP_NAMESPACE", SPACE)
        .run()
        .exits(0);
}

#[test]
fn a_server_that_is_named_or_has_left_its_token_here_is_asked_before_the_cluster() {
    let (world, _coordinator) = World::running();
    let address = "127.0.0.1:1";
    let output = world
        .laptop(["backup", "get", "--server", address])
        .env("KUBECONFIG", world.kubeconfig(ANN))
        .env("ORLOP_TOKEN_FILE", world.data().join("token"))
        .env("ORLOP_CA_FILE", world.data().join("tls/ca.pem"))
        .run()
        .exits(1);
    assert!(output.stderr.contains(address), "{}", output.stderr);
    assert_eq!(world.tokens_asked(), 0);
    // As an `orlop standalone` that has ended leaves it.
    let left = world.dir.path().join("laptop/orlop");
    fs::create_dir(&left).unwrap();
    fs::copy(world.data().join("token"), left.join("token")).unwrap();
    fs::copy(world.data().join("tls/ca.pem"), left.join("ca.pem")).unwrap();
    let output = world
        .laptop(["backup", "get"])
        .env("KUBECONFIG", world.kubeconfig(ANN))
        .run();
    if output.code == Some(1) {
        assert!(output.one_line().contains("for a cluster give --context"));
    }
    assert_eq!(world.tokens_asked(), 0);
    world.ann(["backup", "get"]).exits(0);
    assert_eq!(world.tokens_asked(), 1);
}

#[test]
fn waiting_goes_on_when_another_pod_takes_over_and_the_token_is_old() {
    let (world, coordinator) = World::running();
    world.api.set_token_lifetime(Duration::from_secs(2));
    let _agent = world.held_up();
    let args = [
        "backup", "create", "b1", "-n", "shop", "--wait", "-q", "-o", "json",
    ];
    let waits = world.with(ANN, args).start();
    world.hook_runs();
    coordinator.crash();
    world.api.remove("pods", SPACE, "velero-0");
    let _coordinator = world.coordinator("velero-1");
    let backup = waits.wait().exits(0).json();
    assert_eq!(backup["phase"], "completed", "{backup:#}");
    let requests = world.api.take_requests();
    let count = |end: &str| {
        requests
            .iter()
            .filter(|one| one.path.ends_with(end))
            .count()
    };
    assert!(count("/serviceaccounts/orlop-client/token") >= 2);
    assert!(count("/pods/velero-0/portforward") >= 1);
    assert!(count("/pods/velero-1/portforward") >= 1);
}

#[test]
fn an_interrupt_ends_the_waiting_and_not_the_backup() {
    let (world, _coordinator) = World::running();
    let _agent = world.held_up();
    let args = ["backup", "create", "b1", "-n", "shop", "--wait", "-q"];
    let waits = world.with(ANN, args).start();
    world.hook_runs();
    waits.signal(Signal::SIGINT);
    let output = soon(waits).exits(130);
    assert!(
        output.one_line().contains("orlop backup get b1"),
        "{}",
        output.stderr
    );
    let backup = world
        .ann(["backup", "get", "b1", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(backup["phase"], "running", "{backup:#}");
}

#[test]
fn an_interrupt_ends_a_command_that_the_api_server_does_not_answer() {
    use orlop_tests::kube_api::KubeFault;
    let (world, _coordinator) = World::running();
    world.api.faults().next(
        1,
        |request| request.path.ends_with("/configmaps/orlop-ca"),
        KubeFault::Delay(Duration::from_secs(25)),
    );
    world.api.take_requests();
    let status = world.with(ANN, ["status"]).start();
    orlop_tests::eventually("it asks", || {
        (!world.api.take_requests().is_empty()).then_some(())
    });
    status.signal(Signal::SIGINT);
    let output = soon(status).exits(130);
    assert!(
        output.one_line().contains("interrupted"),
        "{}",
        output.stderr
    );
}

/// A token of this name, which is as long as tokens are.
fn long(name: &str) -> String {
    format!("{name}-which-is-long-enough")
}

#[test]
fn only_the_account_for_clients_may_all_and_only_with_a_token_for_the_coordinator() {
    let (world, coordinator) = World::running();
    let pod = world.api.get("pods", SPACE, "velero-0").unwrap();
    let port = &pod["spec"]["containers"][0]["ports"][0]["containerPort"];
    let ask = |token: &str| {
        let file = world.dir.path().join("token-to-try");
        fs::write(&file, token).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        world
            .laptop(["backup", "get"])
            .args(["--server", &format!("127.0.0.1:{port}")])
            .arg("--token-file")
            .arg(file)
            .arg("--ca-file")
            .arg(world.data().join("tls/ca.pem"))
            .run()
    };
    let account = |name: &str| KubeUser::service_account(SPACE, name);
    let audience = ["orlop.io/client"];
    world
        .api
        .add_token(&long("ours"), account("orlop-client"), &audience);
    ask(&long("ours")).exits(0);
    // Its tokens for the API are nothing special, and neither are other accounts' tokens for the coordinator.
    world
        .api
        .add_token(&long("api"), account("orlop-client"), &[]);
    world
        .api
        .add_token(&long("other"), account("default"), &audience);
    let elsewhere = KubeUser::service_account("shop", "orlop-client");
    world
        .api
        .add_token(&long("elsewhere"), elsewhere, &audience);
    for token in ["api", "other", "elsewhere"] {
        let output = ask(&long(token)).exits(1);
        let wanted = "may not list backups.velero.io in namespace velero";
        assert!(output.stderr.contains(wanted), "{token}: {}", output.stderr);
    }
    // Rights that accounts have count as before.
    world.api.allow(
        "system:serviceaccount:velero:default",
        &["list"],
        &["backups.velero.io"],
        None,
    );
    orlop_tests::eventually("the right is seen", || {
        (ask(&long("other")).code == Some(0)).then_some(())
    });
    // Agents' services are not for clients.
    world
        .api
        .add_token(&long("agent"), account("node-agent"), &audience);
    ask(&long("agent")).exits(1);
    ask(&long("unknown")).exits(1);
    ask(ROOT).exits(0);
    drop(coordinator);
}
