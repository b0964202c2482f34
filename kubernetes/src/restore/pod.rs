//! Where restored pods are, for those who restore into their volumes and run their hooks.

use k8s_openapi::api::{
    core::v1::{
        ContainerStateTerminated, ContainerStatus, PersistentVolume, PersistentVolumeClaim, Pod,
        PodStatus, Volume,
    },
    storage::v1::StorageClass,
};
use orlop_core::run::{Place, not_found};

use super::{RestoredPod, wait_container};
use crate::{
    client::{ClientError, Connection, Objects},
    selection::volumes::{is_below, running_containers},
};

/// Where a restored pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodState {
    /// It does not exist any more.
    Gone,
    /// Another one of its name exists: something has made it anew.
    Replaced {
        /// The other's uid.
        uid: String,
        /// Whether that one waits for volumes too.
        waits: bool,
    },
    /// It has no node.
    Unscheduled {
        /// Why, as the scheduler says.
        reason: String,
    },
    /// It has a node, and its container that waits does not run, or a volume cannot be had there.
    Starting {
        /// The node.
        node: String,
        /// What it waits for.
        reason: String,
    },
    /// It has a node, and its container that waits does not run, nor will it before somebody mends something.
    Stuck {
        /// The node.
        node: String,
        /// What.
        reason: String,
    },
    /// Its container that waits runs: its volumes are there and nobody uses them.
    Waiting {
        /// The node.
        node: String,
        /// Each of its volumes that has a snapshot, and where it is.
        places: Vec<(String, Place)>,
    },
    /// It waits no longer.
    Started,
    /// It has ended.
    Ended,
}

/// Whether a hook can run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It runs, and is not ready.
    Running,
    /// It runs and is ready.
    Ready,
    /// Not yet.
    Starting {
        /// What it waits for.
        reason: String,
    },
    /// It will never be up.
    Never {
        /// Why.
        reason: String,
    },
}

/// Where a restored pod is. Volumes of nodes are found below `host_roots` only.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn pod_state(
    connection: &Connection,
    pod: &RestoredPod,
    host_roots: &[String],
) -> Result<PodState, ClientError> {
    let pods = Objects::<Pod>::of(connection, Some(&pod.namespace));
    let Some(found) = pods.get(&pod.pod).await? else {
        return Ok(PodState::Gone);
    };
    let state = without_places(&found, &pod.uid, !pod.volumes.is_empty());
    let node = match state {
        PodState::Waiting { node, .. } => node,
        PodState::Unscheduled { reason } => {
            let claims = claim_trouble(connection, &found).await?;
            let reason = claims.map_or(reason.clone(), |claims| format!("{claims} ({reason})"));
            return Ok(PodState::Unscheduled { reason });
        }
        state => return Ok(state),
    };
    let mut places = Vec::new();
    for (volume, _, _) in &pod.volumes {
        match place(connection, &found, volume, host_roots).await? {
            Ok(place) => places.push((volume.clone(), place)),
            Err(reason) => return Ok(PodState::Stuck { node, reason }),
        }
    }
    Ok(PodState::Waiting { node, places })
}

