//! What goes wrong when a test wants it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use orlop_tests::kube_api::{KubeApi, KubeFault, KubeRequest, Options};
use serde_json::json;

use crate::cluster::{from, started};

async fn with_maps() -> (KubeApi, Api<ConfigMap>) {
    let (server, client) = started(Options::default()).await;
    (server, Api::default_namespaced(client))
}

fn post(request: &KubeRequest) -> bool {
    request.method == "POST" && request.path.ends_with("/configmaps")
}

fn map(name: &str) -> ConfigMap {
    from(json!({"metadata": {"name": name}}))
}

/// A request as a client without patience sends it.
fn ask(server: &KubeApi) -> Result<(u16, String), std::io::Error> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port()))?;
    let body = "{\"metadata\":{\"name\":\"a\"}}";
    write!(
        stream,
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.get(9..12).and_then(|code| code.parse().ok());
    Ok((code.unwrap_or(0), answer))
}

#[tokio::test]
async fn requests_that_match_are_answered_with_errors() {
    let (server, maps) = with_maps().await;
    server.faults().next(1, post, KubeFault::Answer(503));
    server.faults().next(1, post, KubeFault::RetryAfter(429, 7));
    let (code, answer) = ask(&server).unwrap();
    assert_eq!(code, 503);
    assert!(
        answer.contains("\"reason\":\"ServiceUnavailable\""),
        "{answer}"
    );
    let (code, answer) = ask(&server).unwrap();
    assert_eq!(code, 429);
    assert!(answer.contains("retry-after: 7\r\n"), "{answer}");
    assert!(answer.contains("\"retryAfterSeconds\":7"), "{answer}");
    maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(ask(&server).unwrap().0, 201);
}

#[tokio::test]
async fn connections_are_dropped_before_or_after_the_work() {
    let (server, _) = with_maps().await;
    server.faults().next(1, post, KubeFault::Drop);
    assert_eq!(ask(&server).unwrap_or_default().0, 0);
    assert!(server.get("configmaps", "default", "a").is_none());
    server.faults().next(1, post, KubeFault::DropAfter);
    assert_eq!(ask(&server).unwrap_or_default().0, 0);
    assert!(server.get("configmaps", "default", "a").is_some());
}

#[tokio::test]
async fn answers_come_late() {
    let (server, maps) = with_maps().await;
    let delay = Duration::from_millis(200);
    server.faults().next(1, post, KubeFault::Delay(delay));
    let began = Instant::now();
    maps.create(&PostParams::default(), &map("a"))
        .await
        .unwrap();
    assert!(began.elapsed() >= delay);
}

#[tokio::test]
async fn an_outage_refuses_connections_and_keeps_the_state() {
    let (server, maps) = with_maps().await;
    maps.create(&PostParams::default(), &map("a"))
        .await
        .unwrap();
    for _ in 0..3 {
        server.begin_outage();
        let refused = std::net::TcpStream::connect(("127.0.0.1", server.port()));
        assert_eq!(
            refused.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        server.end_outage();
        let found = maps.list(&ListParams::default()).await.unwrap();
        assert_eq!(found.items.len(), 1);
    }
}

#[tokio::test]
async fn all_requests_are_on_record() {
    let (server, maps) = with_maps().await;
    server.take_requests();
    maps.create(&PostParams::default(), &map("a"))
        .await
        .unwrap();
    maps.list(&ListParams::default().labels("x=y,z"))
        .await
        .unwrap();
    let requests = server.take_requests();
    assert_eq!(requests[0].path, "/api/v1/namespaces/default/configmaps");
    assert_eq!(requests[0].content_type, "application/json");
    assert_eq!(requests[0].json()["metadata"]["name"], "a");
    assert_eq!(requests[1].method, "GET");
    assert_eq!(requests[1].parameter("labelSelector"), "x=y,z");
    assert!(server.take_requests().is_empty());
}

#[tokio::test]
async fn a_test_reads_and_writes_without_asking() {
    let (server, maps) = with_maps().await;
    server.put_yaml(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, uid: u}\ndata: {x: one}\n---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n",
    );
    assert_eq!(
        maps.get("a").await.unwrap().metadata.uid.as_deref(),
        Some("u")
    );
    let edited = server.edit("configmaps", "default", "a", |map| {
        map["data"]["x"] = "z".into();
    });
    assert_eq!(edited["data"]["x"], "z");
    assert_eq!(server.list("configmaps", "").len(), 1);
    assert!(server.get("namespaces", "", "b").is_some());
    assert!(server.remove("configmaps", "default", "a"));
    assert!(maps.get_opt("a").await.unwrap().is_none());
    let held = json!({"metadata": {"name": "c", "finalizers": ["orlop.io/c"]}});
    maps.create(&PostParams::default(), &from(held))
        .await
        .unwrap();
    maps.delete("c", &DeleteParams::default()).await.unwrap();
    assert!(server.get("configmaps", "default", "c").is_some());
    server.edit("configmaps", "default", "c", |map| {
        map["metadata"]["finalizers"] = json!([]);
    });
    assert!(server.get("configmaps", "default", "c").is_none());
}
