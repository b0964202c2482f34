//! How KOTS makes backups, lists them and deletes them.

use serde_json::json;

use super::{
    client::{Client, VELERO, encoded, name},
    download, go, kots,
    kots_actions::{BACKUPS, annotations, completed, delete, remove, start},
    rows::{Place, Row, Who},
    world::{Application, HELD, SMALL, World, own},
};

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.12.3 app",
        who: Who::Kots,
        requests: &["POST /apis/velero.io/v1/namespaces/velero/backups application/json"],
        change: "an app's backup keeps its annotations and its time to live, and takes what has its label",
        source: "pkg/kotsadmsnapshot/backup.go CreateApplicationBackup",
        place: Place::Anywhere,
        run: |world, client| Box::pin(of_an_app(world, client)),
    },
    Row {
        id: "2.12.3 instance",
        who: Who::Kots,
        requests: &["POST /apis/velero.io/v1/namespaces/velero/backups application/json"],
        change: "an instance's backup takes what any of its selectors wants, and runs the hooks of all apps",
        source: "pkg/kotsadmsnapshot/backup.go CreateInstanceBackup",
        place: Place::Anywhere,
        run: |world, client| Box::pin(of_an_instance(world, client)),
    },
    Row {
        id: "2.12.3 improved DR",
        who: Who::Kots,
        requests: &[
            "POST /apis/velero.io/v1/namespaces/velero/backups application/json",
            "POST /apis/velero.io/v1/namespaces/velero/backups application/json",
            "GET /apis/velero.io/v1/namespaces/velero/backups?labelSelector=replicated.com%2Fbackup-name%3D*",
            "POST /apis/velero.io/v1/namespaces/velero/deletebackuprequests application/json",
        ],
        change: "both backups of a row complete, are found by its label and are deleted together",
        source: "pkg/kotsadmsnapshot/backup.go getInfrastructureInstanceBackupSpec, DeleteBackup",
        place: Place::Anywhere,
        run: |world, client| Box::pin(in_two_parts(world, client)),
    },
    Row {
        id: "2.12.3 shutdown pods",
        who: Who::Kots,
        requests: &[
            "GET /api/v1/namespaces/*/pods?fieldSelector=status.phase%3DFailed&labelSelector=kots.io%2Fapp-slug%3D*",
            "PUT /api/v1/namespaces/*/pods/stopped application/json",
            "POST /apis/velero.io/v1/namespaces/velero/backups application/json",
        ],
        change: "a pod that was shut down, and labelled by KOTS, is not in the backup and no error",
        source: "pkg/kotsadmsnapshot/backup.go excludeShutdownPodsFromBackup",
        place: Place::Memory("the kubelet of a real node would run the pod"),
        run: |world, client| Box::pin(without_shutdown_pods(world, client)),
    },
    Row {
        id: "2.12.4",
        who: Who::Kots,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backupstoragelocations",
            "GET /apis/velero.io/v1/namespaces/velero/backups",
            "GET /apis/velero.io/v1/namespaces/velero/podvolumebackups?labelSelector=velero.io%2Fbackup-name%3D*",
        ],
        change: "the list has state, times and expiry of each, and the sum of its volumes",
        source: "pkg/kotsadmsnapshot/backup.go ListBackupsForApp, ParseVeleroBackup, getSnapshotVolumeSummary",
        place: Place::Anywhere,
        run: |world, client| Box::pin(in_the_list(world, client)),
    },
    Row {
        id: "2.12.6 delete",
        who: Who::Kots,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backups?labelSelector=replicated.com%2Fbackup-name%3D*",
            "POST /apis/velero.io/v1/namespaces/velero/deletebackuprequests application/json",
            "POST /apis/velero.io/v1/namespaces/velero/deletebackuprequests application/json",
        ],
        change: "a request with the backup's name and no labels deletes it; one that was refused makes room for the next",
        source: "pkg/kotsadmsnapshot/backup.go DeleteBackup",
        place: Place::Anywhere,
        run: |world, client| Box::pin(deleted(world, client)),
    },
    Row {
        id: "2.12.10",
        who: Who::Kots,
        requests: &["POST /apis/velero.io/v1/namespaces/velero/backups application/json"],
        change: "a scheduled backup says so, and until when it is kept",
        source: "pkg/snapshotscheduler/snapshotscheduler.go, pkg/kotsadmsnapshot/ttl.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(kept_for(world, client)),
    },
];

