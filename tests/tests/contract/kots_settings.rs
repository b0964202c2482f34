//! The settings page: what KOTS writes when somebody saves, with each kind of storage, and when a backup runs.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    client::{APPS, CORE, Client, PATIENCE, VELERO, name, phase},
    go, kots,
    kots_backups::{ENDED, completed, remove, start},
    kots_detection::{agent_pods, coordinator_pod},
    rows::{Place, Row, Who},
    world::{LARGE, SMALL, World, keys, secret},
};
use orlop_tests::s3;

/// How often the page asks; the real one waits for 2 s.
const POLL: Duration = Duration::from_millis(100);
const OTHER_STORE: &str = "the cluster at hand keeps its store";
const LOCATIONS: &str = "/apis/velero.io/v1/namespaces/velero/backupstoragelocations";
const SECRET: &str = "/api/v1/namespaces/velero/secrets/cloud-credentials";
const SAVE: &[&str] = &[
    "GET /apis/velero.io/v1/namespaces/velero/backupstoragelocations",
    "PUT /apis/velero.io/v1/namespaces/velero/backupstoragelocations/default application/json",
    "GET /apis/apps/v1/namespaces/velero/deployments/velero",
    "GET /apis/apps/v1/namespaces/velero/daemonsets/node-agent",
    "PUT /apis/apps/v1/namespaces/velero/deployments/velero application/json",
    "PUT /apis/apps/v1/namespaces/velero/daemonsets/node-agent application/json",
    "GET /apis/velero.io/v1/namespaces/velero/backuprepositories?labelSelector=velero.io%2Fstorage-location%3Ddefault",
    "GET /apis/velero.io/v1/namespaces/velero/resticrepositories",
];
const SAVE_AND_RESTART: &[&str] = &[
    "PUT /apis/velero.io/v1/namespaces/velero/backupstoragelocations/default application/json",
    "PUT /apis/apps/v1/namespaces/velero/deployments/velero application/json",
    "PUT /apis/apps/v1/namespaces/velero/daemonsets/node-agent application/json",
    "DELETE /apis/velero.io/v1/namespaces/velero/backuprepositories/* application/json",
    "DELETE /api/v1/namespaces/velero/pods/velero-* application/json",
];

