//! Pods that wait for their volumes, claims and volumes.

use super::*;

#[tokio::test]
async fn a_restore_that_begins_again_makes_nothing_twice_and_tells_its_pods_again() {
    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let first = asked.run(&connection).await;
    let revision = server.revision();
    let again = asked.run(&connection).await;
    assert_eq!(server.revision(), revision);
    assert_eq!(again.items, first.items);
    assert_eq!(again.pods, first.pods);
    // Another restore of that name has objects of its own.
    let mut other =
        Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    other.restore.metadata.uid = Some("other".to_owned());
    let other = other.run(&connection).await;
    assert!(other.pods.is_empty());
    let pod = other.of("pods", "postgresql-0");
    assert_eq!(pod.end, ItemEnd::Skipped);
    assert!(
        pod.warnings
            .iter()
            .any(|line| line.contains("nothing is restored into its volumes"))
    );
}

#[tokio::test]
async fn claims_without_data_say_that_they_come_back_empty_and_retained_volumes_come_back() {
    let (server, connection) = started();
    // No volume has a snapshot.
    let asked = Asked::new(&guide(), &json!({}));
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"]["volumeName"], "pv-1");
    assert!(server.get("persistentvolumes", "", "pv-1").is_some());
    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    assert_eq!(pod["spec"].get("initContainers"), None);

    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"restorePVs": false}));
    let kept = asked.run(&connection).await;
    let told = &kept
        .of("persistentvolumeclaims", "data-postgresql-0")
        .warnings;
    assert!(
        told.len() == 1 && told[0].contains("comes back empty"),
        "{told:?}"
    );
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"].get("volumeName"), None);
}

#[tokio::test]
async fn a_restored_pod_is_followed_to_its_volumes_and_these_are_finished() {
    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    // As the coordinator does, from a task of its own.
    let spawned = connection.clone();
    let (asked, kept) = tokio::spawn(async move {
        let kept = asked.run(&spawned).await;
        (asked, kept)
    })
    .await
    .unwrap();
    let pod = &kept.pods[0];
    let roots = ["/srv".to_owned()];
    let state = pod_state(&connection, pod, &roots).await.unwrap();
    assert!(matches!(state, PodState::Unscheduled { .. }), "{state:?}");
    server.put(object(
        "v1",
        "PersistentVolume",
        "",
        "pv-new",
        &json!({
            "spec": {"persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": "/srv/new"}},
        }),
    ));
    server.edit(
        "persistentvolumeclaims",
        "postgres",
        "data-postgresql-0",
        |claim| {
            claim["spec"]["volumeName"] = "pv-new".into();
        },
    );
    server.edit("pods", "postgres", "postgresql-0", |pod| {
        pod["spec"]["nodeName"] = "n1".into();
        pod["status"]["initContainerStatuses"] = json!([{
            "name": "restore-wait", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"running": {}},
        }]);
    });
    let state = pod_state(&connection, pod, &roots).await.unwrap();
    let PodState::Waiting { node, places } = state else {
        panic!("{state:?}")
    };
    assert_eq!((node.as_str(), places.len()), ("n1", 1));
    let (volume, place) = &places[0];
    assert_eq!(volume, "data");
    assert_eq!(
        (place.directory.as_str(), place.host_path.as_str()),
        ("pv-new", "/srv/new")
    );
    assert_eq!(
        (place.claim.as_str(), place.persistent_volume.as_str()),
        ("data-postgresql-0", "pv-new")
    );
    assert_eq!(place.pod_uid, pod.uid);
    let state = pod_state(&connection, pod, &[]).await.unwrap();
    assert!(matches!(state, PodState::Stuck { reason, .. } if reason.contains("--host-roots")));

    server.run_pod("postgres", "postgresql-0", "n1");
    assert_eq!(
        pod_state(&connection, pod, &roots).await.unwrap(),
        PodState::Started
    );
    let state = container_state(&connection, "postgres", "postgresql-0", "postgresql").await;
    assert_eq!(state.unwrap(), ContainerState::Ready);

    let cancel = CancellationToken::new();
    let warnings = soon(finish_volumes(&connection, &asked.request(), &cancel)).await;
    assert!(warnings.is_empty(), "{warnings:?}");
    let volume = server.get("persistentvolumes", "", "pv-new").unwrap();
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(volume["metadata"]["labels"]["disk"], "fast");

    server.remove("pods", "postgres", "postgresql-0");
    assert_eq!(
        pod_state(&connection, pod, &roots).await.unwrap(),
        PodState::Gone
    );
    let state = container_state(&connection, "postgres", "postgresql-0", "postgresql").await;
    assert!(matches!(state.unwrap(), ContainerState::Never { .. }));
}

