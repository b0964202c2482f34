//! Restores.

use orlop_proto::v1::{self, RunPhase, TaskPhase};
use orlop_tests::{eventually, kube_api::KubeFault};
use serde_json::{Value, json};

use crate::world::{SPACE, World, object, task};

const RESTORES: &str = "restores.velero.io";
const VOLUMES: &str = "podvolumerestores.velero.io";
const FINALIZER: &str = "restores.velero.io/external-resources-finalizer";

/// A backup as it is when it has ended.
fn stored(world: &World, name: &str, phase: &str) {
    let mut backup = object(
        "Backup",
        name,
        &json!({
            "spec": {"storageLocation": "default"},
            "status": {"phase": phase, "startTimestamp": "2026-01-02T03:04:05Z"},
        }),
    );
    backup["metadata"]["labels"] = json!({"velero.io/schedule-name": "nightly"});
    // The store has it, so that it is not taken for a lost one.
    world.fake().with(|state| {
        let kind = i32::from(v1::ArtifactKind::BackupMetadata);
        let key = (kind, name.to_owned(), "default".to_owned());
        state.artifacts.insert(key, Vec::new());
    });
    world.api.put(backup);
}

fn restore(world: &World, name: &str, spec: &Value) {
    world
        .api
        .put(object("Restore", name, &json!({"spec": spec})));
}

