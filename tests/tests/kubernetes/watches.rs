//! Watches, through outages.

use std::pin::Pin;

use futures_util::Stream;
use k8s_openapi::api::core::v1::ConfigMap;
use orlop_kubernetes::{
    client::{Change, Connection, Objects},
    velero::Backup,
};
use serde_json::json;

use crate::cluster::{config_map, next, put_definitions, started};

type Watch<K> = Pin<Box<dyn Stream<Item = Change<K>> + Send>>;

fn watch(connection: &Connection, selector: &str) -> Watch<ConfigMap> {
    Box::pin(Objects::of(connection, Some("default")).watch(selector))
}

/// A change in one line; how often something failed is chance, and left out.
async fn told(watch: &mut Watch<ConfigMap>) -> String {
    let name = |map: &ConfigMap| map.metadata.name.clone().unwrap();
    loop {
        return match next(watch).await {
            Change::Listed(maps) => {
                format!(
                    "all: {}",
                    maps.iter().map(name).collect::<Vec<_>>().join(" ")
                )
            }
            Change::Applied(map) => format!("now: {}", name(&map)),
            Change::Deleted(map) => format!("gone: {}", name(&map)),
            Change::Unreadable(one) => format!("unreadable: {}", one.name),
            Change::Failed(_) => continue,
        };
    }
}

#[tokio::test]
async fn a_watch_begins_with_all_and_tells_what_happens() {
    let (server, connection) = started();
    server.put(config_map("default", "a", &json!({"app": "shop"})));
    server.put(config_map("default", "b", &json!({})));
    let mut watch = watch(&connection, "app=shop");
    assert_eq!(told(&mut watch).await, "all: a");
    server.put(config_map("default", "c", &json!({"app": "shop"})));
    assert_eq!(told(&mut watch).await, "now: c");
    // It matches no longer.
    server.put(config_map("default", "a", &json!({})));
    assert_eq!(told(&mut watch).await, "gone: a");
    server.remove("configmaps", "default", "c");
    assert_eq!(told(&mut watch).await, "gone: c");
}

#[tokio::test]
async fn a_watch_that_is_cut_goes_on_where_it_was() {
    let (server, connection) = started();
    let mut watch = watch(&connection, "");
    assert_eq!(told(&mut watch).await, "all: ");
    server.put(config_map("default", "a", &json!({})));
    assert_eq!(told(&mut watch).await, "now: a");
    server.cut_watches();
    server.put(config_map("default", "b", &json!({})));
    assert_eq!(told(&mut watch).await, "now: b");
}

#[tokio::test]
async fn an_outage_is_told_and_what_happened_meanwhile_is_not_lost() {
    let (server, connection) = started();
    server.put(config_map("default", "a", &json!({})));
    let mut watch = watch(&connection, "");
    assert_eq!(told(&mut watch).await, "all: a");
    server.put(config_map("default", "b", &json!({})));
    assert_eq!(told(&mut watch).await, "now: b");
    server.begin_outage();
    let Change::Failed(error) = next(&mut watch).await else {
        panic!("an outage is told");
    };
    assert!(error.is_transient(), "{error:?}");
    server.remove("configmaps", "default", "a");
    server.end_outage();
    assert_eq!(told(&mut watch).await, "gone: a");
}

#[tokio::test]
async fn a_server_that_has_forgotten_is_asked_for_all_again() {
    let (server, connection) = started();
    server.put(config_map("default", "a", &json!({})));
    let mut watch = watch(&connection, "");
    assert_eq!(told(&mut watch).await, "all: a");
    server.begin_outage();
    assert!(matches!(next(&mut watch).await, Change::Failed(_)));
    server.put(config_map("default", "b", &json!({})));
    server.remove("configmaps", "default", "a");
    server.compact();
    server.end_outage();
    assert_eq!(told(&mut watch).await, "all: b");
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_told_and_the_watch_goes_on() {
    let (server, connection) = started();
    put_definitions(&server);
    let backup = |name: &str, ttl: &str| {
        json!({
            "apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": {"namespace": "velero", "name": name}, "spec": {"ttl": ttl},
        })
    };
    server.put(backup("a", "nonsense"));
    let mut watch: Watch<Backup> = Box::pin(Objects::of(&connection, Some("velero")).watch(""));
    assert!(matches!(next(&mut watch).await, Change::Listed(all) if all.is_empty()));
    assert!(matches!(next(&mut watch).await, Change::Unreadable(one) if one.name == "a"));
    server.put(backup("b", "nonsense"));
    assert!(matches!(next(&mut watch).await, Change::Unreadable(one) if one.name == "b"));
    server.put(backup("b", "1h"));
    assert!(matches!(next(&mut watch).await, Change::Applied(_)));
}
