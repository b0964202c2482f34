//! `velero backup describe|logs|download`: what the command fetches as files.

use std::time::Duration;

use orlop_kubernetes::files::{FileError, Tarball, TarballLimits};
use serde_json::{Value, json};

use super::{
    cli_backups::{BACKUPS, GET, app, backup, command, remove},
    client::{Client, VELERO, name, phase},
    download, kots,
    rows::{Place, Row, Who},
    world::{SMALL, World, own},
};

const DOWNLOAD: &str =
    "POST /apis/velero.io/v1/namespaces/velero/downloadrequests application/json";
const LOOK: &str = "GET /apis/velero.io/v1/namespaces/velero/downloadrequests/*";
/// The phases in which the command asks for logs; in others it refuses by itself.
const WITH_LOGS: [&str; 5] = [
    "Completed",
    "PartiallyFailed",
    "Failed",
    "WaitingForPluginOperations",
    "WaitingForPluginOperationsPartiallyFailed",
];

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.11 backup describe",
        who: Who::Cli,
        requests: &[
            GET,
            "GET /apis/velero.io/v1/namespaces/velero/deletebackuprequests?labelSelector=velero.io%2Fbackup-name%3D*%2Cvelero.io%2Fbackup-uid%3D*",
            "GET /apis/velero.io/v1/namespaces/velero/podvolumebackups?labelSelector=velero.io%2Fbackup-name%3D*",
            DOWNLOAD,
            DOWNLOAD,
        ],
        change: "results and volumes can be had, and agree with the counts",
        source: "velero: pkg/cmd/cli/backup/describe.go, pkg/cmd/util/output/backup_describer.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(describe(world, client)),
    },
    Row {
        id: "2.11 backup describe --details",
        who: Who::Cli,
        requests: &[GET, DOWNLOAD, DOWNLOAD],
        change: "the list of resources has each kind with its objects",
        source: "velero: pkg/cmd/util/output/backup_describer.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(describe_details(world, client)),
    },
    Row {
        id: "2.11 backup logs",
        who: Who::Cli,
        requests: &[GET, DOWNLOAD, LOOK],
        change: "in a phase in which the command asks, the log is there",
        source: "velero: pkg/cmd/cli/backup/logs.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(logs(world, client)),
    },
    Row {
        id: "2.11 backup download",
        who: Who::Cli,
        requests: &[GET, DOWNLOAD, LOOK],
        change: "the bytes are a tarball as they are",
        source: "velero: pkg/cmd/cli/backup/download.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(contents(world, client)),
    },
    Row {
        id: "2.11 download protocol",
        who: Who::Cli,
        requests: &[DOWNLOAD, LOOK, DOWNLOAD, LOOK],
        change: "one plain GET brings gzip without Content-Encoding; what is not there is 404; a second GET is another error",
        source: "velero: pkg/cmd/util/downloadrequest/downloadrequest.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(protocol(world, client)),
    },
];

async fn describe(world: &World, client: &Client) {
    let app = app(world, "data,nothere").await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    let uid = backup["metadata"]["uid"].as_str().unwrap();
    let labels = format!("velero.io/backup-name={of},velero.io/backup-uid={uid}");
    client.get(&format!("{BACKUPS}/{of}")).await;
    let requests = client
        .list(&format!("{VELERO}/deletebackuprequests"), &labels)
        .await;
    assert_eq!(requests.len(), 0);
    assert_eq!(kots::backup_volumes(client, of).await.len(), 1);
    let progress = &backup["status"]["progress"];
    assert_eq!(progress["totalItems"], progress["itemsBackedUp"]);
    assert!(progress["totalItems"].as_u64().unwrap() > 0);
    for part in [
        "source-cluster-k8s-gitversion",
        "source-cluster-k8s-major-version",
        "source-cluster-k8s-minor-version",
    ] {
        let noted = &backup["metadata"]["annotations"][format!("velero.io/{part}")];
        assert!(noted.is_string(), "{part}");
    }
    let results = download::json_or_none(client, "BackupResults", of)
        .await
        .unwrap();
    assert!(
        results["warnings"].to_string().contains("nothere"),
        "{results}"
    );
    let infos = download::json_or_none(client, "BackupVolumeInfos", of)
        .await
        .unwrap();
    let all = infos.as_array().unwrap();
    let ours = all
        .iter()
        .find(|one| one["pvbInfo"]["volumeName"] == "data")
        .unwrap();
    assert_eq!(ours["backupMethod"], "PodVolumeBackup");
    assert_eq!(ours["result"], "succeeded");
    assert_eq!(ours["pvbInfo"]["size"], SMALL);
    assert_eq!(ours["pvbInfo"]["podName"], "db-0");
    assert_eq!(ours["pvbInfo"]["Phase"], "Completed");
    remove(client, of).await;
    app.remove().await;
}

