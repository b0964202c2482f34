//! The tasks of a backup as `PodVolumeBackup` objects, by which clients see its volumes.

use orlop_kubernetes::{
    api::ObjectMeta,
    record::{TASK, owner},
    velero::{
        Backup, PodVolumeBackup, PodVolumePhase,
        labels::{self, valid_name},
        pod_volume::{PodVolumeBackupSpec, PodVolumeBackupStatus, UploaderType},
    },
};
use orlop_proto::v1;

use crate::{
    names,
    volumes::{self, Course, Step, VolumeObject, pairs},
};

/// What a volume's object says that has nothing in it.
const EMPTY: &str = "the volume is empty: a snapshot of nothing was kept";

impl VolumeObject for PodVolumeBackup {
    fn phase(&self) -> &PodVolumePhase {
        &self.status.phase
    }

    fn is_to_stop(&self) -> bool {
        self.spec.cancel
    }
}

/// Compares the objects that belong to `backup` with its tasks.
pub(crate) fn next(
    backup: &Backup,
    run: &v1::Backup,
    objects: &[PodVolumeBackup],
    now_ms: i64,
) -> Vec<Step<PodVolumeBackup>> {
    let shown = |object: &mut PodVolumeBackup, task: &v1::Task| {
        object.status = status(&object.status, task, now_ms);
        if !task.node.is_empty() {
            object.spec.node.clone_from(&task.node);
        }
    };
    let created = |task: &v1::Task| created(backup, task, now_ms);
    volumes::next(&run.tasks, objects, created, shown)
}

fn created(backup: &Backup, task: &v1::Task, now_ms: i64) -> PodVolumeBackup {
    let name = backup.metadata.name.clone().unwrap_or_default();
    let uid = backup.metadata.uid.clone().unwrap_or_default();
    let volume = task.volume.clone().unwrap_or_default();
    PodVolumeBackup {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: backup.metadata.namespace.clone(),
            labels: Some(pairs(&[
                (labels::BACKUP_NAME, &valid_name(&name)),
                (labels::BACKUP_UID, &uid),
                (labels::POD_UID, &task.pod_uid),
                (labels::PVC_UID, &task.claim_uid),
            ])),
            annotations: Some(pairs(&[
                (TASK, &task.task_id),
                (labels::ENGINE, names::OURS),
                (labels::PVC_NAME, &task.claim),
            ])),
            owner_references: Some(vec![owner(&name, &uid)]),
            ..ObjectMeta::default()
        },
        spec: PodVolumeBackupSpec {
            node: task.node.clone(),
            pod: volumes::pod(task),
            backup_storage_location: backup.spec.storage_location.clone(),
            uploader_type: UploaderType::Kopia,
            tags: pairs(&[
                ("backup", &name),
                ("backup-uid", &uid),
                ("ns", &volume.namespace),
                ("pod", &volume.pod),
                ("pod-uid", &task.pod_uid),
                ("volume", &volume.volume),
                ("pvc-uid", &task.claim_uid),
            ]),
            volume: volume.volume,
            ..PodVolumeBackupSpec::default()
        },
        status: status(&PodVolumeBackupStatus::default(), task, now_ms),
    }
}

