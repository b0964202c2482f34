//! `velero restore …`.

use serde_json::{Value, json};

use super::{
    cli_backups::{backup, remove},
    client::{Client, VELERO, name, phase},
    download, go, kots,
    rows::{Place, Row, Who},
    world::{Application, SMALL, World, own},
};

const RESTORES: &str = "/apis/velero.io/v1/namespaces/velero/restores";
const CREATE: &str = "POST /apis/velero.io/v1/namespaces/velero/restores application/json";
const GET: &str = "GET /apis/velero.io/v1/namespaces/velero/restores/*";
const DOWNLOAD: &str =
    "POST /apis/velero.io/v1/namespaces/velero/downloadrequests application/json";
const ENDED: [&str; 4] = ["FailedValidation", "Completed", "PartiallyFailed", "Failed"];

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.11 restore create",
        who: Who::Cli,
        requests: &["GET /apis/velero.io/v1/namespaces/velero/backups/*", CREATE],
        change: "the backup's objects and volumes are there again, in another namespace if that was asked for",
        source: "velero: pkg/cmd/cli/restore/create.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(create(world, client)),
    },
    Row {
        id: "2.11 restore create --wait",
        who: Who::Cli,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/restores?allowWatchBookmarks=true&resourceVersion=*&watch=true",
            CREATE,
        ],
        change: "the watch brings a phase at which the wait ends",
        source: "velero: pkg/cmd/cli/restore/create.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(create_and_wait(world, client)),
    },
    Row {
        id: "2.11 restore get",
        who: Who::Cli,
        requests: &["GET /apis/velero.io/v1/namespaces/velero/restores"],
        change: "the columns have backup, status, times and counts",
        source: "velero: pkg/cmd/util/output/restore_printer.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(get(world, client)),
    },
    Row {
        id: "2.11 restore describe",
        who: Who::Cli,
        requests: &[
            GET,
            "GET /apis/velero.io/v1/namespaces/velero/podvolumerestores?labelSelector=velero.io%2Frestore-name%3D*",
            DOWNLOAD,
            DOWNLOAD,
            DOWNLOAD,
            DOWNLOAD,
        ],
        change: "results, volumes, resources and operations can be had",
        source: "velero: pkg/cmd/cli/restore/describe.go, pkg/cmd/util/output/restore_describer.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(describe(world, client)),
    },
    Row {
        id: "2.11 restore logs",
        who: Who::Cli,
        requests: &[GET, DOWNLOAD],
        change: "the log is there when the restore has ended",
        source: "velero: pkg/cmd/cli/restore/logs.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(logs(world, client)),
    },
    Row {
        id: "2.11 restore delete",
        who: Who::Cli,
        requests: &[
            GET,
            "DELETE /apis/velero.io/v1/namespaces/velero/restores/* application/json",
        ],
        change: "its files are removed, and it goes with its finalizer",
        source: "velero: pkg/cmd/cli/restore/delete.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(delete(world, client)),
    },
];

async fn app(world: &World) -> Application<'_> {
    let volumes = json!({"backup.velero.io/backup-volumes": "data"});
    world.application("cli", SMALL, &volumes).await
}

/// What `velero restore create` sends.
async fn send(client: &Client, backup: &str, more: &Value) -> String {
    let asked = format!("{backup}-20260102030405");
    let mut spec = json!({"backupName": backup, "uploaderConfig": {}});
    go::merge(&mut spec, more);
    let restore = go::restore(&json!({"name": asked}), &spec);
    client.create(RESTORES, &restore).await;
    asked
}

async fn ended(client: &Client, restore: &str) -> Value {
    let ended = client.phase(&format!("{RESTORES}/{restore}"), &ENDED).await;
    assert_eq!(phase(&ended), "Completed", "{}", ended["status"]);
    ended
}

async fn end(client: &Client, restore: &str, backup: &str, app: Application<'_>) {
    let path = format!("{RESTORES}/{restore}");
    client.delete(&path).await;
    client.gone(&path).await;
    remove(client, backup).await;
    app.remove().await;
}

async fn create(world: &World, client: &Client) {
    let app = app(world).await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    client.get(&format!("{VELERO}/backups/{of}")).await;
    let copy = own("copy");
    let more = json!({"namespaceMapping": {app.namespace.clone(): copy}});
    let restore = send(client, of, &more).await;
    let done = ended(client, &restore).await;
    let pod = format!("/api/v1/namespaces/{copy}/pods/db-0");
    let is_up = |pod: &Value| pod["status"]["phase"] == "Running";
    let restored = client.until("runs", &pod, is_up).await;
    assert_eq!(
        restored["metadata"]["labels"]["velero.io/restore-name"],
        restore
    );
    let volumes = kots::restore_volumes(client, &restore).await;
    assert_eq!((volumes.len(), &*volumes[0].namespace), (1, &*copy));
    let progress = &done["status"]["progress"];
    assert_eq!(progress["totalItems"], progress["itemsRestored"]);
    client.delete(&format!("/api/v1/namespaces/{copy}")).await;
    end(client, &restore, of, app).await;
}

