//! Objects for tests of this module.

#![allow(
    clippy::needless_pass_by_value,
    reason = "json!(…) reads better without a reference"
)]

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

/// A running pod `shop/db-0` on node `n1` with these annotations and volumes, all mounted by its container `app`.
pub(super) fn pod(annotations: Value, volumes: Value) -> Pod {
    let names = volumes.as_array().unwrap().iter();
    let mounts: Vec<Value> = names
        .map(|volume| json!({"name": volume["name"], "mountPath": "/x"}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {
            "name": "db-0", "namespace": "shop", "uid": "pod-uid", "annotations": annotations,
            "labels": {"app": "db"},
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "app", "volumeMounts": mounts}, {"name": "side"}],
            "volumes": volumes,
        },
        "status": {"phase": "Running"},
    }))
    .unwrap()
}

/// A claim of namespace `shop` with the UID `uid-NAME`, bound to the volume `pv-NAME`.
pub(super) fn claim(name: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {"volumeName": format!("pv-{name}")},
    }))
    .unwrap()
}

/// The volume of [`claim`], with this source.
pub(super) fn persistent(claim: &str, source: Value) -> PersistentVolume {
    let mut volume = json!({"metadata": {"name": format!("pv-{claim}")}, "spec": {}});
    volume["spec"] = source;
    serde_json::from_value(volume).unwrap()
}
