//! The settings page: what becomes of backups, and of the page itself, when somebody saves.

use serde_json::{Value, json};

use super::{
    client::{Client, PATIENCE, VELERO, phase},
    kots,
    kots_actions::{ENDED, completed, remove, start},
    kots_saving::{POLL, pods, restart, save_same, until_replaced, until_validated},
    rows::{Place, Row, Who},
    world::{SMALL, World},
};

const SAVE_AND_RESTART: &[&str] = &[
    "PUT /apis/velero.io/v1/namespaces/velero/backupstoragelocations/default application/json",
    "PUT /apis/apps/v1/namespaces/velero/deployments/velero application/json",
    "PUT /apis/apps/v1/namespaces/velero/daemonsets/node-agent application/json",
    "DELETE /apis/velero.io/v1/namespaces/velero/backuprepositories/* application/json",
    // Which of the pods are there to be deleted depends on how far the rollout of the new templates is.
    "GET /api/v1/namespaces/velero/pods?labelSelector=component%3Dvelero",
];

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
        // Both kinds of pods have the Deployment's only label, and come in the order of their names.
        requests: &[
            "DELETE /api/v1/namespaces/velero/pods/node-agent-* application/json",
            "DELETE /api/v1/namespaces/velero/pods/velero-* application/json",
        ],
        change: "a pod of the application that is gone after the restart ends its volume as failed, by name, not the backup of others",
        source: "pkg/snapshot/velero.go restartVelero, pkg/kotsadmsnapshot/backup.go listBackupVolumes",
        place: Place::Alone,
        run: |world, client| Box::pin(pod_gone_after_restart(world, client)),
    },
];

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
    let saved = save_same(world, client).await;
    until_replaced(client, &before).await;
    until_validated(client, &saved, &["Available"]).await;
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
    let moves = |one: &kots::Volume| one.phase == "InProgress" && one.done > 0;
    let do_move = |volumes: &[kots::Volume]| volumes.iter().any(moves);
    kots::until_volumes(client, backup, "moves", do_move).await;
}

async fn save_while_running(world: &World, client: &Client) {
    let app = world
        .application(
            "busy",
            world.large(),
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
    let uploads = world.hold_uploads();
    let mut watch = client.watch(&format!("{VELERO}/backups")).await;
    let backup = start(client, &app, &json!({})).await;
    until_moving(client, &backup).await;
    let before = pods(client).await;
    save_same(world, client).await;
    until_replaced(client, &before).await;
    uploads.release();
    let phases = watch.phases(&backup, &ENDED).await;
    assert!(
        phases.iter().all(|one| !one.contains("Fail")) && phases.last().unwrap() == "Completed",
        "{phases:?}"
    );
    let found = kots::backup_volumes(client, &backup).await;
    assert_eq!(found.len(), 1, "one task, one object: {found:?}");
    assert_eq!(
        (found[0].done, &*found[0].phase),
        (world.large() as i64, "Completed")
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
    let app = world.application("leaving", world.large(), &volumes).await;
    app.pod("stays", SMALL, &volumes).await;
    let uploads = world.hold_uploads();
    let backup = start(client, &app, &json!({})).await;
    until_moving(client, &backup).await;
    let before = pods(client).await;
    // The pod goes while nobody looks.
    let starts = world.hold_starts();
    restart(client).await;
    starts.met().await;
    client.delete(&app.path("db-0")).await;
    if let Some(memory) = world.memory() {
        memory.forget_volumes();
    }
    starts.release();
    uploads.release();
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
