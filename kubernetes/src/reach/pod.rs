//! Which pod is the coordinator, and at which port.

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::ReachError;

/// The name of the port, as the Service has it.
const PORT_NAME: &str = "grpc";
/// The port if the pod does not say.
const PORT: u16 = 7070;

/// A pod and its port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pod: String,
    pub(super) port: u16,
}

/// The newest pod that is ready and not about to end. There is one at most, for the Deployment never runs two, unless
/// somebody has changed that.
pub(super) fn choose(namespace: &str, pods: &[Pod]) -> Result<Target, ReachError> {
    let age = |pod: &&Pod| pod.metadata.creation_timestamp.clone();
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    let ready = pods.iter().filter(|pod| is_ready(pod)).max_by_key(age);
    if let Some(pod) = ready {
        return Ok(Target {
            pod: name(pod),
            port: port(pod),
        });
    }
    let namespace = namespace.to_owned();
    match pods.iter().max_by_key(age) {
        None => Err(ReachError::NoPod { namespace }),
        Some(pod) => Err(ReachError::NotReady {
            namespace,
            pod: name(pod),
            why: state(pod),
        }),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|one| one.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

fn port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|one| one.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(PORT_NAME));
    named
        .and_then(|port| u16::try_from(port.container_port).ok())
        .unwrap_or(PORT)
}

/// What a pod is that is not ready.
fn state(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "it is being deleted".to_owned();
    }
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.clone().unwrap_or_else(|| "Pending".to_owned());
    match reason(status) {
        Some(reason) => format!("{phase}: {reason}"),
        None => phase,
    }
}

/// Why a container does not run, or the pod has no node.
fn reason(status: PodStatus) -> Option<String> {
    let containers = [status.init_container_statuses, status.container_statuses];
    let states = containers.into_iter().flatten().flatten();
    let mut reasons = states.filter_map(|one| one.state?.waiting?.reason);
    // Of one that waits for its turn nothing is learnt.
    let of_container = reasons.find(|one| one != "PodInitializing");
    of_container.or_else(|| {
        let mut conditions = status.conditions.into_iter().flatten();
        conditions.find_map(|one| {
            let is_wrong = one.type_ == "PodScheduled" && one.status == "False";
            is_wrong.then_some(one.message?)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, minute: u8, more: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-02T03:{minute:02}:00Z")},
            "spec": {"containers": [
                {"name": "side", "ports": [{"name": "http", "containerPort": 80}]},
                {"name": "velero", "ports": [{"name": "grpc", "containerPort": 7171}]},
            ]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (key, value) in more.as_object().unwrap() {
            let place = pod.pointer_mut(key).unwrap();
            *place = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    fn refusal(pods: &[Pod]) -> String {
        choose("velero", pods).unwrap_err().to_string()
    }

    #[test]
    fn the_newest_pod_that_is_ready_is_the_coordinator() {
        let ready = |name, minute| pod(name, minute, &json!({}));
        let not_ready = json!({"/status": {"phase": "Pending"}});
        let pods = [ready("a", 1), ready("b", 2), pod("c", 3, &not_ready)];
        let target = choose("velero", &pods).unwrap();
        assert_eq!((target.pod.as_str(), target.port), ("b", 7171));
        let unnamed = json!({"/spec": {"containers": [{"name": "velero"}]}});
        let target = choose("velero", &[pod("a", 1, &unnamed)]).unwrap();
        assert_eq!(target.port, 7070);
    }

    #[test]
    fn a_pod_that_is_not_ready_says_why() {
        let waits = json!({"/status": {
            "phase": "Pending",
            "initContainerStatuses": [{
                "name": "i", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff"}},
            }],
            "containerStatuses": [{
                "name": "velero", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "PodInitializing"}},
            }],
        }});
        let text = refusal(&[pod("a", 1, &waits)]);
        assert!(text.contains("(Pending: ImagePullBackOff)"), "{text}");
        let homeless = json!({"/status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"},
        ]}});
        let text = refusal(&[pod("a", 1, &homeless)]);
        assert!(
            text.contains("(Pending: 0/1 nodes are available)"),
            "{text}"
        );
        let leaves =
            json!({"/metadata": {"name": "a", "deletionTimestamp": "2026-01-02T03:04:05Z"}});
        let text = refusal(&[pod("a", 1, &leaves)]);
        assert!(text.contains("being deleted"), "{text}");
        assert!(refusal(&[]).contains("deploy=velero"));
    }
}
