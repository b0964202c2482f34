//! The DaemonSet of the agents: what the KOTS Admin Console mounts into it is taken out again. Agents get keys to the
//! store for each task from the coordinator, and ought to have no others.

use std::time::{Duration, Instant};

use orlop_kubernetes::{api::DaemonSet, client::Objects};
use serde_json::{Value, json};

use crate::{error::Trouble, parts::Parts, patch::only_if};

/// The DaemonSet.
pub(crate) const AGENTS: &str = "node-agent";
/// The Secret that KOTS mounts, and where.
const SECRET: &str = "cloud-credentials";
const MOUNT: &str = "/credentials";
/// KOTS waits until all new pods are ready; whoever replaced them at once would make it wait twice.
const PATIENCE: Duration = Duration::from_mins(2);

/// Since when the present template has been rolled out.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    rolled_out: Option<(i64, Instant)>,
}

/// Takes the keys out of the DaemonSet once it has been rolled out with them for a while.
///
/// # Errors
/// The API server does not answer, or somebody has changed the DaemonSet meanwhile.
pub(crate) async fn take_keys_out(parts: &Parts, seen: &mut Seen) -> Result<(), Trouble> {
    let sets = Objects::<DaemonSet>::of(&parts.connection, Some(parts.namespace()));
    let Some(set) = sets.get(AGENTS).await? else {
        return Ok(());
    };
    let version = set.metadata.resource_version.clone();
    let set = json!(set);
    let Some(patch) = without_keys(&set) else {
        seen.rolled_out = None;
        return Ok(());
    };
    if !seen.is_at_rest(&set, Instant::now()) {
        return Ok(());
    }
    tracing::info!(
        daemonset = AGENTS,
        "the keys that were mounted into the agents are taken out"
    );
    sets.merge_patch(AGENTS, &only_if(patch, version.as_deref()))
        .await?;
    seen.rolled_out = None;
    Ok(())
}

impl Seen {
    /// Whether the DaemonSet has been rolled out, in this generation, for long enough.
    fn is_at_rest(&mut self, set: &Value, now: Instant) -> bool {
        let Some(generation) = rolled_out(set) else {
            self.rolled_out = None;
            return false;
        };
        match self.rolled_out {
            Some((same, since)) if same == generation => now.duration_since(since) >= PATIENCE,
            _ => {
                self.rolled_out = Some((generation, now));
                false
            }
        }
    }
}

/// The generation of a DaemonSet all of whose pods are new and available.
fn rolled_out(set: &Value) -> Option<i64> {
    let (metadata, status) = (&set["metadata"], &set["status"]);
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let generation = metadata["generation"].as_i64()?;
    let wanted = number(&status["desiredNumberScheduled"]);
    let is_done = number(&status["observedGeneration"]) >= generation
        && number(&status["updatedNumberScheduled"]) == wanted
        && number(&status["numberAvailable"]) == wanted
        && number(&status["numberUnavailable"]) == 0;
    is_done.then_some(generation)
}

/// The patch that takes the Secret, its mounts and the variables that name its file out; `None` if there are none.
fn without_keys(set: &Value) -> Option<Value> {
    let pod = &set["spec"]["template"]["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is_keys = |volume: &Value| volume["secret"]["secretName"] == SECRET;
    let (keys, volumes): (Vec<Value>, Vec<Value>) =
        list(&pod["volumes"]).into_iter().partition(is_keys);
    let names: Vec<&Value> = keys.iter().map(|volume| &volume["name"]).collect();
    let mut found = !keys.is_empty();
    let mut containers = list(&pod["containers"]);
    for container in &mut containers {
        let mounts = list(&container["volumeMounts"]);
        let kept = without(mounts, |mount| names.contains(&&mount["name"]));
        let variables = list(&container["env"]);
        let names_file = |variable: &Value| {
            let value = variable["value"].as_str().unwrap_or_default();
            value
                .strip_prefix(MOUNT)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let left = without(variables, names_file);
        found |= kept.is_some() || left.is_some();
        if let Some(kept) = kept {
            container["volumeMounts"] = kept.into();
        }
        if let Some(left) = left {
            container["env"] = left.into();
        }
    }
    found.then(
        || json!({"spec": {"template": {"spec": {"volumes": volumes, "containers": containers}}}}),
    )
}

/// `all` without those that `out` says; `None` if it says none.
fn without(all: Vec<Value>, out: impl Fn(&Value) -> bool) -> Option<Vec<Value>> {
    let count = all.len();
    let kept: Vec<Value> = all.into_iter().filter(|one| !out(one)).collect();
    (kept.len() < count).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(with_keys: bool) -> Value {
        let mut set = json!({
            "metadata": {"generation": 4},
            "spec": {"template": {"spec": {
                "volumes": [{"name": "host-pods", "hostPath": {"path": "/var/lib/kubelet/pods"}}],
                "containers": [{
                    "name": "node-agent", "image": "i",
                    "volumeMounts": [{"name": "host-pods", "mountPath": "/host_pods"}],
                    "env": [{"name": "VELERO_SCRATCH_DIR", "value": "/scratch"}, {"name": "NODE_NAME", "valueFrom": {}}],
                }],
            }}},
            "status": {
                "observedGeneration": 4, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3,
            },
        });
        if with_keys {
            let pod = &mut set["spec"]["template"]["spec"];
            let add = |list: &mut Value, value| list.as_array_mut().unwrap().push(value);
            add(
                &mut pod["volumes"],
                json!({"name": "cloud-credentials", "secret": {"secretName": SECRET}}),
            );
            let container = &mut pod["containers"][0];
            let mount = json!({"name": "cloud-credentials", "mountPath": MOUNT});
            add(&mut container["volumeMounts"], mount);
            let variable =
                json!({"name": "AWS_SHARED_CREDENTIALS_FILE", "value": "/credentials/cloud"});
            add(&mut container["env"], variable);
        }
        set
    }

    #[test]
    fn keys_go_with_their_mounts_and_variables_and_nothing_else() {
        assert_eq!(without_keys(&set(false)), None);
        let patch = without_keys(&set(true)).unwrap();
        let clean = set(false);
        let (before, after) = (
            &clean["spec"]["template"]["spec"],
            &patch["spec"]["template"]["spec"],
        );
        assert_eq!(after["volumes"], before["volumes"]);
        assert_eq!(after["containers"], before["containers"]);
    }

    #[test]
    fn a_variable_alone_is_taken_out_too() {
        let mut set = set(false);
        let variables = set["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut();
        variables
            .unwrap()
            .push(json!({"name": "AZURE_CREDENTIALS_FILE", "value": "/credentials/cloud"}));
        let patch = without_keys(&set).unwrap();
        let variables = &patch["spec"]["template"]["spec"]["containers"][0]["env"];
        assert_eq!(variables.as_array().unwrap().len(), 2);
    }

    #[test]
    fn nothing_is_done_while_pods_are_being_replaced_or_just_were() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut busy = set(true);
        busy["status"]["numberUnavailable"] = json!(1);
        assert!(!seen.is_at_rest(&busy, after(0)));
        assert!(!seen.is_at_rest(&set(true), after(10)));
        assert!(!seen.is_at_rest(&set(true), after(100)));
        // Somebody saves again.
        let mut again = set(true);
        again["metadata"]["generation"] = json!(5);
        assert!(!seen.is_at_rest(&again, after(120)));
        again["status"]["observedGeneration"] = json!(5);
        assert!(!seen.is_at_rest(&again, after(125)));
        assert!(!seen.is_at_rest(&again, after(244)));
        assert!(seen.is_at_rest(&again, after(245)));
    }
}
