//! What the spec of a restore and settings beside it change.

use super::*;

#[tokio::test]
async fn a_mapped_namespace_gets_everything() {
    let (server, connection) = started();
    let mut objects = guide();
    objects.push(("rolebindings.rbac.authorization.k8s.io", object("rbac.authorization.k8s.io/v1", "RoleBinding", "postgres", "b", &json!({
        "subjects": [{"kind": "ServiceAccount", "namespace": "postgres", "name": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }))));
    let spec =
        json!({"includedNamespaces": ["postgres"], "namespaceMapping": {"postgres": "copy"}});
    let kept = Asked::new(&objects, &spec)
        .with_database()
        .run(&connection)
        .await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert!(server.get("namespaces", "", "postgres").is_none());
    let namespace = server.get("namespaces", "", "copy").unwrap();
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "copy"
    );
    assert!(server.get("pods", "copy", "postgresql-0").is_some());
    let binding = server
        .get("rolebindings.rbac.authorization.k8s.io", "copy", "b")
        .unwrap();
    assert_eq!(binding["subjects"][0]["namespace"], "copy");
    assert_eq!(kept.pods[0].namespace, "copy");
    assert_eq!(kept.pods[0].volumes[0].1.namespace, "postgres");
    assert_eq!(kept.of("namespaces", "copy").end, ItemEnd::Created);
}

#[tokio::test]
async fn with_the_policy_update_what_differs_is_changed() {
    let (server, connection) = started();
    server.namespace("postgres");
    server.put(object(
        "v1",
        "ConfigMap",
        "postgres",
        "kube-root-ca.crt",
        &json!({"data": {"ca.crt": "new", "more": "x"}}),
    ));
    let spec = json!({"includedResources": ["configmaps"], "existingResourcePolicy": "update"});
    let kept = Asked::new(&guide(), &spec).run(&connection).await;
    assert_eq!(
        kept.of("configmaps", "kube-root-ca.crt").end,
        ItemEnd::Updated
    );
    let map = server
        .get("configmaps", "postgres", "kube-root-ca.crt")
        .unwrap();
    assert_eq!(map["data"], json!({"ca.crt": "old"}));
    assert_eq!(map["metadata"]["labels"]["velero.io/restore-name"], "r");
}

#[tokio::test]
async fn a_selector_takes_the_pod_with_what_it_needs() {
    let (server, connection) = started();
    let spec = json!({"labelSelector": {"matchLabels": {"app": "postgresql"}}});
    let kept = Asked::new(&guide(), &spec)
        .with_database()
        .run(&connection)
        .await;
    let mut names: Vec<String> = kept
        .items
        .iter()
        .map(|one| format!("{} {}", one.resource, one.name))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "namespaces postgres",
            "persistentvolumeclaims data-postgresql-0",
            "pods postgresql-0"
        ]
    );
    assert!(
        server
            .get("secrets", "postgres", "postgres-secret")
            .is_none()
    );
}

#[tokio::test]
async fn settings_of_config_maps_count() {
    let (server, connection) = started();
    let map = |plugin: &str, data: Value| {
        let labels = json!({"velero.io/plugin-config": "", format!("velero.io/{plugin}"): "RestoreItemAction"});
        object(
            "v1",
            "ConfigMap",
            "velero",
            plugin,
            &json!({"metadata": {"labels": labels}, "data": data}),
        )
    };
    server.put(map(
        "pod-volume-restore",
        json!({"image": "mirror.example/orlop:2", "memLimit": "64Mi"}),
    ));
    server.put(map("change-storage-class", json!({"slow": "fast"})));
    let mut objects = guide();
    let claim = objects
        .iter_mut()
        .find(|(resource, _)| *resource == "persistentvolumeclaims")
        .unwrap();
    claim.1["spec"]["storageClassName"] = "slow".into();
    let asked = Asked::new(&objects, &json!({"includedNamespaces": ["postgres"]})).with_database();
    asked.run(&connection).await;
    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(init["image"], "mirror.example/orlop:2");
    assert_eq!(init["resources"]["limits"]["memory"], "64Mi");
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"]["storageClassName"], "fast");
}

