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

#[tokio::test]
async fn the_guides_database_comes_back_without_an_error_or_a_warning() {
    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert!(kept.warnings().is_empty(), "{:?}", kept.warnings());

    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    let meta = &pod["metadata"];
    assert_eq!(meta["labels"]["velero.io/restore-name"], "r");
    assert_eq!(meta["labels"]["velero.io/backup-name"], "b");
    assert_eq!(meta["annotations"]["orlop.io/restore-uid"], "r-uid");
    assert_eq!(meta.get("ownerReferences"), None);
    assert_eq!(pod["spec"].get("nodeName"), None);
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(
        (&init["name"], &init["image"]),
        (&json!("restore-wait"), &json!("registry.example/orlop:1"))
    );
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"].get("volumeName"), None);
    assert!(server.get("persistentvolumes", "", "pv-1").is_none());
    let service = server
        .get("services", "postgres", "postgres-service")
        .unwrap();
    assert_eq!(service["spec"]["ports"][0]["nodePort"], 31432);
    assert_ne!(service["spec"]["clusterIP"], "10.0.0.9");
    let namespace = server.get("namespaces", "", "postgres").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["team"], "db");
    for (resource, name) in [("endpoints", "postgres-service"), ("events", "e")] {
        assert!(
            server.get(resource, "postgres", name).is_none(),
            "{resource}"
        );
    }

    let ends = |resource: &str, name: &str| kept.of(resource, name).end;
    assert_eq!(ends("pods", "postgresql-0"), ItemEnd::Created);
    assert_eq!(ends("statefulsets.apps", "postgresql"), ItemEnd::Created);
    assert_eq!(
        ends("controllerrevisions.apps", "postgresql-1"),
        ItemEnd::Created
    );
    assert_eq!(ends("endpoints", "postgres-service"), ItemEnd::Skipped);
    assert_eq!(kept.of("namespaces", "postgres").api_version, "v1");
    let order = [
        ("persistentvolumeclaims", "data-postgresql-0"),
        ("pods", "postgresql-0"),
        ("services", "postgres-service"),
        ("controllerrevisions.apps", "postgresql-1"),
        ("statefulsets.apps", "postgresql"),
    ];
    let places: Vec<usize> = order
        .iter()
        .map(|(resource, name)| kept.place(resource, name))
        .collect();
    assert!(places.is_sorted(), "{places:?}");

    let [pod_told] = &kept.pods[..] else {
        panic!("{:?}", kept.pods)
    };
    assert_eq!(pod_told.uid, meta["uid"].as_str().unwrap());
    let source = VolumeRef::new("postgres", "postgresql-0", "data");
    let volume = ("data".to_owned(), source, SnapshotId::from_bytes([7; 16]));
    assert_eq!(pod_told.volumes, [volume]);
    assert_eq!(pod_told.hooks[0].container, "postgresql");
}

#[tokio::test]
async fn what_exists_already_is_no_error_and_what_differs_is_a_warning() {
    let (server, connection) = started();
    server.namespace("postgres");
    server.put(object(
        "v1",
        "ConfigMap",
        "postgres",
        "kube-root-ca.crt",
        &json!({"data": {"ca.crt": "new"}}),
    ));
    server.put(object(
        "v1",
        "ServiceAccount",
        "postgres",
        "default",
        &json!({"imagePullSecrets": [{"name": "pull"}]}),
    ));
    server.put(object(
        "v1",
        "Secret",
        "postgres",
        "postgres-secret",
        &json!({"type": "Opaque", "data": {"password": "eA=="}}),
    ));
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    let map = kept.of("configmaps", "kube-root-ca.crt");
    assert_eq!(map.end, ItemEnd::Skipped);
    assert_eq!(
        map.warnings,
        [
            "could not restore, ConfigMap:kube-root-ca.crt already exists. Warning: the in-cluster version is different than the backed-up version"
        ]
    );
    assert_eq!(kept.warnings().len(), 1, "{:?}", kept.warnings());
    for (resource, name) in [
        ("secrets", "postgres-secret"),
        ("serviceaccounts", "default"),
        ("namespaces", "postgres"),
    ] {
        assert_eq!(kept.of(resource, name).end, ItemEnd::Skipped, "{resource}");
    }
}

