//! Which objects come back, in which order, and what is said of them.

use super::*;

#[tokio::test]
async fn the_guides_database_comes_back_without_an_error_or_a_warning() {
    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert!(kept.warnings().is_empty(), "{:?}", kept.warnings());

    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    let meta = &pod["metadata"];
    assert_eq!(meta["labels"]["velero.io/restore-name"], "r");
    assert_eq!(meta["labels"]["velero.io/backup-name"], "b");
    assert_eq!(meta["annotations"]["orlop.io/restore-uid"], "r-uid");
    assert_eq!(meta.get("ownerReferences"), None);
    assert_eq!(pod["spec"].get("nodeName"), None);
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(
        (&init["name"], &init["image"]),
        (&json!("restore-wait"), &json!("registry.example/orlop:1"))
    );
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"].get("volumeName"), None);
    assert!(server.get("persistentvolumes", "", "pv-1").is_none());
    let service = server
        .get("services", "postgres", "postgres-service")
        .unwrap();
    assert_eq!(service["spec"]["ports"][0]["nodePort"], 31432);
    assert_ne!(service["spec"]["clusterIP"], "10.0.0.9");
    let namespace = server.get("namespaces", "", "postgres").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["team"], "db");
    for (resource, name) in [("endpoints", "postgres-service"), ("events", "e")] {
        assert!(
            server.get(resource, "postgres", name).is_none(),
            "{resource}"
        );
    }

    let ends = |resource: &str, name: &str| kept.of(resource, name).end;
    assert_eq!(ends("pods", "postgresql-0"), ItemEnd::Created);
    assert_eq!(ends("statefulsets.apps", "postgresql"), ItemEnd::Created);
    assert_eq!(
        ends("controllerrevisions.apps", "postgresql-1"),
        ItemEnd::Created
    );
    assert_eq!(ends("endpoints", "postgres-service"), ItemEnd::Skipped);
    assert_eq!(kept.of("namespaces", "postgres").api_version, "v1");
    let order = [
        ("persistentvolumeclaims", "data-postgresql-0"),
        ("pods", "postgresql-0"),
        ("services", "postgres-service"),
        ("controllerrevisions.apps", "postgresql-1"),
        ("statefulsets.apps", "postgresql"),
    ];
    let places: Vec<usize> = order
        .iter()
        .map(|(resource, name)| kept.place(resource, name))
        .collect();
    assert!(places.is_sorted(), "{places:?}");

    let [pod_told] = &kept.pods[..] else {
        panic!("{:?}", kept.pods)
    };
    assert_eq!(pod_told.uid, meta["uid"].as_str().unwrap());
    let source = VolumeRef::new("postgres", "postgresql-0", "data");
    let volume = ("data".to_owned(), source, SnapshotId::from_bytes([7; 16]));
    assert_eq!(pod_told.volumes, [volume]);
    assert_eq!(pod_told.hooks[0].container, "postgresql");
}

#[tokio::test]
async fn what_exists_already_is_no_error_and_what_differs_is_a_warning() {
    let (server, connection) = started();
    server.namespace("postgres");
    server.put(object(
        "v1",
        "ConfigMap",
        "postgres",
        "kube-root-ca.crt",
        &json!({"data": {"ca.crt": "new"}}),
    ));
    server.put(object(
        "v1",
        "ServiceAccount",
        "postgres",
        "default",
        &json!({"imagePullSecrets": [{"name": "pull"}]}),
    ));
    server.put(object(
        "v1",
        "Secret",
        "postgres",
        "postgres-secret",
        &json!({"type": "Opaque", "data": {"password": "eA=="}}),
    ));
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    let map = kept.of("configmaps", "kube-root-ca.crt");
    assert_eq!(map.end, ItemEnd::Skipped);
    assert_eq!(
        map.warnings,
        [
            "could not restore, ConfigMap:kube-root-ca.crt already exists. Warning: the in-cluster version is different than the backed-up version"
        ]
    );
    assert_eq!(kept.warnings().len(), 1, "{:?}", kept.warnings());
    for (resource, name) in [
        ("secrets", "postgres-secret"),
        ("serviceaccounts", "default"),
        ("namespaces", "postgres"),
    ] {
        assert_eq!(kept.of(resource, name).end, ItemEnd::Skipped, "{resource}");
    }
}