/// Where a pod is by its own object.
fn without_places(pod: &Pod, uid: &str, has_volumes: bool) -> PodState {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let mut init = spec.init_containers.iter().flatten();
    let waits = init.any(|one| one.name == wait_container::NAME);
    let own = pod.metadata.uid.as_deref().unwrap_or_default();
    if own != uid {
        let uid = own.to_owned();
        return PodState::Replaced { uid, waits };
    }
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return PodState::Ended;
    }
    let node = spec.node_name.unwrap_or_default();
    if node.is_empty() {
        let reason = unscheduled(&status);
        return PodState::Unscheduled { reason };
    }
    if !waits || !has_volumes {
        return if has_volumes || status.phase.as_deref() == Some("Running") {
            PodState::Started
        } else {
            let reason = "its containers do not run yet".to_owned();
            PodState::Starting { node, reason }
        };
    }
    let mut statuses = status.init_container_statuses.iter().flatten();
    let status = statuses.find(|one| one.name == wait_container::NAME);
    let state = status.and_then(|one| one.state.clone()).unwrap_or_default();
    let last = status.and_then(|one| one.last_state.clone());
    if state.running.is_some() {
        let places = Vec::new();
        return PodState::Waiting { node, places };
    }
    let reason = match (state.waiting, state.terminated) {
        (_, Some(ended)) if ended.exit_code == 0 => return PodState::Started,
        (_, Some(ended)) => {
            let reason = failed(&ended);
            return PodState::Stuck { node, reason };
        }
        (Some(waiting), None) => {
            let why = waiting.reason.as_deref().unwrap_or("waiting");
            let message = waiting.message.as_deref();
            let image = init_image(pod);
            let reason = match why {
                "ContainerCreating" | "PodInitializing" | "waiting" => {
                    let reason = said(why, message);
                    return PodState::Starting { node, reason };
                }
                "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                    said(
                        &format!(
                            "the image {image} of {} cannot be pulled, {why}",
                            wait_container::NAME
                        ),
                        message,
                    )
                }
                "CrashLoopBackOff" => match last.and_then(|state| state.terminated) {
                    Some(ended) => failed(&ended),
                    None => said(why, message),
                },
                _ => said(why, message),
            };
            return PodState::Stuck { node, reason };
        }
        (None, None) => "the node has not begun with it".to_owned(),
    };
    PodState::Starting { node, reason }
}

fn failed(ended: &ContainerStateTerminated) -> String {
    let what = format!(
        "{} has ended with code {}",
        wait_container::NAME,
        ended.exit_code
    );
    said(&what, ended.message.as_deref())
}

/// The image of the container that waits.
fn init_image(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let mut init = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    let found = init.find(|one| one.name == wait_container::NAME);
    found.and_then(|one| one.image.clone()).unwrap_or_default()
}

fn said(what: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{what}: {message}"),
        None => what.to_owned(),
    }
}

fn unscheduled(status: &PodStatus) -> String {
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|one| one.type_ == "PodScheduled" && one.status != "True");
    let message = condition.and_then(|one| one.message.clone().or_else(|| one.reason.clone()));
    message.unwrap_or_else(|| "the scheduler has not looked at it".to_owned())
}

/// Names of the claims of a pod's volumes.
fn claim_names(pod: &Pod) -> Vec<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| claim_of(pod, volume)).collect()
}

/// The claim of a volume of a pod.
fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    let claim = volume.persistent_volume_claim.as_ref();
    let claim = claim.map(|claim| claim.claim_name.clone());
    claim.or_else(|| {
        volume.ephemeral.as_ref()?;
        let pod = pod.metadata.name.as_deref()?;
        Some(format!("{pod}-{}", volume.name))
    })
}

/// What keeps the first claim of a pod, of those that something does, from getting a volume.
async fn claim_trouble(connection: &Connection, pod: &Pod) -> Result<Option<String>, ClientError> {
    let claims =
        Objects::<PersistentVolumeClaim>::of(connection, pod.metadata.namespace.as_deref());
    for name in claim_names(pod) {
        let Some(claim) = claims.get(&name).await? else {
            return Ok(Some(format!(
                "its claim {name} does not exist: make it, or delete the pod and restore with its claims"
            )));
        };
        let spec = claim.spec.unwrap_or_default();
        let bound = spec.volume_name.is_some_and(|bound| !bound.is_empty());
        let class = spec.storage_class_name.filter(|class| !class.is_empty());
        let (false, Some(class)) = (bound, class) else {
            continue;
        };
        let classes = Objects::<StorageClass>::of(connection, None);
        if classes.get(&class).await?.is_none() {
            return Ok(Some(format!(
                "its claim {name} wants the StorageClass {class}, which does not exist: make one of that name, or map it to \
                 another by a ConfigMap with the label velero.io/change-storage-class and restore again"
            )));
        }
    }
    Ok(None)
}

