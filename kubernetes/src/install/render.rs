//! The objects of an installation: those of `deploy/base`, changed as it is chosen.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::choices::{InstallChoices, S3Choices, StoreChoice};
use crate::crds;

/// What `deploy/base` says.
pub(super) const NAMESPACE: &str = "velero";
pub(super) const IMAGE: &str = concat!("localhost/orlop:", env!("CARGO_PKG_VERSION"));
pub(super) const KUBELET_DIR: &str = "/var/lib/kubelet";

/// The location that clients of Velero want.
pub const LOCATION: &str = "default";
/// The Secret with the keys to a bucket, and its key.
const CREDENTIALS: (&str, &str) = ("cloud-credentials", "cloud");

/// The files of `deploy/base`, in the order in which their objects are made.
const BASE: [(&str, &str); 7] = [
    (
        "namespace.yaml",
        include_str!("../../../deploy/base/namespace.yaml"),
    ),
    (
        "service-accounts.yaml",
        include_str!("../../../deploy/base/service-accounts.yaml"),
    ),
    ("rbac.yaml", include_str!("../../../deploy/base/rbac.yaml")),
    (
        RESTORE_RIGHTS,
        include_str!("../../../deploy/base/rbac-restore.yaml"),
    ),
    (
        "services.yaml",
        include_str!("../../../deploy/base/services.yaml"),
    ),
    (
        "coordinator.yaml",
        include_str!("../../../deploy/base/coordinator.yaml"),
    ),
    (
        "agent.yaml",
        include_str!("../../../deploy/base/agent.yaml"),
    ),
];
const RESTORE_RIGHTS: &str = "rbac-restore.yaml";

/// Why there are no objects.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// A choice cannot be.
    #[error("{what} {value:?}: {remedy}")]
    Choice {
        /// What was chosen.
        what: &'static str,
        /// How.
        value: String,
        /// What it must be.
        remedy: &'static str,
    },
    /// A file of the program itself is no YAML.
    #[error("the program's own {file} cannot be read: {message}")]
    Manifest {
        /// The file.
        file: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// The objects of an installation, each after those that it needs.
///
/// # Errors
/// A choice cannot be.
pub fn render(choices: &InstallChoices) -> Result<Vec<Value>, RenderError> {
    check(choices)?;
    let mut objects: Vec<Value> = crds::all().iter().map(|one| json!(one)).collect();
    for (file, text) in BASE {
        if file == RESTORE_RIGHTS && !choices.restore_rights {
            continue;
        }
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| RenderError::Manifest {
                file,
                message: error.to_string(),
            })?;
        objects.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    if let Some(store) = &choices.store {
        // Before the coordinator starts.
        let at = objects
            .iter()
            .position(|object| object["kind"] == "Deployment")
            .unwrap_or(objects.len());
        let more = location(store);
        objects.splice(at..at, more);
    }
    for object in &mut objects {
        change(object, choices);
        if choices.read_only && object["kind"] == "BackupStorageLocation" {
            object["spec"]["accessMode"] = json!("ReadOnly");
        }
    }
    Ok(objects)
}

fn check(choices: &InstallChoices) -> Result<(), RenderError> {
    let refuse = |what, value: &str, remedy| {
        Err(RenderError::Choice {
            what,
            value: value.to_owned(),
            remedy,
        })
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = &choices.namespace;
    let is_name = (1..=63).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_name {
        return refuse("namespace", name, "1 to 63 characters a-z, 0-9 and -");
    }
    let last = choices.image.rsplit('/').next().unwrap_or_default();
    let has_tag = last
        .split('@')
        .next()
        .is_some_and(|part| part.contains(':'));
    if !has_tag || choices.image.contains(char::is_whitespace) {
        return refuse(
            "image",
            &choices.image,
            "it needs a tag, as in registry/orlop:1.2.3",
        );
    }
    if !choices.kubelet_dir.starts_with('/') {
        return refuse(
            "kubelet directory",
            &choices.kubelet_dir,
            "it must be absolute",
        );
    }
    match &choices.store {
        Some(StoreChoice::HostPath { path } | StoreChoice::Nfs { path, .. })
            if !path.starts_with('/') =>
        {
            refuse("directory", path, "it must be absolute")
        }
        Some(StoreChoice::Nfs { server, .. }) if server.is_empty() => {
            refuse("NFS server", server, "it must be a name or an address")
        }
        Some(StoreChoice::S3(s3)) if s3.bucket.is_empty() || s3.bucket.contains('/') => {
            refuse("bucket", &s3.bucket, "a bucket's name; the prefix is apart")
        }
        Some(StoreChoice::S3(s3)) if !s3.endpoint.is_empty() && !s3.endpoint.contains("://") => {
            refuse(
                "endpoint",
                &s3.endpoint,
                "a URL, as in https://store.example:9000",
            )
        }
        _ => Ok(()),
    }
}

/// The location, and the Secret that it needs.
fn location(store: &StoreChoice) -> Vec<Value> {
    let (provider, config) = match store {
        StoreChoice::HostPath { path } => ("replicated.com/hostpath", json!({"path": path})),
        StoreChoice::Nfs { server, path } => (
            "replicated.com/nfs",
            json!({"server": server, "path": path}),
        ),
        StoreChoice::Claim { size } => ("replicated.com/pvc", json!({"storageSize": size})),
        StoreChoice::S3(s3) => return bucket(s3),
    };
    // Directories have no buckets, but the API wants a name.
    let spec = json!({
        "provider": provider, "default": true, "objectStorage": {"bucket": "orlop"}, "config": config,
    });
    vec![object(
        "velero.io/v1",
        "BackupStorageLocation",
        LOCATION,
        "spec",
        &spec,
    )]
}

fn bucket(s3: &S3Choices) -> Vec<Value> {
    let mut storage = json!({"bucket": s3.bucket});
    if !s3.prefix.is_empty() {
        storage["prefix"] = json!(s3.prefix);
    }
    if !s3.ca_pem.is_empty() {
        storage["caCert"] = json!(ByteString(s3.ca_pem.clone().into_bytes()));
    }
    let mut config = json!({});
    if !s3.region.is_empty() {
        config["region"] = json!(s3.region);
    }
    if !s3.endpoint.is_empty() {
        config["s3Url"] = json!(s3.endpoint);
        config["s3ForcePathStyle"] = json!("true");
    }
    let mut spec = json!({
        "provider": "aws", "default": true, "objectStorage": storage, "config": config,
    });
    let mut objects = Vec::new();
    if let Some(credentials) = &s3.credentials {
        let (name, key) = CREDENTIALS;
        spec["credential"] = json!({"name": name, "key": key});
        let data = json!({key: credentials});
        objects.push(object("v1", "Secret", name, "stringData", &data));
    }
    objects.push(object(
        "velero.io/v1",
        "BackupStorageLocation",
        LOCATION,
        "spec",
        &spec,
    ));
    objects
}

fn object(api_version: &str, kind: &str, name: &str, field: &str, value: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"component": "velero"}},
        field: value,
    })
}

