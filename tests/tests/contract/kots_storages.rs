//! The settings page with each kind of storage: what KOTS writes, and what the location then says.

use serde_json::{Value, json};

use super::{
    client::{CORE, Client, VELERO},
    kots_actions::{completed, remove, start},
    kots_saving::{
        Choice, Keys, LOCATIONS, pods, save, save_first, until_mounted, until_replaced,
        until_validated,
    },
    rows::{Place, Row, Who},
    world::{SMALL, World, keys},
};
use orlop_tests::s3;

const OTHER_STORE: &str = "the cluster at hand keeps its store";
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
    let saved = save(client, &choice).await;
    until_replaced(client, &before).await;
    let wrong = until_validated(client, &saved, &["Unavailable"]).await;
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
    let saved = save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &saved, &["Available"]).await;
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
    let saved = save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &saved, &["Available"]).await;
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
    let saved = save(client, &choice).await;
    until_replaced(client, &before).await;
    until_validated(client, &saved, &["Available"]).await;
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
    client
        .delete(&format!("{maps}/local-volume-provider-config"))
        .await;
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
    let saved = save(client, &choice).await;
    until_replaced(client, &before).await;
    let (kind, field, value) = directory.volume;
    until_mounted(client, |volumes| {
        let [volume] = volumes else { return false };
        volume["name"] == "orlop-store-default" && volume[kind][field] == value
    })
    .await;
    until_validated(client, &saved, &["Available"]).await;
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
    let saved = save(client, &choice).await;
    until_replaced(client, &before).await;
    let refused = until_validated(client, &saved, &["Unavailable"]).await;
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.contains(provider) && message.contains("NFS"),
        "{message}"
    );
    save_first(world, client).await;
    a_backup(world, client).await;
}