async fn create_and_wait(world: &World, client: &Client) {
    let app = app(world).await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    app.undeploy().await;
    let mut watch = client.watch(RESTORES).await;
    let restore = send(client, of, &json!({})).await;
    let phases = watch.phases(&restore, &ENDED).await;
    assert_eq!(phases.last().unwrap(), "Completed");
    assert!(phases.iter().all(|one| !one.contains("Fail")), "{phases:?}");
    let refused = send(client, &own("nothing"), &json!({})).await;
    let phases = watch.phases(&refused, &ENDED).await;
    assert_eq!(phases.last().unwrap(), "FailedValidation");
    client.delete(&format!("{RESTORES}/{refused}")).await;
    end(client, &restore, of, app).await;
}

async fn get(world: &World, client: &Client) {
    let app = app(world).await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    app.undeploy().await;
    let restore = send(client, of, &json!({})).await;
    ended(client, &restore).await;
    let all = client.list(RESTORES, "").await;
    let row = all.iter().find(|one| name(one) == restore).unwrap();
    assert_eq!(
        (phase(row), &row["spec"]["backupName"]),
        ("Completed", &json!(of))
    );
    let (started, finished) = (
        kots::time(row, "startTimestamp"),
        kots::time(row, "completionTimestamp"),
    );
    assert!(started.unwrap() <= finished.unwrap());
    assert_eq!(
        (&row["status"]["errors"], &row["status"]["warnings"]),
        (&Value::Null, &Value::Null)
    );
    end(client, &restore, of, app).await;
}

async fn describe(world: &World, client: &Client) {
    let app = app(world).await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    app.undeploy().await;
    let restore = send(client, of, &json!({})).await;
    ended(client, &restore).await;
    client.get(&format!("{RESTORES}/{restore}")).await;
    assert_eq!(kots::restore_volumes(client, &restore).await.len(), 1);
    // These two must be there whenever they are asked for.
    let results = download::json_file(client, "RestoreResults", &restore).await;
    assert!(
        results["errors"].is_object() && results["warnings"].is_object(),
        "{results}"
    );
    let operations = download::json_file(client, "RestoreItemOperations", &restore).await;
    assert_eq!(operations, json!([]));
    let list = download::json_or_none(client, "RestoreResourceList", &restore)
        .await
        .unwrap();
    assert_eq!(
        list["v1/Pod"],
        json!([format!("{}/db-0(created)", app.namespace)]),
        "{list}"
    );
    let infos = download::json_or_none(client, "RestoreVolumeInfo", &restore)
        .await
        .unwrap();
    let [info] = &infos.as_array().unwrap()[..] else {
        panic!("{infos}");
    };
    assert_eq!(info["restoreMethod"], "PodVolumeRestore");
    assert_eq!(info["pvrInfo"]["volumeName"], "data");
    end(client, &restore, of, app).await;
}

async fn logs(world: &World, client: &Client) {
    let app = app(world).await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    app.undeploy().await;
    let restore = send(client, of, &json!({})).await;
    ended(client, &restore).await;
    client.get(&format!("{RESTORES}/{restore}")).await;
    let log = download::text(client, "RestoreLog", &restore).await;
    let page = super::logfmt::read(&log).unwrap();
    assert_eq!((page.errors.len(), page.warnings.len()), (0, 0));
    assert!(log.contains(&format!("restore=velero/{restore}")), "{log}");
    end(client, &restore, of, app).await;
}

async fn delete(world: &World, client: &Client) {
    let app = app(world).await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    app.undeploy().await;
    let restore = send(client, of, &json!({})).await;
    let done = ended(client, &restore).await;
    assert_eq!(
        done["metadata"]["finalizers"],
        json!(["restores.velero.io/external-resources-finalizer"])
    );
    let path = format!("{RESTORES}/{restore}");
    client.get(&path).await;
    client.delete(&path).await;
    client.gone(&path).await;
    assert_eq!(kots::restore_volumes(client, &restore).await.len(), 0);
    // Files of the restore are named by it; the backup keeps its own.
    if let Some(memory) = world.memory() {
        let left = memory.s3.keys();
        let of_restore = format!("restores/{restore}");
        assert!(
            left.iter().all(|(key, _)| !key.contains(&of_restore)),
            "{left:?}"
        );
    }
    assert_eq!(
        phase(&client.get(&format!("{VELERO}/backups/{of}")).await),
        "Completed"
    );
    end(client, &restore, of, app).await;
}
