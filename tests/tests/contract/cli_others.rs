//! The other commands of `velero`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    cli_backups,
    client::{APPS, CORE, Client, VELERO, name, phase},
    go,
    kots_detection::server_status,
    rows::{Place, Row, Who},
    world::{SMALL, World, own},
};

/// `velero version` waits so long.
const PATIENCE: Duration = Duration::from_secs(5);
const STATUS: &[&str] = &[
    "POST /apis/velero.io/v1/namespaces/velero/serverstatusrequests application/json",
    "GET /apis/velero.io/v1/namespaces/velero/serverstatusrequests/velero-cli-*",
];

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.11 version",
        who: Who::Cli,
        requests: STATUS,
        change: "the version comes within 5 seconds, of the major and minor of a 1.16 command",
        source: "velero: pkg/cmd/cli/version/version.go, pkg/cmd/cli/serverstatus/server_status.go",
        place: Place::Anywhere,
        run: |_, client| {
            Box::pin(async {
                let status = server_status(client, PATIENCE).await;
                let version = status["serverVersion"].as_str().unwrap();
                assert!(version.starts_with("v1.16."), "{version}");
            })
        },
    },
    Row {
        id: "2.11 plugin get",
        who: Who::Cli,
        requests: STATUS,
        change: "each plugin has a name and one of Velero's kinds",
        source: "velero: pkg/cmd/cli/plugin/get.go",
        place: Place::Anywhere,
        run: |_, client| {
            Box::pin(async {
                let status = server_status(client, PATIENCE).await;
                let plugins = status["plugins"].as_array().unwrap();
                assert!(plugins.iter().any(|one| one["name"] == "velero.io/aws"));
                for plugin in plugins {
                    assert!(plugin["name"].as_str().unwrap().contains('/'), "{plugin}");
                    let kind = plugin["kind"].as_str().unwrap();
                    assert!(
                        kind == "ObjectStore" || kind.ends_with("Action"),
                        "{plugin}"
                    );
                }
            })
        },
    },
    Row {
        id: "2.11 schedule",
        who: Who::Cli,
        requests: &[
            "POST /apis/velero.io/v1/namespaces/velero/schedules application/json",
            "GET /apis/velero.io/v1/namespaces/velero/schedules/*",
            "PUT /apis/velero.io/v1/namespaces/velero/schedules/* application/json",
            "PUT /apis/velero.io/v1/namespaces/velero/schedules/* application/json",
            "GET /apis/velero.io/v1/namespaces/velero/schedules",
            "DELETE /apis/velero.io/v1/namespaces/velero/schedules/* application/json",
        ],
        change: "it is Enabled, stays so when it is paused and goes on, and one that is malformed says why",
        source: "velero: pkg/cmd/cli/schedule/create.go, pause.go, unpause.go, delete.go",
        place: Place::Anywhere,
        run: |_, client| Box::pin(schedule(client)),
    },
    Row {
        id: "2.11 backup-location",
        who: Who::Cli,
        requests: &[
            "POST /apis/velero.io/v1/namespaces/velero/backupstoragelocations application/json",
            "GET /apis/velero.io/v1/namespaces/velero/backupstoragelocations",
            "PUT /apis/velero.io/v1/namespaces/velero/backupstoragelocations/* application/json",
            "DELETE /apis/velero.io/v1/namespaces/velero/backupstoragelocations/* application/json",
            "GET /apis/velero.io/v1/namespaces/velero/backups?labelSelector=velero.io%2Fstorage-location%3D*",
            "DELETE /apis/velero.io/v1/namespaces/velero/backups/* application/json",
            "GET /apis/velero.io/v1/namespaces/velero/backuprepositories?labelSelector=velero.io%2Fstorage-location%3D*",
        ],
        change: "a second location is tried and used; with it go its backups from the list, not from the store",
        source: "velero: pkg/cmd/cli/backuplocation/create.go, set.go, delete.go",
        place: Place::Memory("it needs a second store"),
        run: |world, client| Box::pin(location(world, client)),
    },
    Row {
        id: "2.11 repo get",
        who: Who::Cli,
        requests: &["GET /apis/velero.io/v1/namespaces/velero/backuprepositories"],
        change: "the repository of a namespace is Ready and says its type",
        source: "velero: pkg/cmd/util/output/backup_repo_printer.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(repositories(world, client)),
    },
    Row {
        id: "2.11 debug",
        who: Who::Cli,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backups",
            "GET /apis/velero.io/v2alpha1/namespaces/velero/datauploads",
            "GET /api/v1/namespaces/velero/pods?labelSelector=deploy%3Dvelero",
            "GET /api/v1/namespaces/velero/pods/velero-*/log?container=velero",
            "GET /api/v1/namespaces/velero/pods?labelSelector=name%3Dnode-agent",
            "GET /api/v1/namespaces/velero/pods/node-agent-*/log?container=node-agent",
        ],
        change: "objects of all kinds can be listed, and pods of both have logs in containers of Velero's names",
        source: "velero: pkg/cmd/cli/debug/debug.go, cshd-scripts/velero.cshd",
        place: Place::Anywhere,
        run: |world, client| Box::pin(debug(world, client)),
    },
];

