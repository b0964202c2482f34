//! The init container that keeps a pod from starting until its volumes are restored.
//!
//! It has a directory of its own for the marks of the agent and sees none of the pod's volumes. What a restore of
//! before has put into the pod, ours or Velero's, is taken out first.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    json::{items, items_mut, list_of, map_mut, text},
    settings::WaitSettings,
    wait_resources::resources,
};
use crate::selection::volumes::RESTORE_MARKS;

/// The container's name, which other programs know too.
pub(super) const NAME: &str = "restore-wait";

/// Its name before Velero 1.10.
const OLD_NAME: &str = "restic-wait";

/// Where the container sees the marks; the default of the command.
const MARKS_DIR: &str = "/orlop-restore";

/// Where admission would put a token, unless something is there.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A directory in the volume of marks that stays empty.
const NOTHING: &str = "nothing";

/// As whom it runs if nobody says.
const USER: u64 = 65532;

/// Takes away what an earlier restore has put into a pod.
pub(super) fn strip(pod: &mut Value) {
    let Some(spec) = map_mut(pod, "/spec") else {
        return;
    };
    let had_init = spec.contains_key("initContainers");
    if had_init {
        let containers = list_of(spec, "initContainers");
        containers.retain(|one| one["name"] != NAME && one["name"] != OLD_NAME);
        if containers.is_empty() {
            spec.remove("initContainers");
        }
    }
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.retain(|one| one["name"] != RESTORE_MARKS || one.get("emptyDir").is_none());
    }
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in items_mut(pod, list).filter_map(Value::as_object_mut) {
            let mounts = container
                .get_mut("volumeMounts")
                .and_then(Value::as_array_mut);
            if let Some(mounts) = mounts {
                mounts.retain(|one| one["mountPath"] != MARKS_DIR || one["name"] != RESTORE_MARKS);
            }
        }
    }
}

/// Makes a pod wait. `stall`: after how long without progress it gives up and is started again.
///
/// # Errors
/// The pod has a volume of its own where the marks should be.
pub(super) fn inject(
    pod: &mut Value,
    settings: &WaitSettings,
    stall: Duration,
) -> Result<(), String> {
    if items(pod, "/spec/volumes").any(|one| one["name"] == RESTORE_MARKS) {
        return Err(format!(
            "it has a volume {RESTORE_MARKS} of its own, which the restore needs for itself: rename that"
        ));
    }
    let container = container(pod, settings, stall);
    let spec = map_mut(pod, "/spec").ok_or("it has no spec")?;
    list_of(spec, "initContainers").insert(0, container);
    list_of(spec, "volumes").push(json!({"name": RESTORE_MARKS, "emptyDir": {}}));
    Ok(())
}

fn container(pod: &Value, settings: &WaitSettings, stall: Duration) -> Value {
    // A pod that is never started again would be lost by a failure, so there it waits, however long.
    let (on_failure, stall) = match text(pod, "/spec/restartPolicy") {
        Some("Never") => ("wait", 0),
        _ => ("exit", stall.as_secs()),
    };
    let mut container = json!({
        "name": NAME,
        "image": settings.image,
        "command": [settings.command],
        "args": [
            "restore-wait",
            format!("--dir={MARKS_DIR}"),
            format!("--on-failure={on_failure}"),
            format!("--stall-seconds={stall}"),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": RESTORE_MARKS, "mountPath": MARKS_DIR, "readOnly": true},
            {"name": RESTORE_MARKS, "mountPath": TOKEN_DIR, "subPath": NOTHING, "readOnly": true},
        ],
        "securityContext": security(pod, settings),
    });
    let given = |part: &str, name: &str| settings.resources.get(&(part, name)).cloned();
    let resources = resources(pod, given);
    if !resources.is_empty() {
        container["resources"] = Value::Object(resources);
    }
    container
}

/// What the strictest pod security admits, changed by what the settings say.
fn security(pod: &Value, settings: &WaitSettings) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": account(pod, "runAsUser"),
        "runAsGroup": account(pod, "runAsGroup"),
    });
    let given: &Map<String, Value> = &settings.security;
    for (key, value) in given {
        security[key] = value.clone();
    }
    security
}