/// The resources of a backup, each as the list of `describe --details` has it.
async fn resources(client: &Client, backup: &str) -> String {
    download::json_file(client, "BackupResourceList", backup)
        .await
        .to_string()
}

async fn of_an_app(world: &World, client: &Client) {
    let app = world
        .application(
            "shop",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let maps = format!("/api/v1/namespaces/{}/configmaps", app.namespace);
    for (name, labels) in [
        ("mine", json!({"kots.io/app-slug": "shop"})),
        ("other", json!({})),
    ] {
        let metadata = json!({"name": name, "namespace": app.namespace, "labels": labels});
        let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata});
        client.create(&maps, &map).await;
    }
    let backup = start(client, &app, &json!({})).await;
    assert!(backup.starts_with("shop-"));
    // KOTS writes such a thing while it runs.
    let bundle = json!({"metadata": {"annotations": {"kots.io/support-bundle-id": "b-1"}}});
    let path = format!("{BACKUPS}/{backup}");
    client.merge(&path, &bundle).await;
    let done = completed(client, &backup).await;
    let noted = &done["metadata"]["annotations"];
    for (key, value) in annotations("manual").as_object().unwrap() {
        assert_eq!(&noted[key], value, "{key}");
    }
    assert_eq!(noted["kots.io/support-bundle-id"], "b-1");
    assert_eq!(done["spec"]["ttl"], "720h0m0s");
    let (started, expires) = (
        kots::time(&done, "startTimestamp"),
        kots::time(&done, "expiration"),
    );
    let kept = expires.unwrap().duration_since(started.unwrap()).as_secs();
    assert!((kept - 30 * 86400).abs() < 60, "{kept}");
    let list = resources(client, &backup).await;
    let has = |what: &str| list.contains(&format!("{}/{what}", app.namespace));
    assert!(has("db-0") && has("mine") && !has("other"), "{list}");
    remove(client, &backup).await;
    app.remove().await;
}

async fn of_an_instance(world: &World, client: &Client) {
    let volumes = json!({"backup.velero.io/backup-volumes": "data"});
    let one = world.application("one", SMALL, &volumes).await;
    let two = world.application("two", SMALL, &volumes).await;
    let hook = |app: &Application<'_>| {
        json!({
            "name": format!("dump-{}", app.slug), "includedNamespaces": [app.namespace],
            "labelSelector": {"matchLabels": {"app": "db-0"}},
            "pre": [{"exec": {
                "container": "main", "command": ["sh", "-c", "echo dumped"], "onError": "Fail", "timeout": "3m0s",
            }}],
        })
    };
    let label = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let spec = json!({
        "storageLocation": "default", "includedNamespaces": [one.namespace, two.namespace], "excludedNamespaces": [],
        "includeClusterResources": true, "orderedResources": {"pods": format!("{}/db-0", two.namespace)},
        "orLabelSelectors": [
            label("kots.io/backup", "velero"), label("kots.io/app-slug", "one"), label("kots.io/app-slug", "two"),
        ],
        "hooks": {"resources": [hook(&one), hook(&two)]}, "ttl": "720h0m0s",
    });
    let annotations = json!({
        "kots.io/snapshot-trigger": "manual", "kots.io/snapshot-requested": "2026-01-02T03:04:05Z",
        "kots.io/instance": "true", "kots.io/kotsadm-image": "kotsadm/kotsadm:v1.120.0",
        "kots.io/kotsadm-deploy-namespace": "default", "kots.io/apps-sequences": "{\"one\":1,\"two\":2}",
        "kots.io/apps-versions": "{\"one\":\"1.0\",\"two\":\"2.0\"}", "kots.io/is-airgap": "false",
        "kots.io/embedded-registry": "10.0.0.1:5000",
    });
    let metadata = json!({"generateName": "instance-", "annotations": annotations});
    let made = client.create(BACKUPS, &go::backup(&metadata, &spec)).await;
    let backup = name(&made).to_owned();
    let done = completed(client, &backup).await;
    for (key, value) in annotations.as_object().unwrap() {
        assert_eq!(&done["metadata"]["annotations"][key], value, "{key}");
    }
    let list = resources(client, &backup).await;
    for app in [&one, &two] {
        assert!(list.contains(&format!("{}/db-0", app.namespace)), "{list}");
    }
    assert_eq!(kots::backup_volumes(client, &backup).await.len(), 2);
    let page = kots::page(client, &backup).await;
    let mut scripts: Vec<(&str, &str, &str, &str)> = page
        .scripts
        .iter()
        .map(|one| (&*one.name, &*one.namespace, &*one.pod, &*one.stdout))
        .collect();
    scripts.sort_unstable();
    assert_eq!(
        scripts,
        [
            ("dump-one", &*one.namespace, "db-0", "dumped\n"),
            ("dump-two", &*two.namespace, "db-0", "dumped\n"),
        ]
    );
    remove(client, &backup).await;
    one.remove().await;
    two.remove().await;
}

