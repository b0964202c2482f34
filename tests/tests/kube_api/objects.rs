//! How objects are made and changed.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, from, refused};

on_each_server!(
    a_new_object_has_what_the_server_gives_it,
    a_name_is_taken_once,
    names_are_generated_with_five_characters,
    a_name_must_be_one_of_dns,
    an_object_needs_its_namespace,
    an_update_with_an_old_version_is_a_conflict,
    an_update_that_changes_nothing_is_no_write,
    a_dry_run_leaves_nothing,
    the_status_is_written_apart,
    strings_of_a_secret_become_data,
    the_spec_of_a_pod_is_fixed,
);

async fn a_new_object_has_what_the_server_gives_it(cluster: Cluster) {
    let map = cluster.config_map("a", json!({})).await;
    assert_eq!(map.uid().unwrap().len(), 36);
    assert!(map.creation_timestamp().is_some());
    assert!(map.resource_version().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(map.namespace().unwrap(), cluster.namespace);
    let read = cluster.api::<ConfigMap>().get("a").await.unwrap();
    assert_eq!(read.resource_version(), map.resource_version());
}

async fn a_name_is_taken_once(cluster: Cluster) {
    let map = cluster.config_map("a", json!({})).await;
    let mut again = map.clone();
    again.metadata.resource_version = None;
    let api = cluster.api::<ConfigMap>();
    let status = refused(create(&api, &again).await);
    assert_eq!(
        (status.code, status.reason.as_str()),
        (409, "AlreadyExists")
    );
    assert_eq!(status.message, "configmaps \"a\" already exists");
    let details = status.details.unwrap();
    assert_eq!(
        (details.name.as_str(), details.kind.as_str()),
        ("a", "configmaps")
    );
    let missing = refused(api.get("b").await);
    assert_eq!((missing.code, missing.reason.as_str()), (404, "NotFound"));
    assert_eq!(missing.message, "configmaps \"b\" not found");
}

async fn names_are_generated_with_five_characters(cluster: Cluster) {
    let api = cluster.api::<ConfigMap>();
    let map: ConfigMap = from(json!({"metadata": {"generateName": "run-"}}));
    let mut names = Vec::new();
    for _ in 0..3 {
        let made = create(&api, &map).await.unwrap();
        names.push(made.name_any());
    }
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("run-") && name.len() == 9)
    );
    names.dedup();
    assert_eq!(names.len(), 3);
    let nameless = from(json!({"metadata": {}}));
    let status = refused(create(&api, &nameless).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(
        status.message.contains("name or generateName is required"),
        "{}",
        status.message
    );
}

async fn a_name_must_be_one_of_dns(cluster: Cluster) {
    let api = cluster.api::<ConfigMap>();
    let map = from(json!({"metadata": {"name": "No_Name"}}));
    let status = refused(create(&api, &map).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let begin = "ConfigMap \"No_Name\" is invalid: metadata.name: Invalid value: \"No_Name\": \
                 a lowercase RFC 1123 subdomain must consist of";
    assert!(status.message.starts_with(begin), "{}", status.message);
    assert_eq!(status.details.unwrap().causes[0].field, "metadata.name");
}

async fn an_object_needs_its_namespace(cluster: Cluster) {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "orlop-tests-nowhere");
    let map = from(json!({"metadata": {"name": "a"}}));
    let status = refused(create(&api, &map).await);
    assert_eq!(
        status.message,
        "namespaces \"orlop-tests-nowhere\" not found"
    );
    let map = from(json!({"metadata": {"name": "a", "namespace": "default"}}));
    let api = cluster.api::<ConfigMap>();
    assert_eq!(refused(create(&api, &map).await).code, 400);
}

async fn an_update_with_an_old_version_is_a_conflict(cluster: Cluster) {
    let old = cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let mut first = old.clone();
    first.data.as_mut().unwrap().insert("c".into(), "3".into());
    let first = api
        .replace("a", &PostParams::default(), &first)
        .await
        .unwrap();
    assert_ne!(first.resource_version(), old.resource_version());
    let status = refused(api.replace("a", &PostParams::default(), &old).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let said = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; \
                please apply your changes to the latest version and try again";
    assert_eq!(status.message, said);
    let mut whichever = old;
    whichever.metadata.resource_version = None;
    api.replace("a", &PostParams::default(), &whichever)
        .await
        .unwrap();
}

async fn an_update_that_changes_nothing_is_no_write(cluster: Cluster) {
    let old = cluster.config_map("a", json!({})).await;
    let api = cluster.api::<ConfigMap>();
    let same = api
        .replace("a", &PostParams::default(), &old)
        .await
        .unwrap();
    assert_eq!(same.resource_version(), old.resource_version());
}

async fn a_dry_run_leaves_nothing(cluster: Cluster) {
    let api = cluster.api::<ConfigMap>();
    let try_only = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let map = from(json!({"metadata": {"name": "a"}}));
    assert!(api.create(&try_only, &map).await.unwrap().uid().is_some());
    assert_eq!(refused(api.get("a").await).code, 404);
    cluster.config_map("b", json!({})).await;
    api.delete("b", &DeleteParams::default().dry_run())
        .await
        .unwrap();
    api.get("b").await.unwrap();
}

async fn the_status_is_written_apart(cluster: Cluster) {
    let made = cluster.pod("a").await;
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    assert_eq!(phase(&made).as_deref(), Some("Pending"));
    let api = cluster.api::<Pod>();
    let mut changed = serde_json::to_value(&made).unwrap();
    changed["status"]["phase"] = "Failed".into();
    changed["metadata"]["labels"] = json!({"x": "y"});
    // A real cluster looks for a node meanwhile.
    changed["metadata"]["resourceVersion"] = Value::Null;
    let main = api
        .replace("a", &PostParams::default(), &from(changed.clone()))
        .await
        .unwrap();
    assert_eq!(phase(&main).as_deref(), Some("Pending"));
    assert_eq!(main.labels()["x"], "y");
    changed["spec"]["containers"][0]["image"] = "registry.invalid/other".into();
    let status = api
        .replace_status("a", &PostParams::default(), &from(changed))
        .await
        .unwrap();
    assert_eq!(phase(&status).as_deref(), Some("Failed"));
    let image = status.spec.unwrap().containers[0].image.clone();
    assert_eq!(image.as_deref(), Some("registry.invalid/main"));
}

async fn strings_of_a_secret_become_data(cluster: Cluster) {
    let secret: Secret = from(json!({"metadata": {"name": "a"}, "stringData": {"key": "value"}}));
    let made = create(&cluster.api(), &secret).await.unwrap();
    assert_eq!(made.type_.as_deref(), Some("Opaque"));
    assert_eq!(made.data.unwrap()["key"].0, b"value");
    assert!(made.string_data.is_none());
}

async fn the_spec_of_a_pod_is_fixed(cluster: Cluster) {
    let mut pod = cluster.pod("a").await;
    let api = cluster.api::<Pod>();
    let spec = pod.spec.as_mut().unwrap();
    spec.containers[0].image = Some("registry.invalid/other".to_owned());
    // A real cluster looks for a node meanwhile.
    pod.metadata.resource_version = None;
    let mut pod = api
        .replace("a", &PostParams::default(), &pod)
        .await
        .unwrap();
    pod.metadata.resource_version = None;
    pod.spec.as_mut().unwrap().containers[0].command = Some(vec!["sh".to_owned()]);
    let status = refused(api.replace("a", &PostParams::default(), &pod).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let begin =
        "Pod \"a\" is invalid: spec: Forbidden: pod updates may not change fields other than";
    assert!(status.message.starts_with(begin), "{}", status.message);
}