#[tokio::test]
async fn a_restore_that_begins_again_makes_nothing_twice_and_tells_its_pods_again() {
    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let first = asked.run(&connection).await;
    let revision = server.revision();
    let again = asked.run(&connection).await;
    assert_eq!(server.revision(), revision);
    assert_eq!(again.items, first.items);
    assert_eq!(again.pods, first.pods);
    // Another restore of that name has objects of its own.
    let mut other =
        Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    other.restore.metadata.uid = Some("other".to_owned());
    let other = other.run(&connection).await;
    assert!(other.pods.is_empty());
    let pod = other.of("pods", "postgresql-0");
    assert_eq!(pod.end, ItemEnd::Skipped);
    assert!(
        pod.warnings
            .iter()
            .any(|line| line.contains("nothing is restored into its volumes"))
    );
}

#[tokio::test]
async fn a_mapped_namespace_gets_everything() {
    let (server, connection) = started();
    let mut objects = guide();
    objects.push(("rolebindings.rbac.authorization.k8s.io", object("rbac.authorization.k8s.io/v1", "RoleBinding", "postgres", "b", &json!({
        "subjects": [{"kind": "ServiceAccount", "namespace": "postgres", "name": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }))));
    let spec =
        json!({"includedNamespaces": ["postgres"], "namespaceMapping": {"postgres": "copy"}});
    let kept = Asked::new(&objects, &spec)
        .with_database()
        .run(&connection)
        .await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert!(server.get("namespaces", "", "postgres").is_none());
    let namespace = server.get("namespaces", "", "copy").unwrap();
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "copy"
    );
    assert!(server.get("pods", "copy", "postgresql-0").is_some());
    let binding = server
        .get("rolebindings.rbac.authorization.k8s.io", "copy", "b")
        .unwrap();
    assert_eq!(binding["subjects"][0]["namespace"], "copy");
    assert_eq!(kept.pods[0].namespace, "copy");
    assert_eq!(kept.pods[0].volumes[0].1.namespace, "postgres");
    assert_eq!(kept.of("namespaces", "copy").end, ItemEnd::Created);
}

#[tokio::test]
async fn with_the_policy_update_what_differs_is_changed() {
    let (server, connection) = started();
    server.namespace("postgres");
    server.put(object(
        "v1",
        "ConfigMap",
        "postgres",
        "kube-root-ca.crt",
        &json!({"data": {"ca.crt": "new", "more": "x"}}),
    ));
    let spec = json!({"includedResources": ["configmaps"], "existingResourcePolicy": "update"});
    let kept = Asked::new(&guide(), &spec).run(&connection).await;
    assert_eq!(
        kept.of("configmaps", "kube-root-ca.crt").end,
        ItemEnd::Updated
    );
    let map = server
        .get("configmaps", "postgres", "kube-root-ca.crt")
        .unwrap();
    assert_eq!(map["data"], json!({"ca.crt": "old"}));
    assert_eq!(map["metadata"]["labels"]["velero.io/restore-name"], "r");
}

#[tokio::test]
async fn claims_without_data_say_that_they_come_back_empty_and_retained_volumes_come_back() {
    let (server, connection) = started();
    // No volume has a snapshot.
    let asked = Asked::new(&guide(), &json!({}));
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"]["volumeName"], "pv-1");
    assert!(server.get("persistentvolumes", "", "pv-1").is_some());
    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    assert_eq!(pod["spec"].get("initContainers"), None);

    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"restorePVs": false}));
    let kept = asked.run(&connection).await;
    let told = &kept
        .of("persistentvolumeclaims", "data-postgresql-0")
        .warnings;
    assert!(
        told.len() == 1 && told[0].contains("comes back empty"),
        "{told:?}"
    );
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"].get("volumeName"), None);
}

#[tokio::test]
async fn a_selector_takes_the_pod_with_what_it_needs() {
    let (server, connection) = started();
    let spec = json!({"labelSelector": {"matchLabels": {"app": "postgresql"}}});
    let kept = Asked::new(&guide(), &spec)
        .with_database()
        .run(&connection)
        .await;
    let mut names: Vec<String> = kept
        .items
        .iter()
        .map(|one| format!("{} {}", one.resource, one.name))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "namespaces postgres",
            "persistentvolumeclaims data-postgresql-0",
            "pods postgresql-0"
        ]
    );
    assert!(
        server
            .get("secrets", "postgres", "postgres-secret")
            .is_none()
    );
}

