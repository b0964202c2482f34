//! Watches, and the client's watcher over them.

use std::{pin::pin, time::Duration};

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use orlop_tests::kube_api::{KubeApi, Options};
use serde_json::{Value, json};

use crate::cluster::{Cluster, refused, started};

on_each_server!(
    a_watch_tells_what_happens_after_a_version,
    a_selector_turns_changes_into_comings_and_goings,
    a_watch_without_a_version_begins_with_everything,
    a_watch_ends_at_its_time,
);

type Event = WatchEvent<ConfigMap>;

/// The next event that is no bookmark: what it is, and of what.
async fn next(events: &mut (impl Stream<Item = kube::Result<Event>> + Unpin)) -> String {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next());
        return match event.await.unwrap() {
            None => "end".to_owned(),
            Some(Ok(WatchEvent::Bookmark(_))) => continue,
            Some(Ok(WatchEvent::Added(map))) => format!("added {}", map.name_any()),
            Some(Ok(WatchEvent::Modified(map))) => format!("modified {}", map.name_any()),
            Some(Ok(WatchEvent::Deleted(map))) => format!("deleted {}", map.name_any()),
            Some(Ok(WatchEvent::Error(status))) => format!("{} {}", status.code, status.reason),
            Some(Err(error)) => panic!("{error}"),
        };
    }
}

async fn label(api: &Api<ConfigMap>, name: &str, label: Value) {
    let change = Patch::Merge(json!({"metadata": {"labels": {"own": label}}}));
    api.patch(name, &PatchParams::default(), &change)
        .await
        .unwrap();
}

async fn a_watch_tells_what_happens_after_a_version(cluster: Cluster) {
    let first = cluster.config_map("a", json!({})).await;
    cluster.config_map("b", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    label(&api, "a", json!("1")).await;
    let version = first.resource_version().unwrap();
    let params = WatchParams::default()
        .fields("metadata.name!=kube-root-ca.crt,metadata.name!=openshift-service-ca.crt");
    let mut events = pin!(api.watch(&params, &version).await.unwrap());
    assert_eq!(next(&mut events).await, "added b");
    assert_eq!(next(&mut events).await, "modified a");
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(next(&mut events).await, "deleted a");
    cluster.config_map("c", json!({})).await;
    assert_eq!(next(&mut events).await, "added c");
}

async fn a_selector_turns_changes_into_comings_and_goings(cluster: Cluster) {
    let first = cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let params = WatchParams::default().labels("own=yes");
    let version = first.resource_version().unwrap();
    let mut events = pin!(api.watch(&params, &version).await.unwrap());
    label(&api, "a", json!("yes")).await;
    assert_eq!(next(&mut events).await, "added a");
    label(&api, "a", json!("no")).await;
    assert_eq!(next(&mut events).await, "deleted a");
    label(&api, "a", json!("yes")).await;
    assert_eq!(next(&mut events).await, "added a");
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(next(&mut events).await, "deleted a");
}

async fn a_watch_without_a_version_begins_with_everything(cluster: Cluster) {
    cluster.config_map("a", json!({"own": "yes"})).await;
    let api = cluster.api::<ConfigMap>();
    let params = WatchParams::default().labels("own=yes");
    let mut events = pin!(api.watch(&params, "0").await.unwrap());
    assert_eq!(next(&mut events).await, "added a");
}

async fn a_watch_ends_at_its_time(cluster: Cluster) {
    let first = cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let params = WatchParams::default().timeout(1).labels("own=yes");
    let version = first.resource_version().unwrap();
    let mut events = pin!(api.watch(&params, &version).await.unwrap());
    assert_eq!(next(&mut events).await, "end");
}

fn put(server: &KubeApi, name: &str) {
    server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}));
}

#[tokio::test]
async fn a_watch_from_what_is_compacted_is_told_so() {
    let (server, client) = started(Options::default()).await;
    let version = server.revision().to_string();
    put(&server, "a");
    server.compact();
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let events = api.watch(&WatchParams::default(), &version).await.unwrap();
    let mut events = pin!(events);
    assert_eq!(next(&mut events).await, "410 Expired");
    assert_eq!(next(&mut events).await, "end");
}

#[tokio::test]
async fn bookmarks_tell_how_far_a_watch_has_seen() {
    let options = Options {
        bookmarks: Duration::from_millis(20),
        ..Options::default()
    };
    let (server, client) = started(options).await;
    let version = server.revision().to_string();
    server.namespace("elsewhere");
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let events = api.watch(&WatchParams::default(), &version).await.unwrap();
    let mut events = pin!(events);
    let Some(Ok(WatchEvent::Bookmark(mark))) = events.next().await else {
        panic!("no bookmark");
    };
    assert_eq!(
        mark.metadata.resource_version,
        server.revision().to_string()
    );
}

#[tokio::test]
async fn a_watch_that_is_cut_goes_on_where_it_was() {
    let (server, client) = started(Options::default()).await;
    let version = server.revision().to_string();
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let mut events = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());
    put(&server, "a");
    assert_eq!(next(&mut events).await, "added a");
    server.cut_watches();
    // A client cannot tell this end from others.
    assert_eq!(next(&mut events).await, "end");
    let version = server.revision().to_string();
    put(&server, "b");
    let mut events = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());
    assert_eq!(next(&mut events).await, "added b");
}

#[tokio::test]
async fn the_watcher_survives_cuts_outages_and_compaction() {
    let (server, client) = started(Options::default()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let applied = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .filter_map(|map| async { map.ok().map(|map| map.name_any()) });
    let mut applied = pin!(applied);
    let mut expect = async |name: &str| {
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            while applied.next().await.as_deref() != Some(name) {}
        });
        found.await.unwrap_or_else(|_| panic!("{name} is not seen"));
    };
    put(&server, "a");
    expect("a").await;
    server.cut_watches();
    put(&server, "b");
    expect("b").await;
    server.begin_outage();
    put(&server, "c");
    server.compact();
    server.end_outage();
    expect("c").await;
}

#[tokio::test]
async fn a_streaming_list_is_refused() {
    let (_server, client) = started(Options::default()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let params = WatchParams::default().initial_events();
    let events = api.watch(&params, "0").await.map(|_| ());
    assert_eq!(refused(events).code, 422);
}
