//! The tasks of a restore as `PodVolumeRestore` objects, by which clients see its volumes.

use std::collections::BTreeMap;

use orlop_kubernetes::{
    api::{ObjectMeta, OwnerReference},
    record::{self, TASK},
    velero::{
        PodVolumePhase, PodVolumeRestore, Restore,
        labels::{self, valid_name},
        pod_volume::{PodVolumeRestoreSpec, PodVolumeRestoreStatus, UploaderType},
    },
};
use orlop_proto::v1;

use crate::{
    names,
    volumes::{self, Course, Step, VolumeObject, pairs},
};

impl VolumeObject for PodVolumeRestore {
    fn phase(&self) -> &PodVolumePhase {
        &self.status.phase
    }

    fn is_to_stop(&self) -> bool {
        self.spec.cancel
    }
}

/// Compares the objects that belong to `restore` with its tasks.
pub(super) fn next(
    restore: &Restore,
    run: &v1::Restore,
    objects: &[PodVolumeRestore],
    now_ms: i64,
) -> Vec<Step<PodVolumeRestore>> {
    let shown = |object: &mut PodVolumeRestore, task: &v1::Task| {
        object.status = status(&object.status, task, now_ms);
        if object.spec.snapshot_size == 0 {
            object.spec.snapshot_size = volumes::bytes(task.snapshot_bytes);
        }
        if object.spec.snapshot_id.is_empty() {
            object.spec.snapshot_id.clone_from(&task.snapshot_id);
        }
    };
    let created = |task: &v1::Task| created(restore, &run.location, task, now_ms);
    volumes::next(&run.tasks, objects, created, shown)
}

fn created(restore: &Restore, location: &str, task: &v1::Task, now_ms: i64) -> PodVolumeRestore {
    let name = restore.metadata.name.clone().unwrap_or_default();
    let uid = restore.metadata.uid.clone().unwrap_or_default();
    let volume = task.volume.clone().unwrap_or_default();
    let source = task.source.as_ref().unwrap_or(&volume);
    let end = format!("-{}", task.task_id.to_ascii_lowercase());
    PodVolumeRestore {
        metadata: ObjectMeta {
            name: Some(names::with_end(&name, &end)),
            generate_name: Some(format!("{name}-")),
            namespace: restore.metadata.namespace.clone(),
            labels: Some(pairs(&[
                (labels::RESTORE_NAME, &valid_name(&name)),
                (labels::RESTORE_UID, &uid),
                (labels::POD_UID, &task.pod_uid),
                (labels::PVC_UID, &task.claim_uid),
            ])),
            annotations: Some(pairs(&[
                (TASK, &task.task_id),
                (labels::ENGINE, names::OURS),
            ])),
            owner_references: Some(vec![OwnerReference {
                kind: "Restore".to_owned(),
                ..record::owner(&name, &uid)
            }]),
            ..ObjectMeta::default()
        },
        spec: PodVolumeRestoreSpec {
            pod: volumes::pod(task),
            backup_storage_location: location.to_owned(),
            uploader_type: UploaderType::Kopia,
            snapshot_id: task.snapshot_id.clone(),
            snapshot_size: volumes::bytes(task.snapshot_bytes),
            uploader_settings: settings(restore),
            source_namespace: source.namespace.clone(),
            volume: volume.volume,
            ..PodVolumeRestoreSpec::default()
        },
        status: status(&PodVolumeRestoreStatus::default(), task, now_ms),
    }
}

/// What the restore says of how to write volumes, by the names that Velero gives it.
fn settings(restore: &Restore) -> BTreeMap<String, String> {
    let Some(config) = &restore.spec.uploader_config else {
        return BTreeMap::new();
    };
    let sparse = config.write_sparse_files.unwrap_or(false).to_string();
    let mut settings = BTreeMap::from([("WriteSparseFiles".to_owned(), sparse)]);
    if config.parallel_files_download > 0 {
        let parallel = config.parallel_files_download.to_string();
        settings.insert("ParallelFilesDownload".to_owned(), parallel);
    }
    settings
}

fn status(before: &PodVolumeRestoreStatus, task: &v1::Task, now_ms: i64) -> PodVolumeRestoreStatus {
    let course = Course {
        phase: before.phase.clone(),
        message: before.message.clone(),
        accepted: before.accepted_timestamp.clone(),
        started: before.start_timestamp.clone(),
        completed: before.completion_timestamp.clone(),
        progress: before.progress.clone(),
    };
    let Some(course) = course.after(task, now_ms) else {
        return before.clone();
    };
    let node = if task.node.is_empty() {
        before.node.clone()
    } else {
        task.node.clone()
    };
    PodVolumeRestoreStatus {
        phase: course.phase,
        message: course.message,
        start_timestamp: course.started,
        completion_timestamp: course.completed,
        progress: course.progress,
        accepted_timestamp: course.accepted,
        node,
    }
}

#[cfg(test)]
mod tests {
    use orlop_proto::v1::TaskPhase;
    use serde_json::json;

    use super::*;
    use crate::volumes::all_canceled;

    const NOW: i64 = 1_767_323_045_999;

    fn restore() -> Restore {
        serde_json::from_value(json!({
            "metadata": {"name": "again", "namespace": "velero", "uid": "u-1"}, "spec": {"backupName": "nightly"},
        }))
        .unwrap()
    }

