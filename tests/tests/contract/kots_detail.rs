//! The page of one backup: its volumes while it runs and afterwards, its errors, and the scripts.

use std::time::Duration;

use serde_json::json;

use super::{
    client::{Client, VELERO, phase},
    kots,
    kots_actions::{ENDED, completed, remove, start},
    rows::{Place, Row, Who},
    world::{LARGE, SMALL, World},
};

/// How often the page asks.
const POLL: Duration = Duration::from_millis(50);
const VOLUMES: &str = "GET /apis/velero.io/v1/namespaces/velero/podvolumebackups?labelSelector=velero.io%2Fbackup-name%3D*";
const DOWNLOAD: &str =
    "POST /apis/velero.io/v1/namespaces/velero/downloadrequests application/json";

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.12.5 volumes",
        who: Who::Kots,
        requests: &[VOLUMES],
        change: "each volume names its pod, has its size, 100 percent and both times, an empty one too",
        source: "pkg/kotsadmsnapshot/backup.go listBackupVolumes",
        place: Place::Anywhere,
        run: |world, client| Box::pin(volumes(world, client)),
    },
    Row {
        id: "2.12.5 running",
        who: Who::Kots,
        requests: &[VOLUMES, VOLUMES],
        change: "a volume that is being read has progress, a time that remains which is a number, and never too much",
        source: "pkg/kotsadmsnapshot/backup.go listBackupVolumes",
        place: Place::Anywhere,
        run: |world, client| Box::pin(running(world, client)),
    },
    Row {
        id: "2.12.5 log",
        who: Who::Kots,
        requests: &[
            DOWNLOAD,
            "GET /apis/velero.io/v1/namespaces/velero/downloadrequests/*",
        ],
        change: "errors and warnings on the page are as many as the backup counts",
        source: "pkg/kotsadmsnapshot/backup.go getBackupDetailForBackup, download.go, logparser.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(problems(world, client)),
    },
    Row {
        id: "2.12.5 scripts",
        who: Who::Kots,
        requests: &[DOWNLOAD],
        change: "each hook has its pod, container, command, output and times, one of two pods in each, and its error if it failed",
        source: "pkg/kotsadmsnapshot/logparser.go",
        place: Place::Anywhere,
        run: |world, client| Box::pin(scripts(world, client)),
    },
];

async fn volumes(world: &World, client: &Client) {
    let app = world
        .application(
            "sized",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    app.exec("mkdir -p /data/keep && rm /data/random.* && echo 911 > /data/keep/file")
        .await;
    let backup = start(client, &app, &json!({})).await;
    let done = completed(client, &backup).await;
    assert_eq!(done["spec"]["includedNamespaces"], json!([app.namespace]));
    let found = kots::backup_volumes(client, &backup).await;
    let [volume] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(volume.name.starts_with(&backup));
    assert_eq!(
        (
            &*volume.pod,
            &*volume.namespace,
            &*volume.of_pod,
            &*volume.phase
        ),
        ("db-0", &*app.namespace, "data", "Completed")
    );
    assert_eq!((volume.total, volume.done, volume.percent), (4, 4, 100));
    assert!(volume.finished.is_some());
    remove(client, &backup).await;
    app.exec("rm -r /data/keep").await;
    let backup = start(client, &app, &json!({})).await;
    completed(client, &backup).await;
    let found = kots::backup_volumes(client, &backup).await;
    let [empty] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (&*empty.phase, empty.total, empty.done),
        ("Completed", 0, 0)
    );
    assert!(
        empty.started.is_some() && empty.finished.is_some(),
        "{empty:?}"
    );
    remove(client, &backup).await;
    app.remove().await;
}

