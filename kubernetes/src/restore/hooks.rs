//! The hooks of a restored pod: init containers to add, and commands to run once a container of it is up.

use std::{fmt::Write as _, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use orlop_core::hook::{HookSource, OnError};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    RestoreHook,
    json::{list_of, map_mut, text},
    load, wait_container,
};
use crate::{
    selection::{
        annotations,
        hooks::{FROM_ANNOTATION, HookReader, HookScope},
    },
    velero::{
        GoDuration, HookErrorMode,
        hooks::{ExecRestoreHook, RestoreHooks, RestoreResourceHookSpec},
    },
};

const POST: &str = "post.hook.restore.velero.io";
const INIT: &str = "init.hook.restore.velero.io";

/// Hooks of a pod, and what should be said about them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct PodRestoreHooks {
    /// Commands, in their order.
    pub(super) exec: Vec<RestoreHook>,
    /// Containers to put before the pod's own init containers.
    pub(super) init: Vec<Value>,
    /// One line each.
    pub(super) warnings: Vec<String>,
    /// One line each: hooks that cannot be run.
    pub(super) errors: Vec<String>,
}

/// The hooks of a pod, which is already in the namespace that it is restored into. Annotations of either sort replace
/// the hooks of the spec of that sort. What loads a dump comes before all of them, if any volume `has_data`.
pub(super) fn pod_hooks(pod: &Pod, hooks: &RestoreHooks, has_data: bool) -> PodRestoreHooks {
    let mut reader = HookReader::new(pod);
    let mut found = PodRestoreHooks::default();
    found.exec.extend(load::hook(&mut reader, has_data));
    let of_spec: Vec<&RestoreResourceHookSpec> = hooks
        .resources
        .iter()
        .filter(|hooks| is_for(hooks, pod))
        .collect();
    match annotated(&mut reader) {
        Some(hook) => found.exec.push(hook),
        None => {
            for spec in &of_spec {
                for exec in spec.post_hooks.iter().filter_map(|hook| hook.exec.as_ref()) {
                    if exec.command.is_empty() {
                        let error =
                            format!("the hook {:?} of the restore has no command", spec.name);
                        found.errors.push(error);
                    } else {
                        found.exec.push(specified(&mut reader, &spec.name, exec));
                    }
                }
            }
        }
    }
    match annotated_init(&mut reader) {
        Some(container) => found.init.push(container),
        None => {
            for spec in &of_spec {
                let init = spec.post_hooks.iter().filter_map(|hook| hook.init.as_ref());
                for container in init.flat_map(|init| &init.init_containers) {
                    match container_problem(container) {
                        None => found.init.push(container.clone()),
                        Some(problem) => found.errors.push(format!(
                            "an init container of the hook {:?} of the restore {problem}",
                            spec.name
                        )),
                    }
                }
            }
        }
    }
    found.warnings = reader.warnings;
    found
}

/// Puts init containers before the pod's own, and behind the one that waits for volumes.
pub(super) fn inject(pod: &mut Value, containers: Vec<Value>) {
    let Some(spec) = map_mut(pod, "/spec").filter(|_| !containers.is_empty()) else {
        return;
    };
    let list = list_of(spec, "initContainers");
    // The backup of a restored pod has them already.
    list.retain(|one| !containers.iter().any(|new| new["name"] == one["name"]));
    let first = list.first();
    let place = usize::from(first.is_some_and(|one| one["name"] == wait_container::NAME));
    list.splice(place..place, containers);
}

fn is_for(hooks: &RestoreResourceHookSpec, pod: &Pod) -> bool {
    let scope = HookScope {
        namespaces: (&hooks.included_namespaces, &hooks.excluded_namespaces),
        resources: (&hooks.included_resources, &hooks.excluded_resources),
        selector: hooks.label_selector.as_ref(),
    };
    scope.has(pod)
}

fn annotated(reader: &mut HookReader<'_>) -> Option<RestoreHook> {
    let key = |last: &str| format!("{POST}/{last}");
    let pod = reader.pod;
    let value = |last: &str| annotations::get(pod, &key(last)).to_owned();
    let command = value("command");
    if command.is_empty() {
        return None;
    }
    let wait_for_ready = match value("wait-for-ready").to_lowercase().as_str() {
        "" | "false" | "f" | "0" => false,
        "true" | "t" | "1" => true,
        other => {
            let key = key("wait-for-ready");
            reader.warn(&format!(
                "{key} is {other:?}, neither true nor false; it is false"
            ));
            false
        }
    };
    Some(RestoreHook {
        name: FROM_ANNOTATION.to_owned(),
        source: HookSource::Annotation,
        container: reader.container(&value("container")),
        command: reader.command(&key("command"), &command),
        on_error: reader
            .on_error_text(&key("on-error"), &value("on-error"))
            .unwrap_or(OnError::Continue),
        exec_timeout: reader.timeout_text(&key("exec-timeout"), &value("exec-timeout")),
        wait_timeout: wait_text(reader, &key("wait-timeout"), &value("wait-timeout")),
        wait_for_ready,
    })
}

