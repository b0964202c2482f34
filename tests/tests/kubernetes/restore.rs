//! Restores of a backup's objects.

use std::{path::PathBuf, sync::Arc, time::Duration};

use orlop_core::{SnapshotId, VolumeRef};
use orlop_kubernetes::{
    client::Connection,
    crds,
    files::{TarballWriter, tarball::ItemPath},
    restore::{
        BackedVolume, ContainerState, ItemEnd, ItemReport, PodState, RestoreError, RestoreRequest,
        RestoreSink, RestoredPod, container_state, finish_volumes, pod_state, restore_objects,
    },
    velero::{Backup, Restore},
};
use orlop_tests::kube_api::{KubeFault, KubeRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::cluster::{soon, started};

#[path = "restore/objects.rs"]
mod objects;
#[path = "restore/pods.rs"]
mod pods;
#[path = "restore/settings.rs"]
mod settings;

/// Keeps what it is told.
#[derive(Default)]
struct Kept {
    total: u64,
    items: Vec<ItemReport>,
    pods: Vec<RestoredPod>,
}

impl RestoreSink for Kept {
    fn total(&mut self, items: u64) {
        assert!(items >= self.total, "a total does not shrink");
        self.total = items;
    }

    fn item(&mut self, report: ItemReport) {
        let is_there = |one: &ItemReport| {
            (&one.resource, &one.namespace, &one.name)
                == (&report.resource, &report.namespace, &report.name)
        };
        assert!(!self.items.iter().any(is_there), "{report:?} came twice");
        self.items.push(report);
    }

    fn pod(&mut self, pod: RestoredPod) {
        self.pods.push(pod);
    }
}

impl Kept {
    fn of(&self, resource: &str, name: &str) -> &ItemReport {
        let mut items = self.items.iter();
        let found = items.find(|one| one.resource == resource && one.name == name);
        found.unwrap_or_else(|| panic!("no {resource} {name} in {:?}", self.items))
    }

    fn place(&self, resource: &str, name: &str) -> usize {
        let mut items = self.items.iter();
        let found = items.position(|one| one.resource == resource && one.name == name);
        found.unwrap_or_else(|| panic!("no {resource} {name}"))
    }

    fn errors(&self) -> Vec<&String> {
        self.items.iter().flat_map(|one| &one.errors).collect()
    }

    fn warnings(&self) -> Vec<&String> {
        self.items.iter().flat_map(|one| &one.warnings).collect()
    }
}

/// A backup, and what is asked for.
struct Asked {
    restore: Restore,
    backup: Backup,
    volumes: Vec<BackedVolume>,
    tarball: PathBuf,
    _dir: TempDir,
}

impl Asked {
    /// Each object by its resource. The restore is called `r` and has the uid `r-uid`.
    fn new(objects: &[(&str, Value)], spec: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tarball = dir.path().join("b.tar.gz");
        let mut writer = TarballWriter::create(Vec::new(), 0).unwrap();
        for (resource, object) in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let path = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => ItemPath::namespaced(resource, namespace, name),
                None => ItemPath::cluster(resource, name),
            };
            writer
                .add(&path, "v1", object.to_string().as_bytes())
                .unwrap();
        }
        std::fs::write(&tarball, writer.finish().unwrap()).unwrap();
        let object = |kind: &str, name: &str, spec: &Value| {
            json!({
                "apiVersion": "velero.io/v1", "kind": kind, "spec": spec,
                "metadata": {"namespace": "velero", "name": name, "uid": format!("{name}-uid")},
            })
        };
        Self {
            restore: serde_json::from_value(object("Restore", "r", spec)).unwrap(),
            backup: serde_json::from_value(object("Backup", "b", &json!({}))).unwrap(),
            volumes: Vec::new(),
            tarball,
            _dir: dir,
        }
    }

    /// The volume of the guide's database has a snapshot.
    fn with_database(mut self) -> Self {
        self.volumes.push(BackedVolume {
            source: VolumeRef::new("postgres", "postgresql-0", "data"),
            snapshot: SnapshotId::from_bytes([7; 16]),
            claim: "data-postgresql-0".to_owned(),
            persistent_volume: "pv-1".to_owned(),
        });
        self
    }

    fn request(&self) -> RestoreRequest<'_> {
        RestoreRequest {
            restore: &self.restore,
            backup: &self.backup,
            tarball: &self.tarball,
            volumes: &self.volumes,
            image: "registry.example/orlop:1",
        }
    }

    async fn run(&self, connection: &Connection) -> Kept {
        let mut kept = Kept::default();
        let cancel = CancellationToken::new();
        let done = soon(restore_objects(
            connection,
            &self.request(),
            &mut kept,
            &cancel,
        ))
        .await;
        done.unwrap();
        assert_eq!(kept.total, kept.items.len() as u64);
        kept
    }
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str, rest: &Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("old-{name}"), "resourceVersion": "1234",
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "kubectl"}],
        },
    });
    if namespace.is_empty() {
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("namespace");
    }
    for (key, value) in rest.as_object().unwrap() {
        if key == "metadata" {
            for (key, value) in value.as_object().unwrap() {
                object["metadata"][key] = value.clone();
            }
        } else {
            object[key] = value.clone();
        }
    }
    object
}

