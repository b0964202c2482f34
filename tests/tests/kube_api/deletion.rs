//! How objects go.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, from, refused};

on_each_server!(
    a_deleted_object_is_gone_and_the_answer_says_so,
    a_finalizer_holds_an_object_until_it_is_taken_away,
    a_deletion_can_name_what_it_means,
    dependents_follow_their_owner,
    orphans_stay,
    an_owner_in_the_foreground_waits_for_its_dependents,
    a_collection_is_deleted_by_labels,
    a_namespace_takes_its_objects_along,
);

/// Waits until an object is gone.
async fn gone(api: &Api<ConfigMap>, name: &str) {
    for _ in 0..300 {
        if api.get_opt(name).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} does not go");
}

async fn map_of(cluster: &Cluster, metadata: Value) -> ConfigMap {
    let map = from(json!({"metadata": metadata}));
    let api = cluster.api::<ConfigMap>();
    create(&api, &map).await.unwrap()
}

async fn dependent(cluster: &Cluster, owner: &ConfigMap) {
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid(),
        "blockOwnerDeletion": true,
    });
    map_of(
        cluster,
        json!({"name": "dependent", "ownerReferences": [owner]}),
    )
    .await;
}

async fn a_deleted_object_is_gone_and_the_answer_says_so(cluster: Cluster) {
    let map = cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let answer = api.delete("a", &DeleteParams::default()).await.unwrap();
    let status = answer.right().unwrap();
    assert!(status.is_success());
    let details = status.details.unwrap();
    assert_eq!(
        (details.name, details.uid),
        ("a".to_owned(), map.uid().unwrap())
    );
    let status = refused(api.delete("a", &DeleteParams::default()).await);
    assert_eq!(status.code, 404);
}

async fn a_finalizer_holds_an_object_until_it_is_taken_away(cluster: Cluster) {
    map_of(
        &cluster,
        json!({"name": "a", "finalizers": ["orlop.io/a", "orlop.io/b"]}),
    )
    .await;
    let api = cluster.api::<ConfigMap>();
    let answer = api.delete("a", &DeleteParams::default()).await.unwrap();
    let held = answer.left().unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    let set = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    let params = PatchParams::default();
    let more = set(json!(["orlop.io/a", "orlop.io/b", "orlop.io/c"]));
    let status = refused(api.patch("a", &params, &more).await);
    assert_eq!(status.code, 422);
    let why = "no new finalizers can be added if the object is being deleted";
    assert!(status.message.contains(why), "{}", status.message);
    api.patch("a", &params, &set(json!(["orlop.io/b"])))
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_some());
    api.patch("a", &params, &set(Value::Null)).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

async fn a_deletion_can_name_what_it_means(cluster: Cluster) {
    let map = cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let that = |uid: &str, version: Option<String>| {
        DeleteParams::default().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: version,
        })
    };
    let uid = map.uid().unwrap();
    let other = "00000000-0000-4000-8000-000000000000";
    let status = refused(api.delete("a", &that(other, None)).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let status = refused(api.delete("a", &that(&uid, Some("1".to_owned()))).await);
    assert_eq!(status.code, 409);
    api.delete("a", &that(&uid, map.resource_version()))
        .await
        .unwrap();
}

async fn dependents_follow_their_owner(cluster: Cluster) {
    let owner = cluster.config_map("owner", json!({})).await;
    dependent(&cluster, &owner).await;
    let api = cluster.api::<ConfigMap>();
    api.delete("owner", &DeleteParams::background())
        .await
        .unwrap();
    gone(&api, "dependent").await;
}

async fn orphans_stay(cluster: Cluster) {
    let owner = cluster.config_map("owner", json!({})).await;
    dependent(&cluster, &owner).await;
    let api = cluster.api::<ConfigMap>();
    api.delete("owner", &DeleteParams::orphan()).await.unwrap();
    gone(&api, "owner").await;
    let orphan = api.get("dependent").await.unwrap();
    assert!(orphan.owner_references().is_empty());
}

async fn an_owner_in_the_foreground_waits_for_its_dependents(cluster: Cluster) {
    let owner = cluster.config_map("owner", json!({})).await;
    dependent(&cluster, &owner).await;
    let api = cluster.api::<ConfigMap>();
    let hold = json!({"metadata": {"finalizers": ["orlop.io/a"]}});
    let params = PatchParams::default();
    api.patch("dependent", &params, &Patch::Merge(hold))
        .await
        .unwrap();
    api.delete("owner", &DeleteParams::foreground())
        .await
        .unwrap();
    for _ in 0..300 {
        if api
            .get("dependent")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let waiting = api.get("owner").await.unwrap();
    assert_eq!(waiting.finalizers(), ["foregroundDeletion"]);
    let release = json!({"metadata": {"finalizers": null}});
    api.patch("dependent", &params, &Patch::Merge(release))
        .await
        .unwrap();
    gone(&api, "owner").await;
}

async fn a_collection_is_deleted_by_labels(cluster: Cluster) {
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        cluster.config_map(name, json!({"app": app})).await;
    }
    let api = cluster.api::<ConfigMap>();
    let those = ListParams::default().labels("app=x");
    api.delete_collection(&DeleteParams::default(), &those)
        .await
        .unwrap();
    gone(&api, "a").await;
    gone(&api, "b").await;
    api.get("c").await.unwrap();
}

async fn a_namespace_takes_its_objects_along(cluster: Cluster) {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace = from(json!({"metadata": {"generateName": "orlop-tests-"}}));
    let made = create(&namespaces, &namespace).await.unwrap();
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Active"));
    let name = made.metadata.name.unwrap();
    assert_eq!(
        made.metadata.labels.unwrap()["kubernetes.io/metadata.name"],
        name
    );
    let mut inner = cluster;
    inner.namespace.clone_from(&name);
    map_of(
        &inner,
        json!({"name": "held", "finalizers": ["orlop.io/a"]}),
    )
    .await;
    inner.config_map("free", json!({})).await;
    namespaces
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let api = inner.api::<ConfigMap>();
    gone(&api, "free").await;
    let late = from(json!({"metadata": {"name": "late"}}));
    let status = refused(create(&api, &late).await);
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        status.details.unwrap().causes[0].reason,
        "NamespaceTerminating"
    );
    let ending = namespaces.get(&name).await.unwrap();
    assert_eq!(ending.status.unwrap().phase.as_deref(), Some("Terminating"));
    let release = json!({"metadata": {"finalizers": null}});
    let params = PatchParams::default();
    api.patch("held", &params, &Patch::Merge(release))
        .await
        .unwrap();
    for _ in 0..600 {
        if namespaces.get_opt(&name).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} does not go");
}
