//! What a kubelet would say of pods, for tests that have none.

use serde_json::{Value, json};

use super::{
    KubeApi,
    meta::{child, items, now, text},
};

impl KubeApi {
    /// Puts a pod on a node, running and ready in all its containers; init containers are done.
    ///
    /// # Panics
    /// There is no such pod.
    pub fn run_pod(&self, namespace: &str, name: &str, node: &str) -> Value {
        self.edit("pods", namespace, name, |pod| run_on(pod, node))
    }

    /// Sets a pod's phase, such as `Pending` or `Failed`; it is then not ready.
    ///
    /// # Panics
    /// There is no such pod.
    pub fn set_pod_phase(&self, namespace: &str, name: &str, phase: &str) -> Value {
        self.edit("pods", namespace, name, |pod| {
            child(pod, "status").insert("phase".to_owned(), phase.into());
            let conditions = pod["status"]["conditions"].as_array_mut();
            for condition in conditions.into_iter().flatten() {
                if condition["type"] == "Ready" || condition["type"] == "ContainersReady" {
                    condition["status"] = "False".into();
                }
            }
        })
    }
}

/// Makes a pod one that runs on a node and is ready in all its containers; init containers are done.
pub fn run_on(pod: &mut Value, node: &str) {
    child(pod, "spec").insert("nodeName".to_owned(), node.into());
    let running = json!({"running": {"startedAt": now()}});
    let done = json!({"terminated": {
        "exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now(),
    }});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .map(|one| json!({"type": one, "status": "True", "lastTransitionTime": now()}));
    pod["status"] = json!({
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIP": "127.0.0.1",
        "qosClass": "BestEffort",
        "startTime": now(),
        "conditions": conditions,
        "initContainerStatuses": statuses(pod, "spec.initContainers", &done),
        "containerStatuses": statuses(pod, "spec.containers", &running),
    });
}

fn statuses(pod: &Value, list: &str, state: &Value) -> Vec<Value> {
    items(pod, list)
        .iter()
        .map(|container| {
            json!({
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "containerID": format!("containerd://{}", text(container, "name")),
                "ready": true,
                "started": true,
                "restartCount": 0,
                "state": state,
            })
        })
        .collect()
}