/// As `kubectl delete` does: it goes with its last finalizer.
fn delete(world: &World, name: &str) {
    let restore = world.get(RESTORES, name).unwrap();
    if restore["metadata"]["finalizers"]
        .as_array()
        .is_none_or(Vec::is_empty)
    {
        world.api.remove(RESTORES, SPACE, name);
        return;
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    world.api.edit(RESTORES, SPACE, name, |restore| {
        restore["metadata"]["deletionTimestamp"] = json!(now.to_string());
    });
}

fn restored(phase: TaskPhase) -> v1::Task {
    v1::Task {
        snapshot_id: "s-1".to_owned(),
        source: Some(v1::VolumeRef {
            namespace: "shop-before".to_owned(),
            ..task(phase).volume.unwrap()
        }),
        ..task(phase)
    }
}

fn volumes(world: &World) -> Vec<Value> {
    world.api.list(VOLUMES, SPACE)
}

/// Waits until a restore has begun and one volume of it is being restored.
fn running(world: &World, name: &str) -> Value {
    world.phase(RESTORES, name, "InProgress");
    world.fake().restore(name, |run| {
        run.set_phase(RunPhase::Running);
        run.tasks = vec![restored(TaskPhase::Running)];
        run.objects = Some(v1::ObjectCounts { total: 7, done: 3 });
    });
    eventually("a volume that is being restored", || {
        let found = volumes(world).pop()?;
        (found["status"]["phase"] == "InProgress").then_some(found)
    })
}

pub(crate) fn a_restore_with_a_volume(world: &World) {
    stored(world, "b", "Completed");
    restore(world, "r", &json!({"backupName": "b", "restorePVs": true}));
    let volume = running(world, "r");
    assert_eq!(volume["metadata"]["labels"]["velero.io/restore-name"], "r");
    assert_eq!(
        volume["metadata"]["annotations"]["orlop.io/engine"],
        "orlop"
    );
    assert_eq!(volume["spec"]["sourceNamespace"], "shop-before");
    assert_eq!(volume["spec"]["snapshotID"], "s-1");
    let begun = eventually("its progress", || {
        let begun = world.get(RESTORES, "r")?;
        (begun["status"]["progress"] == json!({"totalItems": 7, "itemsRestored": 3}))
            .then_some(begun)
    });
    assert!(begun["status"]["startTimestamp"].is_string());
    assert_eq!(begun["metadata"]["finalizers"], json!([FINALIZER]));
    let owner = &volume["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], begun["metadata"]["uid"]);
    assert_eq!(
        (&owner["kind"], &owner["controller"]),
        (&json!("Restore"), &json!(true))
    );
    world.fake().restore("r", |run| {
        run.set_phase(RunPhase::Finalizing);
        run.errors = 1;
        run.tasks = vec![restored(TaskPhase::Completed)];
    });
    world.phase(RESTORES, "r", "FinalizingPartiallyFailed");
    world.fake().restore("r", |run| {
        run.set_phase(RunPhase::Completed);
        run.errors = 0;
        run.completed_ms = jiff::Timestamp::now().as_millisecond();
    });
    let done = world.phase(RESTORES, "r", "Completed");
    assert!(done["status"]["completionTimestamp"].is_string());
    let [volume] = &volumes(world)[..] else {
        panic!("one task, one object: {:?}", volumes(world));
    };
    assert_eq!(volume["status"]["phase"], "Completed");
    assert_eq!(
        volume["status"]["progress"],
        json!({"totalBytes": 911, "bytesDone": 911})
    );
    assert_eq!(world.fake().with(|state| state.restore_requests.len()), 1);
}

pub(crate) fn a_restore_that_is_stopped_and_deleted(world: &World) {
    stored(world, "b", "Completed");
    restore(world, "r", &json!({"backupName": "b"}));
    running(world, "r");
    world.api.edit(RESTORES, SPACE, "r", |restore| {
        restore["metadata"]["annotations"]["orlop.io/cancel"] = json!("true");
    });
    let stopped = world.phase(RESTORES, "r", "Failed");
    assert_eq!(stopped["status"]["failureReason"], "canceled");
    delete(world, "r");
    world.gone(RESTORES, "r");
    eventually("its volumes are gone", || {
        volumes(world).is_empty().then_some(())
    });
    assert!(world.fake().with(|state| state.restores.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_is_made_and_its_volumes_are_there_when_it_ends() {
    let mut world = World::started().await;
    world.api.take_requests();
    a_restore_with_a_volume(&world);
    let sent = world.fake().with(|state| state.restore_requests[0].clone());
    assert_eq!(
        (sent.from_backup.as_str(), sent.location.as_str()),
        ("b", "default")
    );
    let object: Value = serde_json::from_slice(&sent.velero_object).unwrap();
    assert_eq!(object["spec"]["itemOperationTimeout"], "4h0m0s");
    assert_eq!(object["spec"]["scheduleName"], "nightly");
    let excluded = object["spec"]["excludedResources"].as_array().unwrap();
    assert_eq!((excluded.len(), &excluded[0]), (9, &json!("nodes")));
    let patches: Vec<String> = world
        .api
        .take_requests()
        .into_iter()
        .filter(|request| request.method == "PATCH" && request.path.contains("restores/"))
        .map(|request| request.path.rsplit('/').nth(1).unwrap().to_owned())
        .collect();
    // What KOTS counts is there when the restore ends.
    let last_volume = patches
        .iter()
        .rposition(|one| one == "podvolumerestores")
        .unwrap();
    assert!(last_volume < patches.len() - 1, "{patches:?}");
    for kind in [
        "RestoreLog",
        "RestoreResults",
        "RestoreResourceList",
        "RestoreItemOperations",
        "RestoreVolumeInfo",
    ] {
        let name = kind.to_ascii_lowercase();
        let target = json!({"kind": kind, "name": "r"});
        world.api.put(crate::world::object(
            "DownloadRequest",
            &name,
            &json!({"spec": {"target": target}}),
        ));
        let answer = world.phase("downloadrequests.velero.io", &name, "Processed");
        let url = answer["status"]["downloadURL"].as_str().unwrap();
        assert!(
            url.starts_with("https://x/default/r/ARTIFACT_KIND_RESTORE_"),
            "{url}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_that_cannot_be_is_refused_with_the_reasons() {
    let mut world = World::started().await;
    stored(&world, "b", "Completed");
    stored(&world, "failed", "Failed");
    stored(&world, "unreadable", "PartiallyFailed");
    let init = json!({"init": {"initContainers": [{"name": "x", "image": "i"}]}});
    let hooks = json!({"resources": [{"name": "h", "postHooks": [init]}]});
    let cases = [
        (json!({}), "set backupName, or scheduleName"),
        (
            json!({"backupName": "b", "scheduleName": "nightly"}),
            "exclude each other",
        ),
        (
            json!({"backupName": "nowhere"}),
            "there is no backup nowhere",
        ),
        (
            json!({"backupName": "../../../../api/v1/secrets"}),
            "there is no backup ../",
        ),
        (
            json!({"scheduleName": "hourly"}),
            "schedule hourly has no completed backup",
        ),
        (
            json!({"scheduleName": "not a name"}),
            "schedule not a name has no completed backup",
        ),
        (json!({"backupName": "failed"}), "backup failed is Failed"),
        (
            json!({"backupName": "b", "includedResources": ["*", "pods"]}),
            "stands for all",
        ),
        (
            json!({"backupName": "b", "labelSelector": {}, "orLabelSelectors": [{}]}),
            "cannot be used together",
        ),
        (json!({"backupName": "b", "hooks": hooks}), "lacks command"),
        (
            json!({"backupName": "b", "existingResourcePolicy": "recreate"}),
            "write none or update",
        ),
        (
            json!({"backupName": "b", "resourceModifier": {"kind": "configmap", "name": "m"}}),
            "not supported yet",
        ),
        // The coordinator has the last word.
        (
            json!({"backupName": "unreadable"}),
            "snapshot s-1 of backup unreadable is not there",
        ),
    ];
    for (number, (spec, want)) in cases.iter().enumerate() {
        let name = format!("wrong-{number}");
        restore(&world, &name, spec);
        let wrong = world.phase(RESTORES, &name, "FailedValidation");
        let errors = wrong["status"]["validationErrors"].to_string();
        assert!(errors.contains(want), "{spec}: {errors}");
        // Nothing keeps it from being deleted.
        assert!(
            wrong["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty)
        );
    }
    assert!(world.fake().with(|state| state.restores.is_empty()));
    restore(&world, "from-schedule", &json!({"scheduleName": "nightly"}));
    let begun = world.phase(RESTORES, "from-schedule", "InProgress");
    assert_eq!(begun["spec"]["backupName"], "b");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_goes_on_after_restarts_failures_and_a_coordinator_that_forgets() {
    let mut world = World::started().await;
    stored(&world, "b", "Completed");
    world.api.faults().next(
        3,
        |request| request.method == "PATCH",
        KubeFault::Answer(500),
    );
    restore(&world, "r", &json!({"backupName": "b"}));
    let first = running(&world, "r");
    world.stop().await;
    // It has lost its state, and with that the task.
    let sent = world.fake().with(|state| {
        state.restores.clear();
        std::mem::take(&mut state.restore_requests)
    });
    world.start();
    eventually("the same request again", || {
        let again = world.fake().with(|state| state.restore_requests.clone());
        (again == sent).then_some(())
    });
    world.fake().restore("r", |run| {
        run.set_phase(RunPhase::Running);
        run.tasks = vec![v1::Task {
            task_id: "02TASK".to_owned(),
            ..restored(TaskPhase::Running)
        }];
    });
    eventually("the volume's new object alone", || {
        let names: Vec<Value> = volumes(&world)
            .iter()
            .map(|one| one["metadata"]["name"].clone())
            .collect();
        (names == ["r-02task"]).then_some(())
    });
    assert_eq!(first["metadata"]["name"], "r-01task");
    world.fake().restore("r", |run| {
        run.set_phase(RunPhase::PartiallyFailed);
        run.errors = 2;
        run.warnings = 1;
        run.tasks[0].set_phase(TaskPhase::Failed);
        run.tasks[0].message = "the disk is full".to_owned();
    });
    let ended = world.phase(RESTORES, "r", "PartiallyFailed");
    assert_eq!(
        (&ended["status"]["errors"], &ended["status"]["warnings"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(volumes(&world)[0]["status"]["message"], "the disk is full");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_that_is_deleted_while_it_runs_is_gone_everywhere() {
    let mut world = World::started().await;
    stored(&world, "b", "Completed");
    restore(&world, "r", &json!({"backupName": "b"}));
    running(&world, "r");
    delete(&world, "r");
    world.gone(RESTORES, "r");
    assert!(world.fake().with(|state| state.restores.is_empty()));
    eventually("its volumes are gone", || {
        volumes(&world).is_empty().then_some(())
    });
    // KOTS uses the name again at once.
    restore(&world, "r", &json!({"backupName": "b"}));
    world.phase(RESTORES, "r", "InProgress");
    assert_eq!(world.fake().with(|state| state.restore_requests.len()), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_whose_location_is_gone_can_be_deleted() {
    let mut world = World::started().await;
    stored(&world, "b", "Completed");
    restore(&world, "r", &json!({"backupName": "b"}));
    running(&world, "r");
    world
        .fake()
        .with(|state| state.stuck_restores = Some("no such location".to_owned()));
    delete(&world, "r");
    // As long as there is hope that its files can be removed, it stays.
    eventually("the coordinator is asked", || {
        let phase = world.fake().with(|state| state.restores["r"].phase());
        (phase == RunPhase::Deleting).then_some(())
    });
    assert!(world.get(RESTORES, "r").is_some());
    world
        .api
        .remove("backupstoragelocations.velero.io", SPACE, "default");
    world.gone(RESTORES, "r");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_stops_when_somebody_says_so() {
    let mut world = World::started().await;
    a_restore_that_is_stopped_and_deleted(&world);
    // As Velero is told: by all its volumes.
    restore(&world, "s", &json!({"backupName": "b"}));
    let volume = running(&world, "s");
    let name = volume["metadata"]["name"].as_str().unwrap();
    world.api.edit(VOLUMES, SPACE, name, |volume| {
        volume["spec"]["cancel"] = json!(true);
    });
    let stopped = world.phase(RESTORES, "s", "Failed");
    assert_eq!(stopped["status"]["failureReason"], "canceled");
    // One that has not begun never does.
    let mut early = object("Restore", "early", &json!({"spec": {"backupName": "b"}}));
    early["metadata"]["annotations"] = json!({"orlop.io/cancel": "true"});
    world.api.put(early);
    world.phase(RESTORES, "early", "Failed");
    assert!(
        world
            .fake()
            .with(|state| !state.restores.contains_key("early"))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_restores_that_are_new_are_begun_and_none_of_another_is_taken() {
    let mut world = World::started().await;
    stored(&world, "b", "Completed");
    world.api.put(object(
        "Restore",
        "copied",
        &json!({"spec": {"backupName": "b"}, "status": {"phase": "Completed"}}),
    ));
    // Somebody has made one by the coordinator's own command.
    world.fake().with(|state| {
        let own = v1::Restore {
            name: "own".to_owned(),
            phase: RunPhase::Completed.into(),
            ..v1::Restore::default()
        };
        state.restores.insert("own".to_owned(), own);
    });
    restore(&world, "own", &json!({"backupName": "b"}));
    let refused = world.phase(RESTORES, "own", "Failed");
    let why = refused["status"]["failureReason"].as_str().unwrap();
    assert!(why.contains("orlop restore delete own"), "{why}");
    delete(&world, "own");
    world.gone(RESTORES, "own");
    // One that is deleted by the coordinator's own command does not begin again.
    restore(&world, "r", &json!({"backupName": "b"}));
    running(&world, "r");
    world
        .fake()
        .restore("r", |run| run.set_phase(RunPhase::Deleting));
    let ended = world.phase(RESTORES, "r", "Failed");
    assert!(
        ended["status"]["failureReason"]
            .as_str()
            .unwrap()
            .contains("has deleted it")
    );
    assert!(world.fake().with(|state| {
        state.restores.contains_key("own") && !state.restores.contains_key("copied")
    }));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_takes_its_restores_with_it_once_they_have_ended() {
    let mut world = World::started().await;
    for name in ["b", "other"] {
        stored(&world, name, "Completed");
    }
    for (name, of) in [("r", "b"), ("unrelated", "other")] {
        restore(&world, name, &json!({"backupName": of}));
        world.phase(RESTORES, name, "InProgress");
    }
    let request = object(
        "DeleteBackupRequest",
        "b",
        &json!({"spec": {"backupName": "b"}}),
    );
    world.api.put(request.clone());
    let refused = world.phase("deletebackuprequests.velero.io", "b", "Processed");
    let why = refused["status"]["errors"][0].as_str().unwrap();
    assert!(why.starts_with("restore r needs backup b"), "{why}");
    world.gone("deletebackuprequests.velero.io", "b");
    for name in ["r", "unrelated"] {
        world
            .fake()
            .restore(name, |run| run.set_phase(RunPhase::Completed));
        world.phase(RESTORES, name, "Completed");
    }
    world.api.put(request);
    world.gone("backups.velero.io", "b");
    assert!(world.get(RESTORES, "r").is_none());
    assert!(world.get(RESTORES, "unrelated").is_some());
    let left: Vec<String> = world
        .fake()
        .with(|state| state.restores.keys().cloned().collect());
    assert_eq!(left, ["unrelated"]);
    world.stop().await;
}