fn specified(reader: &mut HookReader<'_>, name: &str, exec: &ExecRestoreHook) -> RestoreHook {
    let what = |field: &str| format!("{field} of the hook {name:?} of the restore");
    let on_error = match &exec.on_error {
        HookErrorMode::Fail => Some(OnError::Fail),
        HookErrorMode::Other(text) => reader.on_error_text(&what("onError"), text),
        HookErrorMode::Continue | HookErrorMode::Unset => None,
    };
    RestoreHook {
        name: name.to_owned(),
        source: HookSource::Spec,
        container: reader.container(&exec.container),
        command: exec.command.clone(),
        on_error: on_error.unwrap_or(OnError::Continue),
        exec_timeout: reader.timeout(&what("execTimeout"), exec.exec_timeout),
        wait_timeout: wait(reader, &what("waitTimeout"), exec.wait_timeout),
        wait_for_ready: exec.wait_for_ready.unwrap_or(false),
    }
}

fn wait_text(reader: &mut HookReader<'_>, key: &str, text: &str) -> Duration {
    if text.is_empty() {
        return Duration::ZERO;
    }
    match text.parse::<GoDuration>() {
        Ok(duration) => wait(reader, key, duration),
        Err(error) => {
            reader.warn(&format!("{key}: {error}; it is as if it were not there"));
            Duration::ZERO
        }
    }
}

fn wait(reader: &mut HookReader<'_>, what: &str, duration: GoDuration) -> Duration {
    duration.to_std().unwrap_or_else(|| {
        reader.warn(&format!(
            "{what} is negative; it is as if it were not there"
        ));
        Duration::ZERO
    })
}

/// The init container of the annotations; without a command it does what its image does.
fn annotated_init(reader: &mut HookReader<'_>) -> Option<Value> {
    let key = |last: &str| format!("{INIT}/{last}");
    let pod = reader.pod;
    let value = |last: &str| annotations::get(pod, &key(last)).to_owned();
    let image = value("container-image");
    if image.is_empty() {
        return None;
    }
    let mut name = value("container-name");
    if name.is_empty() {
        name = format!("velero-restore-init-{}", suffix(pod));
    }
    let mut container = json!({"name": name, "image": image});
    let command = value("command");
    if !command.is_empty() {
        container["command"] = reader.command(&key("command"), &command).into();
    }
    Some(container)
}

/// Eight digits that are the same whenever the pod is restored.
fn suffix(pod: &Pod) -> String {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let full = format!(
        "{}/{}",
        name(&pod.metadata.namespace),
        name(&pod.metadata.name)
    );
    let mut digits = String::new();
    for byte in &Sha256::digest(full)[..4] {
        write!(digits, "{byte:02x}").expect("a String takes everything");
    }
    digits
}

