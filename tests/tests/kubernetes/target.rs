//! Which volume a snapshot is restored into while its pod is there.

use orlop_core::{VolumeRef, run::ClaimRef};
use orlop_kubernetes::restore::{NotLocated, locate_claim, locate_volume};
use orlop_tests::kube_api::KubeApi;
use serde_json::{Value, json};

use crate::cluster::started;

fn pod(server: &KubeApi, name: &str, volumes: &Value) {
    server.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes},
    }));
}

fn claim(server: &KubeApi, name: &str, source: &Value) {
    server.put(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"volumeName": format!("pv-{name}")},
    }));
    let mut spec = json!({"capacity": {"storage": "1Gi"}});
    for (key, value) in source.as_object().unwrap() {
        spec[key] = value.clone();
    }
    server.put(json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("pv-{name}")}, "spec": spec,
    }));
}

fn named(claim: &str) -> ClaimRef {
    ClaimRef {
        namespace: "shop".to_owned(),
        claim: claim.to_owned(),
    }
}

#[tokio::test]
async fn a_volume_is_found_by_its_pod_and_by_its_claim() {
    let (server, connection) = started();
    server.namespace("shop");
    claim(
        &server,
        "db",
        &json!({"csi": {"driver": "d", "volumeHandle": "h"}}),
    );
    let volumes = json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "db"}},
        {"name": "cache", "emptyDir": {}},
        {"name": "keys", "secret": {"secretName": "s"}},
    ]);
    pod(&server, "db-0", &volumes);
    let data = VolumeRef::new("shop", "db-0", "data");
    let early = locate_volume(&connection, &data, &[]).await.unwrap_err();
    assert!(early.to_string().contains("no node"), "{early}");
    let idle = locate_claim(&connection, &named("db"), &[])
        .await
        .unwrap_err();
    assert!(
        idle.to_string().contains("no pod mounts claim shop/db"),
        "{idle}"
    );

    let running = server.run_pod("shop", "db-0", "n1");
    let found = locate_volume(&connection, &data, &[]).await.unwrap();
    assert_eq!((found.node.as_str(), found.runs), ("n1", true));
    assert_eq!(found.place.directory, "pv-db");
    assert_eq!(running["metadata"]["uid"], found.place.pod_uid.as_str());
    let by_claim = locate_claim(&connection, &named("db"), &[]).await.unwrap();
    assert_eq!(by_claim, found);
    let cache = VolumeRef::new("shop", "db-0", "cache");
    let cache = locate_volume(&connection, &cache, &[]).await.unwrap();
    assert_eq!(cache.place.directory, "cache");

    let keys = VolumeRef::new("shop", "db-0", "keys");
    let refused = locate_volume(&connection, &keys, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("a secret"), "{refused}");
    for (volume, kind) in [
        (VolumeRef::new("shop", "db-1", "data"), "pod"),
        (VolumeRef::new("shop", "db-0", "date"), "volume"),
    ] {
        let error = locate_volume(&connection, &volume, &[]).await.unwrap_err();
        assert!(
            matches!(&error, NotLocated::Missing { kind: found, .. } if *found == kind),
            "{error:?}"
        );
        assert!(error.to_string().contains(kind), "{error}");
    }
    let none = locate_claim(&connection, &named("dc"), &[])
        .await
        .unwrap_err();
    assert!(
        matches!(none, NotLocated::Missing { kind: "claim", .. }),
        "{none:?}"
    );
}

#[tokio::test]
async fn a_directory_of_the_node_is_restored_into_below_the_roots_alone() {
    let (server, connection) = started();
    server.namespace("shop");
    claim(
        &server,
        "local",
        &json!({"hostPath": {"path": "/opt/local/pv"}}),
    );
    pod(
        &server,
        "web",
        &json!([{"name": "data", "persistentVolumeClaim": {"claimName": "local"}}]),
    );
    server.run_pod("shop", "web", "n1");
    let refused = locate_claim(&connection, &named("local"), &[])
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("--host-roots"), "{refused}");
    let roots = ["/opt/local".to_owned()];
    let found = locate_claim(&connection, &named("local"), &roots)
        .await
        .unwrap();
    assert_eq!(found.place.host_path, "/opt/local/pv");
}