async fn running(world: &World, client: &Client) {
    let app = world
        .application(
            "large",
            LARGE,
            &json!({"backup.velero.io/backup-volumes": "data"}),
        )
        .await;
    let mut uploads = Some(world.hold_uploads());
    let backup = start(client, &app, &json!({})).await;
    let path = format!("{VELERO}/backups/{backup}");
    let mut last = 0;
    loop {
        let state = client.get(&path).await;
        // Each look checks what is shown.
        let found = kots::backup_volumes(client, &backup).await;
        if ENDED.contains(&phase(&state)) {
            break;
        }
        assert_ne!(kots::state(&state), "Failed", "{state}");
        for volume in &found {
            assert!(volume.done >= last, "it goes back from {last}: {volume:?}");
            last = volume.done;
            if volume.phase == "InProgress" && volume.total > 0 && volume.done < volume.total {
                assert_eq!(volume.percent, 0);
                assert!(
                    volume.done > 0 && volume.remaining_seconds.is_some(),
                    "{volume:?}"
                );
                uploads = None;
            }
        }
        tokio::time::sleep(POLL).await;
    }
    // A real store may have been faster than any look.
    assert!(uploads.is_none() || world.memory().is_none());
    let done = completed(client, &backup).await;
    let found = kots::backup_volumes(client, &backup).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].done, found[0].percent), (LARGE as i64, 100));
    // A page that is opened in the same second shows no volume that is not there yet.
    assert!(kots::time(&done, "completionTimestamp") >= found[0].finished);
    remove(client, &backup).await;
    app.remove().await;
}

async fn problems(world: &World, client: &Client) {
    let app = world
        .application(
            "typo",
            SMALL,
            &json!({"backup.velero.io/backup-volumes": "data,nothere"}),
        )
        .await;
    let backup = start(client, &app, &json!({})).await;
    let done = completed(client, &backup).await;
    let page = kots::page(client, &backup).await;
    let count = |field: &str| done["status"][field].as_u64().unwrap_or(0) as usize;
    assert_eq!(
        (page.errors.len(), page.warnings.len()),
        (count("errors"), count("warnings"))
    );
    let [(title, message)] = &page.warnings[..] else {
        panic!("{page:?}");
    };
    assert!(
        format!("{title} {message}").contains("nothere"),
        "{title}: {message}"
    );
    remove(client, &backup).await;
    app.remove().await;
}

async fn scripts(world: &World, client: &Client) {
    let hooks = |command: &str| {
        json!({
            "backup.velero.io/backup-volumes": "data",
            "pre.hook.backup.velero.io/command": json!(["sh", "-c", command]).to_string(),
            "pre.hook.backup.velero.io/container": "main",
            "pre.hook.backup.velero.io/timeout": "3m",
            "post.hook.backup.velero.io/command": "[\"sh\",\"-c\",\"echo thawed\"]",
        })
    };
    let app = world
        .application(
            "hooked",
            SMALL,
            &hooks("echo \"one = 1\"; echo 'it \"said\" so' >&2"),
        )
        .await;
    app.pod("db-1", SMALL, &hooks("echo two; exit 3")).await;
    let backup = start(client, &app, &json!({})).await;
    let ended = client
        .phase(&format!("{VELERO}/backups/{backup}"), &ENDED)
        .await;
    // Without on-error a failed hook is an error, and its pod is backed up all the same.
    assert_eq!(phase(&ended), "PartiallyFailed", "{ended}");
    assert_eq!(
        ended["status"]["hookStatus"],
        json!({"hooksAttempted": 4, "hooksFailed": 1})
    );
    let page = kots::page(client, &backup).await;
    let of = |pod: &str, phase: &str| {
        let mut found = page
            .scripts
            .iter()
            .filter(|one| one.pod == pod && one.phase == phase);
        let first = found
            .next()
            .unwrap_or_else(|| panic!("{pod} {phase}: {page:#?}"));
        assert_eq!(found.next(), None);
        first
    };
    for pod in ["db-0", "db-1"] {
        let post = of(pod, "post");
        assert_eq!(
            (&*post.stdout, &*post.command),
            ("thawed\n", "[sh -c echo thawed]")
        );
        for script in [of(pod, "pre"), post] {
            assert_eq!(
                (&*script.name, &*script.namespace, &*script.container),
                ("<from-annotation>", &*app.namespace, "main")
            );
            assert!(script.started <= script.finished, "{script:?}");
        }
    }
    let good = of("db-0", "pre");
    assert_eq!(
        (&*good.stdout, &*good.stderr),
        ("one = 1\n", "it \"said\" so\n")
    );
    assert_eq!(good.errors, []);
    let bad = of("db-1", "pre");
    assert_eq!(bad.stdout, "two\n");
    assert_eq!(
        bad.errors,
        [(
            "Error executing hook".to_owned(),
            "command terminated with exit code 3".to_owned()
        )]
    );
    assert_eq!(page.errors, bad.errors);
    let volumes = kots::backup_volumes(client, &backup).await;
    assert!(volumes.iter().all(|one| one.phase == "Completed") && volumes.len() == 2);
    remove(client, &backup).await;
    app.remove().await;
}