fn container_problem(container: &Value) -> Option<&'static str> {
    if text(container, "/name").is_none() {
        return Some("has no name");
    }
    if text(container, "/image").is_none() {
        return Some("has no image");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "db-0", "namespace": "shop", "annotations": annotations, "labels": {"app": "db"}},
            "spec": {"containers": [{"name": "app"}, {"name": "side"}]},
        }))
        .unwrap()
    }

    fn hooks(spec: &Value) -> RestoreHooks {
        serde_json::from_value(json!({"resources": [spec]})).unwrap()
    }

    #[test]
    fn annotations_make_a_hook_and_replace_those_of_the_spec() {
        let spec = hooks(&json!({"name": "s", "postHooks": [{"exec": {"command": ["x"]}}]}));
        let pod = pod(&json!({
            "post.hook.restore.velero.io/command": "[\"/bin/sh\", \"-c\", \"psql\"]",
            "post.hook.restore.velero.io/container": "side",
            "post.hook.restore.velero.io/on-error": "Fail",
            "post.hook.restore.velero.io/exec-timeout": "10m",
            "post.hook.restore.velero.io/wait-timeout": "5m",
            "post.hook.restore.velero.io/wait-for-ready": "true",
        }));
        let found = pod_hooks(&pod, &spec, true);
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        let want = RestoreHook {
            name: "<from-annotation>".to_owned(),
            source: HookSource::Annotation,
            container: "side".to_owned(),
            command: ["/bin/sh", "-c", "psql"].map(str::to_owned).to_vec(),
            on_error: OnError::Fail,
            exec_timeout: Duration::from_mins(10),
            wait_timeout: Duration::from_mins(5),
            wait_for_ready: true,
        };
        assert_eq!(found.exec, [want]);
    }

    #[test]
    fn hooks_of_the_spec_are_for_the_mapped_namespace_and_keep_their_order() {
        let spec = |namespace: &str| {
            hooks(&json!({
                "name": "s", "includedNamespaces": [namespace],
                "labelSelector": {"matchLabels": {"app": "db"}},
                "postHooks": [
                    {"exec": {"command": ["a"], "execTimeout": "1m"}},
                    {"init": {"initContainers": [{"name": "i", "image": "x", "volumeMounts": [{"name": "v"}]}]}},
                    {"exec": {"command": ["b"], "container": "nobody"}},
                ],
            }))
        };
        let found = pod_hooks(&pod(&json!({})), &spec("shop"), true);
        let commands: Vec<&str> = found
            .exec
            .iter()
            .map(|hook| hook.command[0].as_str())
            .collect();
        assert_eq!(commands, ["a", "b"]);
        assert_eq!(found.exec[0].container, "app");
        assert_eq!(found.exec[0].exec_timeout, Duration::from_mins(1));
        assert_eq!(found.exec[0].wait_timeout, Duration::ZERO);
        assert_eq!(found.init[0]["volumeMounts"], json!([{"name": "v"}]));
        assert!(found.warnings.len() == 1 && found.warnings[0].contains("\"nobody\""));
        assert_eq!(
            pod_hooks(&pod(&json!({})), &spec("mail"), true),
            PodRestoreHooks::default()
        );
    }

    #[test]
    fn a_dump_is_loaded_before_all_hooks_and_replaces_none() {
        let spec = hooks(&json!({"name": "s", "postHooks": [{"exec": {"command": ["warm"]}}]}));
        let pod = pod(&json!({"orlop.io/load-command": "/load.sh"}));
        let commands = |has_data| {
            let found = pod_hooks(&pod, &spec, has_data).exec.into_iter();
            found
                .map(|hook| hook.command[0].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(commands(true), ["/load.sh", "warm"]);
        assert_eq!(commands(false), ["warm"]);
    }

    #[test]
    fn an_init_hook_needs_an_image_and_nothing_else() {
        let found = pod_hooks(
            &pod(&json!({"init.hook.restore.velero.io/container-image": "alpine"})),
            &RestoreHooks::default(),
            true,
        );
        let [container] = &found.init[..] else {
            panic!("{found:?}")
        };
        assert_eq!(container.get("command"), None);
        let name = container["name"].as_str().unwrap();
        assert_eq!(name.strip_prefix("velero-restore-init-").unwrap().len(), 8);
        let named = pod_hooks(
            &pod(&json!({
                "init.hook.restore.velero.io/container-image": "alpine",
                "init.hook.restore.velero.io/container-name": "fix",
                "init.hook.restore.velero.io/command": "[\"ls\", \"/\"]",
            })),
            &RestoreHooks::default(),
            true,
        );
        assert_eq!(
            named.init,
            [json!({"name": "fix", "image": "alpine", "command": ["ls", "/"]})]
        );
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let pod = pod(&json!({
            "post.hook.restore.velero.io/command": "ls",
            "post.hook.restore.velero.io/wait-timeout": "soon",
            "post.hook.restore.velero.io/wait-for-ready": "perhaps",
            "post.hook.restore.velero.io/on-error": "Weep",
        }));
        let spec = hooks(
            &json!({"name": "s", "postHooks": [{"init": {"initContainers": [{"name": "i"}]}}]}),
        );
        let found = pod_hooks(&pod, &spec, true);
        assert_eq!(found.warnings.len(), 3, "{:?}", found.warnings);
        assert_eq!(found.errors.len(), 1, "{:?}", found.errors);
        assert_eq!(found.exec[0].on_error, OnError::Continue);
    }

    #[test]
    fn init_containers_come_between_the_one_that_waits_and_the_pods_own() {
        let mut pod = json!({"spec": {"initContainers": [{"name": "restore-wait"}, {"name": "own"}, {"name": "i"}]}});
        inject(&mut pod, vec![json!({"name": "i", "image": "x"})]);
        let names: Vec<&Value> = pod["spec"]["initContainers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["name"])
            .collect();
        assert_eq!(names, ["restore-wait", "i", "own"]);
        let mut bare = json!({"spec": {}});
        inject(&mut bare, vec![json!({"name": "i"})]);
        assert_eq!(bare["spec"]["initContainers"], json!([{"name": "i"}]));
    }
}
