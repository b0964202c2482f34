//! Pods: freed of their node and of what admission has put into them.

use serde_json::{Map, Value};

use super::{
    super::{
        json::{annotation, items, items_mut, map_mut, text},
        order::PRIORITY_CLASSES,
        volumes::claim_paths,
        wait_container,
    },
    Context, Decision, workloads,
};
use crate::files::tarball::ItemPath;

/// Annotation of a pod that the kubelet itself has made from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod is not restored: it has ended, or a kubelet makes it.
pub(super) fn is_left_out(pod: &Value) -> bool {
    let has_ended = matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"));
    has_ended || annotation(pod, MIRROR).is_some()
}

pub(super) fn prepare(path: &ItemPath, pod: &mut Value, cx: &Context<'_>) -> Decision {
    let namespace = path.namespace.as_deref().unwrap_or_default();
    let name = path.name.as_str();
    let mut needs = claim_paths(namespace, name, pod);
    let class = text(pod, "/spec/priorityClassName");
    needs.extend(class.map(|class| ItemPath::cluster(PRIORITY_CLASSES, class)));
    let warnings = shared_claims(namespace, name, pod, cx);
    if let Some(spec) = map_mut(pod, "/spec") {
        // Admission computes the priority from its class, and admits no debugging container.
        for key in ["nodeName", "priority", "ephemeralContainers"] {
            spec.remove(key);
        }
    }
    forget_token(pod);
    wait_container::strip(pod);
    workloads::rename_images("pods", pod, &cx.settings.images);
    Decision::Make { warnings, needs }
}

/// Claims that another pod restores into: nothing keeps this one from starting before that is done.
fn shared_claims(namespace: &str, name: &str, pod: &Value, cx: &Context<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for path in claim_paths(namespace, name, pod) {
        let restorer = cx.volumes.restorer(namespace, &path.name);
        if let Some(other) = restorer.filter(|other| *other != name) {
            warnings.push(format!(
                "it shares the claim {} with the pod {other}, which restores it, and may start before that is done; \
                 restart it then",
                path.name
            ));
        }
    }
    warnings
}

/// Takes the volume of the account's old token away, and its mounts; admission gives another.
fn forget_token(pod: &mut Value) {
    let account = text(pod, "/spec/serviceAccountName").or(text(pod, "/spec/serviceAccount"));
    let prefix = format!("{}-token-", account.unwrap_or("default"));
    let is_token = |name: &Value| name.as_str().is_some_and(|name| name.starts_with(&prefix));
    let tokens: Vec<Value> = items(pod, "/spec/volumes")
        .filter(|volume| is_token(&volume["name"]) && volume.get("secret").is_some())
        .map(|volume| volume["name"].clone())
        .collect();
    if tokens.is_empty() {
        return;
    }
    let keep = |list: &mut Map<String, Value>, key: &str| {
        if let Some(all) = list.get_mut(key).and_then(Value::as_array_mut) {
            all.retain(|one| !tokens.contains(&one["name"]));
        }
    };
    if let Some(spec) = map_mut(pod, "/spec") {
        keep(spec, "volumes");
    }
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in items_mut(pod, list).filter_map(Value::as_object_mut) {
            keep(container, "volumeMounts");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_that_have_ended_and_those_of_files_are_left_out() {
        let of = |phase: &str| is_left_out(&json!({"metadata": {}, "status": {"phase": phase}}));
        assert!(of("Succeeded") && of("Failed") && !of("Running") && !of("Pending"));
        assert!(is_left_out(
            &json!({"metadata": {"annotations": {MIRROR: "x"}}})
        ));
    }

    #[test]
    fn the_old_token_goes_and_everything_else_stays() {
        let mut pod = json!({"spec": {
            "serviceAccountName": "db",
            "containers": [{"name": "a", "volumeMounts": [{"name": "db-token-x"}, {"name": "data"}]}],
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "db-token-x"}]}],
            "volumes": [
                {"name": "db-token-x", "secret": {}}, {"name": "data", "emptyDir": {}},
                {"name": "kube-api-access-1", "projected": {}}, {"name": "default-token-y", "secret": {}},
            ],
        }});
        forget_token(&mut pod);
        let names: Vec<&Value> = items(&pod, "/spec/volumes")
            .map(|one| &one["name"])
            .collect();
        assert_eq!(names, ["data", "kube-api-access-1", "default-token-y"]);
        assert_eq!(
            pod["spec"]["containers"][0]["volumeMounts"],
            json!([{"name": "data"}])
        );
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"], json!([]));
    }
}