/// The user or group that the pod itself, or its first container, runs as, unless that is root.
fn account(pod: &Value, key: &str) -> u64 {
    let of_pod = &pod["spec"]["securityContext"][key];
    let of_first = &pod["spec"]["containers"][0]["securityContext"][key];
    let mut given = [of_pod, of_first].into_iter().filter_map(Value::as_u64);
    given.find(|id| *id != 0).unwrap_or(USER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> WaitSettings {
        WaitSettings::new("registry.example/orlop:1")
    }

    fn pod() -> Value {
        json!({"spec": {
            "containers": [{"name": "app", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "initContainers": [{"name": "own"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        }})
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn the_container_comes_first_and_sees_nothing_of_the_pod() {
        let mut pod = pod();
        inject(&mut pod, &settings(), HOUR).unwrap();
        let containers = pod["spec"]["initContainers"].as_array().unwrap();
        assert_eq!(containers[1]["name"], "own");
        let container = &containers[0];
        assert_eq!(container["name"], "restore-wait");
        assert_eq!(container["image"], "registry.example/orlop:1");
        assert_eq!(container["command"], json!(["/orlop"]));
        let args = json!([
            "restore-wait",
            "--dir=/orlop-restore",
            "--on-failure=exit",
            "--stall-seconds=3600"
        ]);
        assert_eq!(container["args"], args);
        let mounts: Vec<&Value> = items(container, "/volumeMounts").collect();
        assert!(
            mounts
                .iter()
                .all(|mount| mount["name"] == "orlop-restore" && mount["readOnly"] == true)
        );
        let paths: Vec<&Value> = mounts.iter().map(|mount| &mount["mountPath"]).collect();
        assert_eq!(paths, ["/orlop-restore", TOKEN_DIR]);
        assert_eq!(container.get("env"), None);
        let marks = json!({"name": "orlop-restore", "emptyDir": {}});
        assert_eq!(pod["spec"]["volumes"][1], marks);
    }

    #[test]
    fn restricted_pod_security_admits_it_whatever_the_pod_runs_as() {
        let security = |pod: &Value| {
            let mut pod = pod.clone();
            inject(&mut pod, &settings(), HOUR).unwrap();
            pod["spec"]["initContainers"][0]["securityContext"].clone()
        };
        let plain = security(&pod());
        assert_eq!(plain["runAsNonRoot"], true);
        assert_eq!(plain["allowPrivilegeEscalation"], false);
        assert_eq!(plain["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(plain["seccompProfile"], json!({"type": "RuntimeDefault"}));
        assert_eq!(
            (&plain["runAsUser"], &plain["runAsGroup"]),
            (&json!(65532), &json!(65532))
        );
        let mut root = pod();
        root["spec"]["securityContext"] = json!({"runAsUser": 0, "runAsGroup": 0});
        assert_eq!(security(&root), plain);
        let mut own = pod();
        own["spec"]["securityContext"] = json!({"runAsUser": 1_000_650_000});
        own["spec"]["containers"][0]["securityContext"] = json!({"runAsGroup": 999});
        assert_eq!(security(&own)["runAsUser"], 1_000_650_000);
        assert_eq!(security(&own)["runAsGroup"], 999);
    }

    #[test]
    fn a_pod_that_is_never_restarted_waits_after_a_failure() {
        let mut pod = pod();
        pod["spec"]["restartPolicy"] = "Never".into();
        inject(&mut pod, &settings(), HOUR).unwrap();
        let args = &pod["spec"]["initContainers"][0]["args"];
        assert_eq!(args[2], "--on-failure=wait");
        assert_eq!(args[3], "--stall-seconds=0");
    }

    #[test]
    fn what_an_earlier_restore_left_goes_first() {
        let mut pod = pod();
        inject(&mut pod, &settings(), HOUR).unwrap();
        let containers = pod["spec"]["initContainers"].as_array_mut().unwrap();
        containers.push(json!({"name": "restic-wait"}));
        strip(&mut pod);
        assert_eq!(pod, self::pod());
        let mut alone =
            json!({"spec": {"containers": [], "initContainers": [{"name": "restore-wait"}]}});
        strip(&mut alone);
        assert_eq!(alone, json!({"spec": {"containers": []}}));
    }

    #[test]
    fn a_volume_of_the_pods_own_is_not_taken_from_it() {
        let mut pod = json!({"spec": {"volumes": [{"name": "orlop-restore", "configMap": {}}]}});
        let before = pod.clone();
        strip(&mut pod);
        assert_eq!(pod, before);
        assert!(
            inject(&mut pod, &settings(), HOUR)
                .unwrap_err()
                .contains("orlop-restore")
        );
    }
}