#[tokio::test]
async fn definitions_come_first_and_then_the_objects_of_their_kinds() {
    let (server, connection) = started();
    let definition = crds::all()
        .into_iter()
        .find(|one| one.metadata.name.as_deref() == Some("schedules.velero.io"));
    let objects = [
        (
            "schedules.velero.io",
            object(
                "velero.io/v1",
                "Schedule",
                "shop",
                "nightly",
                &json!({"spec": {"schedule": "@daily", "template": {}}, "status": {"phase": "Enabled"}}),
            ),
        ),
        (
            "boats.example.com",
            object("example.com/v1", "Boat", "shop", "x", &json!({})),
        ),
        (
            "podsecuritypolicies.policy",
            object("policy/v1beta1", "PodSecurityPolicy", "", "p", &json!({})),
        ),
        (
            "customresourcedefinitions.apiextensions.k8s.io",
            serde_json::to_value(definition.unwrap()).unwrap(),
        ),
    ];
    let kept = Asked::new(&objects, &json!({})).run(&connection).await;
    assert_eq!(
        kept.items[0].resource,
        "customresourcedefinitions.apiextensions.k8s.io"
    );
    let schedule = kept.of("schedules.velero.io", "nightly");
    assert_eq!(schedule.end, ItemEnd::Created, "{schedule:?}");
    assert!(
        server
            .get("schedules.velero.io", "shop", "nightly")
            .is_some()
    );
    let boat = kept.of("boats.example.com", "x");
    assert_eq!(boat.end, ItemEnd::Failed);
    assert!(boat.errors[0].contains("boats.example.com"));
    let policy = kept.of("podsecuritypolicies.policy", "p");
    assert!(
        policy.errors.is_empty() && policy.warnings.len() == 1,
        "{policy:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_or_loses_answers_breaks_nothing() {
    let (server, connection) = started();
    let creates =
        |request: &KubeRequest| request.method == "POST" && request.path.ends_with("/secrets");
    server.faults().next(5, creates, KubeFault::Answer(503));
    let pods = |request: &KubeRequest| request.method == "POST" && request.path.ends_with("/pods");
    server.faults().next(1, pods, KubeFault::DropAfter);
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert_eq!(kept.of("secrets", "postgres-secret").end, ItemEnd::Created);
    assert_eq!(kept.of("pods", "postgresql-0").end, ItemEnd::Created);
    assert_eq!(kept.pods.len(), 1);
}

#[tokio::test]
async fn an_object_that_the_server_refuses_is_an_error_of_its_own() {
    let (server, connection) = started();
    let creates =
        |request: &KubeRequest| request.method == "POST" && request.path.ends_with("/secrets");
    server.faults().next(1, creates, KubeFault::Answer(403));
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    let secret = kept.of("secrets", "postgres-secret");
    assert_eq!((secret.end, secret.errors.len()), (ItemEnd::Failed, 1));
    assert_eq!(kept.errors().len(), 1);
    assert_eq!(kept.of("pods", "postgresql-0").end, ItemEnd::Created);
}

#[tokio::test]
async fn a_namespace_that_goes_is_waited_for() {
    let (server, connection) = started();
    server.namespace("postgres");
    server.edit("namespaces", "", "postgres", |namespace| {
        namespace["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        namespace["status"]["phase"] = "Terminating".into();
    });
    let server = Arc::new(server);
    let later = Arc::clone(&server);
    let gone = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        later.remove("namespaces", "", "postgres");
    });
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    gone.await.unwrap();
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert_eq!(kept.of("namespaces", "postgres").end, ItemEnd::Created);
}

#[tokio::test]
async fn settings_of_config_maps_count() {
    let (server, connection) = started();
    let map = |plugin: &str, data: Value| {
        let labels = json!({"velero.io/plugin-config": "", format!("velero.io/{plugin}"): "RestoreItemAction"});
        object(
            "v1",
            "ConfigMap",
            "velero",
            plugin,
            &json!({"metadata": {"labels": labels}, "data": data}),
        )
    };
    server.put(map(
        "pod-volume-restore",
        json!({"image": "mirror.example/orlop:2", "memLimit": "64Mi"}),
    ));
    server.put(map("change-storage-class", json!({"slow": "fast"})));
    let mut objects = guide();
    let claim = objects
        .iter_mut()
        .find(|(resource, _)| *resource == "persistentvolumeclaims")
        .unwrap();
    claim.1["spec"]["storageClassName"] = "slow".into();
    let asked = Asked::new(&objects, &json!({"includedNamespaces": ["postgres"]})).with_database();
    asked.run(&connection).await;
    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(init["image"], "mirror.example/orlop:2");
    assert_eq!(init["resources"]["limits"]["memory"], "64Mi");
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"]["storageClassName"], "fast");
}

