//! An installation that ends as soon as waiting cannot help, and what follows where there are backups.

use std::time::{Duration, Instant};

use orlop_kubernetes::{
    client::Connection,
    install::{
        InstallChoices, InstallError, RecoverError, StoreChoice, ask_restore, install,
        keep_password, last_listed, render, stored_backups, wait_restore,
    },
};
use orlop_tests::kube_api::KubeApi;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::{put_definitions, soon, started, until};

const LOCATIONS: &str = "backupstoragelocations.velero.io";
const LONG: Duration = Duration::from_mins(5);

fn objects() -> Vec<Value> {
    let choices = InstallChoices {
        store: Some(StoreChoice::HostPath {
            path: "/backups".to_owned(),
        }),
        ..InstallChoices::default()
    };
    render(&choices).unwrap()
}

fn say(server: &KubeApi, phase: &str, message: &str, time: &str) {
    server.edit(LOCATIONS, "velero", "default", |location| {
        location["status"] =
            json!({"phase": phase, "message": message, "lastValidationTime": time});
    });
}

fn begin(connection: &Connection) -> tokio::task::JoinHandle<Result<(), InstallError>> {
    let connection = connection.clone();
    tokio::spawn(async move {
        let cancel = CancellationToken::new();
        let done = install(&connection, &objects(), LONG, &|_| (), &cancel).await;
        done.map(drop)
    })
}

async fn applied(server: &KubeApi) {
    until(|| {
        server
            .get("daemonsets.apps", "velero", "node-agent")
            .is_some()
    })
    .await;
}

#[tokio::test]
async fn a_password_that_opens_nothing_ends_an_installation_at_once() {
    let (server, connection) = started();
    let begun = Instant::now();
    let work = begin(&connection);
    applied(&server).await;
    // Nothing is ready yet, and need not be.
    let message =
        "wrong password for the repository at /stores/default: Secret velero-repo-credentials …";
    say(&server, "Unavailable", message, "2026-01-02T03:04:05Z");
    let error = soon(work).await.unwrap().unwrap_err();
    assert!(matches!(error, InstallError::Location { .. }), "{error:?}");
    assert!(
        error.to_string().contains("velero-repo-credentials"),
        "{error}"
    );
    assert!(begun.elapsed() < LONG / 2);

    // The same words from before are no news: the password may be another one by now.
    let work = begin(&connection);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!work.is_finished());
    for (kind, name) in [
        ("deployments.apps", "velero"),
        ("daemonsets.apps", "node-agent"),
    ] {
        server.edit(kind, "velero", name, |object| {
            object["status"] = json!({
                "observedGeneration": object["metadata"]["generation"], "updatedReplicas": 1, "availableReplicas": 1,
                "desiredNumberScheduled": 1, "numberAvailable": 1, "updatedNumberScheduled": 1,
            });
        });
    }
    say(&server, "Available", "", "2026-01-02T03:05:05Z");
    soon(work).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_password_is_kept_once_and_another_one_never_overwritten() {
    let server = KubeApi::new();
    let connection = Connection::to_url(&server.url(), None).unwrap();
    let connection = connection.with_namespace("backups");
    assert!(keep_password(&connection, "first").await.unwrap());
    assert!(!keep_password(&connection, "first").await.unwrap());
    let error = keep_password(&connection, "second").await.unwrap_err();
    assert!(
        matches!(error, RecoverError::OtherPassword { .. }),
        "{error:?}"
    );
    let secret = || {
        server
            .get("secrets", "backups", "velero-repo-credentials")
            .unwrap()
    };
    assert_eq!(secret()["data"]["repository-password"], "Zmlyc3Q=");
    server.edit("secrets", "backups", "velero-repo-credentials", |secret| {
        secret["data"] = json!({"other": "eA=="});
    });
    assert!(keep_password(&connection, "second").await.unwrap());
    assert_eq!(
        secret()["data"],
        json!({"other": "eA==", "repository-password": "c2Vjb25k"})
    );
}

fn put(server: &KubeApi, kind: &str, name: &str, rest: &Value) {
    let mut object = json!({
        "apiVersion": "velero.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "velero"},
    });
    for (key, value) in rest.as_object().unwrap() {
        object[key] = value.clone();
    }
    server.put(object);
}

#[tokio::test]
async fn stored_backups_are_those_of_the_first_list_after_the_installation() {
    let (server, connection) = started();
    let cancel = CancellationToken::new();
    assert_eq!(last_listed(&connection).await.unwrap(), None);
    put_definitions(&server);
    let spec = json!({"provider": "replicated.com/hostpath", "objectStorage": {"bucket": "b"}});
    let old = json!({"lastSyncedTime": "2026-01-01T00:00:00Z"});
    put(
        &server,
        "BackupStorageLocation",
        "default",
        &json!({"spec": spec, "status": old}),
    );
    let before = last_listed(&connection).await.unwrap();
    let short = Duration::from_millis(10);
    let error = stored_backups(&connection, before.as_ref(), short, &cancel).await;
    assert!(matches!(error.unwrap_err(), RecoverError::NotListed { .. }));

    let backup = |name: &str, location: &str, started: &str| {
        let rest = json!({
            "spec": {"storageLocation": location}, "status": {"phase": "Completed", "startTimestamp": started},
        });
        put(&server, "Backup", name, &rest);
    };
    backup("a-new", "default", "2026-01-02T00:00:00Z");
    backup("b-old", "default", "2026-01-01T00:00:00Z");
    backup("elsewhere", "other", "2026-01-01T00:00:00Z");
    server.edit(LOCATIONS, "velero", "default", |location| {
        location["status"]["lastSyncedTime"] = json!("2026-01-03T00:00:00Z");
    });
    let listed = stored_backups(&connection, before.as_ref(), LONG, &cancel).await;
    let names: Vec<String> = listed
        .unwrap()
        .into_iter()
        .filter_map(|one| one.metadata.name)
        .collect();
    assert_eq!(names, ["b-old", "a-new"]);
}

#[tokio::test]
async fn a_restore_is_asked_for_once_and_waited_for() {
    let (server, connection) = started();
    put_definitions(&server);
    ask_restore(&connection, "r", "b").await.unwrap();
    let again = ask_restore(&connection, "r", "b").await.unwrap_err();
    assert!(matches!(again, RecoverError::Exists { .. }), "{again:?}");
    let asked = server.get("restores.velero.io", "velero", "r").unwrap();
    assert_eq!(asked["spec"]["backupName"], "b");
    let phase = |phase: &str| {
        server.edit("restores.velero.io", "velero", "r", |restore| {
            restore["status"] = json!({"phase": phase});
        });
    };
    phase("InProgress");
    let cancel = CancellationToken::new();
    let mut told = 0;
    let mut progress = |_: &_| {
        told += 1;
        phase("PartiallyFailed");
    };
    let ended = soon(wait_restore(&connection, "r", &mut progress, &cancel)).await;
    assert_eq!(ended.unwrap().status.phase.to_string(), "PartiallyFailed");
    assert_eq!(told, 1);
    server.remove("restores.velero.io", "velero", "r");
    let gone = wait_restore(&connection, "r", &mut |_| {}, &cancel).await;
    assert!(matches!(gone.unwrap_err(), RecoverError::Gone { .. }));
}
