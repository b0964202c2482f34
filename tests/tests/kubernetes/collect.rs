//! Collections of a cluster's objects.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use orlop_kubernetes::{
    client::Connection,
    collect::{CollectError, CollectReport, CollectedObject, ObjectSink, collect},
    files::FileError,
    selection::{Filters, Severity},
};
use orlop_tests::kube_api::{KubeApi, KubeFault, KubeRequest};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::{config_map, put_definitions, started};

type Seen = Box<dyn FnMut(&CollectedObject<'_>) + Send>;

/// Keeps the paths of objects, and panics if one comes twice.
struct Kept {
    paths: Vec<String>,
    seen: Seen,
}

impl ObjectSink for Kept {
    fn object(&mut self, object: &CollectedObject<'_>) -> Result<(), FileError> {
        let item = object.item;
        let place = item
            .namespace
            .as_ref()
            .map_or(String::new(), |name| format!("{name}/"));
        let path = format!("{} {place}{}", item.resource, item.name);
        assert!(!self.paths.contains(&path), "{path} came twice");
        let read: Value = serde_json::from_slice(object.json).unwrap();
        assert_eq!(read["kind"], object.kind.kind.as_str());
        assert_eq!(read["apiVersion"], object.kind.api_version().as_str());
        assert_eq!(read["metadata"]["name"], item.name.as_str());
        self.paths.push(path);
        (self.seen)(object);
        Ok(())
    }
}

fn filters(spec: Value) -> Filters {
    Filters::of_backup(&serde_json::from_value(spec).unwrap()).unwrap()
}

async fn collected_with(
    connection: &Connection,
    spec: Value,
    seen: Seen,
) -> (Vec<String>, CollectReport) {
    let mut kept = Kept {
        paths: Vec::new(),
        seen,
    };
    let cancel = CancellationToken::new();
    let report = collect(connection, &filters(spec), &mut kept, &cancel)
        .await
        .unwrap();
    assert_eq!(report.total(), kept.paths.len() as u64);
    (kept.paths, report)
}

async fn collected(connection: &Connection, spec: Value) -> (Vec<String>, CollectReport) {
    collected_with(connection, spec, Box::new(|_| ())).await
}

/// A shop with a database, its volume and its account; and somebody else.
fn put_shop(server: &KubeApi) {
    for name in ["shop", "other"] {
        server.namespace(name);
    }
    let objects = json!([
        {"apiVersion": "v1", "kind": "Pod",
         "metadata": {"namespace": "shop", "name": "db-0", "labels": {"app": "db"}},
         "spec": {"containers": [{"name": "db"}], "priorityClassName": "high", "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
         ]}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
         "metadata": {"namespace": "shop", "name": "data-db-0"}, "spec": {"volumeName": "pv-1"}},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-1"}, "spec": {}},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-2"}, "spec": {}},
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
         "metadata": {"name": "high"}, "value": 5},
        {"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {"namespace": "shop", "name": "db", "labels": {"app": "db"}}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
         "metadata": {"name": "reader"}, "rules": []},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
         "metadata": {"name": "unused"}, "rules": []},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
         "metadata": {"name": "db-reads"},
         "subjects": [{"kind": "ServiceAccount", "namespace": "shop", "name": "db"}],
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"}},
        {"apiVersion": "apps/v1", "kind": "Deployment",
         "metadata": {"namespace": "shop", "name": "web"}, "spec": {}},
    ]);
    for object in objects.as_array().unwrap() {
        server.put(object.clone());
    }
    server.put(config_map("shop", "settings", &json!({"app": "web"})));
    server.put(config_map(
        "shop",
        "secret",
        &json!({"velero.io/exclude-from-backup": "true"}),
    ));
    server.put(config_map("other", "settings", &json!({})));
}

fn put_custom(server: &KubeApi) {
    put_definitions(server);
    server.put(json!({
        "apiVersion": "velero.io/v1", "kind": "Schedule",
        "metadata": {"namespace": "shop", "name": "nightly"}, "spec": {"schedule": "@daily"},
    }));
}

#[tokio::test]
async fn a_namespace_comes_with_what_its_objects_need_and_nothing_else() {
    let (server, connection) = started();
    put_shop(&server);
    put_custom(&server);
    let (mut paths, report) = collected(&connection, json!({"includedNamespaces": ["shop"]})).await;
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(
        paths[..2],
        ["pods shop/db-0", "persistentvolumeclaims shop/data-db-0"]
    );
    assert_eq!(paths.last().unwrap(), "namespaces shop");
    paths.sort();
    let want = [
        "clusterrolebindings.rbac.authorization.k8s.io db-reads",
        "clusterroles.rbac.authorization.k8s.io reader",
        "configmaps shop/settings",
        "customresourcedefinitions.apiextensions.k8s.io schedules.velero.io",
        "deployments.apps shop/web",
        "namespaces shop",
        "persistentvolumeclaims shop/data-db-0",
        "persistentvolumes pv-1",
        "pods shop/db-0",
        "priorityclasses.scheduling.k8s.io high",
        "schedules.velero.io shop/nightly",
        "serviceaccounts shop/db",
    ];
    assert_eq!(paths, want);
}

#[tokio::test]
async fn the_whole_cluster_has_its_own_objects_too() {
    let (server, connection) = started();
    put_shop(&server);
    let (paths, _) = collected(&connection, json!({})).await;
    let paths: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    for path in [
        "persistentvolumes pv-2",
        "clusterroles.rbac.authorization.k8s.io unused",
        "configmaps other/settings",
        "namespaces default",
    ] {
        assert!(paths.contains(path), "{path} is not in {paths:?}");
    }
    assert!(!paths.contains("configmaps shop/secret"));
}