    fn task(phase: TaskPhase) -> v1::Task {
        let volume = |namespace: &str| v1::VolumeRef {
            namespace: namespace.to_owned(),
            pod: "db-0".to_owned(),
            volume: "data".to_owned(),
        };
        v1::Task {
            task_id: "01TASK".to_owned(),
            node: "n1".to_owned(),
            volume: Some(volume("shop-2")),
            source: Some(volume("shop")),
            phase: phase.into(),
            started_ms: NOW - 3_000,
            pod_uid: "p-1".to_owned(),
            claim: "data-db-0".to_owned(),
            claim_uid: "c-1".to_owned(),
            snapshot_id: "s-1".to_owned(),
            snapshot_bytes: 900,
            ..v1::Task::default()
        }
    }

    fn run(task: v1::Task) -> v1::Restore {
        v1::Restore {
            tasks: vec![task],
            location: "default".to_owned(),
            ..v1::Restore::default()
        }
    }

    fn made(task: v1::Task) -> PodVolumeRestore {
        match next(&restore(), &run(task), &[], NOW).remove(0) {
            Step::Create(object) => *object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_task_becomes_the_object_that_velero_would_make() {
        assert_eq!(
            json!(made(task(TaskPhase::Running))),
            json!({
                "apiVersion": "velero.io/v1", "kind": "PodVolumeRestore",
                "metadata": {
                    "name": "again-01task", "generateName": "again-", "namespace": "velero",
                    "labels": {
                        "velero.io/restore-name": "again", "velero.io/restore-uid": "u-1",
                        "velero.io/pod-uid": "p-1", "velero.io/pvc-uid": "c-1",
                    },
                    "annotations": {"orlop.io/task": "01TASK", "orlop.io/engine": "orlop"},
                    "ownerReferences": [{
                        "apiVersion": "velero.io/v1", "kind": "Restore", "name": "again", "uid": "u-1", "controller": true,
                    }],
                },
                "spec": {
                    "pod": {"kind": "Pod", "namespace": "shop-2", "name": "db-0", "uid": "p-1"}, "volume": "data",
                    "backupStorageLocation": "default", "repoIdentifier": "", "uploaderType": "kopia",
                    "snapshotID": "s-1", "snapshotSize": 900, "sourceNamespace": "shop",
                },
                "status": {
                    "phase": "InProgress", "node": "n1", "startTimestamp": "2026-01-02T03:04:02Z",
                    "acceptedTimestamp": "2026-01-02T03:04:02Z",
                },
            })
        );
    }

    #[test]
    fn how_volumes_are_written_is_as_the_restore_says() {
        assert_eq!(settings(&restore()), BTreeMap::new());
        let mut said = restore();
        said.spec.uploader_config =
            serde_json::from_value(json!({"writeSparseFiles": true, "parallelFilesDownload": 4}))
                .unwrap();
        let want = json!({"WriteSparseFiles": "true", "ParallelFilesDownload": "4"});
        assert_eq!(json!(settings(&said)), want);
    }

    #[test]
    fn the_object_of_a_task_always_has_the_same_name() {
        let long = Restore {
            metadata: ObjectMeta {
                name: Some("r".repeat(253)),
                ..ObjectMeta::default()
            },
            ..Restore::default()
        };
        let name = |restore: &Restore| {
            let made = created(restore, "default", &task(TaskPhase::Queued), NOW);
            made.metadata.name.unwrap()
        };
        assert_eq!(name(&long), name(&long));
        assert!(name(&long).len() <= 253 && name(&long).ends_with("-01task"));
    }

    #[test]
    fn an_object_follows_its_task() {
        let objects = [made(task(TaskPhase::Queued))];
        assert_eq!(
            next(&restore(), &run(task(TaskPhase::Queued)), &objects, NOW),
            []
        );
        let done = v1::Task {
            bytes_done: 911,
            bytes_total: 900,
            completed_ms: NOW,
            ..task(TaskPhase::Completed)
        };
        match &next(&restore(), &run(done), &objects, NOW)[..] {
            [Step::Change(name, changed)] => {
                assert_eq!(name, "again-01task");
                assert_eq!(
                    json!(changed.status),
                    json!({
                        "phase": "Completed", "node": "n1", "progress": {"totalBytes": 911, "bytesDone": 911},
                        "startTimestamp": "2026-01-02T03:04:02Z", "acceptedTimestamp": "2026-01-02T03:04:02Z",
                        "completionTimestamp": "2026-01-02T03:04:05Z",
                    })
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_total_comes_only_with_something_done() {
        let progress = |bytes_done, bytes_total| {
            let task = v1::Task {
                bytes_done,
                bytes_total,
                ..task(TaskPhase::Running)
            };
            let progress = made(task).status.progress;
            (progress.bytes_done, progress.total_bytes)
        };
        assert_eq!(progress(0, 100), (0, 0));
        assert_eq!(progress(1, 100), (1, 100));
        assert_eq!(progress(150, 100), (150, 150));
    }

    #[test]
    fn a_volume_that_is_restored_where_it_was_comes_from_its_own_namespace() {
        let own = v1::Task {
            source: None,
            ..task(TaskPhase::Queued)
        };
        assert_eq!(made(own).spec.source_namespace, "shop-2");
    }

    #[test]
    fn a_restore_stops_when_all_its_live_volumes_are_to() {
        let object = |cancel: bool, phase| {
            let mut object = made(task(phase));
            object.spec.cancel = cancel;
            object
        };
        let (running, done) = (TaskPhase::Running, TaskPhase::Completed);
        assert!(!all_canceled(&[
            object(true, running),
            object(false, running)
        ]));
        assert!(all_canceled(&[object(true, running), object(false, done)]));
        assert!(!all_canceled(&[object(true, done)]));
    }
}