async fn describe_details(world: &World, client: &Client) {
    let app = app(world, "data").await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    client.get(&format!("{BACKUPS}/{of}")).await;
    let list = download::json_or_none(client, "BackupResourceList", of)
        .await
        .unwrap();
    let pods = list["v1/Pod"].as_array().unwrap();
    assert_eq!(pods, &[json!(format!("{}/db-0", app.namespace))]);
    assert_eq!(list["v1/Namespace"], json!([app.namespace]));
    // The command asks for these if some were attempted, and then they must be there.
    let operations = download::json_file(client, "BackupItemOperations", of).await;
    assert_eq!(operations, json!([]));
    assert_eq!(
        backup["status"]["backupItemOperationsAttempted"],
        Value::Null
    );
    // Of a backup without volume infos it would ask for these.
    for kind in [
        "BackupVolumeSnapshots",
        "CSIBackupVolumeSnapshots",
        "CSIBackupVolumeSnapshotContents",
    ] {
        let file = download::json_or_none(client, kind, of).await;
        assert!(
            file.as_ref()
                .is_none_or(|file| file.is_null() || *file == json!([])),
            "{kind}: {file:?}"
        );
    }
    remove(client, of).await;
    app.remove().await;
}

async fn logs(world: &World, client: &Client) {
    let annotations = json!({
        "backup.velero.io/backup-volumes": "data",
        "pre.hook.backup.velero.io/command": "[\"sh\",\"-c\",\"true\"]",
    });
    let app = world.application("cli", SMALL, &annotations).await;
    let asked = own("cli");
    let path = format!("{BACKUPS}/{asked}");
    client
        .create(BACKUPS, &command(&asked, &app, &json!({})))
        .await;
    // Like somebody who tries again and again.
    let log = loop {
        let backup = client.get(&path).await;
        if WITH_LOGS.contains(&phase(&backup)) {
            break download::text(client, "BackupLog", &asked).await;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    };
    let page = super::logfmt::read(&log).unwrap();
    assert_eq!(page.scripts.len(), 1);
    let label = format!("backup=velero/{asked}");
    assert!(log.lines().all(|line| line.contains(&label)), "{log}");
    assert_eq!(phase(&client.get(&path).await), "Completed");
    remove(client, &asked).await;
    app.remove().await;
}

async fn contents(world: &World, client: &Client) {
    let app = app(world, "data").await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    client.get(&format!("{BACKUPS}/{of}")).await;
    let bytes = download::raw(client, "BackupContents", of).await;
    let mut found = Vec::new();
    let read = Tarball::open(&bytes[..], TarballLimits::default()).read(|item| {
        found.push(format!("{}/{}", item.path.resource, item.path.name));
        Ok::<_, FileError>(())
    });
    assert_eq!(read.unwrap(), "1.1.0");
    assert!(found.contains(&"pods/db-0".to_owned()), "{found:?}");
    remove(client, of).await;
    app.remove().await;
}

async fn protocol(world: &World, client: &Client) {
    let app = app(world, "data").await;
    let backup = backup(client, &app).await;
    let of = name(&backup);
    let url = download::url(client, "BackupLog", of).await;
    let page = download::fetch(&url).await;
    assert_eq!((page.status, page.content_encoding), (200, None));
    assert_eq!(page.bytes[..2], [0x1f, 0x8b]);
    let page = download::fetch(&url).await;
    assert!(
        page.status != 200 && page.status != 404 && !page.bytes.is_empty(),
        "{page:?}"
    );
    // Nobody has made a backup of that name.
    let url = download::url(client, "BackupLog", &own("nothing")).await;
    assert_eq!(download::fetch(&url).await.status, 404);
    remove(client, of).await;
    app.remove().await;
}