#[tokio::test]
async fn a_selector_takes_what_matches_and_what_that_needs() {
    let (server, connection) = started();
    put_shop(&server);
    let one = json!({"labelSelector": {"matchLabels": {"app": "db"}}});
    let (mut paths, _) = collected(&connection, one).await;
    paths.sort();
    let want = [
        "clusterrolebindings.rbac.authorization.k8s.io db-reads",
        "clusterroles.rbac.authorization.k8s.io reader",
        "namespaces shop",
        "persistentvolumeclaims shop/data-db-0",
        "persistentvolumes pv-1",
        "pods shop/db-0",
        "priorityclasses.scheduling.k8s.io high",
        "serviceaccounts shop/db",
    ];
    assert_eq!(paths, want);
    // An object that matches two selectors comes once.
    let two = json!({"includedResources": ["configmaps", "pods"], "orLabelSelectors": [
        {"matchLabels": {"app": "web"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]},
    ]});
    let (mut paths, _) = collected(&connection, two).await;
    paths.sort();
    assert_eq!(paths, ["configmaps shop/settings", "pods shop/db-0"]);
}

#[tokio::test]
async fn kinds_that_are_not_named_stay_away_and_a_misspelt_one_is_told() {
    let (server, connection) = started();
    put_shop(&server);
    let spec = json!({"includedNamespaces": ["shop"], "includedResources": ["pods", "confgmaps"]});
    let (paths, report) = collected(&connection, spec).await;
    assert_eq!(paths, ["pods shop/db-0"]);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].severity, Severity::Warning);
    assert!(report.problems[0].message.contains("\"confgmaps\""));
}

#[tokio::test]
async fn what_is_being_deleted_stays_away() {
    let (server, connection) = started();
    put_shop(&server);
    server.edit("configmaps", "shop", "settings", |map| {
        map["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        map["metadata"]["finalizers"] = json!(["a/b"]);
    });
    let spec = json!({"includedNamespaces": ["shop"], "includedResources": ["configmaps"]});
    assert!(collected(&connection, spec).await.0.is_empty());
}

#[tokio::test]
async fn pages_that_expire_underway_are_read_again_and_nothing_comes_twice() {
    let (server, connection) = started();
    for number in 0..1200 {
        server.put(config_map("default", &format!("m-{number:04}"), &json!({})));
    }
    let server = Arc::new(server);
    let forgetful = Arc::clone(&server);
    let mut count = 0;
    let seen = move |_: &CollectedObject<'_>| {
        count += 1;
        // In the middle of the second page.
        if count == 700 {
            forgetful.put(config_map("default", "m-0000-new", &json!({})));
            forgetful.compact();
        }
    };
    server.take_requests();
    let spec = json!({"includedNamespaces": ["default"], "includedResources": ["configmaps"]});
    let (paths, report) = collected_with(&connection, spec, Box::new(seen)).await;
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.objects["configmaps"], 1201);
    assert_eq!(paths.len(), 1201);
    let pages = |request: &KubeRequest| request.path.ends_with("/configmaps");
    let pages: Vec<KubeRequest> = server.take_requests().into_iter().filter(pages).collect();
    assert_eq!(pages.len(), 6);
    assert!(pages.iter().all(|page| page.parameter("limit") == "500"));
}

#[tokio::test]
async fn a_kind_that_cannot_be_listed_is_told_and_the_others_come() {
    let (server, connection) = started();
    put_shop(&server);
    let lists = |request: &KubeRequest| request.path.ends_with("/deployments");
    server.faults().next(100, lists, KubeFault::Answer(403));
    let (paths, report) = collected(&connection, json!({"includedNamespaces": ["shop"]})).await;
    assert!(paths.contains(&"configmaps shop/settings".to_owned()));
    assert!(!paths.contains(&"deployments.apps shop/web".to_owned()));
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].severity, Severity::Error);
    assert!(
        report.problems[0]
            .message
            .contains("deployments.apps of namespace shop")
    );
}

#[tokio::test]
async fn a_connection_that_breaks_once_does_no_harm() {
    let (server, connection) = started();
    put_shop(&server);
    let lists = |request: &KubeRequest| request.path.ends_with("/deployments");
    server.faults().next(1, lists, KubeFault::Drop);
    let (paths, report) = collected(&connection, json!({"includedNamespaces": ["shop"]})).await;
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(paths.contains(&"deployments.apps shop/web".to_owned()));
}

#[tokio::test]
async fn a_cancelled_collection_ends_between_two_objects() {
    let (server, connection) = started();
    put_shop(&server);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let mut kept = Kept {
        paths: Vec::new(),
        seen: Box::new(move |_| {
            *counted.lock().unwrap() += 1;
            stop.cancel();
        }),
    };
    let done = collect(&connection, &filters(json!({})), &mut kept, &cancel).await;
    assert!(matches!(done, Err(CollectError::Cancelled)));
    assert_eq!(*count.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_sink_that_takes_no_more_ends_the_collection() {
    struct Full;
    impl ObjectSink for Full {
        fn object(&mut self, _: &CollectedObject<'_>) -> Result<(), FileError> {
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
        }
    }
    let (server, connection) = started();
    put_shop(&server);
    let cancel = CancellationToken::new();
    // As somebody would who has other things to do meanwhile.
    let done =
        tokio::spawn(
            async move { collect(&connection, &filters(json!({})), &mut Full, &cancel).await },
        );
    assert!(matches!(
        done.await.unwrap(),
        Err(CollectError::Sink(FileError::Io(_)))
    ));
}
