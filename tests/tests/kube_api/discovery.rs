//! What the server says it serves.

use kube::{
    Api,
    api::{DynamicObject, ListParams},
    core::GroupVersionKind,
    discovery::Discovery,
};
use serde_json::json;

use crate::cluster::{Cluster, refused};

on_each_server!(
    kinds_are_found_by_their_names,
    verbs_are_those_that_work,
    a_defined_kind_is_discovered,
    the_version_is_told,
    an_unknown_kind_is_not_found,
);

async fn kinds_are_found_by_their_names(cluster: Cluster) {
    let found = Discovery::new(cluster.client.clone()).run().await.unwrap();
    for (group, version, kind, plural) in [
        ("", "v1", "Pod", "pods"),
        ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        ("apps", "v1", "StatefulSet", "statefulsets"),
        ("batch", "v1", "CronJob", "cronjobs"),
        ("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
        (
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
        ),
    ] {
        let kind = GroupVersionKind::gvk(group, version, kind);
        let (resource, _) = found.resolve_gvk(&kind).unwrap();
        assert_eq!(resource.plural, plural);
    }
    assert!(found.has_group("rbac.authorization.k8s.io"));
}

async fn verbs_are_those_that_work(cluster: Cluster) {
    let list = cluster.client.list_core_api_resources("v1").await.unwrap();
    let verbs = |name: &str| {
        let found = list.resources.iter().find(|resource| resource.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).verbs.clone()
    };
    let all = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    assert_eq!(verbs("pods"), all);
    assert_eq!(verbs("pods/status"), ["get", "patch", "update"]);
    assert_eq!(verbs("pods/log"), ["get"]);
    assert!(!verbs("namespaces").contains(&"deletecollection".to_owned()));
    let reviews = cluster
        .client
        .list_api_group_resources("authentication.k8s.io/v1")
        .await
        .unwrap();
    let review = reviews
        .resources
        .iter()
        .find(|one| one.name == "tokenreviews");
    assert_eq!(review.unwrap().verbs, ["create"]);
}

async fn a_defined_kind_is_discovered(cluster: Cluster) {
    let kind = cluster.define(json!({"type": "object"}), json!({})).await;
    let version = format!("{}/v1", kind.resource.group);
    let list = cluster
        .client
        .list_api_group_resources(&version)
        .await
        .unwrap();
    let names: Vec<&str> = list.resources.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["tasks"]);
    assert_eq!(list.resources[0].singular_name, "task");
    assert_eq!(
        list.resources[0].short_names.as_deref(),
        Some(["tk".to_owned()].as_slice())
    );
    kind.remove().await;
}

async fn the_version_is_told(cluster: Cluster) {
    let version = cluster.client.apiserver_version().await.unwrap();
    assert_eq!(version.major, "1");
    assert!(version.git_version.starts_with("v1."));
}

async fn an_unknown_kind_is_not_found(cluster: Cluster) {
    let resource = kube::api::ApiResource {
        group: "nowhere.orlop.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "nowhere.orlop.io/v1".to_owned(),
        kind: "Nothing".to_owned(),
        plural: "nothings".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client, &resource);
    let status = refused(api.list(&ListParams::default()).await);
    // A text for people, which clients know by its code.
    assert_eq!(status.code, 404);
    assert_eq!(status.message.trim(), "404 page not found");
}