/// A row whose save differs only in the storage.
macro_rules! storage {
    ($id:literal, $change:literal, $run:expr) => {
        Row {
            id: $id,
            who: Who::Kots,
            requests: SAVE,
            change: $change,
            source: "pkg/snapshot/store.go buildNewStore, upsertGlobalStore",
            place: Place::Memory(OTHER_STORE),
            run: $run,
        }
    };
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.12.11 save",
        who: Who::Kots,
        requests: SAVE_AND_RESTART,
        change: "after a save both are new pods and ready, the location is available, and repositories are there again",
        source: "pkg/snapshot/store.go ConfigureStore, pkg/snapshot/velero.go restartVelero",
        place: Place::Alone,
        run: |world, client| Box::pin(save_again(world, client)),
    },
    Row {
        id: "2.12.11 running backup",
        who: Who::Kots,
        requests: SAVE_AND_RESTART,
        change: "a backup that runs meanwhile goes on and completes, and no page sees it fail",
        source: "pkg/snapshot/store.go ConfigureStore, pkg/snapshot/velero.go restartVelero",
        place: Place::Alone,
        run: |world, client| Box::pin(save_while_running(world, client)),
    },
    Row {
        id: "2.12.6 restart",
        who: Who::Kots,
        requests: &[
            "DELETE /api/v1/namespaces/velero/pods/velero-* application/json",
            "DELETE /api/v1/namespaces/velero/pods/node-agent-* application/json",
        ],
        change: "a pod of the application that is gone after the restart ends its volume as failed, by name, not the backup of others",
        source: "pkg/snapshot/velero.go restartVelero, pkg/kotsadmsnapshot/backup.go listBackupVolumes",
        place: Place::Alone,
        run: |world, client| Box::pin(pod_gone_after_restart(world, client)),
    },
    storage!(
        "2.12.11 aws",
        "keys and region are obeyed",
        |world, client| Box::pin(aws(world, client))
    ),
    storage!(
        "2.12.11 other",
        "another prefix is another store, in which backups come and go",
        |world, client| Box::pin(other(world, client))
    ),
    storage!(
        "2.12.11 internal",
        "the object store of kURL is one, with its public URL",
        |world, client| Box::pin(internal(world, client))
    ),
    storage!(
        "2.12.11 internal PVC",
        "a claim is made and mounted",
        |world, client| Box::pin(directory(world, client, &Directory::CLAIM))
    ),
    storage!(
        "2.12.11 NFS",
        "the server's directory is mounted; both are new pods, though KOTS leaves that to the plugin",
        |world, client| Box::pin(directory(world, client, &Directory::NFS))
    ),
    storage!(
        "2.12.11 host path",
        "the node's directory is mounted; both are new pods, though KOTS leaves that to the plugin",
        |world, client| Box::pin(directory(world, client, &Directory::HOST_PATH))
    ),
    storage!(
        "2.12.11 GCP",
        "the location says that it is not supported, and what is",
        |world, client| Box::pin(unsupported(
            world,
            client,
            "gcp",
            json!({"serviceAccount": "orlop@example.iam.gserviceaccount.com"}),
            None,
        ))
    ),
    storage!(
        "2.12.11 Azure",
        "the location says that it is not supported, and what is",
        |world, client| Box::pin(unsupported(
            world,
            client,
            "azure",
            json!({"resourceGroup": "g", "storageAccount": "a", "subscriptionId": "s"}),
            Some(
                "AZURE_SUBSCRIPTION_ID=s\nAZURE_TENANT_ID=t\nAZURE_CLIENT_ID=c\nAZURE_CLIENT_SECRET=x\n"
            ),
        ))
    ),
];

/// What becomes of the Secret.
enum Keys {
    /// This is its content.
    Put(String),
    /// The provider needs none, and what another has left stays.
    Keep,
    /// It is taken away, so that the role of the node counts.
    Remove,
}

/// What somebody has chosen on the page.
struct Choice<'a> {
    provider: &'a str,
    bucket: &'a str,
    prefix: &'a str,
    config: Value,
    keys: Keys,
    /// KOTS does not restart when it expects the plugin of directories to do so.
    restarts: bool,
}

/// The names that the page compares: those of the coordinator's pod and of the agents'.
type Pods = (String, BTreeSet<String>);

async fn pods(client: &Client) -> Pods {
    (
        coordinator_pod(client).await,
        agent_pods(client).await.into_iter().collect(),
    )
}

