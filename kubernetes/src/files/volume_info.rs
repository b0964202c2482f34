//! What a backup or restore knows of each volume.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::velero::{
    pod_volume::PodVolumePhase,
    shape::{object, words},
};

words! {
    /// How a volume is backed up.
    pub enum BackupMethod {
        /// By its files: the one way of ours.
        PodVolumeBackup = "PodVolumeBackup",
        /// By a CSI snapshot.
        CsiSnapshot = "CSISnapshot",
        /// By the cloud's snapshot.
        NativeSnapshot = "NativeSnapshot",
    }
}

words! {
    /// How a volume is restored.
    pub enum RestoreMethod {
        /// By its files: the one way of ours.
        PodVolumeRestore = "PodVolumeRestore",
        /// By a CSI snapshot.
        CsiSnapshot = "CSISnapshot",
        /// By the cloud's snapshot.
        NativeSnapshot = "NativeSnapshot",
    }
}

words! {
    /// How a volume's backup ended.
    pub enum VolumeResult {
        /// Well.
        Succeeded = "succeeded",
        /// Not well.
        Failed = "failed",
    }
}

object! {
    /// The part of a volume's backup or restore that its PodVolumeBackup or PodVolumeRestore tells.
    pub struct PodVolumeInfo {
        /// The snapshot.
        snapshot_handle: String = "snapshotHandle";
        /// Logical bytes.
        size: i64 = "size";
        /// Bytes that the snapshot before did not have.
        incremental_size: i64 = "incrementalSize";
        /// The engine.
        uploader_type: String = "uploaderType", required;
        /// The volume's name in the pod's spec.
        volume_name: String = "volumeName", required;
        /// The pod.
        pod_name: String = "podName", required;
        /// The pod's namespace.
        pod_namespace: String = "podNamespace", required;
        /// The node.
        node_name: String = "nodeName";
        /// How it ended. This one begins with a capital.
        phase: PodVolumePhase = "Phase", required;
    }
}

object! {
    /// What is put back on a new persistent volume.
    pub struct PvInfo {
        /// What happens to the volume when its claim goes.
        reclaim_policy: String = "reclaimPolicy", required;
        /// The volume's labels.
        labels: BTreeMap<String, String> = "labels", required;
    }
}

object! {
    /// What a backup knows of a volume.
    pub struct BackupVolumeInfo {
        /// The claim; empty for a volume of the pod alone.
        pvc_name: String = "pvcName";
        /// The claim's namespace.
        pvc_namespace: String = "pvcNamespace";
        /// The persistent volume.
        pv_name: String = "pvName";
        /// How it is backed up; empty if it is not.
        backup_method: BackupMethod = "backupMethod";
        /// Whether snapshot data was moved; never with us.
        snapshot_data_moved: bool = "snapshotDataMoved", required;
        /// Whether the cluster keeps the snapshot too; never with us.
        preserve_local_snapshot: bool = "preserveLocalSnapshot", required;
        /// Whether it was left out.
        skipped: bool = "skipped", required;
        /// Why.
        skipped_reason: String = "skippedReason";
        /// When its backup began.
        start_timestamp: Option<Time> = "startTimestamp";
        /// When its backup ended.
        completion_timestamp: Option<Time> = "completionTimestamp";
        /// How its backup ended.
        result: VolumeResult = "result";
        /// What its PodVolumeBackup tells.
        pvb_info: Option<PodVolumeInfo> = "pvbInfo";
        /// What is put back on a new persistent volume.
        pv_info: Option<PvInfo> = "pvInfo";
    }
}

object! {
    /// What a restore knows of a volume.
    pub struct RestoreVolumeInfo {
        /// The claim; empty for a volume of the pod alone.
        pvc_name: String = "pvcName";
        /// The claim's namespace.
        pvc_namespace: String = "pvcNamespace";
        /// The persistent volume.
        pv_name: String = "pvName";
        /// How it is restored.
        restore_method: RestoreMethod = "restoreMethod", required;
        /// Whether snapshot data was moved; never with us.
        snapshot_data_moved: bool = "snapshotDataMoved", required;
        /// What its PodVolumeRestore tells.
        pvr_info: Option<PodVolumeInfo> = "pvrInfo";
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_is_described_as_velero_describes_it() {
        let info = BackupVolumeInfo {
            pvc_name: "data-db-0".to_owned(),
            pvc_namespace: "shop".to_owned(),
            pv_name: "pvc-1".to_owned(),
            backup_method: BackupMethod::PodVolumeBackup,
            start_timestamp: Some(Time("2026-01-02T03:04:05Z".parse().unwrap())),
            result: VolumeResult::Succeeded,
            pvb_info: Some(PodVolumeInfo {
                snapshot_handle: "abc".to_owned(),
                size: 911,
                uploader_type: "kopia".to_owned(),
                volume_name: "data".to_owned(),
                pod_name: "db-0".to_owned(),
                pod_namespace: "shop".to_owned(),
                phase: PodVolumePhase::Completed,
                ..PodVolumeInfo::default()
            }),
            pv_info: Some(PvInfo {
                reclaim_policy: "Delete".to_owned(),
                labels: BTreeMap::new(),
            }),
            ..BackupVolumeInfo::default()
        };
        let want = json!([{
            "pvcName": "data-db-0", "pvcNamespace": "shop", "pvName": "pvc-1",
            "backupMethod": "PodVolumeBackup", "snapshotDataMoved": false,
            "preserveLocalSnapshot": false, "skipped": false,
            "startTimestamp": "2026-01-02T03:04:05Z", "result": "succeeded",
            "pvbInfo": {
                "snapshotHandle": "abc", "size": 911, "uploaderType": "kopia", "volumeName": "data",
                "podName": "db-0", "podNamespace": "shop", "Phase": "Completed",
            },
            "pvInfo": {"reclaimPolicy": "Delete", "labels": {}},
        }]);
        assert_eq!(json!([info]), want);
        let read: Vec<BackupVolumeInfo> = serde_json::from_value(want).unwrap();
        assert_eq!(read, [info]);
    }

    #[test]
    fn a_restored_volume_says_where_its_data_came_from() {
        let info = RestoreVolumeInfo {
            restore_method: RestoreMethod::PodVolumeRestore,
            pvr_info: Some(PodVolumeInfo::default()),
            ..RestoreVolumeInfo::default()
        };
        assert_eq!(
            json!(info),
            json!({
                "restoreMethod": "PodVolumeRestore", "snapshotDataMoved": false,
                "pvrInfo": {"uploaderType": "", "volumeName": "", "podName": "", "podNamespace": "", "Phase": ""},
            })
        );
    }
}
