//! Lists: selectors, pages, versions.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use orlop_tests::kube_api::Options;
use serde_json::{Value, json};

use crate::cluster::{Cluster, refused, started};

on_each_server!(
    labels_select,
    fields_select,
    a_list_comes_in_pages_of_one_state,
    metadata_can_be_had_alone,
    a_list_of_an_old_version_is_as_it_was,
);

async fn names(api: &Api<ConfigMap>, params: &ListParams) -> Vec<String> {
    let list = api.list(params).await.unwrap();
    let ours = list.items.iter().map(ResourceExt::name_any);
    // A real cluster puts maps of its own into every namespace.
    ours.filter(|name| !name.ends_with("-ca.crt")).collect()
}

async fn labels_select(cluster: Cluster) {
    for (name, labels) in [
        ("a", json!({"app": "x", "tier": "1"})),
        ("b", json!({"app": "y"})),
        ("c", json!({"tier": "2"})),
    ] {
        cluster.config_map(name, labels).await;
    }
    let api = cluster.api();
    for (selector, expected) in [
        ("app", vec!["a", "b"]),
        ("app=x", vec!["a"]),
        ("app!=x", vec!["b", "c"]),
        ("!app", vec!["c"]),
        ("app in (x,y),tier", vec!["a"]),
        ("tier notin (1)", vec!["b", "c"]),
    ] {
        let params = ListParams::default().labels(selector);
        assert_eq!(names(&api, &params).await, expected, "{selector}");
    }
    let wrong = ListParams::default().labels("app in x");
    assert_eq!(refused(api.list(&wrong).await).code, 400);
}

async fn fields_select(cluster: Cluster) {
    cluster.pod("a").await;
    cluster.pod("b").await;
    let api = cluster.api::<Pod>();
    for (selector, expected) in [
        ("metadata.name=b", vec!["b"]),
        ("spec.nodeName=", vec!["a", "b"]),
        ("status.phase!=Pending", vec![]),
        ("status.phase=Pending,metadata.name!=b", vec!["a"]),
    ] {
        let params = ListParams::default().fields(selector);
        let list = api.list(&params).await.unwrap();
        let found: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(found, expected, "{selector}");
    }
    let wrong = ListParams::default().fields("spec.hostname2=x");
    assert_eq!(refused(api.list(&wrong).await).code, 400);
}

async fn a_list_comes_in_pages_of_one_state(cluster: Cluster) {
    for name in ["a", "b", "c", "d", "e"] {
        cluster.config_map(name, json!({"own": "yes"})).await;
    }
    let api = cluster.api::<ConfigMap>();
    let mut page = ListParams::default().limit(2).labels("own=yes");
    let first = api.list(&page).await.unwrap();
    let state = first.metadata.resource_version.clone();
    let mut found: Vec<String> = first.items.iter().map(ResourceExt::name_any).collect();
    // What comes later is in none of the pages; what goes is in them still.
    cluster.config_map("cc", json!({"own": "yes"})).await;
    api.delete("d", &DeleteParams::default()).await.unwrap();
    let mut token = first.metadata.continue_;
    while let Some(next) = token.filter(|token| !token.is_empty()) {
        page = page.continue_token(&next);
        let list = api.list(&page).await.unwrap();
        assert!(list.items.len() <= 2);
        assert_eq!(list.metadata.resource_version, state);
        found.extend(list.items.iter().map(ResourceExt::name_any));
        token = list.metadata.continue_;
    }
    assert_eq!(found, ["a", "b", "c", "d", "e"]);
}

async fn metadata_can_be_had_alone(cluster: Cluster) {
    cluster.config_map("a", json!({"own": "yes"})).await;
    let api = cluster.api::<ConfigMap>();
    let params = ListParams::default().labels("own=yes");
    let list = api.list_metadata(&params).await.unwrap();
    assert_eq!(list.items[0].name_any(), "a");
    let one = api.get_metadata("a").await.unwrap();
    assert_eq!(one.types.as_ref().unwrap().kind, "PartialObjectMetadata");
    let change = json!({"metadata": {"labels": {"more": "yes"}}});
    let change: Patch<Value> = Patch::Merge(change);
    let patched = api
        .patch_metadata("a", &PatchParams::default(), &change)
        .await
        .unwrap();
    assert_eq!(patched.labels()["more"], "yes");
}

async fn a_list_of_an_old_version_is_as_it_was(cluster: Cluster) {
    let first = cluster.config_map("a", json!({"own": "yes"})).await;
    cluster.config_map("b", json!({"own": "yes"})).await;
    let api = cluster.api::<ConfigMap>();
    let own = ListParams::default().labels("own=yes");
    let at = own.clone().at(&first.resource_version().unwrap());
    let exact = at.clone().matching(kube::api::VersionMatch::Exact);
    assert_eq!(names(&api, &exact).await, ["a"]);
    let not_older = at.matching(kube::api::VersionMatch::NotOlderThan);
    assert_eq!(names(&api, &not_older).await, ["a", "b"]);
}

#[tokio::test]
async fn a_page_of_what_is_compacted_has_expired() {
    let (server, client) = started(Options::default()).await;
    for name in ["a", "b", "c"] {
        server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}));
    }
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let page = ListParams::default().limit(1);
    let first = api.list(&page).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(2));
    let token = first.metadata.continue_.unwrap();
    server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}}));
    server.compact();
    let status = refused(api.list(&page.clone().continue_token(&token)).await);
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(
        status
            .message
            .starts_with("The provided continue parameter is too old")
    );
    let token = status.metadata.unwrap().continue_.unwrap();
    let rest = api
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap();
    let found: Vec<String> = rest.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(found, ["b", "c", "d"]);
    let old = ListParams::default()
        .at("2")
        .matching(kube::api::VersionMatch::Exact);
    assert_eq!(refused(api.list(&old).await).code, 410);
    let future = ListParams::default()
        .at("1000000")
        .matching(kube::api::VersionMatch::NotOlderThan);
    assert_eq!(refused(api.list(&future).await).code, 504);
}