/// Looks as the page does until both have changed and are there.
async fn until_replaced(client: &Client, before: &Pods) {
    let (mut coordinator, mut agents) = (false, false);
    let looking = async {
        while !(coordinator && agents) {
            let (one, others) = pods(client).await;
            coordinator |= !one.is_empty() && one != before.0;
            agents |= !others.is_empty() && others != before.1;
            tokio::time::sleep(POLL).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, looking).await;
    assert!(
        seen.is_ok(),
        "the page waits for ever: coordinator new: {coordinator}, agents new: {agents}"
    );
}

/// What is saved at present.
async fn location(client: &Client) -> Value {
    let all = client.list(LOCATIONS, "").await;
    all.into_iter().find(|one| name(one) == "default").unwrap()
}

async fn put_keys(client: &Client, keys: &str) {
    match client.find(SECRET).await {
        None => {
            client
                .create(&format!("{CORE}/secrets"), &secret(keys))
                .await;
        }
        Some(mut found) => {
            found["data"]["cloud"] = go::bytes(keys);
            client.update(SECRET, &found).await;
        }
    }
}

/// Saves, from the location to the restart.
async fn save(client: &Client, choice: &Choice<'_>) {
    let mut location = location(client).await;
    match &choice.keys {
        Keys::Put(keys) => put_keys(client, keys).await,
        Keys::Keep => {}
        Keys::Remove => drop(client.delete(SECRET).await),
    }
    location["spec"]["provider"] = json!(choice.provider);
    location["spec"]["config"] = choice.config.clone();
    let mut storage = json!({"bucket": choice.bucket});
    if !choice.prefix.is_empty() {
        storage["prefix"] = json!(choice.prefix);
    }
    location["spec"]["objectStorage"] = storage;
    if choice.provider.starts_with("replicated.com/")
        && let Some(status) = location["status"].as_object_mut()
    {
        status.remove("lastSyncedTime");
    }
    put_location(client, &location).await;
    finish_save(client, choice.restarts).await;
}

/// KOTS gives up at a conflict, and so does this.
async fn put_location(client: &Client, location: &Value) {
    client
        .update(&format!("{LOCATIONS}/default"), location)
        .await;
}

/// Puts an entry into a list of a pod's spec, in the place of one of its name.
fn put_named(list: &mut Value, entry: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().unwrap();
    match list.iter_mut().find(|one| one["name"] == entry["name"]) {
        Some(old) => *old = entry,
        None => list.push(entry),
    }
}

fn with_keys(workload: &mut Value) {
    let spec = &mut workload["spec"]["template"]["spec"];
    let volume =
        json!({"name": "cloud-credentials", "secret": {"secretName": "cloud-credentials"}});
    put_named(&mut spec["volumes"], volume);
    let container = &mut spec["containers"][0];
    let mount = json!({"name": "cloud-credentials", "mountPath": "/credentials"});
    put_named(&mut container["volumeMounts"], mount);
    for variable in [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AZURE_CREDENTIALS_FILE",
        "ALIBABA_CLOUD_CREDENTIALS_FILE",
    ] {
        let entry = json!({"name": variable, "value": "/credentials/cloud"});
        put_named(&mut container["env"], entry);
    }
}

async fn finish_save(client: &Client, restarts: bool) {
    let (deployment, set) = (
        format!("{APPS}/deployments/velero"),
        format!("{APPS}/daemonsets/node-agent"),
    );
    let mut coordinator = client.get(&deployment).await;
    let mut agents = client.get(&set).await;
    if client.find(SECRET).await.is_some() {
        with_keys(&mut coordinator);
        with_keys(&mut agents);
    }
    let pull = client
        .find(&format!("{CORE}/secrets/registry-credentials"))
        .await;
    assert_eq!(pull, None);
    client.update(&deployment, &coordinator).await;
    client.update(&set, &agents).await;
    let repositories = format!("{VELERO}/backuprepositories");
    let found = client
        .list(&repositories, "velero.io/storage-location=default")
        .await;
    for one in &found {
        client
            .delete(&format!("{repositories}/{}", name(one)))
            .await;
    }
    let old = client.find(&format!("{VELERO}/resticrepositories")).await;
    assert_eq!(old, None, "there are none since Velero 1.10");
    if restarts {
        restart(client).await;
    }
}

/// Deletes all pods that have the labels of the Deployment, and then those with the labels of the DaemonSet.
async fn restart(client: &Client) {
    let all = client.list("/apis/apps/v1/deployments", "").await;
    assert!(all.iter().any(|one| name(one) == "velero"));
    for kind in ["deployments", "daemonsets"] {
        let path = format!("{APPS}/{kind}");
        let mut found = client.list(&path, "component=velero").await;
        found.extend(client.list(&path, "app.kubernetes.io/name=velero").await);
        for workload in found {
            let labels = workload["metadata"]["labels"].as_object().unwrap();
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
                .collect();
            let path = format!("{CORE}/pods");
            for pod in client.list(&path, &labels.join(",")).await {
                client.delete(&format!("{path}/{}", name(&pod))).await;
            }
        }
    }
}

/// Waits until the location is known as it is now.
async fn until_validated(client: &Client, phases: &[&str]) -> Value {
    let path = format!("{LOCATIONS}/default");
    let is_it = |one: &Value| {
        phases.contains(&phase(one)) && one["status"]["lastValidationTime"].is_string()
    };
    client.until(&format!("is {phases:?}"), &path, is_it).await
}

/// Saves what is saved already, as somebody does who only looks at the page.
async fn save_same(world: &World, client: &Client) {
    let location = location(client).await;
    let keys = world.memory().map(|_| keys(s3::ACCESS_KEY, s3::SECRET_KEY));
    if let Some(keys) = &keys {
        put_keys(client, keys).await;
    }
    put_location(client, &location).await;
    finish_save(client, true).await;
}

/// Back to the store of before the row.
async fn save_first(world: &World, client: &Client) {
    let before = pods(client).await;
    let spec = world.location_spec("first");
    let choice = Choice {
        provider: "aws",
        bucket: "bench",
        prefix: "first",
        config: spec["config"].clone(),
        keys: Keys::Put(keys(s3::ACCESS_KEY, s3::SECRET_KEY)),
        restarts: true,
    };
    save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &["Available"]).await;
}