async fn schedule(client: &Client) {
    let schedules = format!("{VELERO}/schedules");
    let asked = own("nightly");
    let path = format!("{schedules}/{asked}");
    let made = go::schedule(
        &json!({"name": asked}),
        "CRON_TZ=UTC 0 3 1 1 *",
        &json!({"ttl": "24h0m0s"}),
    );
    client.create(&schedules, &made).await;
    client.phase(&path, &["Enabled"]).await;
    for paused in [true, false] {
        let mut found = client.get(&path).await;
        found["spec"]["paused"] = json!(paused);
        client.update(&path, &found).await;
    }
    let all = client.list(&schedules, "").await;
    let found = all.iter().find(|one| name(one) == asked).unwrap();
    assert_eq!(
        (phase(found), &found["spec"]["schedule"]),
        ("Enabled", &json!("CRON_TZ=UTC 0 3 1 1 *"))
    );
    let wrong = own("wrong");
    let path_of_wrong = format!("{schedules}/{wrong}");
    let made = go::schedule(&json!({"name": wrong}), "every now and then", &json!({}));
    client.create(&schedules, &made).await;
    let refused = client.phase(&path_of_wrong, &["FailedValidation"]).await;
    assert!(refused["status"]["validationErrors"][0].is_string());
    for path in [path, path_of_wrong] {
        client.delete(&path).await;
        client.gone(&path).await;
    }
}

async fn location(world: &World, client: &Client) {
    let locations = format!("{VELERO}/backupstoragelocations");
    let asked = own("second");
    let path = format!("{locations}/{asked}");
    let mut spec = world.location_spec("beside");
    spec["default"] = json!(false);
    spec["accessMode"] = json!("ReadWrite");
    let made = go::object("BackupStorageLocation", &json!({"name": asked}), &spec);
    client.create(&locations, &made).await;
    let tried = client.phase(&path, &["Available"]).await;
    assert!(tried["status"]["lastValidationTime"].is_string());
    assert_eq!(client.list(&locations, "").await.len(), 2);
    // `set` writes the certificate it was given, or none, over the one that is there.
    let mut found = client.get(&path).await;
    found["spec"]["objectStorage"]
        .as_object_mut()
        .unwrap()
        .remove("caCert");
    client.update(&path, &found).await;
    client.phase(&path, &["Available"]).await;
    let app = world
        .application(
            "beside",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let backup = own("cli");
    let backups = format!("{VELERO}/backups");
    let spec = json!({"includedNamespaces": [app.namespace], "storageLocation": asked});
    client
        .create(&backups, &go::backup(&json!({"name": backup}), &spec))
        .await;
    let of_backup = format!("{backups}/{backup}");
    client.phase(&of_backup, &["Completed"]).await;
    let memory = world.memory().unwrap();
    let stored = |keys: Vec<(String, u64)>| keys.iter().any(|(key, _)| key.contains(&backup));
    assert!(stored(memory.s3.keys()));
    client.delete(&path).await;
    let label = format!("velero.io/storage-location={asked}");
    let there = client.list(&backups, &label).await;
    assert_eq!(there.len(), 1);
    for one in &there {
        client.delete(&format!("{backups}/{}", name(one))).await;
    }
    let repositories = format!("{VELERO}/backuprepositories");
    for one in client.list(&repositories, &label).await {
        client
            .delete(&format!("{repositories}/{}", name(&one)))
            .await;
    }
    client.gone(&path).await;
    client.gone(&of_backup).await;
    assert!(stored(memory.s3.keys()), "what is in the store stays");
    // Nothing brings them back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(client.list(&backups, &label).await, [] as [Value; 0]);
    assert_eq!(client.list(&repositories, &label).await, [] as [Value; 0]);
    app.remove().await;
}

async fn repositories(world: &World, client: &Client) {
    let app = world
        .application(
            "repo",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let backup = cli_backups::backup(client, &app).await;
    let path = format!("{VELERO}/backuprepositories");
    let looking = async {
        loop {
            let all = client.list(&path, "").await;
            let found = all.into_iter().find(|one| {
                one["spec"]["volumeNamespace"] == app.namespace && phase(one) == "Ready"
            });
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_mins(1), looking)
        .await
        .unwrap();
    assert_eq!(found["spec"]["repositoryType"], "kopia");
    assert_eq!(found["spec"]["backupStorageLocation"], "default");
    cli_backups::remove(client, name(&backup)).await;
    app.remove().await;
}

async fn debug(world: &World, client: &Client) {
    for kind in [
        "backups",
        "restores",
        "schedules",
        "backupstoragelocations",
        "volumesnapshotlocations",
        "podvolumebackups",
        "podvolumerestores",
        "backuprepositories",
        "deletebackuprequests",
        "downloadrequests",
        "serverstatusrequests",
    ] {
        client.list(&format!("{VELERO}/{kind}"), "").await;
    }
    for kind in ["datauploads", "datadownloads"] {
        client
            .list(
                &format!("/apis/velero.io/v2alpha1/namespaces/velero/{kind}"),
                "",
            )
            .await;
    }
    for (workload, labels, container) in [
        ("deployments/velero", "deploy=velero", "velero"),
        ("daemonsets/node-agent", "name=node-agent", "node-agent"),
    ] {
        client.get(&format!("{APPS}/{workload}")).await;
        let pods = client.list(&format!("{CORE}/pods"), labels).await;
        assert!(!pods.is_empty());
        if let Some(memory) = world.memory() {
            memory
                .api
                .set_log("velero", name(&pods[0]), container, "a line\n");
        }
        let path = format!("{CORE}/pods/{}/log?container={container}", name(&pods[0]));
        let answer = client.send("GET", &path, "", None).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}
