//! What phases a backup goes through, what either client makes of each, and whether its log can be had then.

use serde_json::json;

use super::{
    client::{Client, VELERO, name, phase},
    download, go, kots, kots_actions, logfmt,
    rows::{Place, Row, Who},
    world::{Application, HELD, SMALL, World, own},
};

const WATCH: &str = "GET /apis/velero.io/v1/namespaces/velero/backups?allowWatchBookmarks=true&resourceVersion=*&watch=true";
const CREATE: &str = "POST /apis/velero.io/v1/namespaces/velero/backups application/json";
const DOWNLOAD: &str =
    "POST /apis/velero.io/v1/namespaces/velero/downloadrequests application/json";
const BACKUPS: &str = "/apis/velero.io/v1/namespaces/velero/backups";
/// Phases before the last one of a backup that is well, in their order.
const ON_THE_WAY: [&str; 6] = [
    "",
    "New",
    "Queued",
    "ReadyToStart",
    "InProgress",
    "Finalizing",
];
const SOURCE: &str = "pkg/kotsadmsnapshot/types/types.go GetStatusFromBackupPhase, velero: pkg/cmd/cli/backup/logs.go";

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "A new",
        who: Who::Kots,
        requests: &[CREATE],
        change: "a backup that has just been made is in progress for KOTS, and has no log",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(new(world, client)),
    },
    Row {
        id: "A in progress",
        who: Who::Kots,
        requests: &[WATCH, CREATE],
        change: "a backup that is well is never shown as failed on its way, and starts when it is in progress",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(on_its_way(world, client)),
    },
    Row {
        id: "A finalizing",
        who: Who::Kots,
        requests: &[WATCH, CREATE],
        change: "all objects of volumes are there, in their last phase, before the backup is in its own",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(volumes_first(world, client)),
    },
    Row {
        id: "A completed",
        who: Who::Cli,
        requests: &[CREATE, DOWNLOAD],
        change: "its log is there at once",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(has_log(world, client, "true", "Completed")),
    },
    Row {
        id: "A partially failed",
        who: Who::Cli,
        requests: &[CREATE, DOWNLOAD],
        change: "its log is there at once, with the errors",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(has_log(world, client, "exit 1", "PartiallyFailed")),
    },
    Row {
        id: "A failed",
        who: Who::Kots,
        requests: &[CREATE, DOWNLOAD],
        change: "its log is there too: without, the page would wait for a minute",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(failed(world, client)),
    },
    Row {
        id: "A failed validation",
        who: Who::Kots,
        requests: &[CREATE, DOWNLOAD, DOWNLOAD],
        change: "the reason is in the object, and whoever asks for the log is answered at once",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(invalid(world, client)),
    },
    Row {
        id: "A deleting",
        who: Who::Kots,
        requests: &[CREATE, WATCH],
        change: "it is Deleting until it is gone",
        source: SOURCE,
        place: Place::Anywhere,
        run: |world, client| Box::pin(deleting(world, client)),
    },
];

async fn app<'a>(world: &'a World, command: &str) -> Application<'a> {
    let annotations = json!({
        "backup.velero.io/backup-volumes": "data",
        "pre.hook.backup.velero.io/command": json!(["sh", "-c", command]).to_string(),
    });
    world.application("phases", SMALL, &annotations).await
}

async fn new(world: &World, client: &Client) {
    let app = app(world, "true").await;
    let metadata = json!({"name": own("new"), "annotations": kots_actions::annotations("manual")});
    let spec = json!({"includedNamespaces": [app.namespace], "storageLocation": "default"});
    let made = client.create(BACKUPS, &go::backup(&metadata, &spec)).await;
    assert_eq!(phase(&made), "");
    assert_eq!(kots::state(&made), "InProgress");
    kots_actions::completed(client, name(&made)).await;
    kots_actions::remove(client, name(&made)).await;
    app.remove().await;
}

async fn on_its_way(world: &World, client: &Client) {
    let app = app(world, HELD).await;
    let mut watch = client.watch(BACKUPS).await;
    let backup = kots_actions::start(client, &app, &json!({})).await;
    app.held().await;
    client
        .phase(&format!("{BACKUPS}/{backup}"), &["InProgress"])
        .await;
    app.let_go().await;
    let mut place = 0;
    loop {
        let object = watch.next().await;
        if name(&object) != backup {
            continue;
        }
        if phase(&object) == "Completed" {
            break;
        }
        let next = ON_THE_WAY.iter().position(|one| *one == phase(&object));
        let next = next.unwrap_or_else(|| panic!("{}", object["status"]));
        assert!(next >= place, "it goes back: {}", object["status"]);
        place = next;
        assert_eq!(kots::state(&object), "InProgress");
        if phase(&object) == "InProgress" {
            assert!(kots::time(&object, "startTimestamp").is_some());
            assert!(kots::time(&object, "expiration").is_some());
        }
    }
    assert!(place >= 4, "it never was in progress");
    kots_actions::remove(client, &backup).await;
    app.remove().await;
}