#[tokio::test]
async fn the_admin_console_gets_the_proxies_of_the_cluster_that_it_comes_to() {
    let (server, connection) = started();
    let labels = json!({"velero.io/plugin-config": "", "kurl.sh/restore-kotsadm-plugin": "RestoreItemAction"});
    let data = json!({"HTTP_PROXY": "http://new:3128", "HTTPS_PROXY": "", "NO_PROXY": "", "hostCAPath": ""});
    let map = json!({"metadata": {"labels": labels}, "data": data});
    server.put(object(
        "v1",
        "ConfigMap",
        "velero",
        "kotsadm-restore-config",
        &map,
    ));
    let old = json!([{"name": "kotsadm", "image": "kotsadm:1", "env": [
        {"name": "HTTP_PROXY", "value": "http://old:3128"}, {"name": "HTTPS_PROXY", "value": "http://old:3128"},
    ]}]);
    let spec = json!({"spec": {"template": {"spec": {"containers": old}}}});
    let console = object("apps/v1", "StatefulSet", "default", "kotsadm", &spec);
    let asked = Asked::new(
        &[("statefulsets.apps", console)],
        &json!({"includedNamespaces": ["default"]}),
    );
    asked.run(&connection).await;
    let made = server
        .get("statefulsets.apps", "default", "kotsadm")
        .unwrap();
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"][0]["env"],
        json!([{"name": "HTTP_PROXY", "value": "http://new:3128"}, {"name": "HTTPS_PROXY", "value": ""}])
    );
}

#[tokio::test]
async fn the_status_comes_back_where_it_is_asked_for() {
    let (server, connection) = started();
    let spec = json!({"includedNamespaces": ["postgres"], "restoreStatus": {"includedResources": ["statefulsets"]}});
    let kept = Asked::new(&guide(), &spec)
        .with_database()
        .run(&connection)
        .await;
    assert!(kept.warnings().is_empty(), "{:?}", kept.warnings());
    let set = server
        .get("statefulsets.apps", "postgres", "postgresql")
        .unwrap();
    assert_eq!(set["status"]["replicas"], 1);
    let pod = server.get("pods", "postgres", "postgresql-0").unwrap();
    assert_eq!(pod["status"]["phase"], "Pending");
}

#[tokio::test]
async fn cancelled_it_ends_and_what_nobody_can_do_is_refused() {
    let (_server, connection) = started();
    let asked = Asked::new(&guide(), &json!({}));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let request = asked.request();
    let mut kept = Kept::default();
    let done = restore_objects(&connection, &request, &mut kept, &cancel).await;
    assert!(matches!(done, Err(RestoreError::Cancelled)), "{done:?}");
    assert!(kept.items.is_empty());
    let modified = Asked::new(
        &guide(),
        &json!({"resourceModifier": {"kind": "ConfigMap", "name": "m"}}),
    );
    let cancel = CancellationToken::new();
    let done = restore_objects(&connection, &modified.request(), &mut kept, &cancel).await;
    assert!(
        done.unwrap_err()
            .to_string()
            .contains("spec.resourceModifier")
    );
}

