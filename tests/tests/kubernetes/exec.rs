//! Commands in containers.

use std::time::{Duration, Instant};

use orlop_kubernetes::exec::{ExecExit, ExecRequest, OUTPUT_MAX, run};
use orlop_tests::kube_api::{ExecCall, ExecReply, KubeApi};
use serde_json::json;

use crate::cluster::{started, until};

fn with_pod(server: &KubeApi) {
    server.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0"},
        "spec": {"containers": [{"name": "db"}, {"name": "side"}]},
    }));
    server.run_pod("default", "db-0", "node-1");
}

fn request(kill: bool) -> ExecRequest {
    ExecRequest {
        namespace: "default".to_owned(),
        pod: "db-0".to_owned(),
        container: "db".to_owned(),
        command: vec!["dump".to_owned(), "a b".to_owned()],
        timeout: Duration::from_secs(20),
        kill,
    }
}

#[tokio::test]
async fn a_command_is_reported_with_its_output_and_its_code() {
    let (server, connection) = started();
    with_pod(&server);
    server.on_exec(|_| ExecReply::exit(0).stdout("out").stderr("err"));
    let report = run(&connection, &request(false)).await;
    assert_eq!(report.exit, ExecExit::Succeeded);
    assert_eq!(
        (report.stdout.text(), report.stderr.text()),
        ("out".into(), "err".into())
    );
    let calls = server.take_execs();
    assert_eq!(calls[0].container, "db");
    assert_eq!(calls[0].command, ["dump", "a b"]);
    server.on_exec(|_| ExecReply::exit(7));
    let report = run(&connection, &request(false)).await;
    assert_eq!(report.exit, ExecExit::ExitCode(7));
    assert_eq!(
        report.error().unwrap(),
        "command terminated with exit code 7"
    );
}

#[tokio::test]
async fn of_much_output_the_beginning_is_kept() {
    let (server, connection) = started();
    with_pod(&server);
    server.on_exec(|_| {
        ExecReply::exit(0)
            .stdout("x".repeat(1_000_000))
            .stderr("err")
    });
    let report = run(&connection, &request(false)).await;
    assert_eq!(report.exit, ExecExit::Succeeded);
    assert_eq!(report.stdout.kept.len(), OUTPUT_MAX);
    assert_eq!(report.stdout.dropped_bytes, 1_000_000 - OUTPUT_MAX as u64);
    assert_eq!(report.stderr.text(), "err");
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let (server, connection) = started();
    with_pod(&server);
    server.on_exec(|_| ExecReply::error("no such program"));
    let report = run(&connection, &request(false)).await;
    assert!(
        report.error().unwrap().contains("no such program"),
        "{report:?}"
    );
    server.on_exec(|_| ExecReply::cut().stdout("half"));
    let report = run(&connection, &request(false)).await;
    assert!(matches!(report.exit, ExecExit::Failed { .. }), "{report:?}");
    assert_eq!(report.stdout.text(), "half");
    let nobody = ExecRequest {
        pod: "none".to_owned(),
        ..request(false)
    };
    let report = run(&connection, &nobody).await;
    assert!(
        report.error().unwrap().contains("\"none\" not found"),
        "{report:?}"
    );
    let nowhere = ExecRequest {
        container: "none".to_owned(),
        ..request(false)
    };
    let report = run(&connection, &nowhere).await;
    assert!(
        report.error().unwrap().contains("container none"),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_command_that_never_ends_is_left_when_its_time_is_over() {
    let (server, connection) = started();
    with_pod(&server);
    server.on_exec(|_| ExecReply::hang().stdout("so far"));
    let request = ExecRequest {
        timeout: Duration::from_secs(1),
        ..request(false)
    };
    let began = Instant::now();
    let report = run(&connection, &request).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(
        report.exit,
        ExecExit::TimedOut {
            may_still_run: true
        }
    );
    assert_eq!(report.error().unwrap(), "timed out after 1s");
    assert_eq!(report.stdout.text(), "so far");
    until(|| server.running_execs() == 0).await;
}

/// The tag in a command that carries one.
fn tag(call: &ExecCall) -> Option<String> {
    let is_shell = call.command[..2] == ["/bin/sh", "-c"];
    is_shell.then(|| call.command.get(3).cloned()).flatten()
}

#[tokio::test]
async fn a_command_that_is_to_be_killed_is_killed_by_a_second_one() {
    let (server, connection) = started();
    with_pod(&server);
    server.on_exec(|call| match tag(call) {
        Some(_) if call.command.len() > 4 => ExecReply::hang(),
        _ => ExecReply::exit(0),
    });
    let request = ExecRequest {
        timeout: Duration::from_secs(1),
        ..request(true)
    };
    let report = run(&connection, &request).await;
    assert_eq!(
        report.exit,
        ExecExit::TimedOut {
            may_still_run: false
        }
    );
    assert_eq!(report.error().unwrap(), "timed out after 1s");
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let calls = server.take_execs();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[1].command[4..], ["dump", "a b"]);
    assert_eq!(tag(&calls[1]), tag(&calls[2]));
    assert!(tag(&calls[1]).is_some_and(|tag| tag.len() == 32));
}

#[tokio::test]
async fn without_a_shell_a_command_runs_all_the_same_and_that_is_said() {
    let (server, connection) = started();
    with_pod(&server);
    server.on_exec(|call| match call.command[0].as_str() {
        "dump" => ExecReply::exit(0),
        _ => ExecReply::error("stat /bin/sh: no such file or directory"),
    });
    let report = run(&connection, &request(true)).await;
    assert_eq!(report.exit, ExecExit::Succeeded);
    assert!(report.warnings.len() == 1 && report.warnings[0].contains("no /bin/sh"));
}
