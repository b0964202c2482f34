//! How KOTS restores: an app from its own backup or from one of the instance, and the Admin Console.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    client::{Client, name, phase},
    download, go, kots,
    kots_actions::{completed, remove, start},
    rows::{Place, Row, Who},
    world::{LARGE, SMALL, World, own},
};

const RESTORES: &str = "/apis/velero.io/v1/namespaces/velero/restores";
const BACKUPS: &str = "/apis/velero.io/v1/namespaces/velero/backups";
const CREATE: &str = "POST /apis/velero.io/v1/namespaces/velero/restores application/json";
const DELETE: &str = "DELETE /apis/velero.io/v1/namespaces/velero/restores/* application/json";
const DOWNLOAD: &str =
    "POST /apis/velero.io/v1/namespaces/velero/downloadrequests application/json";
/// How often the operator looks; the real one waits for 2 s.
const POLL: Duration = Duration::from_millis(100);

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.12.7 restore",
        who: Who::Kots,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backups/*",
            DELETE,
            "GET /apis/velero.io/v1/namespaces/velero/restores/*",
            CREATE,
            "GET /apis/velero.io/v1/namespaces/velero/restores/*",
        ],
        change: "after the undeploy the app's pod is there again with its data, and the restore is Completed",
        source: "pkg/handlers/restore.go, pkg/operator/operator.go, pkg/kotsadmsnapshot/restore.go CreateApplicationRestore",
        place: Place::Anywhere,
        run: |world, client| Box::pin(of_an_app(world, client)),
    },
    Row {
        id: "2.12.7 progress",
        who: Who::Kots,
        requests: &[
            CREATE,
            "GET /apis/velero.io/v1/namespaces/velero/podvolumerestores?labelSelector=velero.io%2Frestore-name%3D*",
            DOWNLOAD,
        ],
        change: "the page shows volumes with numbers that are some, and the results when it has ended",
        source: "pkg/kotsadmsnapshot/restore.go GetRestoreDetails, listRestoreVolumes, download.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(progress(world, client)),
    },
    Row {
        id: "2.12.7 again",
        who: Who::Kots,
        requests: &[CREATE, DELETE, CREATE],
        change: "a restore of before, of the same name, is gone while KOTS undeploys, and the next one restores again",
        source: "pkg/handlers/restore.go, pkg/kotsadmsnapshot/restore.go DeleteRestore",
        place: Place::Anywhere,
        run: |world, client| Box::pin(again(world, client)),
    },
    Row {
        id: "2.12.7 failed",
        who: Who::Kots,
        requests: &[CREATE, DOWNLOAD, CREATE, DOWNLOAD],
        change: "a restore that cannot be has failed, and its page does not wait for results",
        source: "pkg/operator/operator.go checkRestoreComplete, pkg/kotsadmsnapshot/restore.go GetRestoreDetails",
        place: Place::Anywhere,
        run: |world, client| Box::pin(failed(world, client)),
    },
    Row {
        id: "2.12.8 admin console",
        who: Who::Kots,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backups/*",
            DELETE,
            CREATE,
            "GET /apis/velero.io/v1/namespaces/velero/restores/*.kotsadm",
            "GET /apis/velero.io/v1/namespaces/velero/restores",
        ],
        change: "only what has kotsadm's label comes back; its volume is there before any of its own init containers runs",
        source: "pkg/snapshot/restore.go RestoreInstanceBackup, cmd/kots/cli/restore.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(admin_console(world, client)),
    },
    Row {
        id: "2.12.8 apps",
        who: Who::Kots,
        requests: &[
            CREATE,
            "GET /apis/velero.io/v1/namespaces/velero/restores/*.one",
        ],
        change: "of an instance's backup only the app with that slug comes back",
        source: "pkg/kotsadmsnapshot/restore.go CreateApplicationRestore",
        place: Place::Anywhere,
        run: |world, client| Box::pin(one_app(world, client)),
    },
];

/// The phases at which KOTS takes a restore for ended.
pub(crate) const ENDED: [&str; 4] = ["Completed", "PartiallyFailed", "Failed", "FailedValidation"];

fn volumes() -> Value {
    json!({"backup.velero.io/backup-volumes": "data"})
}

/// Starts the restore of an app's backup, as KOTS does.
async fn begin(client: &Client, backup: &str) {
    let spec = json!({"backupName": backup, "restorePVs": true, "includeClusterResources": true});
    let restore = go::restore(&json!({"name": backup}), &spec);
    client.create(RESTORES, &restore).await;
}

/// Waits for a good end as the operator does.
pub(crate) async fn restored(client: &Client, restore: &str) -> Value {
    let path = format!("{RESTORES}/{restore}");
    let has_ended = |one: &Value| ENDED.contains(&phase(one));
    let ended = client
        .until_every(POLL, "has ended", &path, has_ended)
        .await;
    if phase(&ended) != "Completed" {
        let results = download::json_or_none(client, "RestoreResults", restore).await;
        panic!("{}: {results:?}", ended["status"]);
    }
    ended
}

/// Deletes a restore as KOTS does, and waits until its name is free.
async fn forget(client: &Client, restore: &str) {
    let path = format!("{RESTORES}/{restore}");
    client.delete(&path).await;
    client.gone(&path).await;
}

async fn of_an_app(world: &World, client: &Client) {
    let app = world.application("back", SMALL, &volumes()).await;
    let before = app.fingerprint().await;
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    app.exec("echo spoilt > /data/random.0").await;
    let found = client.get(&format!("{BACKUPS}/{backup}")).await;
    assert_eq!(kots::state(&found), "Completed");
    // There is none of that name yet, which is no error.
    forget(client, &backup).await;
    let old = client.get(&app.path("db-0")).await;
    app.undeploy().await;
    let path = format!("{RESTORES}/{backup}");
    assert_eq!(client.find(&path).await, None);
    begin(client, &backup).await;
    let done = restored(client, &backup).await;
    assert_eq!(done["spec"]["backupName"], backup);
    assert!(done["status"]["errors"].is_null() && done["status"]["warnings"].is_null());
    let pod = app.ready("db-0").await;
    assert_ne!(pod["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(pod["metadata"]["labels"]["velero.io/restore-name"], backup);
    assert_eq!(pod["metadata"]["labels"]["velero.io/backup-name"], backup);
    assert_eq!(app.fingerprint().await, before);
    forget(client, &backup).await;
    remove(client, &backup).await;
    app.remove().await;
}

/// The three lists of results, each of errors or warnings.
fn results(file: &Value, what: &str) -> Vec<String> {
    let part = &file[what];
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut all = texts(&part["velero"]);
    all.extend(texts(&part["cluster"]));
    let spaces = part["namespaces"].as_object().into_iter().flatten();
    all.extend(spaces.flat_map(|(_, list)| texts(list)));
    all
}

async fn progress(world: &World, client: &Client) {
    let app = world.application("slowly", LARGE, &volumes()).await;
    world.forget_uploads();
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    app.undeploy().await;
    let mut packs = world.hold_downloads();
    begin(client, &backup).await;
    let path = format!("{RESTORES}/{backup}");
    let mut last = 0;
    loop {
        let state = client.get(&path).await;
        let found = kots::restore_volumes(client, &backup).await;
        if ENDED.contains(&phase(&state)) {
            // A real store may have been faster than any look.
            assert!(world.memory().is_none(), "{state}");
            break;
        }
        for volume in &found {
            assert!(volume.done >= last, "it goes back from {last}: {volume:?}");
            last = volume.done;
        }
        if found.iter().any(|one| 0 < one.done && one.done < one.total) {
            break;
        }
        packs.ease();
        tokio::time::sleep(POLL).await;
    }
    packs.release();
    restored(client, &backup).await;
    let found = kots::restore_volumes(client, &backup).await;
    let [volume] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (
            &*volume.pod,
            &*volume.namespace,
            &*volume.of_pod,
            &*volume.phase
        ),
        ("db-0", &*app.namespace, "data", "Completed")
    );
    assert_eq!((volume.done, volume.percent), (LARGE as i64, 100));
    assert!(volume.finished.is_some());
    let file = download::json_file(client, "RestoreResults", &backup).await;
    assert_eq!(results(&file, "errors"), [""; 0]);
    forget(client, &backup).await;
    remove(client, &backup).await;
    app.remove().await;
}

async fn again(world: &World, client: &Client) {
    let app = world.application("twice", SMALL, &volumes()).await;
    let before = app.fingerprint().await;
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    let mut uids = Vec::new();
    for _ in 0..2 {
        forget(client, &backup).await;
        assert_eq!(kots::restore_volumes(client, &backup).await.len(), 0);
        app.undeploy().await;
        begin(client, &backup).await;
        let done = restored(client, &backup).await;
        uids.push(done["metadata"]["uid"].clone());
        app.ready("db-0").await;
        assert_eq!(app.fingerprint().await, before);
    }
    assert_ne!(uids[0], uids[1]);
    // A backup that goes takes its restores along.
    remove(client, &backup).await;
    client.gone(&format!("{RESTORES}/{backup}")).await;
    app.remove().await;
}

async fn failed(world: &World, client: &Client) {
    let nothing = own("nothing");
    begin(client, &nothing).await;
    let path = format!("{RESTORES}/{nothing}");
    let ended = client.phase(&path, &ENDED).await;
    assert_eq!(phase(&ended), "FailedValidation");
    let errors = ended["status"]["validationErrors"].to_string();
    assert!(errors.contains(&nothing), "{errors}");
    // The page asks for results all the same.
    download::json_or_none(client, "RestoreResults", &nothing).await;
    forget(client, &nothing).await;
    // A hook that fails makes KOTS take the restore for failed; the page says which.
    let mut annotations = volumes();
    annotations["post.hook.restore.velero.io/command"] = json!("[\"sh\",\"-c\",\"exit 4\"]");
    let app = world.application("hookless", SMALL, &annotations).await;
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    app.undeploy().await;
    begin(client, &backup).await;
    let ended = client.phase(&format!("{RESTORES}/{backup}"), &ENDED).await;
    assert_eq!(phase(&ended), "PartiallyFailed", "{ended}");
    let file = download::json_file(client, "RestoreResults", &backup).await;
    let errors = results(&file, "errors");
    assert_eq!(
        Some(errors.len() as u64),
        ended["status"]["errors"].as_u64()
    );
    assert!(errors.iter().any(|one| one.contains("db-0")), "{errors:?}");
    forget(client, &backup).await;
    remove(client, &backup).await;
    app.remove().await;
}

/// The backup of an instance with these namespaces.
async fn instance(client: &Client, spaces: &[&str], slugs: &[&str]) -> String {
    let label = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let mut selectors = vec![label("kots.io/backup", "velero")];
    selectors.extend(slugs.iter().map(|slug| label("kots.io/app-slug", slug)));
    let spec = json!({
        "storageLocation": "default", "includedNamespaces": spaces, "includeClusterResources": true,
        "orLabelSelectors": selectors, "hooks": {"resources": []}, "ttl": "720h0m0s",
    });
    let annotations = json!({
        "kots.io/instance": "true", "kots.io/snapshot-trigger": "manual",
        "kots.io/kotsadm-image": "kotsadm/kotsadm:v1.120.0", "kots.io/kotsadm-deploy-namespace": "default",
    });
    let metadata = json!({"generateName": "instance-", "annotations": annotations});
    let made = client.create(BACKUPS, &go::backup(&metadata, &spec)).await;
    completed(client, name(&made)).await;
    name(&made).to_owned()
}

async fn admin_console(world: &World, client: &Client) {
    let app = world.application("one", SMALL, &volumes()).await;
    let mut annotations = volumes();
    annotations["pre.hook.backup.velero.io/command"] =
        json!("[\"sh\",\"-c\",\"echo dump > /data/dump\"]");
    annotations["pre.hook.backup.velero.io/timeout"] = json!("10m");
    let labels =
        json!({"kots.io/kotsadm": "true", "kots.io/backup": "velero", "app": "kotsadm-rqlite"});
    app.labelled_pod("rqlite", SMALL, &annotations, &labels)
        .await;
    let backup = instance(client, &[&app.namespace], &["one"]).await;
    let found = client.get(&format!("{BACKUPS}/{backup}")).await;
    assert_eq!(phase(&found), "Completed");
    for pod in ["db-0", "rqlite"] {
        client.delete(&app.path(pod)).await;
        client.gone(&app.path(pod)).await;
    }
    let restore = format!("{backup}.kotsadm");
    forget(client, &restore).await;
    let annotations = json!({
        "kots.io/instance": "true", "kots.io/kotsadm-image": "kotsadm/kotsadm:v1.120.0",
        "kots.io/kotsadm-deploy-namespace": "default",
    });
    let spec = json!({
        "backupName": backup, "restorePVs": true, "includeClusterResources": true,
        "labelSelector": {"matchLabels": {"kots.io/kotsadm": "true"}},
    });
    let metadata = json!({"name": restore, "annotations": annotations});
    client
        .create(RESTORES, &go::restore(&metadata, &spec))
        .await;
    let done = restored(client, &restore).await;
    for (key, value) in annotations.as_object().unwrap() {
        assert_eq!(&done["metadata"]["annotations"][key], value);
    }
    let pod = app.ready("rqlite").await;
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "restore-wait");
    assert_eq!(client.find(&app.path("db-0")).await, None);
    let volumes = kots::restore_volumes(client, &restore).await;
    assert_eq!((volumes.len(), &*volumes[0].pod), (1, "rqlite"));
    // `kubectl kots get restores` finds it by its annotation.
    let all = client.list(RESTORES, "").await;
    let of_instances: Vec<&str> = all
        .iter()
        .filter(|one| one["metadata"]["annotations"]["kots.io/instance"] == "true")
        .map(name)
        .collect();
    assert!(of_instances.contains(&&*restore), "{of_instances:?}");
    forget(client, &restore).await;
    remove(client, &backup).await;
    app.remove().await;
}

async fn one_app(world: &World, client: &Client) {
    let one = world.application("one", SMALL, &volumes()).await;
    let two = world.application("two", SMALL, &volumes()).await;
    let before = one.fingerprint().await;
    let backup = instance(client, &[&one.namespace, &two.namespace], &["one", "two"]).await;
    one.undeploy().await;
    two.undeploy().await;
    let restore = format!("{backup}.one");
    let spec = json!({
        "backupName": backup, "restorePVs": true, "includeClusterResources": true,
        "labelSelector": {"matchLabels": {"kots.io/app-slug": "one"}},
    });
    let metadata = json!({"name": restore, "annotations": {"kots.io/instance": "true"}});
    client
        .create(RESTORES, &go::restore(&metadata, &spec))
        .await;
    restored(client, &restore).await;
    one.ready("db-0").await;
    assert_eq!(one.fingerprint().await, before);
    assert_eq!(client.find(&two.path("db-0")).await, None);
    forget(client, &restore).await;
    remove(client, &backup).await;
    one.remove().await;
    two.remove().await;
}
