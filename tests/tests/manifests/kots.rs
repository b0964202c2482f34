//! What KOTS, kURL and the `velero` command look for.

use serde_json::{Value, json};

use super::{includes, list, named, one};

/// The kinds of storage that KOTS offers are those whose plugin it finds among the init containers' names.
const PLUGINS: [&str; 4] = [
    "velero-plugin-for-aws",
    "velero-plugin-for-gcp",
    "velero-plugin-for-microsoft-azure",
    "local-volume-provider",
];

/// The value of a container's environment variable.
fn env<'a>(container: &'a Value, name: &str) -> &'a Value {
    &named(&container["env"], name)["value"]
}

#[test]
fn the_coordinator_looks_like_velero() {
    let deployment = one("Deployment", "velero").value;
    assert_eq!(deployment["metadata"]["labels"]["component"], "velero");
    assert_eq!(
        deployment["spec"]["selector"]["matchLabels"],
        json!({"deploy": "velero"})
    );
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(deployment["spec"]["replicas"], 1);
    let template = &deployment["spec"]["template"];
    let labels = json!({"component": "velero", "deploy": "velero"});
    assert_eq!(template["metadata"]["labels"], labels);
    let container = &template["spec"]["containers"][0];
    assert_eq!(container["name"], "velero");
    let field = json!({"fieldRef": {"fieldPath": "metadata.namespace"}});
    let namespace = named(&container["env"], "VELERO_NAMESPACE");
    assert_eq!(namespace["valueFrom"], field);
    assert_eq!(env(container, "VELERO_SCRATCH_DIR"), "/scratch");
    assert_eq!(env(container, "LD_LIBRARY_PATH"), "/plugins");
    for name in [
        "AWS_SHARED_CREDENTIALS_FILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AZURE_CREDENTIALS_FILE",
        "ALIBABA_CLOUD_CREDENTIALS_FILE",
    ] {
        assert_eq!(env(container, name), "/credentials/cloud");
    }
    let mounts = &container["volumeMounts"];
    assert_eq!(named(mounts, "plugins")["mountPath"], "/plugins");
    assert_eq!(named(mounts, "scratch")["mountPath"], "/scratch");
    assert_eq!(
        named(mounts, "cloud-credentials")["mountPath"],
        "/credentials"
    );
    let volumes = &template["spec"]["volumes"];
    assert_eq!(named(volumes, "plugins")["emptyDir"], json!({}));
    assert_eq!(named(volumes, "scratch")["emptyDir"], json!({}));
    // Before anybody has saved settings there is no such Secret, and the pod must start all the same.
    let secret = json!({"secretName": "cloud-credentials", "optional": true});
    assert_eq!(named(volumes, "cloud-credentials")["secret"], secret);
}

#[test]
fn init_containers_are_named_as_the_plugins_that_kots_counts() {
    let deployment = one("Deployment", "velero").value;
    let spec = &deployment["spec"]["template"]["spec"];
    let image = &spec["containers"][0]["image"];
    let containers: Vec<&Value> = list(&spec["initContainers"]).collect();
    let names: Vec<&Value> = containers.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, PLUGINS);
    for container in containers {
        // An air-gapped bundle needs one image only, and the verb must end with 0 at once.
        assert_eq!(&container["image"], image);
        assert_eq!(container["args"], json!(["--version"]));
        assert_eq!(container["command"], Value::Null);
    }
}

#[test]
fn the_agent_looks_like_veleros() {
    let daemon_set = one("DaemonSet", "node-agent").value;
    assert_eq!(daemon_set["metadata"]["labels"]["component"], "velero");
    assert_eq!(
        daemon_set["spec"]["selector"]["matchLabels"],
        json!({"name": "node-agent"})
    );
    let template = &daemon_set["spec"]["template"];
    assert_eq!(
        template["metadata"]["labels"],
        json!({"component": "velero", "name": "node-agent", "role": "node-agent"})
    );
    let spec = &template["spec"];
    assert_eq!(list(&spec["containers"]).count(), 1);
    assert_eq!(spec["initContainers"], Value::Null);
    let container = &spec["containers"][0];
    assert_eq!(container["name"], "node-agent");
    assert_eq!(container["securityContext"]["runAsUser"], 0);
    // KOTS wants every agent available, also while the coordinator is away.
    assert_eq!(container["readinessProbe"], Value::Null);
    let pods = named(&container["volumeMounts"], "host-pods");
    assert_eq!(pods["mountPath"], "/host_pods");
    assert_eq!(pods["mountPropagation"], "HostToContainer");
    let volumes = &spec["volumes"];
    let path = |name| &named(volumes, name)["hostPath"]["path"];
    assert_eq!(path("host-pods"), "/var/lib/kubelet/pods");
    assert_eq!(path("host-plugins"), "/var/lib/kubelet/plugins");
    assert_eq!(path("host-logs"), "/var/log/pods");
    let logs = named(&container["volumeMounts"], "host-logs");
    assert_eq!(logs["readOnly"], true);
    assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
}

#[test]
fn kots_can_restart_both_by_their_own_labels() {
    // It deletes the pods that have all labels that the Deployment or DaemonSet itself has.
    for object in [one("Deployment", "velero"), one("DaemonSet", "node-agent")] {
        let labels = &object.value["metadata"]["labels"];
        let of_pods = &object.template().unwrap()["metadata"]["labels"];
        assert!(includes(of_pods, labels), "{}: {labels}", object.title());
    }
}

#[test]
fn the_namespace_allows_what_agents_need() {
    let namespace = one("Namespace", "velero").value;
    let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(level, "privileged");
}