/// The database of the guide, as a cluster has it.
fn guide() -> Vec<(&'static str, Value)> {
    let ns = "postgres";
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "postgresql", "uid": "x"}]);
    let applied = json!({"spec": {"ports": [{"name": "postgres", "nodePort": 31432}]}}).to_string();
    vec![
        (
            "namespaces",
            object(
                "v1",
                "Namespace",
                "",
                ns,
                &json!({
                    "metadata": {"labels": {"kubernetes.io/metadata.name": ns, "team": "db"}},
                    "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
                }),
            ),
        ),
        (
            "pods",
            object(
                "v1",
                "Pod",
                ns,
                "postgresql-0",
                &json!({
                    "metadata": {
                        "labels": {"app": "postgresql", "controller-revision-hash": "postgresql-1"}, "ownerReferences": owner,
                        "annotations": {
                            "backup.velero.io/backup-volumes": "data",
                            "post.hook.restore.velero.io/command": "[\"psql\"]",
                        },
                    },
                    "spec": {
                        "nodeName": "old-node", "restartPolicy": "Always", "serviceAccountName": "default",
                        "containers": [{"name": "postgresql", "image": "postgres:9.6", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-postgresql-0"}}],
                    },
                    "status": {"phase": "Running"},
                }),
            ),
        ),
        (
            "persistentvolumeclaims",
            object(
                "v1",
                "PersistentVolumeClaim",
                ns,
                "data-postgresql-0",
                &json!({
                    "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                    "spec": {"volumeName": "pv-1", "accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Bound"},
                }),
            ),
        ),
        (
            "persistentvolumes",
            object(
                "v1",
                "PersistentVolume",
                "",
                "pv-1",
                &json!({
                    "metadata": {"labels": {"disk": "fast"}},
                    "spec": {"persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": ns, "name": "data-postgresql-0"}},
                }),
            ),
        ),
        (
            "secrets",
            object(
                "v1",
                "Secret",
                ns,
                "postgres-secret",
                &json!({"type": "Opaque", "data": {"password": "eA=="}}),
            ),
        ),
        (
            "configmaps",
            object(
                "v1",
                "ConfigMap",
                ns,
                "kube-root-ca.crt",
                &json!({"data": {"ca.crt": "old"}}),
            ),
        ),
        (
            "serviceaccounts",
            object("v1", "ServiceAccount", ns, "default", &json!({})),
        ),
        (
            "services",
            object(
                "v1",
                "Service",
                ns,
                "postgres-service",
                &json!({
                    "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
                    "spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "selector": {"app": "postgresql"},
                             "ports": [{"name": "postgres", "port": 5432, "nodePort": 31432}]},
                }),
            ),
        ),
        (
            "endpoints",
            object(
                "v1",
                "Endpoints",
                ns,
                "postgres-service",
                &json!({"subsets": []}),
            ),
        ),
        (
            "endpointslices.discovery.k8s.io",
            object(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                ns,
                "postgres-service-x",
                &json!({
                    "metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
                }),
            ),
        ),
        (
            "controllerrevisions.apps",
            object(
                "apps/v1",
                "ControllerRevision",
                ns,
                "postgresql-1",
                &json!({
                    "metadata": {"ownerReferences": owner}, "data": {}, "revision": 1,
                }),
            ),
        ),
        (
            "statefulsets.apps",
            object(
                "apps/v1",
                "StatefulSet",
                ns,
                "postgresql",
                &json!({
                    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "postgresql"}}}, "status": {"replicas": 1},
                }),
            ),
        ),
        ("events", object("v1", "Event", ns, "e", &json!({}))),
    ]
}