#[tokio::test]
async fn the_status_comes_back_where_it_is_asked_for() {
    let (server, connection) = started();
    let spec = json!({"includedNamespaces": ["postgres"], "restoreStatus": {"includedResources": ["statefulsets"]}});
    let kept = Asked::new(&guide(), &spec)
        .with_database()
        .run(&connection)
        .await;
    assert!(kept.warnings().is_empty(), "{:?}", kept.warnings());
    let set = server
        .get("statefulsets.apps", "postgres", "postgresql")
        .unwrap();
    assert_eq!(set["status"]["replicas"], 1);
    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    assert_eq!(pod["status"]["phase"], "Pending");
}

#[tokio::test]
async fn cancelled_it_ends_and_what_nobody_can_do_is_refused() {
    let (_server, connection) = started();
    let asked = Asked::new(&guide(), &json!({}));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let request = asked.request();
    let mut kept = Kept::default();
    let done = restore_objects(&connection, &request, &mut kept, &cancel).await;
    assert!(matches!(done, Err(RestoreError::Cancelled)), "{done:?}");
    assert!(kept.items.is_empty());
    let modified = Asked::new(
        &guide(),
        &json!({"resourceModifier": {"kind": "ConfigMap", "name": "m"}}),
    );
    let cancel = CancellationToken::new();
    let done = restore_objects(&connection, &modified.request(), &mut kept, &cancel).await;
    assert!(
        done.unwrap_err()
            .to_string()
            .contains("spec.resourceModifier")
    );
}

#[tokio::test]
async fn what_is_said_of_sparse_files_and_not_done_is_a_warning() {
    let (_server, connection) = started();
    let spec = |sparse: bool| json!({"uploaderConfig": {"writeSparseFiles": sparse}});
    let said = Asked::new(&guide(), &spec(false)).run(&connection).await;
    let told = |kept: &Kept| {
        let warnings = kept.warnings();
        warnings
            .iter()
            .filter(|text| text.contains("writeSparseFiles"))
            .count()
    };
    assert_eq!(told(&said), 1, "{:?}", said.warnings());
    let (_server, connection) = started();
    assert_eq!(
        told(&Asked::new(&guide(), &spec(true)).run(&connection).await),
        0
    );
}

#[tokio::test]
async fn the_admin_console_gets_the_proxies_of_the_cluster_that_it_comes_to() {
    let (server, connection) = started();
    let labels = json!({"velero.io/plugin-config": "", "kurl.sh/restore-kotsadm-plugin": "RestoreItemAction"});
    let data = json!({"HTTP_PROXY": "http://new:3128", "HTTPS_PROXY": "", "NO_PROXY": "", "hostCAPath": ""});
    let map = json!({"metadata": {"labels": labels}, "data": data});
    server.put(object(
        "v1",
        "ConfigMap",
        "velero",
        "kotsadm-restore-config",
        &map,
    ));
    let old = json!([{"name": "kotsadm", "image": "kotsadm:1", "env": [
        {"name": "HTTP_PROXY", "value": "http://old:3128"}, {"name": "HTTPS_PROXY", "value": "http://old:3128"},
    ]}]);
    let spec = json!({"spec": {"template": {"spec": {"containers": old}}}});
    let console = object("apps/v1", "StatefulSet", "default", "kotsadm", &spec);
    let asked = Asked::new(
        &[("statefulsets.apps", console)],
        &json!({"includedNamespaces": ["default"]}),
    );
    asked.run(&connection).await;
    let made = server
        .get("statefulsets.apps", "default", "kotsadm")
        .unwrap();
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"][0]["env"],
        json!([{"name": "HTTP_PROXY", "value": "http://new:3128"}, {"name": "HTTPS_PROXY", "value": ""}])
    );
}
