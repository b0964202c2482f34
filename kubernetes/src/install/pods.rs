//! Why pods that were installed do not work, in words that say what to do.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

/// So many restarts since the installation began, and no more is waited: twice may be bad luck.
const RESTARTS_MAX: i32 = 2;
/// Bytes of what a container said at its end that are shown, from the end.
const SAID_MAX: usize = 600;

/// What keeps a pod from working.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What it is.
    pub(super) what: String,
    /// Whether waiting cannot mend it.
    pub(super) lasts: bool,
}

/// How often each container had been restarted when it was seen first, by the pod's uid and the container's name.
#[derive(Default)]
pub(super) struct Restarts(HashMap<(String, String), i32>);

impl Restarts {
    /// The worst of what keeps these pods from working; pods that are going count for nothing.
    pub(super) fn trouble_of<'p>(
        &mut self,
        pods: impl IntoIterator<Item = &'p Pod>,
    ) -> Option<Trouble> {
        let staying = pods
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let all: Vec<Trouble> = staying.filter_map(|pod| self.trouble(pod)).collect();
        all.into_iter().min_by_key(|trouble| !trouble.lasts)
    }

    fn trouble(&mut self, pod: &Pod) -> Option<Trouble> {
        let status = pod.status.as_ref()?;
        let init = status.init_container_statuses.iter().flatten();
        let all = init.chain(status.container_statuses.iter().flatten());
        let mut found = None;
        for container in all {
            let key = (
                pod.metadata.uid.clone().unwrap_or_default(),
                container.name.clone(),
            );
            let first = *self.0.entry(key).or_insert(container.restart_count);
            let trouble = of_container(container, container.restart_count - first);
            found = found.or(trouble);
        }
        found.or_else(|| unscheduled(status))
    }
}

fn of_container(container: &ContainerStatus, restarts: i32) -> Option<Trouble> {
    let name = &container.name;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let (reason, message) = (
        waiting.reason.as_deref().unwrap_or_default(),
        waiting.message.as_deref().unwrap_or_default(),
    );
    let (what, lasts) = match reason {
        "CrashLoopBackOff" => (
            format!(
                "container {name} ends soon after each start{}",
                end_of(container)
            ),
            restarts >= RESTARTS_MAX,
        ),
        // They say that the image must be there already and is not, or that its name is none.
        "ErrImageNeverPull" | "InvalidImageName" => {
            let image = &container.image;
            (
                format!("image {image} of container {name} cannot be used: {reason}: {message}"),
                true,
            )
        }
        "ErrImagePull" | "ImagePullBackOff" => {
            let image = &container.image;
            (
                format!("image {image} of container {name} cannot be pulled: {message}"),
                false,
            )
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => (
            format!("container {name} cannot be started: {message}"),
            restarts >= RESTARTS_MAX,
        ),
        _ => return None,
    };
    Some(Trouble { what, lasts })
}

/// How a container ended last, and what it said.
fn end_of(container: &ContainerStatus) -> String {
    let last: Option<&ContainerState> = container.last_state.as_ref();
    let Some(end) = last.and_then(|state| state.terminated.as_ref()) else {
        return String::new();
    };
    let said = end.message.as_deref().unwrap_or_default().trim();
    let from = said.ceil_char_boundary(said.len().saturating_sub(SAID_MAX));
    let reason = end.reason.as_deref().unwrap_or_default();
    let mut text = match reason {
        "OOMKilled" => ", for lack of memory".to_owned(),
        _ => format!(", with {}", end.exit_code),
    };
    if !said.is_empty() {
        text = format!("{text}: {}", &said[from..]);
    }
    text
}

fn unscheduled(status: &PodStatus) -> Option<Trouble> {
    let mut conditions = status.conditions.iter().flatten();
    let waits = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let message = waits.message.as_deref().unwrap_or_default();
    Some(Trouble {
        what: format!("no node takes its pod: {message}"),
        lasts: false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "uid": "1" }, "status": status })).unwrap()
    }

    fn crashing(restarts: i32) -> Pod {
        pod(&json!({ "containerStatuses": [{
            "name": "velero", "image": "o:1", "imageID": "", "ready": false, "restartCount": restarts,
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 20s" } },
            "lastState": { "terminated": { "exitCode": 1, "reason": "Error", "message": "orlop: no such option\n" } },
        }] }))
    }

    #[test]
    fn a_container_that_ends_again_and_again_is_not_waited_for() {
        let mut seen = Restarts::default();
        let first = seen.trouble_of([&crashing(7)]).unwrap();
        assert!(!first.lasts, "how often it ended before says nothing");
        assert_eq!(
            first.what,
            "container velero ends soon after each start, with 1: orlop: no such option"
        );
        assert!(!seen.trouble_of([&crashing(8)]).unwrap().lasts);
        assert!(seen.trouble_of([&crashing(9)]).unwrap().lasts);
        let mut going = crashing(10);
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap());
        assert_eq!(seen.trouble_of([&going]), None);
    }

    #[test]
    fn what_is_known_of_images_and_nodes_is_said() {
        let image = |reason: &str| {
            pod(&json!({ "initContainerStatuses": [{
                "name": "plugin", "image": "o:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": "not there" } },
            }] }))
        };
        let mut seen = Restarts::default();
        let pulled = seen.trouble_of([&image("ImagePullBackOff")]).unwrap();
        assert!(
            !pulled.lasts
                && pulled
                    .what
                    .contains("o:1 of container plugin cannot be pulled")
        );
        let never = seen.trouble_of([&image("ImagePullBackOff"), &image("ErrImageNeverPull")]);
        assert!(never.unwrap().lasts);
        assert_eq!(seen.trouble_of([&image("PodInitializing")]), None);
        let waits = pod(&json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available",
        }] }));
        let waits = seen.trouble_of([&waits]).unwrap();
        assert_eq!(waits.what, "no node takes its pod: 0/1 nodes are available");
    }

    #[test]
    fn of_a_long_last_word_the_end_is_shown() {
        let mut pod = crashing(1);
        let containers = pod.status.as_mut().unwrap().container_statuses.as_mut();
        let end = containers.unwrap()[0].last_state.as_mut().unwrap();
        let end = end.terminated.as_mut().unwrap();
        end.message = Some(format!("{}the end", "ä".repeat(5000)));
        let what = Restarts::default().trouble_of([&pod]).unwrap().what;
        assert!(what.ends_with("äthe end") && what.len() < SAID_MAX + 100);
    }
}