#[tokio::test]
async fn a_restored_pod_is_followed_to_its_volumes_and_these_are_finished() {
    let (server, connection) = started();
    let asked = Asked::new(&guide(), &json!({"includedNamespaces": ["postgres"]})).with_database();
    // As the coordinator does, from a task of its own.
    let spawned = connection.clone();
    let (asked, kept) = tokio::spawn(async move {
        let kept = asked.run(&spawned).await;
        (asked, kept)
    })
    .await
    .unwrap();
    let pod = &kept.pods[0];
    let roots = ["/srv".to_owned()];
    let state = pod_state(&connection, pod, &roots).await.unwrap();
    assert!(matches!(state, PodState::Unscheduled { .. }), "{state:?}");
    server.put(object(
        "v1",
        "PersistentVolume",
        "",
        "pv-new",
        &json!({
            "spec": {"persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": "/srv/new"}},
        }),
    ));
    server.edit(
        "persistentvolumeclaims",
        "postgres",
        "data-postgresql-0",
        |claim| {
            claim["spec"]["volumeName"] = "pv-new".into();
        },
    );
    server.edit("pods", "postgres", "postgresql-0", |pod| {
        pod["spec"]["nodeName"] = "n1".into();
        pod["status"]["initContainerStatuses"] = json!([{
            "name": "restore-wait", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"running": {}},
        }]);
    });
    let state = pod_state(&connection, pod, &roots).await.unwrap();
    let PodState::Waiting { node, places } = state else {
        panic!("{state:?}")
    };
    assert_eq!((node.as_str(), places.len()), ("n1", 1));
    let (volume, place) = &places[0];
    assert_eq!(volume, "data");
    assert_eq!(
        (place.directory.as_str(), place.host_path.as_str()),
        ("pv-new", "/srv/new")
    );
    assert_eq!(
        (place.claim.as_str(), place.persistent_volume.as_str()),
        ("data-postgresql-0", "pv-new")
    );
    assert_eq!(place.pod_uid, pod.uid);
    let state = pod_state(&connection, pod, &[]).await.unwrap();
    assert!(matches!(state, PodState::Starting { reason, .. } if reason.contains("--host-roots")));

    server.run_pod("postgres", "postgresql-0", "n1");
    assert_eq!(
        pod_state(&connection, pod, &roots).await.unwrap(),
        PodState::Started
    );
    let state = container_state(&connection, "postgres", "postgresql-0", "postgresql").await;
    assert_eq!(state.unwrap(), ContainerState::Ready);

    let cancel = CancellationToken::new();
    let warnings = soon(finish_volumes(&connection, &asked.request(), &cancel)).await;
    assert!(warnings.is_empty(), "{warnings:?}");
    let volume = server.get("persistentvolumes", "", "pv-new").unwrap();
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(volume["metadata"]["labels"]["disk"], "fast");

    server.remove("pods", "postgres", "postgresql-0");
    assert_eq!(
        pod_state(&connection, pod, &roots).await.unwrap(),
        PodState::Gone
    );
    let state = container_state(&connection, "postgres", "postgresql-0", "postgresql").await;
    assert!(matches!(state.unwrap(), ContainerState::Never { .. }));
}

#[tokio::test]
async fn a_retained_volume_whose_claim_is_gone_serves_the_claim_again() {
    let (server, connection) = started();
    server.put(object("v1", "PersistentVolume", "", "pv-1", &json!({
        "metadata": {"labels": {"disk": "fast"}},
        "spec": {"persistentVolumeReclaimPolicy": "Retain", "claimRef": {
            "namespace": "postgres", "name": "data-postgresql-0", "uid": "old", "resourceVersion": "1",
        }},
        "status": {"phase": "Released"},
    })));
    let kept = Asked::new(&guide(), &json!({})).run(&connection).await;
    assert!(kept.errors().is_empty(), "{:?}", kept.errors());
    assert_eq!(kept.of("persistentvolumes", "pv-1").end, ItemEnd::Updated);
    let volume = server.get("persistentvolumes", "", "pv-1").unwrap();
    let want = json!({"namespace": "postgres", "name": "data-postgresql-0"});
    assert_eq!(volume["spec"]["claimRef"], want);
    let claim = server
        .get("persistentvolumeclaims", "postgres", "data-postgresql-0")
        .unwrap();
    assert_eq!(claim["spec"]["volumeName"], "pv-1");
    assert!(
        kept.of("persistentvolumeclaims", "data-postgresql-0")
            .warnings
            .is_empty()
    );
}

#[tokio::test]
async fn a_pod_that_shares_a_restored_claim_says_so() {
    let (server, connection) = started();
    let mut objects = guide();
    objects.push(("pods", object("v1", "Pod", "postgres", "reader", &json!({
        "spec": {"containers": [{"name": "r"}],
                 "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data-postgresql-0"}}]},
    }))));
    let asked = Asked::new(&objects, &json!({"includedNamespaces": ["postgres"]})).with_database();
    let kept = asked.run(&connection).await;
    let told = &kept.of("pods", "reader").warnings;
    assert!(
        told.len() == 1 && told[0].contains("postgresql-0"),
        "{told:?}"
    );
    let reader = server.get("pods", "postgres", "reader").unwrap();
    assert_eq!(reader["spec"].get("initContainers"), None);
    assert_eq!(kept.pods.len(), 1);
}