/// Where a volume of a pod is, or why it is nowhere.
pub(super) async fn place(
    connection: &Connection,
    pod: &Pod,
    name: &str,
    host_roots: &[String],
) -> Result<Result<Place, String>, ClientError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut volumes = spec.volumes.iter().flatten();
    let Some(volume) = volumes.find(|volume| volume.name == name) else {
        return Ok(Err(format!("volume {name}: the pod does not have it")));
    };
    let mut place = Place {
        pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
        directory: name.to_owned(),
        ..Place::default()
    };
    let Some(claim) = claim_of(pod, volume) else {
        return Ok(Ok(place));
    };
    let namespace = pod.metadata.namespace.as_deref();
    let found = Objects::<PersistentVolumeClaim>::of(connection, namespace)
        .get(&claim)
        .await?;
    let Some(found) = found else {
        return Ok(Err(format!(
            "volume {name}: its claim {claim} does not exist"
        )));
    };
    let bound = found.spec.and_then(|spec| spec.volume_name);
    let Some(bound) = bound.filter(|bound| !bound.is_empty()) else {
        return Ok(Err(format!(
            "volume {name}: its claim {claim} is not bound"
        )));
    };
    let persistent = Objects::<PersistentVolume>::of(connection, None)
        .get(&bound)
        .await?;
    let source = persistent
        .and_then(|volume| volume.spec)
        .and_then(|spec| spec.host_path);
    if let Some(source) = source {
        if !host_roots.iter().any(|root| is_below(&source.path, root)) {
            return Ok(Err(format!(
                "volume {name}: it is the directory {} of the node, which is below none of the agents' --host-roots",
                source.path
            )));
        }
        place.host_path = source.path;
    }
    place.claim = claim;
    place.claim_uid = found.metadata.uid.unwrap_or_default();
    place.directory.clone_from(&bound);
    place.persistent_volume = bound;
    Ok(Ok(place))
}

/// Whether a hook can run in a container of a pod, whichever pod has that name now.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn container_state(
    connection: &Connection,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<ContainerState, ClientError> {
    let found = Objects::<Pod>::of(connection, Some(namespace))
        .get(pod)
        .await?;
    Ok(match found {
        Some(found) => of_container(&found, container),
        None => never("the pod does not exist any more"),
    })
}

fn never(reason: &str) -> ContainerState {
    let reason = reason.to_owned();
    ContainerState::Never { reason }
}

fn of_container(pod: &Pod, name: &str) -> ContainerState {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let names: Vec<&str> = running_containers(&spec)
        .map(|one| one.name.as_str())
        .collect();
    if !names.contains(&name) {
        return never(&not_found("container", name, names));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return never("the pod is being deleted");
    }
    if let Some(phase @ ("Succeeded" | "Failed")) = status.phase.as_deref() {
        return never(&format!("the pod has ended: {phase}"));
    }
    let statuses = status.container_statuses.iter().flatten();
    let mut statuses = statuses.chain(status.init_container_statuses.iter().flatten());
    let Some(status) = statuses.find(|one| one.name == name) else {
        let reason = "the pod has not started yet".to_owned();
        return ContainerState::Starting { reason };
    };
    state_of(status)
}

