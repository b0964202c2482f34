//! The identity that a pod's volume keeps while pods come and go.

use k8s_openapi::api::core::v1::Pod;
use orlop_core::{Lineage, VolumeRef};

/// The lineage of a claim's volume. It outlives its pods, and ends with the claim.
pub fn of_claim(uid: &str) -> Lineage {
    Lineage(format!("pvc:{uid}"))
}

/// The lineage of a volume that its pod brings along: by what controls the pod, so that a pod that is made anew
/// under another name goes on from the snapshot of the one before.
///
/// Replicas of a Deployment share one: each goes on from the last snapshot of any, which costs no correctness, since
/// what differs is read. Pods of a StatefulSet and of a DaemonSet are told apart by ordinal and by node.
pub fn of_pod_volume(pod: &Pod, volume: &str) -> Lineage {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.find(|owner| owner.controller == Some(true)) else {
        return VolumeRef::new(namespace, name, volume).default_lineage();
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let hash = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("pod-template-hash"));
    let by = match owner.kind.as_str() {
        // The API server's copy of a pod that a node runs by itself; its name says which node.
        "Node" => return VolumeRef::new(namespace, name, volume).default_lineage(),
        "StatefulSet" => format!("statefulset/{name}"),
        "DaemonSet" => format!("daemonset/{}/{}", owner.name, node.unwrap_or_default()),
        "ReplicaSet" => {
            let deployment =
                hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            match deployment {
                Some(deployment) => format!("deployment/{deployment}"),
                None => format!("replicaset/{}", owner.name),
            }
        }
        other => format!("{}/{}", other.to_lowercase(), owner.name),
    };
    Lineage(format!("{namespace}/{by}/{volume}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lineage(pod: &str, owner: &Value, labels: &Value) -> String {
        let owners = if owner.is_null() {
            json!([])
        } else {
            json!([owner])
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": pod, "namespace": "shop", "ownerReferences": owners, "labels": labels},
            "spec": {"containers": [], "nodeName": "n1"},
        }))
        .unwrap();
        of_pod_volume(&pod, "data").0
    }

    fn owner(kind: &str, name: &str, controller: bool) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": controller})
    }

    #[test]
    fn a_pod_under_another_name_keeps_its_lineage() {
        let labels = json!({"pod-template-hash": "5f7"});
        let cases = [
            (
                "web-5f7-abc",
                owner("ReplicaSet", "web-5f7", true),
                "shop/deployment/web/data",
            ),
            (
                "web-5f7-xyz",
                owner("ReplicaSet", "web-5f7", true),
                "shop/deployment/web/data",
            ),
            (
                "rs-1",
                owner("ReplicaSet", "rs", true),
                "shop/replicaset/rs/data",
            ),
            (
                "db-0",
                owner("StatefulSet", "db", true),
                "shop/statefulset/db-0/data",
            ),
            (
                "ds-x",
                owner("DaemonSet", "ds", true),
                "shop/daemonset/ds/n1/data",
            ),
            ("job-x", owner("Job", "job", true), "shop/job/job/data"),
            ("etcd-n1", owner("Node", "n1", true), "shop/etcd-n1/data"),
            ("bare", Value::Null, "shop/bare/data"),
            (
                "bare",
                owner("ReplicaSet", "web-5f7", false),
                "shop/bare/data",
            ),
        ];
        for (pod, owner, want) in cases {
            assert_eq!(lineage(pod, &owner, &labels), want);
        }
    }
}
