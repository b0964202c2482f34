//! The controller between an API server and a coordinator that do what the test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "controller/coordinator.rs"]
mod coordinator;
#[path = "controller/everywhere.rs"]
mod everywhere;
#[path = "controller/restores.rs"]
mod restores;
#[path = "controller/restoring.rs"]
mod restoring;
#[path = "controller/world.rs"]
mod world;

use orlop_kubernetes::files;
use orlop_proto::v1::{ArtifactKind, RunPhase, TaskPhase};
use orlop_tests::{
    eventually,
    kube_api::{KubeFault, KubeRequest},
};
use serde_json::{Value, json};

use world::{SPACE, World, aws, complete, object, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_made_and_its_volumes_are_there_when_it_ends() {
    let mut world = World::started().await;
    let secret = world.get("secrets", "velero-repo-credentials").unwrap();
    assert!(secret["data"]["repository-password"].is_string() || secret["stringData"].is_object());
    world.api.put(object(
        "Backup",
        "b",
        &json!({"spec": {"includedNamespaces": ["shop"]}}),
    ));
    let begun = world.phase("backups.velero.io", "b", "InProgress");
    assert_eq!(begun["spec"]["ttl"], "720h0m0s");
    assert_eq!(begun["spec"]["storageLocation"], "default");
    assert_eq!(
        begun["metadata"]["labels"]["velero.io/storage-location"],
        "default"
    );
    assert!(
        begun["metadata"]["annotations"]["velero.io/source-cluster-k8s-gitversion"].is_string()
    );
    assert!(begun["status"]["startTimestamp"].is_string());
    let sent = world.fake().with(|state| state.requests[0].clone());
    assert_eq!(
        (sent.location.as_str(), sent.ttl_seconds),
        ("default", 2_592_000)
    );
    world.fake().run("b", |run| {
        run.set_phase(RunPhase::Running);
        run.tasks = vec![task(TaskPhase::Running)];
    });
    let volume = eventually("a volume", || {
        world.api.list("podvolumebackups.velero.io", SPACE).pop()
    });
    assert_eq!(volume["metadata"]["labels"]["velero.io/backup-name"], "b");
    assert_eq!(volume["status"]["phase"], "InProgress");
    world.api.take_requests();
    let done = complete(&world, "b");
    assert!(done["status"]["completionTimestamp"].is_string());
    let volumes = world.api.list("podvolumebackups.velero.io", SPACE);
    assert_eq!(volumes.len(), 1);
    assert_eq!(volumes[0]["status"]["phase"], "Completed");
    assert_eq!(volumes[0]["status"]["snapshotID"], "s-1");
    let patches: Vec<String> = world
        .api
        .take_requests()
        .into_iter()
        .filter(|request| request.method == "PATCH" && request.path.contains("backups/"))
        .map(|request| request.path.rsplit('/').nth(1).unwrap().to_owned())
        .collect();
    let (last, before) = patches.split_last().unwrap();
    assert_eq!(last, "backups");
    assert!(
        before.contains(&"podvolumebackups".to_owned()),
        "{patches:?}"
    );
    world.stop().await;
}

fn a_backup_with_a_volume(world: &World) {
    world.api.put(object("Backup", "b", &json!({})));
    world.phase("backups.velero.io", "b", "InProgress");
    world.fake().run("b", |run| {
        run.set_phase(RunPhase::Running);
        run.tasks = vec![task(TaskPhase::Running)];
    });
    eventually("a volume", || {
        world.api.list("podvolumebackups.velero.io", SPACE).pop()
    });
    complete(world, "b");
    let volumes = world.api.list("podvolumebackups.velero.io", SPACE);
    assert_eq!(volumes.len(), 1, "{volumes:?}");
    assert_eq!(volumes[0]["status"]["phase"], "Completed");
    assert_eq!(world.fake().with(|state| state.requests.len()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_goes_on_after_restarts_and_failures() {
    let mut world = World::started().await;
    world.api.faults().next(
        3,
        |request| request.method == "PATCH",
        KubeFault::Answer(500),
    );
    world.api.put(object("Backup", "b", &json!({})));
    world.phase("backups.velero.io", "b", "InProgress");
    world.stop().await;
    world.fake().run("b", |run| {
        run.set_phase(RunPhase::Running);
        run.tasks = vec![task(TaskPhase::Running)];
    });
    world.start();
    eventually("a volume", || {
        world.api.list("podvolumebackups.velero.io", SPACE).pop()
    });
    world.stop().await;
    world.start();
    complete(&world, "b");
    assert_eq!(world.api.list("podvolumebackups.velero.io", SPACE).len(), 1);
    assert_eq!(world.fake().with(|state| state.requests.len()), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_that_cannot_be_is_refused_and_one_is_stopped() {
    let mut world = World::started().await;
    world.api.put(object(
        "Backup",
        "wrong",
        &json!({"spec": {"storageLocation": "nowhere"}}),
    ));
    let wrong = world.phase("backups.velero.io", "wrong", "FailedValidation");
    let error = wrong["status"]["validationErrors"][0].as_str().unwrap();
    assert!(error.contains("nowhere"), "{error}");
    let told = "velero_backup_validation_failure_total{schedule=\"\"} 1\n";
    eventually("monitoring is told", || {
        world.metrics.text().unwrap().contains(told).then_some(())
    });
    world.api.put(object("Backup", "b", &json!({})));
    world.phase("backups.velero.io", "b", "InProgress");
    world.api.edit("backups.velero.io", SPACE, "b", |backup| {
        backup["metadata"]["annotations"]["orlop.io/cancel"] = json!("true");
    });
    let stopped = world.phase("backups.velero.io", "b", "Failed");
    assert_eq!(stopped["status"]["failureReason"], "canceled");
    world.stop().await;
}

fn a_backup_that_is_deleted(world: &World) {
    world.api.put(object("Backup", "b", &json!({})));
    complete(world, "b");
    world.api.put(object(
        "DeleteBackupRequest",
        "b",
        &json!({"spec": {"backupName": "b"}}),
    ));
    world.gone("backups.velero.io", "b");
    world.gone("deletebackuprequests.velero.io", "b");
    assert_eq!(
        world.api.list("podvolumebackups.velero.io", SPACE),
        [] as [Value; 0]
    );
    assert!(world.fake().with(|state| state.runs.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_deleted_by_a_request_of_its_name() {
    let mut world = World::started().await;
    a_backup_that_is_deleted(&world);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_fails_makes_room_for_the_next() {
    let mut world = World::started().await;
    world.api.put(object("Backup", "b", &json!({})));
    world.phase("backups.velero.io", "b", "InProgress");
    world.api.put(object(
        "DeleteBackupRequest",
        "b",
        &json!({"spec": {"backupName": "b"}}),
    ));
    let failed = world.phase("deletebackuprequests.velero.io", "b", "Processed");
    assert!(
        failed["status"]["errors"][0]
            .as_str()
            .unwrap()
            .contains("InProgress")
    );
    let backup = world.get("backups.velero.io", "b").unwrap();
    assert!(backup["metadata"]["annotations"]["orlop.io/delete-error"].is_string());
    world.gone("deletebackuprequests.velero.io", "b");
    complete(&world, "b");
    world.api.put(object(
        "DeleteBackupRequest",
        "b",
        &json!({"spec": {"backupName": "b"}}),
    ));
    world.gone("backups.velero.io", "b");
    world.stop().await;
}

fn a_stored_backup_and_a_lost_one(world: &World) {
    world.api.put(object(
        "Backup",
        "lost",
        &json!({
            "spec": {"storageLocation": "default"}, "status": {"phase": "Completed"},
        }),
    ));
    let found = object(
        "Backup",
        "found",
        &json!({
            "spec": {"storageLocation": "elsewhere"},
            "status": {"phase": "PartiallyFailed", "errors": 2, "expiration": "2099-01-01T00:00:00Z"},
        }),
    );
    let volume = object(
        "PodVolumeBackup",
        "found-x1",
        &json!({
            "spec": {
                "node": "n", "pod": {"namespace": "shop", "name": "db-0"}, "volume": "data",
                "backupStorageLocation": "elsewhere", "repoIdentifier": "",
            },
            "status": {"phase": "Completed", "snapshotID": "s-9"},
        }),
    );
    world.fake().with(|state| {
        let key = |kind: ArtifactKind| (i32::from(kind), "found".to_owned(), "default".to_owned());
        state.artifacts.insert(
            key(ArtifactKind::BackupMetadata),
            found.to_string().into_bytes(),
        );
        let volumes = files::json_to_gzip(&json!([volume])).unwrap();
        state
            .artifacts
            .insert(key(ArtifactKind::BackupPodVolumeBackups), volumes);
    });
}

fn stored_ones_come_and_lost_ones_go(world: &World) {
    let backup = eventually("the stored backup is whole", || {
        let backup = world.get("backups.velero.io", "found")?;
        backup["metadata"]["annotations"]["orlop.io/incomplete"]
            .is_null()
            .then_some(backup)
    });
    assert_eq!(backup["spec"]["storageLocation"], "default");
    assert_eq!(backup["status"]["errors"], 2);
    let volume = world.get("podvolumebackups.velero.io", "found-x1").unwrap();
    assert_eq!(
        volume["metadata"]["ownerReferences"][0]["uid"],
        backup["metadata"]["uid"]
    );
    assert_eq!(volume["spec"]["backupStorageLocation"], "default");
    world.gone("backups.velero.io", "lost");
    let repository = eventually("a repository", || {
        world.api.list("backuprepositories.velero.io", SPACE).pop()
    });
    assert_eq!(repository["status"]["phase"], "Ready");
    let name = repository["metadata"]["name"].as_str().unwrap().to_owned();
    world
        .api
        .remove("backuprepositories.velero.io", SPACE, &name);
    eventually("it is made again", || {
        world.get("backuprepositories.velero.io", &name)
    });
    eventually("the comparison is noted", || {
        let location = world.get("backupstoragelocations.velero.io", "default")?;
        location["status"]["lastSyncedTime"]
            .is_string()
            .then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_in_the_store_comes_to_the_cluster_and_what_is_not_goes() {
    let mut world = World::new().await;
    world.api.put(aws());
    a_stored_backup_and_a_lost_one(&world);
    world.start();
    stored_ones_come_and_lost_ones_go(&world);
    world.stop().await;
}

fn two_questions(world: &World) {
    world.api.put(object("Backup", "b", &json!({})));
    complete(world, "b");
    world
        .api
        .put(object("ServerStatusRequest", "q", &json!({})));
    let answer = world.phase("serverstatusrequests.velero.io", "q", "Processed");
    let version = answer["status"]["serverVersion"].as_str().unwrap();
    assert!(version.starts_with("v1.16.2+orlop."), "{version}");
    let target = json!({"kind": "BackupLog", "name": "b"});
    world.api.put(object(
        "DownloadRequest",
        "d",
        &json!({"spec": {"target": target}}),
    ));
    let answer = world.phase("downloadrequests.velero.io", "d", "Processed");
    assert_eq!(
        answer["status"]["downloadURL"],
        "https://x/default/b/ARTIFACT_KIND_BACKUP_LOG"
    );
    assert!(answer["status"]["expiration"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn questions_are_answered() {
    let mut world = World::started().await;
    two_questions(&world);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_is_looked_for_in_its_location_before_backups_are_listed() {
    let mut world = World::new().await;
    world.api.put(aws());
    world.api.put(object(
        "Backup",
        "b",
        &json!({"spec": {"storageLocation": "other"}, "status": {"phase": "Completed"}}),
    ));
    let target = json!({"kind": "BackupLog", "name": "b"});
    world.api.put(object(
        "DownloadRequest",
        "d",
        &json!({"spec": {"target": target}}),
    ));
    let lists = |request: &KubeRequest| {
        request.method == "GET" && request.path.ends_with("/namespaces/velero/backups")
    };
    world.api.faults().next(usize::MAX, lists, KubeFault::Drop);
    world.start();
    let answer = world.phase("downloadrequests.velero.io", "d", "Processed");
    assert_eq!(
        answer["status"]["downloadURL"],
        "https://x/other/b/ARTIFACT_KIND_BACKUP_LOG"
    );
    world.stop().await;
}

fn a_schedule_with_a_rule(world: &World) {
    for day in [1, 2, 3] {
        let mut old = object(
            "Backup",
            &format!("s-{day}"),
            &json!({
                "spec": {"storageLocation": "default"},
                "status": {"phase": "Failed", "startTimestamp": format!("2026-01-0{day}T00:00:00Z")},
            }),
        );
        old["metadata"]["labels"] = json!({"velero.io/schedule-name": "s"});
        if day > 1 {
            old["status"]["phase"] = json!("Completed");
            let key = (
                i32::from(ArtifactKind::BackupMetadata),
                format!("s-{day}"),
                "default".to_owned(),
            );
            world
                .fake()
                .with(|state| state.artifacts.insert(key, Vec::new()));
        }
        world.api.put(old);
    }
    let mut schedule = object(
        "Schedule",
        "s",
        &json!({
            "spec": {"schedule": "0 1 * * *", "template": {"ttl": "24h"}},
            "status": {"lastBackup": "2026-01-01T00:00:00Z"},
        }),
    );
    schedule["metadata"]["annotations"] = json!({"orlop.io/keep": "last=1"});
    world.api.put(schedule);
    world.phase("schedules.velero.io", "s", "Enabled");
    let made = eventually("a backup", || {
        let all = world.api.list("backups.velero.io", SPACE);
        all.into_iter().find(|one| {
            one["metadata"]["name"]
                .as_str()
                .unwrap()
                .ends_with("010000")
        })
    });
    assert_eq!(made["metadata"]["labels"]["velero.io/schedule-name"], "s");
    world.gone("backups.velero.io", "s-2");
    world.gone("backups.velero.io", "s-1");
    assert!(world.get("backups.velero.io", "s-3").is_some());
    assert_eq!(world.api.list("backups.velero.io", SPACE).len(), 2);
    // A turn that was cut off after its backup was made is noted when that has ended.
    complete(world, made["metadata"]["name"].as_str().unwrap());
    eventually("the turn is noted", || {
        let schedule = world.get("schedules.velero.io", "s")?;
        let last = schedule["status"]["lastBackup"].as_str()?.to_owned();
        (last.as_str() > "2026-01-02").then_some(())
    });
    assert_eq!(world.fake().with(|state| state.requests.len()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_turn_of_a_schedule_makes_a_backup_and_its_rule_lets_old_ones_go() {
    let mut world = World::started().await;
    a_schedule_with_a_rule(&world);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_old_backup_goes_and_one_that_is_not_old_stays() {
    let mut world = World::started().await;
    for (name, expiration) in [
        ("old", "2026-01-01T00:00:00Z"),
        ("new", "2099-01-01T00:00:00Z"),
    ] {
        let key = (
            i32::from(ArtifactKind::BackupMetadata),
            name.to_owned(),
            "default".to_owned(),
        );
        world
            .fake()
            .with(|state| state.artifacts.insert(key, Vec::new()));
        world.api.put(object("Backup", name, &json!({
            "spec": {"storageLocation": "default"}, "status": {"phase": "Completed", "expiration": expiration},
        })));
    }
    world.stop().await;
    world.start();
    world.gone("backups.velero.io", "old");
    assert!(world.get("backups.velero.io", "new").is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_is_mounted_before_anything_is_written_there() {
    let mut world = World::new().await;
    world.api.put(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "velero", "namespace": SPACE},
        "spec": {"replicas": 1, "selector": {}, "template": {"spec": {
            "containers": [{"name": "velero", "image": "orlop:1"}],
        }}},
    }));
    let config = json!({"server": "10.0.0.1", "path": "/exports"});
    world.api.put(object("BackupStorageLocation", "nfs", &json!({
        "spec": {"provider": "replicated.com/nfs", "config": config, "objectStorage": {"bucket": "b"}},
    })));
    world.start();
    let deployment = eventually("a mount", || {
        let deployment = world.api.get("deployments.apps", SPACE, "velero")?;
        deployment["spec"]["template"]["spec"]["volumes"][0]["nfs"]
            .is_object()
            .then_some(deployment)
    });
    let main = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(main["volumeMounts"][0]["mountPath"], "/stores/nfs");
    assert!(world.fake().with(|state| state.locations.is_empty()));
    world
        .api
        .edit("deployments.apps", SPACE, "velero", |deployment| {
            let generation = deployment["metadata"]["generation"].clone();
            deployment["status"] =
                json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1});
        });
    world.phase("backupstoragelocations.velero.io", "nfs", "Available");
    let url = world
        .fake()
        .with(|state| state.locations["nfs"].0.url.clone());
    assert_eq!(url, "/stores/nfs");
    world
        .api
        .remove("backupstoragelocations.velero.io", SPACE, "nfs");
    eventually("it is forgotten", || {
        world
            .fake()
            .with(|state| state.locations.is_empty())
            .then_some(())
    });
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_repository_is_never_made_with_the_password_that_everybody_knows() {
    let mut world = World::new().await;
    world.api.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "velero-repo-credentials", "namespace": SPACE},
        "data": {"repository-password": "c3RhdGljLXBhc3N3MHJk"},
    }));
    world.api.put(aws());
    world.start();
    let refused = world.phase("backupstoragelocations.velero.io", "default", "Unavailable");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("kubectl -n velero delete secret"),
        "{message}"
    );
    assert!(world.fake().with(|state| state.stores.is_empty()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beside_a_real_velero_it_does_not_start() {
    let mut world = World::new().await;
    world.api.put(json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "node-agent", "namespace": SPACE},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "velero/velero:v1.16.2"}]}}},
    }));
    world.start();
    let error = world
        .controller
        .take()
        .unwrap()
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("DaemonSet node-agent") && error.contains("kubectl -n velero delete"),
        "{error}"
    );
}