fn state_of(status: &ContainerStatus) -> ContainerState {
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return if status.ready {
            ContainerState::Ready
        } else {
            ContainerState::Running
        };
    }
    let reason = match (state.waiting, state.terminated) {
        (Some(waiting), _) => said(
            waiting.reason.as_deref().unwrap_or("waiting"),
            waiting.message.as_deref(),
        ),
        (None, Some(ended)) => format!("it has ended with code {}", ended.exit_code),
        (None, None) => "it has not started yet".to_owned(),
    };
    ContainerState::Starting { reason }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: &str, phase: &str, wait: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "db-0", "namespace": "shop", "uid": "u"},
            "spec": {
                "nodeName": node, "containers": [{"name": "app"}],
                "initContainers": [{"name": "restore-wait", "image": "registry.example/orlop:1"}],
            },
            "status": {
                "phase": phase,
                "conditions": [{"type": "PodScheduled", "status": "False", "message": "no node fits"}],
                "initContainerStatuses": [{
                    "name": "restore-wait", "state": wait, "ready": false, "restartCount": 0, "image": "", "imageID": "",
                }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_followed_from_its_node_to_its_start() {
        let running = json!({"running": {}});
        let of = |node: &str, phase: &str, wait: &Value| {
            without_places(&pod(node, phase, wait), "u", true)
        };
        let reason = "no node fits".to_owned();
        assert_eq!(
            of("", "Pending", &json!({})),
            PodState::Unscheduled { reason }
        );
        let starting = |reason: &str| PodState::Starting {
            node: "n1".to_owned(),
            reason: reason.to_owned(),
        };
        assert_eq!(
            of("n1", "Pending", &json!({})),
            starting("the node has not begun with it")
        );
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        assert_eq!(of("n1", "Pending", &waiting), starting("ContainerCreating"));
        let stuck = |reason: &str| PodState::Stuck {
            node: "n1".to_owned(),
            reason: reason.to_owned(),
        };
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}});
        assert_eq!(
            of("n1", "Pending", &waiting),
            stuck(
                "the image registry.example/orlop:1 of restore-wait cannot be pulled, ErrImagePull: no such image"
            )
        );
        let waiting = json!({"waiting": {"reason": "CreateContainerConfigError"}});
        assert_eq!(
            of("n1", "Pending", &waiting),
            stuck("CreateContainerConfigError")
        );
        let failed = json!({"terminated": {"exitCode": 1, "message": "disk is full\n"}});
        assert_eq!(
            of("n1", "Pending", &failed),
            stuck("restore-wait has ended with code 1: disk is full")
        );
        let mut again = pod(
            "n1",
            "Pending",
            &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        );
        let statuses = again
            .status
            .as_mut()
            .unwrap()
            .init_container_statuses
            .as_mut();
        statuses.unwrap()[0].last_state = serde_json::from_value(failed).unwrap();
        assert_eq!(
            without_places(&again, "u", true),
            stuck("restore-wait has ended with code 1: disk is full")
        );
        let (node, places) = ("n1".to_owned(), Vec::new());
        assert_eq!(
            of("n1", "Pending", &running),
            PodState::Waiting { node, places }
        );
        let done = json!({"terminated": {"exitCode": 0}});
        assert_eq!(of("n1", "Running", &done), PodState::Started);
        assert_eq!(of("n1", "Failed", &done), PodState::Ended);
    }

    #[test]
    fn another_pod_of_the_name_is_not_the_pod() {
        let other = pod("n1", "Pending", &json!({"running": {}}));
        let want = PodState::Replaced {
            uid: "u".to_owned(),
            waits: true,
        };
        assert_eq!(without_places(&other, "v", true), want);
    }

    #[test]
    fn a_pod_with_hooks_alone_has_started_when_it_runs() {
        let of = |phase: &str| without_places(&pod("n1", phase, &json!({})), "u", false);
        assert_eq!(of("Running"), PodState::Started);
        assert!(matches!(of("Pending"), PodState::Starting { .. }));
    }

    fn container(status: &Value, name: &str) -> ContainerState {
        let mut pod = serde_json::to_value(pod("n1", "Running", &json!({}))).unwrap();
        pod["status"]["containerStatuses"] = json!([{
            "name": "app", "restartCount": 0, "image": "", "imageID": "",
            "ready": status["ready"], "state": status["state"],
        }]);
        of_container(&serde_json::from_value(pod).unwrap(), name)
    }

    #[test]
    fn a_container_is_ready_running_or_neither() {
        let of =
            |ready: bool, state: Value| container(&json!({"ready": ready, "state": state}), "app");
        assert_eq!(of(true, json!({"running": {}})), ContainerState::Ready);
        assert_eq!(of(false, json!({"running": {}})), ContainerState::Running);
        let waiting = of(false, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let reason = "CrashLoopBackOff".to_owned();
        assert_eq!(waiting, ContainerState::Starting { reason });
        let none = container(&json!({"ready": true, "state": {}}), "ap");
        assert!(
            matches!(none, ContainerState::Never { reason } if reason.contains("did you mean app"))
        );
    }
}