async fn in_two_parts(world: &World, client: &Client) {
    let app = world
        .application(
            "dr",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let row = own("instance");
    let restore =
        json!({"kind": "Restore", "apiVersion": "velero.io/v1", "spec": {"restorePVs": true}});
    let mut made = Vec::new();
    for (part, prefix) in [("infra", "instance-"), ("app", "application-")] {
        let mut annotations = json!({
            "replicated.com/disaster-recovery-version": "1", "replicated.com/backup-type": part,
            "replicated.com/backup-count": "2", "kots.io/snapshot-trigger": "manual",
        });
        if part == "app" {
            annotations["replicated.com/restore-spec"] = json!(restore.to_string());
        }
        let metadata = json!({
            "generateName": prefix, "annotations": annotations, "labels": {"replicated.com/backup-name": row},
        });
        let spec = json!({
            "storageLocation": "default", "includedNamespaces": [app.namespace], "includeClusterResources": true,
            "orLabelSelectors": [
                {"matchExpressions": [{
                    "key": "replicated.com/disaster-recovery", "operator": "In", "values": ["infra", "app", "ec-install"],
                }]},
                {"matchLabels": {"kots.io/app-slug": app.slug}},
            ],
        });
        let object = client.create(BACKUPS, &go::backup(&metadata, &spec)).await;
        made.push(name(&object).to_owned());
    }
    for backup in &made {
        let done = completed(client, backup).await;
        assert_eq!(
            done["metadata"]["annotations"]["replicated.com/backup-count"],
            "2"
        );
    }
    let label = format!("replicated.com/backup-name={row}");
    let found = client.list(BACKUPS, &label).await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|one| kots::state(one) == "Completed"));
    let kept = found
        .iter()
        .find_map(|one| one["metadata"]["annotations"]["replicated.com/restore-spec"].as_str());
    assert_eq!(kept, Some(&*restore.to_string()));
    delete(client, &row).await;
    for backup in &made {
        client.gone(&format!("{BACKUPS}/{backup}")).await;
    }
    app.remove().await;
}

async fn without_shutdown_pods(world: &World, client: &Client) {
    let memory = world.memory().unwrap();
    let volumes = json!({"backup.velero.io/backup-volumes": "data"});
    let app = world.application("stopping", SMALL, &volumes).await;
    memory.api.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "stopped", "namespace": app.namespace, "labels": {"kots.io/app-slug": app.slug}, "annotations": volumes,
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "i"}], "volumes": [{"name": "data", "emptyDir": {}}]},
        "status": {"phase": "Failed", "reason": "Shutdown"},
    }));
    let pods = format!("/api/v1/namespaces/{}/pods", app.namespace);
    let query = format!(
        "fieldSelector={}&labelSelector={}",
        encoded("status.phase=Failed"),
        encoded(&format!("kots.io/app-slug={}", app.slug))
    );
    let found = client.get(&format!("{pods}?{query}")).await;
    let [pod] = &found["items"].as_array().unwrap()[..] else {
        panic!("{found}");
    };
    assert_eq!(pod["status"]["reason"], "Shutdown");
    let mut pod = pod.clone();
    pod["metadata"]["labels"]["velero.io/exclude-from-backup"] = json!("true");
    client.update(&format!("{pods}/stopped"), &pod).await;
    let backup = start(client, &app, &json!({})).await;
    let done = completed(client, &backup).await;
    assert!(done["status"]["errors"].is_null(), "{done}");
    let list = resources(client, &backup).await;
    assert!(!list.contains("stopped\""), "{list}");
    remove(client, &backup).await;
    app.remove().await;
}