/// Changes an object as it is chosen.
fn change(object: &mut Value, choices: &InstallChoices) {
    if object["kind"] == "Namespace" {
        object["metadata"]["name"] = json!(choices.namespace);
    }
    if object["metadata"]["namespace"] == NAMESPACE {
        object["metadata"]["namespace"] = json!(choices.namespace);
    }
    for subject in elements(object, "subjects") {
        if subject["namespace"] == NAMESPACE {
            subject["namespace"] = json!(choices.namespace);
        }
    }
    let Some(pod) = object.pointer_mut("/spec/template/spec") else {
        return;
    };
    for list in ["initContainers", "containers"] {
        for container in elements(pod, list) {
            container["image"] = json!(choices.image);
        }
    }
    if let Some(secret) = &choices.pull_secret {
        pod["imagePullSecrets"] = json!([{"name": secret}]);
    }
    for volume in elements(pod, "volumes") {
        let path = volume["hostPath"]["path"].as_str().unwrap_or_default();
        if let Some(below) = path.strip_prefix(KUBELET_DIR) {
            let dir = choices.kubelet_dir.trim_end_matches('/');
            volume["hostPath"]["path"] = json!(format!("{dir}{below}"));
        }
    }
    if object["kind"] == "Deployment"
        && let Some(store) = &choices.store
    {
        mount(object, store);
    }
}

