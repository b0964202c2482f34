//! Events, the lease, and what is known of the cluster.

use std::time::Duration;

use orlop_kubernetes::{
    cluster_info::{deployment_image, node_addresses},
    events::{EventObject, Occurrence, events},
    lease::{LeaseTimes, lease},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::{soon, started, until};

fn occurrence(note: &str) -> Occurrence {
    Occurrence {
        object: EventObject {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: "default".to_owned(),
            name: "db-0".to_owned(),
            uid: "u".to_owned(),
        },
        warning: true,
        reason: "VolumeSkipped".to_owned(),
        note: note.to_owned(),
    }
}

#[tokio::test]
async fn the_same_event_is_counted_and_another_is_another() {
    let (server, connection) = started();
    let (recorder, writer) = events(&connection, "orlop");
    let writer = tokio::spawn(writer.run(CancellationToken::new()));
    for note in ["a", "b", "a", "a"] {
        recorder.record(occurrence(note));
    }
    drop(recorder);
    soon(writer).await.unwrap();
    let mut told: Vec<_> = server
        .list("events", "default")
        .iter()
        .map(|event| {
            (
                event["message"].as_str().unwrap().to_owned(),
                event["count"].clone(),
            )
        })
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        told,
        [("a".to_owned(), json!(3)), ("b".to_owned(), json!(1))]
    );
    let event = &server.list("events", "default")[0];
    assert_eq!(event["involvedObject"]["name"], "db-0");
    assert_eq!(event["source"]["component"], "orlop");
    assert_eq!(event["type"], "Warning");
}

#[tokio::test]
async fn what_cannot_be_told_holds_nobody_up() {
    let (server, connection) = started();
    server.begin_outage();
    let (recorder, writer) = events(&connection, "orlop");
    let writer = tokio::spawn(writer.run(CancellationToken::new()));
    recorder.record(occurrence("a"));
    drop(recorder);
    soon(writer).await.unwrap();
}

const TIMES: LeaseTimes = LeaseTimes {
    duration: Duration::from_secs(4),
    renewal: Duration::from_millis(200),
};

#[tokio::test]
async fn one_leads_and_the_next_follows_when_it_goes() {
    let (server, connection) = started();
    let stop = CancellationToken::new();
    let (mut first, keeper) = lease(&connection, "orlop", "pod-1", TIMES);
    let first_keeper = tokio::spawn(keeper.run(stop.clone()));
    soon(first.acquired()).await;
    let (mut second, keeper) = lease(&connection, "orlop", "pod-2", TIMES);
    let end = CancellationToken::new();
    let second_keeper = tokio::spawn(keeper.run(end.clone()));
    // It has looked at the lease a few times by then.
    server.take_requests();
    let mut looks = 0;
    until(|| {
        looks += server.take_requests().len();
        looks > 20
    })
    .await;
    assert!(first.is_leader() && !second.is_leader());
    stop.cancel();
    soon(first_keeper).await.unwrap();
    assert!(!first.is_leader());
    soon(second.acquired()).await;
    let kept = server
        .get("leases.coordination.k8s.io", "velero", "orlop")
        .unwrap();
    assert_eq!(kept["spec"]["holderIdentity"], "pod-2");
    assert_eq!(kept["spec"]["leaseTransitions"], 1);
    end.cancel();
    soon(second_keeper).await.unwrap();
}

#[tokio::test]
async fn an_outage_ends_the_leadership_and_its_end_brings_it_back() {
    let (server, connection) = started();
    let stop = CancellationToken::new();
    let (mut leadership, keeper) = lease(&connection, "orlop", "pod-1", TIMES);
    let keeper = tokio::spawn(keeper.run(stop.clone()));
    soon(leadership.acquired()).await;
    server.begin_outage();
    soon(leadership.lost()).await;
    assert!(!leadership.is_leader());
    server.end_outage();
    soon(leadership.acquired()).await;
    stop.cancel();
    soon(keeper).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_is_silent_loses_the_lease_after_its_time() {
    let (server, connection) = started();
    server.put(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "velero", "name": "orlop"},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 1},
    }));
    let stop = CancellationToken::new();
    let (mut leadership, keeper) = lease(&connection, "orlop", "pod-1", TIMES);
    let keeper = tokio::spawn(keeper.run(stop.clone()));
    soon(leadership.acquired()).await;
    stop.cancel();
    soon(keeper).await.unwrap();
    let kept = server
        .get("leases.coordination.k8s.io", "velero", "orlop")
        .unwrap();
    assert_eq!(kept["spec"]["holderIdentity"], "");
}

#[tokio::test]
async fn addresses_of_ready_nodes_come_first() {
    let (server, connection) = started();
    for (name, ready) in [("a", "False"), ("b", "True")] {
        server.put(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [
                    {"type": "InternalIP", "address": format!("10.0.0.{name}")},
                    {"type": "ExternalIP", "address": format!("192.0.2.{name}")},
                ],
            },
        }));
    }
    let addresses = node_addresses(&connection).await.unwrap();
    let addresses: Vec<&str> = addresses.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(
        addresses,
        ["192.0.2.b", "10.0.0.b", "192.0.2.a", "10.0.0.a"]
    );
}

#[tokio::test]
async fn the_own_image_is_that_of_the_deployment() {
    let (server, connection) = started();
    server.put(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "velero", "name": "velero"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [
            {"name": "velero", "image": "orlop:1"}, {"name": "side", "image": "side:1"},
        ]}}},
    }));
    let image = async |container| {
        deployment_image(&connection, "velero", container)
            .await
            .unwrap()
    };
    assert_eq!(image("").await.as_deref(), Some("orlop:1"));
    assert_eq!(image("side").await.as_deref(), Some("side:1"));
    assert_eq!(image("none").await, None);
}
