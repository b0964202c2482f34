//! The files of a backup, one by one.

use orlop_core::{
    Progress, SnapshotId, TaskId, VolumeRef,
    run::{Objects, Place, RunKind, RunPhase, Task},
};
use serde_json::{Value, json};

use super::*;
use crate::files::{Level, SpoolWriter, SpooledItem, Tarball, TarballLimits, gunzip};

fn task(id: u8, pod: &str, phase: TaskPhase, bytes: u64) -> Task {
    Task {
        id: TaskId::from_bytes([id; 16]),
        volume: VolumeRef::new("shop", pod, "data"),
        lineage: None,
        node: "node-1".to_owned(),
        phase,
        attempts: 1,
        snapshot: Some(SnapshotId::from_bytes([id; 16])),
        progress: Progress {
            bytes_done: bytes,
            bytes_total: bytes,
            transferred_bytes: bytes / 2,
            ..Progress::default()
        },
        started_ms: Some(1_000_500),
        completed_ms: Some(1_002_900),
        message: String::new(),
        warnings: 0,
        errors: 0,
        touched: false,
        place: Some(Place {
            pod_uid: format!("uid-{pod}"),
            claim: "claim".to_owned(),
            claim_uid: "claim-uid".to_owned(),
            persistent_volume: "pv".to_owned(),
            ..Place::default()
        }),
        source: None,
        snapshot_bytes: 0,
        awaited: false,
        not_before_ms: None,
    }
}

fn run() -> Run {
    let mut run = Run::new(RunKind::Backup, "b", "default", 1_000_000);
    run.phase = RunPhase::PartiallyFailed;
    run.completed_ms = Some(1_003_000);
    run.objects = Some(Objects { total: 3, done: 3 });
    run.tasks = vec![
        task(1, "db-0", TaskPhase::Completed, 911),
        task(2, "db-1", TaskPhase::Failed, 0),
    ];
    run
}

fn backup() -> Backup {
    serde_json::from_value(json!({
        "apiVersion": "velero.io/v1", "kind": "Backup",
        "metadata": {"name": "b", "namespace": "velero", "uid": "u", "annotations": {"kots.io/app-id": "7"}},
        "spec": {"includedNamespaces": ["shop"]},
    }))
    .unwrap()
}

fn files() -> Vec<RecordFile> {
    let dir = tempfile::tempdir().unwrap();
    let objects = dir.path().join("objects");
    let mut spool = SpoolWriter::create(&objects).unwrap();
    for (resource, kind, name) in [
        ("pods", "Pod", "db-0"),
        ("pods", "Pod", "db-1"),
        ("secrets", "Secret", "db-1"),
    ] {
        let item = SpooledItem {
            resource: resource.to_owned(),
            version: "v1".to_owned(),
            api_version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
        };
        spool.add(&item, b"{\"x\":1}").unwrap();
    }
    spool.finish().unwrap();
    let time = Timestamp::from_second(1000).unwrap();
    let log = vec![
        Record::new(time, Level::Info, "backup begun").with("backup", "velero/b"),
        Record::new(time, Level::Warning, "left out").with("namespace", "shop"),
        Record::new(time, Level::Error, "failed").with("namespace", "shop"),
    ];
    let (backup, run) = (backup(), run());
    let record = BackupRecord {
        backup: &backup,
        run: &run,
        expires_ms: Some(2_000_000),
        log,
        objects: &objects,
    };
    record.files().unwrap()
}