/// The elements of a list of an object, none if it has no such list.
fn elements<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.get_mut(list).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// What the controller would mount itself when it sees the location; with it the coordinator need not start twice.
fn mount(deployment: &mut Value, store: &StoreChoice) {
    let name = format!("orlop-store-{LOCATION}");
    let volume = match store {
        StoreChoice::HostPath { path } => {
            json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
        }
        StoreChoice::Nfs { server, path } => {
            json!({"name": name, "nfs": {"server": server, "path": path}})
        }
        // The claim is made by the controller.
        StoreChoice::Claim { .. } | StoreChoice::S3(_) => return,
    };
    let mount = json!({"name": name, "mountPath": format!("/stores/{LOCATION}")});
    let pod = &mut deployment["spec"]["template"]["spec"];
    if let Some(volumes) = pod["volumes"].as_array_mut() {
        volumes.push(volume);
    }
    if let Some(mounts) = pod["containers"][0]["volumeMounts"].as_array_mut() {
        mounts.push(mount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
        objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    #[test]
    fn choices_reach_every_object_that_they_concern() {
        let choices = InstallChoices {
            namespace: "backups".to_owned(),
            image: "registry.local:5000/orlop:9".to_owned(),
            pull_secret: Some("registry".to_owned()),
            kubelet_dir: "/var/lib/k0s/kubelet/".to_owned(),
            restore_rights: false,
            store: None,
            read_only: false,
        };
        let objects = render(&choices).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        assert!(!text.contains(IMAGE) && !text.contains("\"/var/lib/kubelet/pods\""));
        assert!(!text.contains("\"namespace\":\"velero\""));
        assert!(find(&objects, "Namespace", "backups").is_some());
        assert!(find(&objects, "ClusterRole", "velero-restore").is_none());
        let agents = find(&objects, "DaemonSet", "node-agent").unwrap();
        let pod = &agents["spec"]["template"]["spec"];
        assert_eq!(
            pod["volumes"][0]["hostPath"]["path"],
            "/var/lib/k0s/kubelet/pods"
        );
        assert_eq!(pod["imagePullSecrets"][0]["name"], "registry");
        assert!(find(&objects, "BackupStorageLocation", LOCATION).is_none());
    }

    #[test]
    fn a_bucket_has_its_keys_in_a_secret_or_none() {
        let s3 = S3Choices {
            bucket: "b".to_owned(),
            region: "eu-1".to_owned(),
            endpoint: "https://store:9000".to_owned(),
            ca_pem: "PEM".to_owned(),
            credentials: Some("[default]\n".to_owned()),
            ..S3Choices::default()
        };
        let choices = |s3| InstallChoices {
            store: Some(StoreChoice::S3(s3)),
            ..InstallChoices::default()
        };
        let objects = render(&choices(s3.clone())).unwrap();
        let location = find(&objects, "BackupStorageLocation", LOCATION).unwrap();
        assert_eq!(location["spec"]["objectStorage"]["caCert"], "UEVN");
        assert_eq!(location["spec"]["credential"]["name"], "cloud-credentials");
        let secret = find(&objects, "Secret", "cloud-credentials").unwrap();
        assert_eq!(secret["stringData"]["cloud"], "[default]\n");
        let role = render(&choices(S3Choices {
            credentials: None,
            ..s3
        }))
        .unwrap();
        assert!(find(&role, "Secret", "cloud-credentials").is_none());
        let location = find(&role, "BackupStorageLocation", LOCATION).unwrap();
        assert_eq!(location["spec"].get("credential"), None);
    }

    #[test]
    fn a_location_is_read_only_if_nothing_may_be_made_there() {
        let choices = |read_only| InstallChoices {
            store: Some(StoreChoice::HostPath {
                path: "/backups".to_owned(),
            }),
            read_only,
            ..InstallChoices::default()
        };
        for (read_only, mode) in [(false, Value::Null), (true, json!("ReadOnly"))] {
            let objects = render(&choices(read_only)).unwrap();
            let location = find(&objects, "BackupStorageLocation", LOCATION).unwrap();
            assert_eq!(location["spec"]["accessMode"], mode);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let base = InstallChoices::default;
        let nfs = |server: &str, path: &str| StoreChoice::Nfs {
            server: server.to_owned(),
            path: path.to_owned(),
        };
        let cases = [
            (
                InstallChoices {
                    namespace: "No".to_owned(),
                    ..base()
                },
                "namespace",
            ),
            (
                InstallChoices {
                    image: "host:5000/orlop".to_owned(),
                    ..base()
                },
                "image",
            ),
            (
                InstallChoices {
                    kubelet_dir: "k".to_owned(),
                    ..base()
                },
                "kubelet",
            ),
            (
                InstallChoices {
                    store: Some(nfs("", "/a")),
                    ..base()
                },
                "NFS server",
            ),
            (
                InstallChoices {
                    store: Some(nfs("s", "a")),
                    ..base()
                },
                "directory",
            ),
            (
                InstallChoices {
                    store: Some(StoreChoice::S3(S3Choices::default())),
                    ..base()
                },
                "bucket",
            ),
        ];
        for (choices, word) in cases {
            let error = render(&choices).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
