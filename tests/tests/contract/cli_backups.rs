//! `velero backup …`.

use serde_json::{Value, json};

use super::{
    client::{Client, VELERO, name, phase},
    go, kots,
    rows::{Place, Row, Who},
    world::{Application, SMALL, World, own},
};

pub(crate) const BACKUPS: &str = "/apis/velero.io/v1/namespaces/velero/backups";
pub(crate) const CREATE: &str =
    "POST /apis/velero.io/v1/namespaces/velero/backups application/json";
pub(crate) const GET: &str = "GET /apis/velero.io/v1/namespaces/velero/backups/*";
/// The phases at which `--wait` ends.
pub(crate) const ENDED: [&str; 4] = ["FailedValidation", "Completed", "PartiallyFailed", "Failed"];
pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.11 backup create",
        who: Who::Cli,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backupstoragelocations/default",
            CREATE,
        ],
        change: "a backup with zeros for all that was not said is taken with the defaults",
        source: "velero: pkg/cmd/cli/backup/create.go, pkg/builder/backup_builder.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(create(world, client)),
    },
    Row {
        id: "2.11 backup create --wait",
        who: Who::Cli,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backups",
            "GET /apis/velero.io/v1/namespaces/velero/backups?allowWatchBookmarks=true&resourceVersion=*&watch=true",
            CREATE,
        ],
        change: "the watch brings a phase at which the wait ends",
        source: "velero: pkg/cmd/cli/backup/create.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(create_and_wait(world, client)),
    },
    Row {
        id: "2.11 backup create --from-schedule",
        who: Who::Cli,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/schedules/*",
            CREATE,
        ],
        change: "the template of the schedule is obeyed, and the schedule is not disturbed",
        source: "velero: pkg/cmd/cli/backup/create.go BuildBackup, pkg/builder/backup_builder.go FromSchedule",
        place: Place::Anywhere,
        run: |world, client| Box::pin(from_schedule(world, client)),
    },
    Row {
        id: "2.11 backup create/policies",
        who: Who::Cli,
        requests: &[CREATE],
        change: "the volume policies of the ConfigMap decide, and a backup without them is refused",
        source: "velero: pkg/cmd/cli/backup/create.go, internal/resourcepolicies",
        place: Place::Anywhere,
        run: |world, client| Box::pin(policies(world, client)),
    },
    Row {
        id: "2.11 backup get",
        who: Who::Cli,
        requests: &["GET /apis/velero.io/v1/namespaces/velero/backups"],
        change: "the columns have status, counts, times, location and selector",
        source: "velero: pkg/cmd/util/output/backup_printer.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(get(world, client)),
    },
    Row {
        id: "2.11 backup delete",
        who: Who::Cli,
        requests: &[
            GET,
            "POST /apis/velero.io/v1/namespaces/velero/deletebackuprequests application/json",
        ],
        change: "the backup is removed with all that belongs to it, and then the request",
        source: "velero: pkg/cmd/cli/backup/delete.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(delete(world, client)),
    },
];

/// What `velero backup create NAME --include-namespaces …` sends.
pub(crate) fn command(name: &str, app: &Application<'_>, more: &Value) -> Value {
    let mut spec = json!({"includedNamespaces": [app.namespace]});
    go::merge(&mut spec, more);
    go::backup(&json!({"name": name}), &spec)
}

pub(crate) async fn app<'a>(world: &'a World, volumes: &str) -> Application<'a> {
    let annotations = json!({"backup.velero.io/backup-volumes": volumes});
    world.application("cli", SMALL, &annotations).await
}

/// Makes a backup and waits for its end.
pub(crate) async fn backup(client: &Client, app: &Application<'_>) -> Value {
    let name = own("cli");
    client
        .create(BACKUPS, &command(&name, app, &json!({})))
        .await;
    let ended = client.phase(&format!("{BACKUPS}/{name}"), &ENDED).await;
    assert_eq!(phase(&ended), "Completed", "{}", ended["status"]);
    ended
}

/// Deletes a backup as the command does.
pub(crate) async fn remove(client: &Client, backup: &str) {
    let path = format!("{BACKUPS}/{backup}");
    let found = client.get(&path).await;
    let labels = json!({
        "velero.io/backup-name": backup, "velero.io/backup-uid": found["metadata"]["uid"],
    });
    let metadata = json!({"generateName": format!("{backup}-"), "labels": labels});
    let request = go::object(
        "DeleteBackupRequest",
        &metadata,
        &json!({"backupName": backup}),
    );
    let requests = format!("{VELERO}/deletebackuprequests");
    let made = client.create(&requests, &request).await;
    client.gone(&path).await;
    client.gone(&format!("{requests}/{}", name(&made))).await;
}

async fn create(world: &World, client: &Client) {
    let app = app(world, "data").await;
    client
        .get(&format!("{VELERO}/backupstoragelocations/default"))
        .await;
    let asked = own("cli");
    let more = json!({
        "includedNamespaces": [app.namespace], "storageLocation": "default", "defaultVolumesToFsBackup": false,
        "snapshotVolumes": true, "orderedResources": {"pods": format!("{}/db-0", app.namespace)},
        "uploaderConfig": {"parallelFilesUpload": 4},
    });
    client.create(BACKUPS, &command(&asked, &app, &more)).await;
    let done = client.phase(&format!("{BACKUPS}/{asked}"), &ENDED).await;
    assert_eq!(phase(&done), "Completed", "{}", done["status"]);
    let spec = &done["spec"];
    assert_eq!(
        (&spec["ttl"], &spec["storageLocation"]),
        (&json!("720h0m0s"), &json!("default"))
    );
    assert_eq!(done["status"]["warnings"], 1, "no snapshots are made");
    assert_eq!(spec["csiSnapshotTimeout"], "10m0s");
    assert_eq!(spec["itemOperationTimeout"], "4h0m0s");
    assert_eq!(
        done["metadata"]["labels"]["velero.io/storage-location"],
        "default"
    );
    assert_eq!(
        (&done["status"]["version"], &done["status"]["formatVersion"]),
        (&json!(1), &json!("1.1.0"))
    );
    remove(client, &asked).await;
    app.remove().await;
}

async fn policies(world: &World, client: &Client) {
    const MAPS: &str = "/api/v1/namespaces/velero/configmaps";
    // No annotation selects a volume.
    let app = world.application("cli", SMALL, &json!({})).await;
    let policies = own("policies");
    let metadata = json!({"name": policies, "namespace": "velero"});
    let rules = "version: v1\nvolumePolicies:\n- conditions: {volumeTypes: [emptyDir]}\n  action: {type: fs-backup}\n";
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"rules": rules},
    });
    client.create(MAPS, &map).await;
    let ask = async |map: &str, phases: &[&str]| {
        let name = own("cli");
        let more = json!({"resourcePolicy": {"kind": "configmap", "name": map}});
        client.create(BACKUPS, &command(&name, &app, &more)).await;
        let ended = client.phase(&format!("{BACKUPS}/{name}"), &ENDED).await;
        assert!(phases.contains(&phase(&ended)), "{}", ended["status"]);
        (name, ended)
    };
    let (taken, _) = ask(&policies, &["Completed"]).await;
    let volumes = kots::backup_volumes(client, &taken).await;
    assert!(!volumes.is_empty(), "the policies select the volume");
    let (refused, ended) = ask("nowhere", &["FailedValidation"]).await;
    let why = ended["status"]["validationErrors"][0].as_str().unwrap();
    assert!(why.contains("ConfigMap nowhere"), "{why}");
    remove(client, &taken).await;
    remove(client, &refused).await;
    client.delete(&format!("{MAPS}/{policies}")).await;
    app.remove().await;
}

async fn create_and_wait(world: &World, client: &Client) {
    let app = app(world, "data").await;
    let mut watch = client.watch(BACKUPS).await;
    let good = own("cli");
    client
        .create(BACKUPS, &command(&good, &app, &json!({})))
        .await;
    let phases = watch.phases(&good, &ENDED).await;
    assert_eq!(phases.last().unwrap(), "Completed");
    let bad = own("cli");
    let nowhere = json!({"storageLocation": "nowhere"});
    client.create(BACKUPS, &command(&bad, &app, &nowhere)).await;
    let phases = watch.phases(&bad, &ENDED).await;
    assert_eq!(phases.last().unwrap(), "FailedValidation");
    remove(client, &good).await;
    remove(client, &bad).await;
    app.remove().await;
}

async fn from_schedule(world: &World, client: &Client) {
    let app = app(world, "data").await;
    let schedules = format!("{VELERO}/schedules");
    let name = own("nightly");
    let template = json!({"includedNamespaces": [app.namespace], "ttl": "48h0m0s"});
    let metadata = json!({"name": name, "labels": {"team": "shop"}});
    let schedule = go::schedule(&metadata, "0 3 * * *", &template);
    client.create(&schedules, &schedule).await;
    let path = format!("{schedules}/{name}");
    let found = client.phase(&path, &["Enabled"]).await;
    let made = format!("{name}-20260102030405");
    let labels = json!({"velero.io/schedule-name": name, "team": "shop"});
    let mut backup = go::backup(&json!({"name": made, "labels": labels}), &json!({}));
    backup["spec"] = found["spec"]["template"].clone();
    client.create(BACKUPS, &backup).await;
    let done = client.phase(&format!("{BACKUPS}/{made}"), &ENDED).await;
    assert_eq!(phase(&done), "Completed", "{}", done["status"]);
    assert_eq!(done["spec"]["ttl"], "48h0m0s");
    assert_eq!(phase(&client.get(&path).await), "Enabled");
    remove(client, &made).await;
    client.delete(&path).await;
    app.remove().await;
}

async fn get(world: &World, client: &Client) {
    let app = app(world, "data,nothere").await;
    let backup = backup(client, &app).await;
    let all = client.list(BACKUPS, "").await;
    let row = all.iter().find(|one| name(one) == name(&backup)).unwrap();
    let status = &row["status"];
    assert_eq!((phase(row), &status["warnings"]), ("Completed", &json!(1)));
    assert_eq!(status["errors"], Value::Null);
    assert!(kots::time(row, "startTimestamp").is_some());
    assert!(kots::time(row, "expiration").is_some());
    assert_eq!(row["spec"]["storageLocation"], "default");
    assert_eq!(status["queuePosition"].as_i64().unwrap_or(0), 0);
    remove(client, name(&backup)).await;
    app.remove().await;
}

async fn delete(world: &World, client: &Client) {
    let app = app(world, "data").await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    remove(client, of).await;
    assert_eq!(kots::backup_volumes(client, of).await.len(), 0);
    if let Some(memory) = world.memory() {
        let left = memory.s3.keys();
        assert!(left.iter().all(|(key, _)| !key.contains(of)), "{left:?}");
    }
    app.remove().await;
}
