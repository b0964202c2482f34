//! Ports of pods.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use orlop_tests::kube_api::{KubeApi, KubeUser, Options};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::cluster::started;

/// A server with a running pod `a`, and its pods.
async fn with_pod(options: Options) -> (KubeApi, Api<Pod>) {
    let (server, client) = started(options).await;
    server.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "main"}]},
    }));
    server.run_pod("default", "a", "node-1");
    (server, Api::default_namespaced(client))
}

/// A listener that sends back in capitals what it is sent, to one client.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            if count == 0 || buffer[..count].ends_with(b"bye") {
                return;
            }
            let back = buffer[..count].to_ascii_uppercase();
            stream.write_all(&back).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn bytes_go_both_ways_until_the_pod_ends_them() {
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let (_server, pods) = with_pod(options).await;
    let ports = [echo().await, echo().await];
    let mut forwarder = pods.portforward("a", &ports).await.unwrap();
    for port in ports {
        let mut stream = forwarder.take_stream(port).unwrap();
        for word in ["hello", "again"] {
            stream.write_all(word.as_bytes()).await.unwrap();
            let mut back = [0; 5];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(back, word.to_ascii_uppercase().as_bytes());
        }
    }
    let last = echo().await;
    let mut forwarder = pods.portforward("a", &[last]).await.unwrap();
    let mut stream = forwarder.take_stream(last).unwrap();
    stream.write_all(b"bye").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_is_an_error_of_its_own() {
    let (_server, pods) = with_pod(Options::default()).await;
    let port = orlop_tests::free_port();
    let mut forwarder = pods.portforward("a", &[port]).await.unwrap();
    let mut stream = forwarder.take_stream(port).unwrap();
    let error = forwarder.take_error(port).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let message = error.await.unwrap();
    let wanted = format!("error forwarding port {port} to pod a");
    assert!(message.starts_with(&wanted), "{message}");
}

/// Code and message of a refusal.
async fn refused(pods: &Api<Pod>) -> (u16, String) {
    match pods.portforward("a", &[80]).await.err().unwrap() {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pod_that_does_not_run_has_no_ports() {
    let (server, pods) = with_pod(Options::default()).await;
    server.set_pod_phase("default", "a", "Pending");
    let (code, message) = refused(&pods).await;
    assert_eq!(code, 500);
    assert!(message.ends_with("Current status=Pending"), "{message}");
    server.remove("pods", "default", "a");
    assert_eq!(refused(&pods).await.0, 404);
}

#[tokio::test]
async fn forwarding_needs_two_rights() {
    let server = KubeApi::start(Options {
        authentication: true,
        ..Options::default()
    });
    server.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "main"}]},
    }));
    server.run_pod("default", "a", "node-1");
    server.add_token("t", KubeUser::new("ann"), &[]);
    let mut config = kube::Config::new(server.url().parse().unwrap());
    config.auth_info = serde_json::from_value(json!({"token": "t"})).unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client);
    assert_eq!(refused(&pods).await.0, 403);
    server.allow("ann", &["get"], &["pods/portforward"], None);
    let (code, message) = refused(&pods).await;
    assert_eq!(code, 403);
    assert!(message.contains("cannot create resource"), "{message}");
    server.allow("ann", &["create"], &["pods/portforward"], None);
    assert!(pods.portforward("a", &[80]).await.is_ok());
}
