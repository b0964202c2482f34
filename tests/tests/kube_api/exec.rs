//! Commands in pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::AttachParams};
use orlop_tests::{
    eventually,
    kube_api::{ExecReply, KubeApi, Options},
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cluster::started;

/// A server with a running pod `a`, and its pods.
async fn with_pod(options: Options) -> (KubeApi, Api<Pod>) {
    let (server, client) = started(options).await;
    server.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "main"}, {"name": "side"}]},
    }));
    server.run_pod("default", "a", "node-1");
    (server, Api::default_namespaced(client))
}

fn in_main() -> AttachParams {
    AttachParams::default().container("main")
}

async fn all(reader: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    reader.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_command_prints_and_ends_with_its_code() {
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let (server, pods) = with_pod(options).await;
    server.on_exec(|call| match call.command[0].as_str() {
        "good" => ExecReply::exit(0).stdout("x".repeat(100_000)),
        _ => ExecReply::exit(3).stdout("out").stderr("err"),
    });
    let mut good = pods.exec("a", ["good", "it is"], &in_main()).await.unwrap();
    let status = good.take_status().unwrap();
    let (out, status) = tokio::join!(all(good.stdout()), status);
    assert_eq!(out.len(), 100_000);
    assert_eq!(status.unwrap().status.as_deref(), Some("Success"));
    let mut bad = pods.exec("a", ["bad"], &in_main()).await.unwrap();
    let status = bad.take_status().unwrap();
    let (out, err, status) = tokio::join!(all(bad.stdout()), all(bad.stderr()), status);
    assert_eq!((out.as_str(), err.as_str()), ("out", "err"));
    let status = status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let cause = &status.details.unwrap().causes.unwrap()[0];
    assert_eq!(cause.reason.as_deref(), Some("ExitCode"));
    assert_eq!(cause.message.as_deref(), Some("3"));
    let calls = server.take_execs();
    assert_eq!(calls[0].command, ["good", "it is"]);
    assert_eq!(
        (calls[1].pod.as_str(), calls[1].container.as_str()),
        ("a", "main")
    );
}

#[tokio::test]
async fn input_is_read_until_it_ends() {
    let (server, pods) = with_pod(Options::default()).await;
    server.on_exec(|_| ExecReply::exit(0).echo());
    let params = in_main().stdin(true).stderr(false);
    let mut cat = pods.exec("a", ["cat"], &params).await.unwrap();
    let status = cat.take_status().unwrap();
    let mut stdin = cat.stdin().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    let (out, status) = tokio::join!(all(cat.stdout()), status);
    assert_eq!(out, "hello");
    assert_eq!(status.unwrap().status.as_deref(), Some("Success"));
    assert!(server.take_execs()[0].stdin);
}

#[tokio::test]
async fn a_command_hangs_until_the_client_gives_up() {
    let (server, pods) = with_pod(Options::default()).await;
    server.on_exec(|_| ExecReply::hang().stdout("begun"));
    let mut hung = pods.exec("a", ["sleep"], &in_main()).await.unwrap();
    let mut begun = [0; 5];
    hung.stdout().unwrap().read_exact(&mut begun).await.unwrap();
    assert_eq!(server.running_execs(), 1);
    let status = hung.take_status().unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), status);
    assert!(early.await.is_err());
    drop(hung);
    tokio::task::spawn_blocking(move || {
        eventually("the command ends", || {
            (server.running_execs() == 0).then_some(())
        });
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_command_may_end_without_a_status() {
    let (server, pods) = with_pod(Options::default()).await;
    server.on_exec(|call| match call.command[0].as_str() {
        "cut" => ExecReply::cut(),
        _ => ExecReply::error("no such program"),
    });
    let mut cut = pods.exec("a", ["cut"], &in_main()).await.unwrap();
    assert!(cut.take_status().unwrap().await.is_none());
    let mut failed = pods.exec("a", ["absent"], &in_main()).await.unwrap();
    let status = failed.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("InternalError"));
    assert!(status.message.unwrap().ends_with("no such program"));
}

/// What the server says instead of switching protocols.
async fn refused(client: Client, name: &str, query: &str) -> (u16, String) {
    let path = format!("/api/v1/namespaces/default/pods/{name}/exec?{query}");
    let request = hyper::Request::post(path).body(Vec::new()).unwrap();
    match client.request_text(request).await.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_needs_a_running_container_of_that_name() {
    let (server, pods) = with_pod(Options::default()).await;
    let client = pods.into_client();
    let said = async |name: &str, query: &str| refused(client.clone(), name, query).await;
    let (code, message) = said("b", "command=x").await;
    assert_eq!((code, message.as_str()), (404, "pods \"b\" not found"));
    let (code, message) = said("a", "command=x").await;
    let which = "a container name must be specified for pod a, choose one of: [main side]";
    assert_eq!((code, message.as_str()), (400, which));
    let (_, message) = said("a", "command=x&container=y").await;
    assert_eq!(message, "container y is not valid for pod a");
    server.set_pod_phase("default", "a", "Failed");
    let (code, message) = said("a", "command=x&container=main").await;
    assert_eq!(code, 500);
    assert!(
        message.ends_with("container not found (\"main\")"),
        "{message}"
    );
}

#[tokio::test]
async fn a_log_is_what_the_test_says() {
    let (server, pods) = with_pod(Options::default()).await;
    server.set_log("default", "a", "main", "line\n");
    let params = kube::api::LogParams {
        container: Some("main".to_owned()),
        ..Default::default()
    };
    assert_eq!(pods.logs("a", &params).await.unwrap(), "line\n");
}
