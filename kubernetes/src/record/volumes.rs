//! The volumes of a backup, as Velero's objects and lists have them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use orlop_core::run::{Run, Task, TaskPhase};

use super::time;
use crate::{
    files::{
        BackupVolumeInfo, PodVolumeInfo,
        volume_info::{BackupMethod, VolumeResult},
    },
    velero::{
        Backup, PodVolumeBackup, PodVolumePhase,
        labels::{BACKUP_NAME, BACKUP_UID, ENGINE, POD_UID, PVC_NAME, PVC_UID, valid_name},
        pod_volume::{DataProgress, PodVolumeBackupSpec, PodVolumeBackupStatus, UploaderType},
    },
};

/// Annotation of ours: the task that a volume's backup shows.
pub const TASK: &str = "orlop.io/task";

/// The objects of all volumes of a backup.
pub fn pod_volume_backups(backup: &Backup, run: &Run) -> Vec<PodVolumeBackup> {
    let tasks = run.tasks.iter();
    tasks
        .map(|task| pod_volume_backup(backup, run, task))
        .collect()
}

/// The object of one volume of a backup. Its name is made of the backup's and the task's.
pub fn pod_volume_backup(backup: &Backup, run: &Run, task: &Task) -> PodVolumeBackup {
    let place = task.place.clone().unwrap_or_default();
    let uid = backup.metadata.uid.clone().unwrap_or_default();
    let volume = &task.volume;
    let mut tags = BTreeMap::from([
        ("backup".to_owned(), run.name.clone()),
        ("backup-uid".to_owned(), uid.clone()),
        ("pod".to_owned(), volume.pod.clone()),
        ("pod-uid".to_owned(), place.pod_uid.clone()),
        ("ns".to_owned(), volume.namespace.clone()),
        ("volume".to_owned(), volume.volume.clone()),
    ]);
    let mut labels = BTreeMap::from([
        (BACKUP_NAME.to_owned(), valid_name(&run.name)),
        (BACKUP_UID.to_owned(), uid.clone()),
        (POD_UID.to_owned(), place.pod_uid.clone()),
    ]);
    let mut annotations = BTreeMap::from([
        (ENGINE.to_owned(), "orlop".to_owned()),
        (TASK.to_owned(), task.id.to_string()),
    ]);
    if !place.claim.is_empty() {
        tags.insert("pvc-uid".to_owned(), place.claim_uid.clone());
        labels.insert(PVC_UID.to_owned(), place.claim_uid.clone());
        annotations.insert(PVC_NAME.to_owned(), place.claim.clone());
    }
    PodVolumeBackup {
        metadata: ObjectMeta {
            name: Some(object_name(&run.name, task)),
            generate_name: Some(format!("{}-", run.name)),
            namespace: backup.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner(&run.name, &uid)]),
            ..ObjectMeta::default()
        },
        spec: PodVolumeBackupSpec {
            node: task.node.clone(),
            pod: ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: Some(volume.namespace.clone()),
                name: Some(volume.pod.clone()),
                uid: Some(place.pod_uid).filter(|uid| !uid.is_empty()),
                ..ObjectReference::default()
            },
            volume: volume.volume.clone(),
            backup_storage_location: run.location.clone(),
            repo_identifier: String::new(),
            uploader_type: UploaderType::Kopia,
            tags,
            ..PodVolumeBackupSpec::default()
        },
        status: status(task),
    }
}

/// What makes the object of a volume go when its backup goes.
pub fn owner(backup: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "velero.io/v1".to_owned(),
        kind: "Backup".to_owned(),
        name: backup.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

/// At most 253 characters, and the same for a task whenever it is made.
fn object_name(backup: &str, task: &Task) -> String {
    let id = task.id.to_string();
    let room = 253 - 1 - id.len();
    let head = backup.get(..room.min(backup.len())).unwrap_or(backup);
    format!("{}-{id}", head.trim_end_matches(['-', '.']))
}

fn status(task: &Task) -> PodVolumeBackupStatus {
    let bytes = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let progress = task.progress;
    let (done, total) = if task.phase == TaskPhase::Completed {
        (progress.bytes_total, progress.bytes_total)
    } else {
        (
            progress.bytes_done,
            progress.bytes_total.max(progress.bytes_done),
        )
    };
    PodVolumeBackupStatus {
        phase: phase(task.phase),
        snapshot_id: task.snapshot.map(|id| id.to_string()).unwrap_or_default(),
        message: task.message.clone(),
        start_timestamp: task.started_ms.and_then(time),
        completion_timestamp: task.completed_ms.and_then(time),
        // A total without anything done gives clients an endless time to wait.
        progress: if done == 0 {
            DataProgress::default()
        } else {
            DataProgress {
                total_bytes: bytes(total),
                bytes_done: bytes(done),
            }
        },
        incremental_bytes: bytes(progress.transferred_bytes),
        accepted_timestamp: task.started_ms.and_then(time),
        ..PodVolumeBackupStatus::default()
    }
}

fn phase(phase: TaskPhase) -> PodVolumePhase {
    match phase {
        TaskPhase::Queued => PodVolumePhase::New,
        TaskPhase::Running => PodVolumePhase::InProgress,
        TaskPhase::Completed => PodVolumePhase::Completed,
        TaskPhase::Failed => PodVolumePhase::Failed,
        TaskPhase::Canceled => PodVolumePhase::Canceled,
    }
}

/// What is known of each volume of a finished backup.
pub fn volume_infos(run: &Run) -> Vec<BackupVolumeInfo> {
    run.tasks.iter().map(volume_info).collect()
}

/// The namespace of a volume's claim; empty if it has none.
pub(super) fn claim_namespace(task: &Task) -> String {
    let claim = task.place.as_ref().map(|place| &place.claim);
    if claim.is_none_or(String::is_empty) {
        String::new()
    } else {
        task.volume.namespace.clone()
    }
}

/// What is known of a task's pod, volume and snapshot. `size`: its logical bytes.
pub(super) fn pod_volume_info(task: &Task, size: i64) -> PodVolumeInfo {
    PodVolumeInfo {
        snapshot_handle: task.snapshot.map(|id| id.to_string()).unwrap_or_default(),
        size,
        uploader_type: "kopia".to_owned(),
        volume_name: task.volume.volume.clone(),
        pod_name: task.volume.pod.clone(),
        pod_namespace: task.volume.namespace.clone(),
        node_name: task.node.clone(),
        phase: phase(task.phase),
        ..PodVolumeInfo::default()
    }
}

fn volume_info(task: &Task) -> BackupVolumeInfo {
    let place = task.place.clone().unwrap_or_default();
    let status = status(task);
    let completed = task.phase == TaskPhase::Completed;
    BackupVolumeInfo {
        pvc_namespace: claim_namespace(task),
        pvc_name: place.claim,
        pv_name: place.persistent_volume,
        backup_method: BackupMethod::PodVolumeBackup,
        start_timestamp: status.start_timestamp.clone(),
        completion_timestamp: status.completion_timestamp.clone(),
        result: if completed {
            VolumeResult::Succeeded
        } else {
            VolumeResult::Failed
        },
        pvb_info: Some(PodVolumeInfo {
            incremental_size: status.incremental_bytes,
            ..pod_volume_info(task, status.progress.total_bytes)
        }),
        ..BackupVolumeInfo::default()
    }
}