fn status(before: &PodVolumeBackupStatus, task: &v1::Task, now_ms: i64) -> PodVolumeBackupStatus {
    let mut status = before.clone();
    let course = Course {
        phase: before.phase.clone(),
        message: before.message.clone(),
        accepted: before.accepted_timestamp.clone(),
        started: before.start_timestamp.clone(),
        completed: before.completion_timestamp.clone(),
        progress: before.progress.clone(),
    };
    let Some(course) = course.after(task, now_ms) else {
        return status;
    };
    status.phase = course.phase;
    status.message = course.message;
    status.accepted_timestamp = course.accepted;
    status.start_timestamp = course.started;
    status.completion_timestamp = course.completed;
    status.progress = course.progress;
    if status.phase == PodVolumePhase::Completed {
        status.snapshot_id.clone_from(&task.snapshot_id);
        status.incremental_bytes = volumes::bytes(task.transferred_bytes);
        if status.message.is_empty() && task.bytes_done == 0 && task.entries_done <= 1 {
            EMPTY.clone_into(&mut status.message);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use orlop_proto::v1::TaskPhase;
    use serde_json::json;

    use super::*;
    use crate::volumes::all_canceled;

    const NOW: i64 = 1_767_323_045_999;

    fn backup() -> Backup {
        serde_json::from_value(json!({
            "metadata": {"name": "nightly", "namespace": "velero", "uid": "u-1"},
            "spec": {"storageLocation": "default"},
        }))
        .unwrap()
    }

    fn task(phase: TaskPhase) -> v1::Task {
        v1::Task {
            task_id: "01TASK".to_owned(),
            node: "n1".to_owned(),
            volume: Some(v1::VolumeRef {
                namespace: "shop".to_owned(),
                pod: "db-0".to_owned(),
                volume: "data".to_owned(),
            }),
            phase: phase.into(),
            started_ms: NOW - 3_000,
            pod_uid: "p-1".to_owned(),
            claim: "data-db-0".to_owned(),
            claim_uid: "c-1".to_owned(),
            ..v1::Task::default()
        }
    }

    fn run(task: v1::Task) -> v1::Backup {
        v1::Backup {
            tasks: vec![task],
            ..v1::Backup::default()
        }
    }

    fn made(task: v1::Task) -> PodVolumeBackup {
        match next(&backup(), &run(task), &[], NOW).remove(0) {
            Step::Create(object) => *object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_task_becomes_the_object_that_velero_would_make() {
        assert_eq!(
            json!(made(task(TaskPhase::Queued))),
            json!({
                "apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
                "metadata": {
                    "generateName": "nightly-", "namespace": "velero",
                    "labels": {
                        "velero.io/backup-name": "nightly", "velero.io/backup-uid": "u-1",
                        "velero.io/pod-uid": "p-1", "velero.io/pvc-uid": "c-1",
                    },
                    "annotations": {
                        "orlop.io/task": "01TASK", "orlop.io/engine": "orlop", "velero.io/pvc-name": "data-db-0",
                    },
                    "ownerReferences": [{
                        "apiVersion": "velero.io/v1", "kind": "Backup", "name": "nightly", "uid": "u-1", "controller": true,
                    }],
                },
                "spec": {
                    "node": "n1", "pod": {"kind": "Pod", "namespace": "shop", "name": "db-0", "uid": "p-1"},
                    "volume": "data", "backupStorageLocation": "default", "repoIdentifier": "", "uploaderType": "kopia",
                    "tags": {
                        "backup": "nightly", "backup-uid": "u-1", "ns": "shop", "pod": "db-0", "pod-uid": "p-1",
                        "volume": "data", "pvc-uid": "c-1",
                    },
                },
                "status": {"phase": "New"},
            })
        );
    }

    #[test]
    fn a_task_that_has_an_object_gets_no_second_one() {
        let mut object = made(task(TaskPhase::Queued));
        object.metadata.name = Some("nightly-x7b2k".to_owned());
        let objects = [object];
        assert_eq!(
            next(&backup(), &run(task(TaskPhase::Queued)), &objects, NOW),
            []
        );
        let moved = v1::Task {
            node: "n2".to_owned(),
            ..task(TaskPhase::Running)
        };
        match &next(&backup(), &run(moved), &objects, NOW)[..] {
            [Step::Change(name, changed)] => {
                assert_eq!(
                    (name.as_str(), changed.spec.node.as_str()),
                    ("nightly-x7b2k", "n2")
                );
                assert_eq!(changed.status.phase, PodVolumePhase::InProgress);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_shows_a_task_of_a_run_that_was_lost_goes() {
        let mut object = made(task(TaskPhase::Running));
        object.metadata.name = Some("nightly-x7b2k".to_owned());
        let objects = [object];
        assert_eq!(next(&backup(), &v1::Backup::default(), &objects, NOW), []);
        let again = v1::Task {
            task_id: "01AGAIN".to_owned(),
            ..task(TaskPhase::Queued)
        };
        match &next(&backup(), &run(again), &objects, NOW)[..] {
            [Step::Create(_), Step::Remove(name)] => assert_eq!(name, "nightly-x7b2k"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_total_comes_only_with_something_done_and_is_never_less() {
        let cases = [
            (TaskPhase::Running, 0, 100, (0, 0)),
            (TaskPhase::Running, 1, 0, (0, 0)),
            (TaskPhase::Running, 1, 100, (1, 100)),
            (TaskPhase::Running, 150, 100, (150, 150)),
            (TaskPhase::Completed, 90, 100, (90, 90)),
            (TaskPhase::Completed, 0, 0, (0, 0)),
            (TaskPhase::Failed, 90, 100, (90, 100)),
            (TaskPhase::Failed, 0, 100, (0, 0)),
            (TaskPhase::Running, u64::MAX, u64::MAX, (i64::MAX, i64::MAX)),
        ];
        for (phase, bytes_done, bytes_total, (done, total)) in cases {
            let task = v1::Task {
                bytes_done,
                bytes_total,
                ..task(phase)
            };
            let progress = made(task).status.progress;
            assert_eq!((progress.bytes_done, progress.total_bytes), (done, total));
        }
    }

    #[test]
    fn a_volume_that_is_done_has_its_snapshot_and_its_times() {
        let done = v1::Task {
            snapshot_id: "s-1".to_owned(),
            bytes_done: 911,
            entries_done: 2,
            transferred_bytes: 500,
            completed_ms: NOW,
            ..task(TaskPhase::Completed)
        };
        assert_eq!(
            json!(made(done).status),
            json!({
                "phase": "Completed", "snapshotID": "s-1", "progress": {"totalBytes": 911, "bytesDone": 911},
                "incrementalBytes": 500, "acceptedTimestamp": "2026-01-02T03:04:02Z",
                "startTimestamp": "2026-01-02T03:04:02Z", "completionTimestamp": "2026-01-02T03:04:05Z",
            })
        );
    }

    #[test]
    fn a_volume_without_anything_in_it_has_times_and_says_so() {
        let done = v1::Task {
            started_ms: 0,
            completed_ms: NOW,
            entries_done: 1,
            snapshot_id: "s-1".to_owned(),
            ..task(TaskPhase::Completed)
        };
        let status = made(done).status;
        assert_eq!(status.start_timestamp, status.completion_timestamp);
        assert!(status.start_timestamp.is_some());
        assert_eq!(status.message, EMPTY);
    }

    #[test]
    fn a_task_that_begins_again_has_not_ended() {
        let failed = v1::Task {
            completed_ms: NOW,
            message: "the agent is gone".to_owned(),
            ..task(TaskPhase::Failed)
        };
        let mut object = made(failed);
        assert_eq!(object.status.message, "the agent is gone");
        object.metadata.name = Some("x".to_owned());
        match &next(&backup(), &run(task(TaskPhase::Running)), &[object], NOW)[..] {
            [Step::Change(_, changed)] => assert_eq!(changed.status.completion_timestamp, None),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_backup_stops_when_all_its_live_volumes_are_to() {
        let object = |cancel: bool, phase| {
            let mut object = made(task(phase));
            object.spec.cancel = cancel;
            object
        };
        let (running, done) = (TaskPhase::Running, TaskPhase::Completed);
        assert!(!all_canceled::<PodVolumeBackup>(&[]));
        assert!(!all_canceled(&[
            object(true, running),
            object(false, running)
        ]));
        assert!(all_canceled(&[object(true, running), object(false, done)]));
        assert!(!all_canceled(&[object(true, done)]));
    }
}
