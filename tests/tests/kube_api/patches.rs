//! Patches of all types.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, refused};

on_each_server!(
    a_merge_patch_removes_fields_that_are_null,
    a_merge_patch_can_name_the_version_it_means,
    a_json_patch_is_done_wholly_or_not_at_all,
    a_strategic_patch_merges_lists_by_name,
    an_applied_object_is_made_and_its_fields_are_owned,
    an_applied_field_of_another_is_a_conflict_unless_forced,
);

fn data(map: &ConfigMap) -> Value {
    json!(map.data.clone().unwrap_or_default())
}

async fn a_merge_patch_removes_fields_that_are_null(cluster: Cluster) {
    let old = cluster.config_map("a", json!({"x": "1", "y": "2"})).await;
    let api = cluster.api::<ConfigMap>();
    let change = json!({"data": {"a": null, "c": "3"}, "metadata": {"labels": {"x": null}}});
    let patched = api
        .patch("a", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    assert_eq!(data(&patched), json!({"b": "2", "c": "3"}));
    assert_eq!(json!(patched.labels()), json!({"y": "2"}));
    assert_eq!(patched.uid(), old.uid());
    let nobody = Patch::Merge(json!({"data": {}}));
    let status = refused(api.patch("b", &PatchParams::default(), &nobody).await);
    assert_eq!(status.code, 404);
}

async fn a_merge_patch_can_name_the_version_it_means(cluster: Cluster) {
    let old = cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let that = |n: &str| {
        Patch::Merge(json!({
            "metadata": {"resourceVersion": old.resource_version()}, "data": {"n": n},
        }))
    };
    api.patch("a", &PatchParams::default(), &that("1"))
        .await
        .unwrap();
    let status = refused(api.patch("a", &PatchParams::default(), &that("2")).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
}

async fn a_json_patch_is_done_wholly_or_not_at_all(cluster: Cluster) {
    cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let steps = |expected: &str| -> Patch<Value> {
        let steps = json!([
            {"op": "add", "path": "/data/c", "value": "3"},
            {"op": "test", "path": "/data/a", "value": expected},
            {"op": "remove", "path": "/data/a"},
        ]);
        Patch::Json(serde_json::from_value(steps).unwrap())
    };
    let status = refused(api.patch("a", &PatchParams::default(), &steps("9")).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert_eq!(
        data(&api.get("a").await.unwrap()),
        json!({"a": "1", "b": "2"})
    );
    let patched = api
        .patch("a", &PatchParams::default(), &steps("1"))
        .await
        .unwrap();
    assert_eq!(data(&patched), json!({"b": "2", "c": "3"}));
}

async fn a_strategic_patch_merges_lists_by_name(cluster: Cluster) {
    cluster.pod("a").await;
    let api = cluster.api::<Pod>();
    let change = json!({
        "metadata": {"annotations": {"x": "y"}},
        "spec": {"containers": [{"name": "main", "image": "registry.invalid/other"}]},
    });
    let patched = api
        .patch("a", &PatchParams::default(), &Patch::Strategic(change))
        .await
        .unwrap();
    assert_eq!(patched.annotations()["x"], "y");
    let spec = patched.spec.unwrap();
    assert_eq!(spec.containers.len(), 1);
    assert_eq!(
        spec.containers[0].image.as_deref(),
        Some("registry.invalid/other")
    );
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "A");
}

fn wanted(data: &Value) -> Patch<Value> {
    Patch::Apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data,
    }))
}

async fn an_applied_object_is_made_and_its_fields_are_owned(cluster: Cluster) {
    let api = cluster.api::<ConfigMap>();
    let first = PatchParams::apply("first");
    let made = api
        .patch("a", &first, &wanted(&json!({"x": "1", "y": "2"})))
        .await
        .unwrap();
    let owned = &made.metadata.managed_fields.as_ref().unwrap()[0];
    assert_eq!(owned.manager.as_deref(), Some("first"));
    assert_eq!(owned.operation.as_deref(), Some("Apply"));
    let fields = &owned.fields_v1.as_ref().unwrap().0;
    assert_eq!(fields["f:data"]["f:x"], json!({}));
    let same = api
        .patch("a", &first, &wanted(&json!({"x": "1", "y": "2"})))
        .await
        .unwrap();
    assert_eq!(same.resource_version(), made.resource_version());
    let less = api
        .patch("a", &first, &wanted(&json!({"x": "1"})))
        .await
        .unwrap();
    assert_eq!(data(&less), json!({"x": "1"}));
    let nameless = PatchParams::default();
    let status = refused(api.patch("a", &nameless, &wanted(&json!({}))).await);
    assert!(
        status.message.contains("fieldManager"),
        "{}",
        status.message
    );
}

async fn an_applied_field_of_another_is_a_conflict_unless_forced(cluster: Cluster) {
    let api = cluster.api::<ConfigMap>();
    let (first, second) = (PatchParams::apply("first"), PatchParams::apply("second"));
    api.patch("a", &first, &wanted(&json!({"x": "1", "y": "2"})))
        .await
        .unwrap();
    api.patch("a", &second, &wanted(&json!({"x": "1", "z": "3"})))
        .await
        .unwrap();
    let status = refused(api.patch("a", &second, &wanted(&json!({"x": "9"}))).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"first\": .data.x"
    );
    let forced = api
        .patch("a", &second.clone().force(), &wanted(&json!({"x": "9"})))
        .await
        .unwrap();
    assert_eq!(data(&forced), json!({"x": "9", "y": "2"}));
    let after = api
        .patch("a", &first, &wanted(&json!({"y": "2"})))
        .await
        .unwrap();
    assert_eq!(data(&after), json!({"x": "9", "y": "2"}));
}