async fn volumes_first(world: &World, client: &Client) {
    let app = app(world, "true").await;
    let mut watch = client.watch(BACKUPS).await;
    let backup = kots_actions::start(client, &app, &json!({})).await;
    loop {
        let object = watch.next().await;
        if name(&object) != backup {
            continue;
        }
        let is_last = phase(&object) == "Completed";
        if is_last || phase(&object).starts_with("Finalizing") {
            let volumes = kots::backup_volumes(client, &backup).await;
            assert_eq!(volumes.len(), 1, "{object}");
            assert!(!is_last || volumes[0].phase == "Completed", "{volumes:?}");
        }
        if is_last {
            break;
        }
    }
    kots_actions::remove(client, &backup).await;
    app.remove().await;
}

async fn has_log(world: &World, client: &Client, command: &str, last: &str) {
    let app = app(world, command).await;
    let backup = kots_actions::start(client, &app, &json!({})).await;
    let ended = client
        .phase(&format!("{BACKUPS}/{backup}"), &kots_actions::ENDED)
        .await;
    assert_eq!(phase(&ended), last, "{ended}");
    let page = kots::page(client, &backup).await;
    let errors = ended["status"]["errors"].as_u64().unwrap_or(0) as usize;
    assert_eq!(page.errors.len(), errors);
    assert_eq!(page.scripts.len(), 1);
    kots_actions::remove(client, &backup).await;
    app.remove().await;
}

async fn failed(world: &World, client: &Client) {
    let app = app(world, HELD).await;
    let backup = kots_actions::start(client, &app, &json!({})).await;
    let path = format!("{BACKUPS}/{backup}");
    app.held().await;
    client.phase(&path, &["InProgress"]).await;
    let cancel = json!({"metadata": {"annotations": {"orlop.io/cancel": "true"}}});
    client.merge(&path, &cancel).await;
    // Its volume is given up while the hook is still at work.
    let are_canceled = |volumes: &[kots::Volume]| volumes.iter().all(|one| one.phase == "Canceled");
    kots::until_volumes(client, &backup, "is given up", are_canceled).await;
    app.let_go().await;
    let ended = client.phase(&path, &kots_actions::ENDED).await;
    assert_eq!((phase(&ended), kots::state(&ended)), ("Failed", "Failed"));
    assert!(ended["status"]["failureReason"].is_string());
    let page = kots::page(client, &backup).await;
    let errors = ended["status"]["errors"].as_u64().unwrap_or(0) as usize;
    assert_eq!(page.errors.len(), errors);
    let says_why = |(title, _): &logfmt::Problem| title.contains("canceled");
    assert!(page.errors.iter().any(says_why), "{page:?}");
    kots_actions::remove(client, &backup).await;
    app.remove().await;
}

async fn invalid(world: &World, client: &Client) {
    let app = app(world, "true").await;
    for (location, why) in [("nowhere", "nowhere"), ("default", "elector")] {
        let selector = json!({"matchLabels": {"kots.io/app-slug": app.slug}});
        let mut spec = json!({
            "includedNamespaces": [app.namespace], "storageLocation": location, "labelSelector": selector,
        });
        if location == "default" {
            spec["orLabelSelectors"] = json!([selector]);
        }
        let metadata = json!({"name": own("invalid")});
        let made = client.create(BACKUPS, &go::backup(&metadata, &spec)).await;
        let path = format!("{BACKUPS}/{}", name(&made));
        let ended = client.phase(&path, &kots_actions::ENDED).await;
        assert_eq!(
            (phase(&ended), kots::state(&ended)),
            ("FailedValidation", "Failed")
        );
        let errors = ended["status"]["validationErrors"].to_string();
        assert!(errors.contains(why), "{errors}");
        // Whether there is a log or none, the page must not wait for it.
        let page = download::fetch(&download::url(client, "BackupLog", name(&made)).await).await;
        match page.status {
            404 => {}
            200 => {
                let log = orlop_kubernetes::files::gunzip(&page.bytes[..], 1 << 20).unwrap();
                let log = logfmt::read(&String::from_utf8(log).unwrap()).unwrap();
                assert!(!log.errors.is_empty());
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&page.bytes)),
        }
        kots_actions::remove(client, name(&made)).await;
    }
    app.remove().await;
}

async fn deleting(world: &World, client: &Client) {
    let app = app(world, "true").await;
    let backup = kots_actions::start(client, &app, &json!({})).await;
    kots_actions::completed(client, &backup).await;
    let mut watch = client.watch(BACKUPS).await;
    kots_actions::delete(client, &backup).await;
    let phases = watch.phases(&backup, &["Deleting"]).await;
    assert!(
        phases
            .iter()
            .all(|one| one == "Completed" || one == "Deleting"),
        "{phases:?}"
    );
    client.gone(&format!("{BACKUPS}/{backup}")).await;
    client
        .gone(&format!("{VELERO}/deletebackuprequests/{backup}"))
        .await;
    app.remove().await;
}