fn json_of(files: &[RecordFile], wanted: BackupFile) -> Value {
    let found = files.iter().find(|file| file.file == wanted).unwrap();
    let bytes = match wanted {
        BackupFile::Metadata => found.bytes.clone(),
        _ => gunzip(found.bytes.as_slice(), 1 << 20).unwrap(),
    };
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn the_file_by_which_a_backup_exists_comes_last_and_secrets_are_named() {
    let files = files();
    assert_eq!(files.last().unwrap().key, "backups/b/velero-backup.json");
    assert_eq!(files[0].key, "backups/b/b-logs.gz");
    let secret: Vec<&str> = files
        .iter()
        .filter(|file| file.is_secret())
        .map(|file| file.key.as_str())
        .collect();
    assert_eq!(
        secret,
        ["backups/b/b.tar.gz", "backups/b/b-volumeinfo.json.gz"]
    );
}

#[test]
fn the_object_has_what_was_asked_for_and_what_became_of_it() {
    let object = json_of(&files(), BackupFile::Metadata);
    assert_eq!(object["metadata"]["annotations"]["kots.io/app-id"], "7");
    assert_eq!(object["spec"]["includedNamespaces"], json!(["shop"]));
    let status = &object["status"];
    assert_eq!(status["phase"], "PartiallyFailed");
    assert_eq!(status["startTimestamp"], "1970-01-01T00:16:40Z");
    assert_eq!(status["completionTimestamp"], "1970-01-01T00:16:43Z");
    assert_eq!(status["expiration"], "1970-01-01T00:33:20Z");
    assert_eq!(
        (&status["warnings"], &status["errors"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        status["progress"],
        json!({"totalItems": 3, "itemsBackedUp": 3})
    );
    assert_eq!(status["formatVersion"], "1.1.0");
}

#[test]
fn a_pod_without_its_volume_is_not_among_the_objects() {
    let files = files();
    let contents = files
        .iter()
        .find(|f| f.file == BackupFile::Contents)
        .unwrap();
    let mut names = Vec::new();
    let tarball = Tarball::open(contents.bytes.as_slice(), TarballLimits::default());
    let version = tarball
        .read(|item| {
            names.push(item.path.file(&item.layout)?);
            Ok::<(), FileError>(())
        })
        .unwrap();
    assert_eq!(version.trim(), "1.1.0");
    assert_eq!(
        names,
        [
            "resources/pods/namespaces/shop/db-0.json",
            "resources/pods/v1-preferredversion/namespaces/shop/db-0.json",
            "resources/secrets/namespaces/shop/db-1.json",
            "resources/secrets/v1-preferredversion/namespaces/shop/db-1.json",
        ]
    );
    let list = json_of(&files, BackupFile::ResourceList);
    assert_eq!(
        list,
        json!({"v1/Pod": ["shop/db-0"], "v1/Secret": ["shop/db-1"]})
    );
}

#[test]
fn volumes_are_shown_with_their_bytes_and_times() {
    let files = files();
    let volumes = json_of(&files, BackupFile::PodVolumeBackups);
    let first = &volumes[0];
    assert_eq!(
        first["status"]["progress"],
        json!({"totalBytes": 911, "bytesDone": 911})
    );
    assert_eq!(first["status"]["phase"], "Completed");
    assert_eq!(first["spec"]["pod"]["uid"], "uid-db-0");
    assert_eq!(first["metadata"]["labels"]["velero.io/backup-name"], "b");
    assert_eq!(
        first["metadata"]["annotations"]["velero.io/pvc-name"],
        "claim"
    );
    assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], "u");
    assert_eq!(volumes[1]["status"]["phase"], "Failed");
    assert_eq!(volumes[1]["status"].get("progress"), None);
    let infos = json_of(&files, BackupFile::VolumeInfo);
    assert_eq!(infos[0]["pvbInfo"]["size"], 911);
    assert_eq!(infos[0]["pvbInfo"]["incrementalSize"], 455);
    assert_eq!(infos[0]["result"], "succeeded");
    assert_eq!(infos[1]["result"], "failed");
    assert_eq!(infos[0]["pvcNamespace"], "shop");
}

#[test]
fn an_empty_volume_is_complete_with_its_times() {
    let mut run = run();
    run.tasks = vec![task(3, "cache-0", TaskPhase::Completed, 0)];
    let shown = serde_json::to_value(pod_volume_backups(&backup(), &run)).unwrap();
    let status = &shown[0]["status"];
    assert_eq!(status["phase"], "Completed");
    assert_eq!(status["startTimestamp"], "1970-01-01T00:16:40Z");
    assert_eq!(status["completionTimestamp"], "1970-01-01T00:16:42Z");
}

#[test]
fn an_ended_restore_has_its_files_with_what_became_of_each_object() {
    use crate::files::{ResourceList, RestoreFile, RestoreOutcome};
    let mut run = run();
    run.kind = RunKind::Restore;
    run.name = "r".to_owned();
    let mut objects = ResourceList::default();
    for (name, outcome) in [
        ("b", RestoreOutcome::Skipped),
        ("a", RestoreOutcome::Created),
    ] {
        objects.add_restored("v1", "Pod", Some("shop"), name, outcome);
    }
    let time = Timestamp::from_second(1000).unwrap();
    let log = vec![
        Record::new(time, Level::Error, "refused")
            .with("resource", "clusterroles")
            .with("name", "reader"),
        Record::new(time, Level::Warning, "it differs").with("namespace", "shop"),
    ];
    let run = &run;
    let files = RestoreRecord { run, log, objects }.files().unwrap();
    let keys: Vec<&str> = files.iter().map(|file| file.key.as_str()).collect();
    let want = [
        "restores/r/restore-r-logs.gz",
        "restores/r/restore-r-results.gz",
        "restores/r/restore-r-resource-list.json.gz",
        "restores/r/restore-r-itemoperations.json.gz",
        "restores/r/r-volumeinfo.json.gz",
    ];
    assert_eq!(keys, want);
    let json = |wanted: RestoreFile| -> Value {
        let found = files.iter().find(|file| file.file == wanted).unwrap();
        let bytes = gunzip(found.bytes.as_slice(), 1 << 20).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let list = json(RestoreFile::ResourceList);
    assert_eq!(
        list,
        json!({"v1/Pod": ["shop/a(created)", "shop/b(skipped)"]})
    );
    let want = json!({
        "errors": {"cluster": [" resource: /clusterroles name: /reader message: /refused"]},
        "warnings": {"namespaces": {"shop": [" message: /it differs"]}},
    });
    assert_eq!(json(RestoreFile::Results), want);
    let volumes = json(RestoreFile::VolumeInfo);
    assert_eq!(volumes[0]["pvcName"], "claim");
    assert_eq!(volumes[0]["pvcNamespace"], "shop");
    assert_eq!(volumes[0]["restoreMethod"], "PodVolumeRestore");
    assert_eq!(volumes[0]["pvrInfo"]["size"], 911);
    assert_eq!(volumes[0]["pvrInfo"]["Phase"], "Completed");
    assert_eq!(volumes[1]["pvrInfo"]["Phase"], "Failed");
}