#[tokio::test]
async fn a_retained_volume_whose_claim_is_gone_serves_the_claim_again() {
    let (server, connection) = started();
    server.put(object("v1", "PersistentVolume", "", "pv-1", &json!({
        "metadata": {"labels": {"disk": "fast"}},
        "spec": {"persistentVolumeReclaimPolicy": "Retain", "claimRef": {
            "namespace": "postgres", "name": "data-postgresql-0", "uid": "old", "resourceVersion": "1",
        }},
        "status": {"phase": "Released"},
    })));
    let kept = Asked::new(&guide(), &json!({})).run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert_eq!(kept.of("persistentvolumes", "pv-1").end, ItemEnd::Updated);
    let volume = server.get("persistentvolumes", "", "pv-1").unwrap();
    let want = json!({"namespace": "postgres", "name": "data-postgresql-0"});
    assert_eq!(volume["spec"]["claimRef"], want);
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"]["volumeName"], "pv-1");
    assert!(
        kept.of("persistentvolumeclaims", "data-postgresql-0")
            .warnings
            .is_empty()
    );
}

#[tokio::test]
async fn a_pod_that_shares_a_restored_claim_says_so() {
    let (server, connection) = started();
    let mut objects = guide();
    objects.push(("pods", object("v1", "Pod", "postgres", "reader", &json!({
        "spec": {"containers": [{"name": "r"}],
                 "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data-postgresql-0"}}]},
    }))));
    let asked = Asked::new(&objects, &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    let told = &kept.of("pods", "reader").warnings;
    assert!(
        told.len() == 1 && told[0].contains("postgresql-0"),
        "{told:?}"
    );
    let reader = server.get("pods", "postgres", "reader").unwrap();
    assert_eq!(reader["spec"].get("initContainers"), None);
    assert_eq!(kept.pods.len(), 1);
}
#[tokio::test]
async fn a_claim_that_gets_no_volume_is_the_reason_of_a_pod_without_a_node() {
    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({})).with_database();
    let kept = asked.run(&connection).await;
    let pod = &kept.pods[0];
    let reason = async || match pod_state(&connection, pod, &[]).await.unwrap() {
        PodState::Unscheduled { reason } => reason,
        state => panic!("{state:?}"),
    };
    assert!(!reason().await.contains("claim"), "{}", reason().await);
    let claim = |class: &'static str| {
        let (ns, name) = ("postgres", "data-postgresql-0");
        server.edit("persistentvolumeclaims", ns, name, |claim| {
            claim["spec"]["storageClassName"] = class.into();
        });
    };
    claim("gone");
    let said = reason().await;
    assert!(
        said.contains("claim data-postgresql-0 wants the StorageClass gone"),
        "{said}"
    );
    server.put(object(
        "storage.k8s.io/v1",
        "StorageClass",
        "",
        "gone",
        &json!({"provisioner": "example.com/disks"}),
    ));
    assert!(
        !reason().await.contains("StorageClass"),
        "{}",
        reason().await
    );
    server.remove("persistentvolumeclaims", "postgres", "data-postgresql-0");
    let said = reason().await;
    assert!(
        said.contains("claim data-postgresql-0 does not exist"),
        "{said}"
    );
}

#[tokio::test]
async fn a_dump_is_loaded_first_and_only_where_a_volume_comes_back() {
    let mut objects = guide();
    let pods = objects.iter_mut().find(|(resource, _)| *resource == "pods");
    let (_, pod) = pods.unwrap();
    pod["metadata"]["annotations"]["orlop.io/load-command"] = "[\"load\", \"/data/dump\"]".into();
    let (_server, connection) = started();
    let kept = Asked::new(&objects, &json!({}))
        .with_database()
        .run(&connection)
        .await;
    let hooks: Vec<&str> = kept.pods[0]
        .hooks
        .iter()
        .map(|hook| hook.command[0].as_str())
        .collect();
    assert_eq!(hooks, ["load", "psql"]);
    assert!(kept.pods[0].hooks[0].wait_for_ready);
    let (_server, connection) = started();
    let kept = Asked::new(&objects, &json!({})).run(&connection).await;
    let hooks: Vec<&str> = kept.pods[0]
        .hooks
        .iter()
        .map(|hook| hook.command[0].as_str())
        .collect();
    assert_eq!(hooks, ["psql"]);
    let warnings = &kept.of("pods", "postgresql-0").warnings;
    assert!(
        warnings.iter().any(|text| text.contains("nothing to load")),
        "{warnings:?}"
    );
}
