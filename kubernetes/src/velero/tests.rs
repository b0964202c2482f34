//! What clients write is read, and what we write is what they read.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{pod_volume::UploaderType, request::DownloadRequestSpec, *};

fn backup(spec: &Value) -> Backup {
    serde_json::from_value(json!({
        "apiVersion": "velero.io/v1",
        "kind": "Backup",
        "metadata": {"name": "b", "namespace": "velero"},
        "spec": spec,
    }))
    .unwrap()
}

#[test]
fn null_is_the_same_as_absent() {
    let read = backup(&json!({
        "includedNamespaces": null, "ttl": null, "labelSelector": null, "hooks": {"resources": null},
        "orderedResources": null, "storageLocation": null, "metadata": null,
    }));
    assert_eq!(read.spec, BackupSpec::default());
    let read: Backup = serde_json::from_value(json!({"metadata": null, "status": null})).unwrap();
    assert_eq!(read, Backup::default());
}

#[test]
fn fields_and_words_of_later_versions_do_no_harm() {
    let mut read = backup(&json!({"moonPhase": {"full": true}, "ttl": "24h0m0s"}));
    assert_eq!(read.spec.ttl, GoDuration::from_secs(86_400));
    read.status = serde_json::from_value(json!({"phase": "Dreaming"})).unwrap();
    assert_eq!(read.status.phase, BackupPhase::Other("Dreaming".to_owned()));
    assert!(!read.status.phase.is_final());
    assert_eq!(json!(read.status), json!({"phase": "Dreaming"}));
}

#[test]
fn another_kind_is_not_taken_for_this_one() {
    let error = serde_json::from_value::<Backup>(json!({"kind": "Restore"})).unwrap_err();
    assert!(error.to_string().contains("Restore, not a Backup"));
}

#[test]
fn what_is_empty_is_not_written_unless_the_schema_wants_it() {
    assert_eq!(
        json!(Backup::default()),
        json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {}})
    );
    let volume = PodVolumeBackup::default();
    assert_eq!(
        json!(volume.spec),
        json!({"node": "", "pod": {}, "volume": "", "backupStorageLocation": "", "repoIdentifier": ""})
    );
    assert_eq!(volume.spec.uploader_type, UploaderType::Unset);
    assert_eq!(
        json!(BackupSpec {
            snapshot_volumes: Some(false),
            ..BackupSpec::default()
        }),
        json!({"snapshotVolumes": false})
    );
}

#[test]
fn a_whole_backup_comes_back_as_it_was() {
    let object = json!({
        "apiVersion": "velero.io/v1",
        "kind": "Backup",
        "metadata": {"name": "b", "namespace": "velero", "labels": {"velero.io/storage-location": "default"}},
        "spec": {
            "includedNamespaces": ["shop"],
            "labelSelector": {"matchLabels": {"kots.io/app-slug": "shop"}},
            "hooks": {"resources": [{
                "name": "freeze",
                "pre": [{"exec": {"command": ["/bin/sync"], "onError": "Fail", "timeout": "3m0s"}}],
            }]},
            "ttl": "720h0m0s",
            "includeClusterResources": true,
            "defaultVolumesToFsBackup": false,
            "orderedResources": {"pods": "shop/a,shop/b"},
            "uploaderConfig": {"parallelFilesUpload": 4},
        },
        "status": {
            "version": 1,
            "formatVersion": "1.1.0",
            "phase": "PartiallyFailed",
            "expiration": "2026-02-01T03:04:05Z",
            "startTimestamp": "2026-01-02T03:04:05Z",
            "errors": 2,
            "progress": {"totalItems": 10, "itemsBackedUp": 10},
            "hookStatus": {"hooksAttempted": 1, "hooksFailed": 1},
        },
    });
    let read: Backup = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(
        read.spec.hooks.resources[0].pre[0].exec.on_error,
        HookErrorMode::Fail
    );
    assert_eq!(json!(read), object);
}

#[test]
fn times_are_written_as_whole_seconds_of_utc() {
    let text = "2026-01-02T05:04:05.678+02:00";
    let status: BackupStatus = serde_json::from_value(json!({"startTimestamp": text})).unwrap();
    assert_eq!(status.start_timestamp, Some(Time(text.parse().unwrap())));
    assert_eq!(
        json!(status),
        json!({"startTimestamp": "2026-01-02T03:04:05Z"})
    );
}

#[test]
fn a_duration_that_is_none_is_an_error_that_names_it() {
    let spec = serde_json::from_value::<BackupSpec>(json!({"ttl": "30 days"}));
    assert!(spec.unwrap_err().to_string().contains("30 days"));
}

#[test]
fn a_location_that_never_syncs_is_not_one_with_the_default() {
    let spec =
        json!({"provider": "aws", "objectStorage": {"bucket": "b"}, "backupSyncPeriod": "0s"});
    let read: location::BackupStorageLocationSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(read.backup_sync_period, Some(GoDuration::default()));
    assert_eq!(json!(read), spec);
}

#[test]
fn the_kinds_of_downloads_are_spelled_as_clients_spell_them() {
    let spec = json!({"target": {"kind": "CSIBackupVolumeSnapshots", "name": "b"}});
    let read: DownloadRequestSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(
        read.target.kind,
        DownloadTargetKind::CsiBackupVolumeSnapshots
    );
    assert_eq!(json!(read), spec);
}

#[test]
fn the_api_finds_each_kind_where_velero_has_it() {
    assert_eq!(
        Backup::url_path(&(), Some("velero")),
        "/apis/velero.io/v1/namespaces/velero/backups"
    );
    assert_eq!(
        DataUpload::url_path(&(), Some("velero")),
        "/apis/velero.io/v2alpha1/namespaces/velero/datauploads"
    );
}

/// What `kube::Api` and its watchers want of a kind.
fn usable<K>() -> String
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let list = json!({
        "apiVersion": K::api_version(&()), "kind": format!("{}List", K::kind(&())),
        "metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "x"}, "spec": null}],
    });
    let list: kube::core::ObjectList<K> = serde_json::from_value(list).unwrap();
    list.items[0].meta().name.clone().unwrap()
}

#[test]
fn every_kind_can_be_listed() {
    let names = [
        usable::<Backup>(),
        usable::<BackupRepository>(),
        usable::<BackupStorageLocation>(),
        usable::<DataDownload>(),
        usable::<DataUpload>(),
        usable::<DeleteBackupRequest>(),
        usable::<DownloadRequest>(),
        usable::<PodVolumeBackup>(),
        usable::<PodVolumeRestore>(),
        usable::<Restore>(),
        usable::<Schedule>(),
        usable::<ServerStatusRequest>(),
        usable::<VolumeSnapshotLocation>(),
    ];
    assert!(names.iter().all(|name| name == "x"));
}