#[tokio::test]
async fn definitions_come_first_and_then_the_objects_of_their_kinds() {
    let (server, connection) = started();
    let definition = crds::all()
        .into_iter()
        .find(|one| one.metadata.name.as_deref() == Some("schedules.velero.io"));
    let objects = [
        (
            "schedules.velero.io",
            object(
                "velero.io/v1",
                "Schedule",
                "shop",
                "nightly",
                &json!({"spec": {"schedule": "@daily", "template": {}}, "status": {"phase": "Enabled"}}),
            ),
        ),
        (
            "boats.example.com",
            object("example.com/v1", "Boat", "shop", "x", &json!({})),
        ),
        (
            "podsecuritypolicies.policy",
            object("policy/v1beta1", "PodSecurityPolicy", "", "p", &json!({})),
        ),
        (
            "customresourcedefinitions.apiextensions.k8s.io",
            serde_json::to_value(definition.unwrap()).unwrap(),
        ),
    ];
    let kept = Asked::new(&objects, &json!({})).run(&connection).await;
    assert_eq!(
        kept.items[0].resource,
        "customresourcedefinitions.apiextensions.k8s.io"
    );
    let schedule = kept.of("schedules.velero.io", "nightly");
    assert_eq!(schedule.end, ItemEnd::Created, "{schedule:?}");
    assert!(
        server
            .get("schedules.velero.io", "shop", "nightly")
            .is_some()
    );
    let boat = kept.of("boats.example.com", "x");
    assert_eq!(boat.end, ItemEnd::Failed);
    assert!(boat.errors[0].contains("boats.example.com"));
    let policy = kept.of("podsecuritypolicies.policy", "p");
    assert!(
        policy.errors.is_empty() && policy.warnings.len() == 1,
        "{policy:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_or_loses_answers_breaks_nothing() {
    let (server, connection) = started();
    let creates =
        |request: &KubeRequest| request.method == "POST" && request.path.ends_with("/secrets");
    server.faults().next(5, creates, KubeFault::Answer(503));
    let pods = |request: &KubeRequest| request.method == "POST" && request.path.ends_with("/pods");
    server.faults().next(1, pods, KubeFault::DropAfter);
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert_eq!(kept.of("secrets", "postgres-secret").end, ItemEnd::Created);
    assert_eq!(kept.of("pods", "postgresql-0").end, ItemEnd::Created);
    assert_eq!(kept.pods.len(), 1);
}

#[tokio::test]
async fn an_object_that_the_server_refuses_is_an_error_of_its_own() {
    let (server, connection) = started();
    let creates =
        |request: &KubeRequest| request.method == "POST" && request.path.ends_with("/secrets");
    server.faults().next(1, creates, KubeFault::Answer(403));
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    let secret = kept.of("secrets", "postgres-secret");
    assert_eq!((secret.end, secret.errors.len()), (ItemEnd::Failed, 1));
    assert_eq!(kept.errors().len(), 1);
    assert_eq!(kept.of("pods", "postgresql-0").end, ItemEnd::Created);
}

#[tokio::test]
async fn a_namespace_that_goes_is_waited_for() {
    let (server, connection) = started();
    server.namespace("postgres");
    server.edit("namespaces", "", "postgres", |namespace| {
        namespace["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        namespace["status"]["phase"] = "Terminating".into();
    });
    let server = Arc::new(server);
    let later = Arc::clone(&server);
    let gone = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        later.remove("namespaces", "", "postgres");
    });
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    gone.await.unwrap();
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert_eq!(kept.of("namespaces", "postgres").end, ItemEnd::Created);
}