async fn in_the_list(world: &World, client: &Client) {
    let app = world
        .application(
            "listed",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    let locations = client
        .list(&format!("{VELERO}/backupstoragelocations"), "")
        .await;
    let location = locations.iter().find(|one| name(one) == "default").unwrap();
    assert_eq!(location["metadata"]["namespace"], "velero");
    let all = client.list(BACKUPS, "").await;
    let listed = all.iter().find(|one| name(one) == backup).unwrap();
    assert_eq!(kots::state(listed), "Completed");
    let (started, finished) = (
        kots::time(listed, "startTimestamp"),
        kots::time(listed, "completionTimestamp"),
    );
    assert!(started.unwrap() <= finished.unwrap());
    assert!(kots::time(listed, "expiration").unwrap() > finished.unwrap());
    let volumes = kots::backup_volumes(client, &backup).await;
    let succeeded = volumes
        .iter()
        .filter(|one| one.phase == "Completed")
        .count();
    let bytes: i64 = volumes.iter().map(|one| one.done).sum();
    assert_eq!((volumes.len(), succeeded, bytes), (1, 1, SMALL as i64));
    remove(client, &backup).await;
    app.remove().await;
}

async fn deleted(world: &World, client: &Client) {
    let app = world
        .application(
            "deleted",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    // A hook keeps it running while it is to be deleted.
    let hook = json!({"resources": [{
        "name": "slow", "includedNamespaces": [app.namespace],
        "pre": [{"exec": {"container": "main", "command": ["sh", "-c", HELD], "timeout": "10m"}}],
    }]});
    let backup = start(client, &app, &json!({"hooks": hook})).await;
    let path = format!("{BACKUPS}/{backup}");
    app.held().await;
    client.phase(&path, &["InProgress"]).await;
    delete(client, &backup).await;
    let request = format!("{VELERO}/deletebackuprequests/{backup}");
    client.gone(&request).await;
    app.let_go().await;
    completed(client, &backup).await;
    let volumes = kots::backup_volumes(client, &backup).await;
    assert_eq!(volumes.len(), 1);
    remove(client, &backup).await;
    client.gone(&request).await;
    assert_eq!(kots::backup_volumes(client, &backup).await.len(), 0);
    if let Some(memory) = world.memory() {
        let left = memory.s3.keys();
        let left: Vec<_> = left
            .iter()
            .filter(|(key, _)| key.contains(&backup))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    app.remove().await;
}

async fn kept_for(world: &World, client: &Client) {
    let app = world.application("kept", SMALL, &json!({})).await;
    // A month, a year of KOTS, and what Go sends for none.
    for (ttl, seconds) in [
        ("720h0m0s", 2_592_000),
        ("8766h0m0s", 31_557_600),
        ("0s", 2_592_000),
    ] {
        let spec = json!({
            "includedNamespaces": [app.namespace], "includeClusterResources": true, "storageLocation": "default",
            "labelSelector": {"matchLabels": {"kots.io/app-slug": app.slug}}, "ttl": ttl,
        });
        let metadata = json!({"generateName": format!("{}-", app.slug), "annotations": annotations("schedule")});
        let made = client.create(BACKUPS, &go::backup(&metadata, &spec)).await;
        let done = completed(client, name(&made)).await;
        assert_eq!(
            done["metadata"]["annotations"]["kots.io/snapshot-trigger"],
            "schedule"
        );
        let (started, expires) = (
            kots::time(&done, "startTimestamp"),
            kots::time(&done, "expiration"),
        );
        let kept = expires.unwrap().duration_since(started.unwrap()).as_secs();
        assert!((kept - seconds).abs() < 60, "{ttl}: {kept}");
        remove(client, name(&made)).await;
    }
    app.remove().await;
}