async fn repositories(client: &Client, namespace: &str) -> Vec<Value> {
    let labels = "velero.io/storage-location=default";
    let mut found = client
        .list(&format!("{VELERO}/backuprepositories"), labels)
        .await;
    found.retain(|one| one["spec"]["volumeNamespace"] == namespace);
    found
}

async fn until_repository(client: &Client, namespace: &str) {
    let looking = async {
        loop {
            let found = repositories(client, namespace).await;
            if found.len() == 1 && phase(&found[0]) == "Ready" {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.unwrap_or_else(|_| panic!("no repository of {namespace}"));
}

async fn save_again(world: &World, client: &Client) {
    let app = world
        .application(
            "saved",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let backup = start(client, &app, &json!({})).await;
    let first = completed(client, &backup).await;
    until_repository(client, &app.namespace).await;
    let before = pods(client).await;
    save_same(world, client).await;
    until_replaced(client, &before).await;
    until_validated(client, &["Available"]).await;
    until_repository(client, &app.namespace).await;
    // What was there stays as it was, and is all there.
    let still = client.get(&format!("{VELERO}/backups/{backup}")).await;
    assert_eq!(still["status"], first["status"]);
    assert_eq!(still["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(kots::backup_volumes(client, &backup).await.len(), 1);
    let again = start(client, &app, &json!({})).await;
    completed(client, &again).await;
    for backup in [backup, again] {
        remove(client, &backup).await;
    }
    app.remove().await;
}

/// Waits until a backup has read something.
async fn until_moving(client: &Client, backup: &str) {
    let looking = async {
        loop {
            let found = kots::backup_volumes(client, backup).await;
            if found
                .iter()
                .any(|one| one.phase == "InProgress" && one.done > 0)
            {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.expect("the backup moves");
}

async fn save_while_running(world: &World, client: &Client) {
    let app = world
        .application(
            "busy",
            LARGE,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let small = start(client, &app, &json!({"excludedResources": ["pods"]})).await;
    completed(client, &small).await;
    let earlier = world
        .application(
            "earlier",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let one = start(client, &earlier, &json!({})).await;
    completed(client, &one).await;
    until_repository(client, &earlier.namespace).await;
    world.slow_uploads(true);
    let mut watch = client.watch(&format!("{VELERO}/backups")).await;
    let backup = start(client, &app, &json!({})).await;
    until_moving(client, &backup).await;
    let before = pods(client).await;
    save_same(world, client).await;
    world.slow_uploads(false);
    until_replaced(client, &before).await;
    let phases = watch.phases(&backup, &ENDED).await;
    assert!(
        phases.iter().all(|one| !one.contains("Fail")) && phases.last().unwrap() == "Completed",
        "{phases:?}"
    );
    let found = kots::backup_volumes(client, &backup).await;
    assert_eq!(found.len(), 1, "one task, one object: {found:?}");
    assert_eq!(
        (found[0].done, &*found[0].phase),
        (LARGE as i64, "Completed")
    );
    for space in [&app.namespace, &earlier.namespace] {
        until_repository(client, space).await;
    }
    for backup in [small, one, backup] {
        remove(client, &backup).await;
    }
    app.remove().await;
    earlier.remove().await;
}

async fn pod_gone_after_restart(world: &World, client: &Client) {
    let volumes = json!({"backup.velero.io/backup-volumes": "data"});
    let app = world.application("leaving", LARGE, &volumes).await;
    app.pod("stays", SMALL, &volumes).await;
    world.slow_uploads(true);
    let backup = start(client, &app, &json!({})).await;
    until_moving(client, &backup).await;
    let before = pods(client).await;
    restart(client).await;
    client.delete(&app.path("db-0")).await;
    if let Some(memory) = world.memory() {
        memory.forget_volumes();
    }
    world.slow_uploads(false);
    until_replaced(client, &before).await;
    let ended = client
        .phase(&format!("{VELERO}/backups/{backup}"), &ENDED)
        .await;
    assert_eq!(phase(&ended), "PartiallyFailed", "{}", ended["status"]);
    let found = kots::backup_volumes(client, &backup).await;
    let of = |pod: &str| &*found.iter().find(|one| one.pod == pod).unwrap().phase;
    assert_eq!(
        (of("stays"), of("db-0"), found.len()),
        ("Completed", "Failed", 2)
    );
    let page = kots::page(client, &backup).await;
    assert!(
        page.errors
            .iter()
            .any(|(title, message)| format!("{title} {message}").contains("db-0")),
        "{page:?}"
    );
    remove(client, &backup).await;
    app.remove().await;
}

/// A backup in the present store comes and goes.
async fn a_backup(world: &World, client: &Client) {
    let app = world
        .application(
            "stored",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    remove(client, &backup).await;
    app.remove().await;
}

async fn aws(world: &World, client: &Client) {
    let endpoint = world.memory().unwrap().s3.endpoint();
    let before = pods(client).await;
    let choice = Choice {
        provider: "aws",
        bucket: "bench",
        prefix: "aws",
        config: json!({"region": "eu-central-1", "s3Url": endpoint}),
        keys: Keys::Put(keys(s3::ACCESS_KEY, "another secret")),
        restarts: true,
    };
    save(client, &choice).await;
    until_replaced(client, &before).await;
    let wrong = until_validated(client, &["Unavailable"]).await;
    let message = wrong["status"]["message"].as_str().unwrap();
    assert!(
        !message.is_empty() && !message.contains("another secret"),
        "{message}"
    );
    let before = pods(client).await;
    let choice = Choice {
        keys: Keys::Put(keys(s3::ACCESS_KEY, s3::SECRET_KEY)),
        ..choice
    };
    save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &["Available"]).await;
    a_backup(world, client).await;
    save_first(world, client).await;
}

async fn other(world: &World, client: &Client) {
    let app = world
        .application(
            "moved",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    let path = format!("{VELERO}/backups/{backup}");
    let before = pods(client).await;
    let choice = Choice {
        provider: "aws",
        bucket: "bench",
        prefix: "second",
        config: world.location_spec("second")["config"].clone(),
        keys: Keys::Put(keys(s3::ACCESS_KEY, s3::SECRET_KEY)),
        restarts: true,
    };
    save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &["Available"]).await;
    // The other store has no such backup, so the list has none.
    client.gone(&path).await;
    a_backup(world, client).await;
    save_first(world, client).await;
    let back = client.phase(&path, &["Completed"]).await;
    assert_eq!(back["metadata"]["annotations"]["kots.io/app-sequence"], "7");
    remove(client, &backup).await;
    app.remove().await;
}

async fn internal(world: &World, client: &Client) {
    let before = pods(client).await;
    let mut config = world.location_spec("")["config"].clone();
    config["publicUrl"] = json!("http://10.96.0.77");
    let choice = Choice {
        provider: "aws",
        bucket: "bench",
        prefix: "",
        config,
        keys: Keys::Put(keys(s3::ACCESS_KEY, s3::SECRET_KEY)),
        restarts: true,
    };
    save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &["Available"]).await;
    a_backup(world, client).await;
    save_first(world, client).await;
}

/// A directory that can be chosen.
struct Directory {
    provider: &'static str,
    config: &'static [(&'static str, &'static str)],
    /// Where the volume says what it is, and how.
    volume: (&'static str, &'static str, &'static str),
    /// Whether KOTS restarts.
    restarts: bool,
}

impl Directory {
    const CLAIM: Self = Self {
        provider: "replicated.com/pvc",
        config: &[
            ("storageSize", "50Gi"),
            (
                "resticRepoPrefix",
                "/var/velero-local-volume-provider/velero-internal-snapshots/restic",
            ),
        ],
        volume: ("persistentVolumeClaim", "claimName", "orlop-store-default"),
        restarts: true,
    };
    const NFS: Self = Self {
        provider: "replicated.com/nfs",
        config: &[
            ("path", "/exports/backups"),
            ("server", "10.0.0.9"),
            (
                "resticRepoPrefix",
                "/var/velero-local-volume-provider/velero-lvp-0f1e2d3c4b5a/restic",
            ),
        ],
        volume: ("nfs", "path", "/exports/backups"),
        restarts: false,
    };
    const HOST_PATH: Self = Self {
        provider: "replicated.com/hostpath",
        config: &[
            ("path", "/var/backups"),
            (
                "resticRepoPrefix",
                "/var/velero-local-volume-provider/velero-lvp-5a4b3c2d1e0f/restic",
            ),
        ],
        volume: ("hostPath", "path", "/var/backups"),
        restarts: false,
    };
}

async fn directory(world: &World, client: &Client, directory: &Directory) {
    // What the page writes beside, for a plugin that we are not.
    let maps = format!("{CORE}/configmaps");
    let map = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {
            "name": "local-volume-provider-config", "namespace": "velero",
            "labels": {"velero.io/plugin-config": "", "replicated.com/nfs": "ObjectStore", "replicated.com/hostpath": "ObjectStore"},
        },
        "data": {"securityContextRunAsUser": "1001", "securityContextFsGroup": "1001", "preserveVolumes": "true"},
    });
    client.create(&maps, &map).await;
    let before = pods(client).await;
    let config = directory.config.iter();
    let config: Value = config.map(|(key, value)| (*key, *value)).collect();
    let choice = Choice {
        provider: directory.provider,
        bucket: "velero-lvp-0f1e2d3c4b5a",
        prefix: "",
        config,
        keys: Keys::Keep,
        restarts: directory.restarts,
    };
    save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &["Available"]).await;
    let deployment = client.get(&format!("{APPS}/deployments/velero")).await;
    let volumes = deployment["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap();
    let ours: Vec<&Value> = volumes
        .iter()
        .filter(|one| one["name"] == "orlop-store-default")
        .collect();
    let (kind, field, value) = directory.volume;
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0][kind][field], value, "{ours:?}");
    if kind == "persistentVolumeClaim" {
        let claim = client
            .get(&format!("{CORE}/persistentvolumeclaims/{value}"))
            .await;
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "50Gi");
    }
    client
        .until("is compared", &format!("{LOCATIONS}/default"), |one| {
            one["status"]["lastSyncedTime"].is_string()
        })
        .await;
    a_backup(world, client).await;
    save_first(world, client).await;
    client
        .delete(&format!("{maps}/local-volume-provider-config"))
        .await;
}

async fn unsupported(
    world: &World,
    client: &Client,
    provider: &str,
    config: Value,
    keys: Option<&str>,
) {
    let before = pods(client).await;
    let choice = Choice {
        provider,
        bucket: "a-bucket",
        prefix: "",
        config,
        keys: keys.map_or(Keys::Remove, |keys| Keys::Put(keys.to_owned())),
        restarts: true,
    };
    save(client, &choice).await;
    until_replaced(client, &before).await;
    let refused = until_validated(client, &["Unavailable"]).await;
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.contains(provider) && message.contains("NFS"),
        "{message}"
    );
    save_first(world, client).await;
    a_backup(world, client).await;
}
