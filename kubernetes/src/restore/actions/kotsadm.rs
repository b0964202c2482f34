//! The KOTS Admin Console of a kURL cluster: it gets the proxies and the authorities of this machine, not those of the one where
//! the backup was made.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::json::{items_mut, labels, text},
    workloads::pod_spec,
};
use crate::files::tarball::ItemPath;

/// The namespace where kURL has it, and the name of its workload, its container, and its pods' label `app`.
const NAMESPACE: &str = "default";
const NAME: &str = "kotsadm";
/// Variables that are set to what the ConfigMap has by the same names.
const VARIABLES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
/// Where the file of the machine's authorities is.
const CA_PATH: &str = "hostCAPath";
/// The volume that shows the container this file.
const CA_VOLUME: &str = "host-cacerts";

/// Changes the workloads and pods of the Admin Console as `wanted` says; nothing if that is empty.
pub(super) fn prepare(path: &ItemPath, object: &mut Value, wanted: &BTreeMap<String, String>) {
    if wanted.is_empty() || !is_console(path, object) {
        return;
    }
    let Some(spec) = pod_spec(&path.resource) else {
        return;
    };
    for container in items_mut(object, &format!("{spec}/containers")) {
        if container["name"] == NAME {
            for name in VARIABLES {
                if let Some(value) = wanted.get(name) {
                    set(container, name, value);
                }
            }
        }
    }
    let Some(file) = wanted.get(CA_PATH).filter(|file| !file.is_empty()) else {
        return;
    };
    for volume in items_mut(object, &format!("{spec}/volumes")) {
        if volume["name"] == CA_VOLUME && volume["hostPath"].is_object() {
            volume["hostPath"]["path"] = json!(file);
        }
    }
}

fn is_console(path: &ItemPath, object: &Value) -> bool {
    if path.namespace.as_deref() != Some(NAMESPACE) {
        return false;
    }
    match path.resource.as_str() {
        "deployments.apps" | "statefulsets.apps" => path.name == NAME,
        "replicasets.apps" | "pods" => {
            let labels = labels(object);
            labels.get("app").is_some_and(|app| app == NAME)
        }
        _ => false,
    }
}

/// Sets a variable; one that is not there need not be set to nothing.
fn set(container: &mut Value, name: &str, value: &str) {
    let variable = json!({"name": name, "value": value});
    let found = items_mut(container, "/env").find(|one| text(one, "/name") == Some(name));
    if let Some(found) = found {
        *found = variable;
        return;
    }
    if value.is_empty() {
        return;
    }
    match container["env"].as_array_mut() {
        Some(list) => list.push(variable),
        None => container["env"] = json!([variable]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> BTreeMap<String, String> {
        [
            ("HTTP_PROXY", "http://new:1"),
            ("HTTPS_PROXY", ""),
            ("NO_PROXY", ".svc"),
            (CA_PATH, "/etc/pki/tls/certs/ca-bundle.crt"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    fn spec() -> Value {
        json!({
            "containers": [
                {"name": "kotsadm", "env": [
                    {"name": "HTTP_PROXY", "valueFrom": {"fieldRef": {}}}, {"name": "OTHER", "value": "1"},
                ]},
                {"name": "other"},
            ],
            "volumes": [
                {"name": "host-cacerts", "hostPath": {"path": "/etc/ssl/certs/ca-certificates.crt", "type": "File"}},
                {"name": "data", "hostPath": {"path": "/data"}},
            ],
        })
    }

    #[test]
    fn workloads_and_pods_of_the_console_get_what_this_machine_has() {
        let labels = json!({"labels": {"app": "kotsadm"}});
        let cases = [
            (
                "deployments.apps",
                "kotsadm",
                json!({}),
                "/spec/template/spec",
            ),
            (
                "statefulsets.apps",
                "kotsadm",
                json!({}),
                "/spec/template/spec",
            ),
            (
                "replicasets.apps",
                "kotsadm-1",
                labels.clone(),
                "/spec/template/spec",
            ),
            ("pods", "kotsadm-1-2", labels, "/spec"),
        ];
        for (resource, name, metadata, at) in cases {
            let inner = if at == "/spec" {
                spec()
            } else {
                json!({"template": {"spec": spec()}})
            };
            let mut object = json!({"metadata": metadata, "spec": inner});
            prepare(
                &ItemPath::namespaced(resource, "default", name),
                &mut object,
                &wanted(),
            );
            let pod = object.pointer(at).unwrap();
            assert_eq!(
                pod["containers"],
                json!([
                    {"name": "kotsadm", "env": [
                        {"name": "HTTP_PROXY", "value": "http://new:1"}, {"name": "OTHER", "value": "1"},
                        {"name": "NO_PROXY", "value": ".svc"},
                    ]},
                    {"name": "other"},
                ]),
                "{resource}"
            );
            assert_eq!(
                pod["volumes"][0]["hostPath"]["path"],
                "/etc/pki/tls/certs/ca-bundle.crt"
            );
            assert_eq!(pod["volumes"][1]["hostPath"]["path"], "/data");
        }
    }

    #[test]
    fn others_stay_as_they_are() {
        let before = json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"template": {"spec": spec()}}});
        let paths = [
            ItemPath::namespaced("deployments.apps", "shop", "kotsadm"),
            ItemPath::namespaced("deployments.apps", "default", "shop"),
            ItemPath::namespaced("replicasets.apps", "default", "kotsadm-1"),
            ItemPath::namespaced("daemonsets.apps", "default", "kotsadm"),
        ];
        for path in paths {
            let mut object = before.clone();
            prepare(&path, &mut object, &wanted());
            assert_eq!(object, before, "{path:?}");
        }
        let mut object = before.clone();
        let path = ItemPath::namespaced("deployments.apps", "default", "kotsadm");
        prepare(&path, &mut object, &BTreeMap::new());
        assert_eq!(object, before);
        let mut bare =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "kotsadm"}]}}}});
        prepare(&path, &mut bare, &wanted());
        let env = &bare["spec"]["template"]["spec"]["containers"][0]["env"];
        assert_eq!(env.as_array().map(Vec::len), Some(2), "{env}");
    }
}
