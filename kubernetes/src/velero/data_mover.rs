//! `DataUpload` and `DataDownload`: the data mover's kinds, which the `velero` command lists. We make none.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    duration::GoDuration,
    kind::kind,
    pod_volume::{DataProgress, PodVolumePhase},
    shape::{object, words},
};

words! {
    /// The system of the node that moves data.
    pub enum NodeOs {
        /// Whichever the volume needs.
        Auto = "auto",
        /// Linux.
        Linux = "linux",
        /// Windows.
        Windows = "windows",
    }
}

kind! {
    /// One CSI snapshot on its way into a repository.
    pub struct DataUpload = "v2alpha1", "datauploads";
    columns [
        ("Status", "string", ".status.phase"),
        ("Started", "date", ".status.startTimestamp"),
        ("Bytes Done", "integer", ".status.progress.bytesDone"),
        ("Total Bytes", "integer", ".status.progress.totalBytes"),
        ("Incremental Bytes", "integer", ".status.incrementalBytes"),
        ("Storage Location", "string", ".spec.backupStorageLocation"),
        ("Age", "date", ".metadata.creationTimestamp"),
        ("Node", "string", ".status.node"),
    ];
    /// The snapshot and where it goes.
    spec: DataUploadSpec,
    /// How far it has come.
    status: DataUploadStatus,
}

object! {
    /// A CSI snapshot.
    pub struct CsiSnapshotSpec {
        /// The VolumeSnapshot's name.
        volume_snapshot: String = "volumeSnapshot", required;
        /// The storage class of the claim.
        storage_class: String = "storageClass", required;
        /// The class of the snapshot.
        snapshot_class: String = "snapshotClass";
        /// The CSI driver.
        driver: String = "driver";
    }
}

object! {
    /// A snapshot and where its data goes.
    pub struct DataUploadSpec {
        /// The kind of snapshot.
        snapshot_type: String = "snapshotType", required;
        /// The snapshot, if it is of CSI.
        csi_snapshot: Option<CsiSnapshotSpec> = "csiSnapshot", nullable;
        /// The claim that the snapshot was made of.
        source_pvc: String = "sourcePVC", required;
        /// The data mover; the built-in one if empty.
        datamover: String = "datamover";
        /// The location that the data goes to.
        backup_storage_location: String = "backupStorageLocation", required;
        /// The claim's namespace.
        source_namespace: String = "sourceNamespace", required;
        /// Settings of the data mover.
        data_mover_config: BTreeMap<String, String> = "dataMoverConfig", nullable;
        /// Whether it is to stop.
        cancel: bool = "cancel";
        /// How long its steps may take.
        operation_timeout: GoDuration = "operationTimeout", required;
    }
}

object! {
    /// How far an upload has come.
    pub struct DataUploadStatus {
        /// How far it has come.
        phase: PodVolumePhase = "phase";
        /// The directory or device on the node.
        path: String = "path";
        /// The snapshot in the repository.
        snapshot_id: String = "snapshotID";
        /// What the data mover wants to know at restore.
        data_mover_result: BTreeMap<String, String> = "dataMoverResult", nullable;
        /// Why it failed, or what else there is to say.
        message: String = "message";
        /// When it began.
        start_timestamp: Option<Time> = "startTimestamp", nullable;
        /// When it ended.
        completion_timestamp: Option<Time> = "completionTimestamp", nullable;
        /// Counts of its bytes.
        progress: DataProgress = "progress";
        /// Bytes that the snapshot before did not have.
        incremental_bytes: i64 = "incrementalBytes";
        /// The node that moves the data.
        node: String = "node";
        /// That node's system.
        node_os: NodeOs = "nodeOS";
        /// The node that took it.
        accepted_by_node: String = "acceptedByNode";
        /// When a node took it.
        accepted_timestamp: Option<Time> = "acceptedTimestamp", nullable;
    }
}

kind! {
    /// A repository's data on its way into a new volume.
    pub struct DataDownload = "v2alpha1", "datadownloads";
    columns [
        ("Status", "string", ".status.phase"),
        ("Started", "date", ".status.startTimestamp"),
        ("Bytes Done", "integer", ".status.progress.bytesDone"),
        ("Total Bytes", "integer", ".status.progress.totalBytes"),
        ("Storage Location", "string", ".spec.backupStorageLocation"),
        ("Age", "date", ".metadata.creationTimestamp"),
        ("Node", "string", ".status.node"),
    ];
    /// The snapshot and the volume.
    spec: DataDownloadSpec,
    /// How far it has come.
    status: DataDownloadStatus,
}

object! {
    /// The volume to restore into.
    pub struct TargetVolumeSpec {
        /// The claim.
        pvc: String = "pvc", required;
        /// The persistent volume.
        pv: String = "pv", required;
        /// The claim's namespace.
        namespace: String = "namespace", required;
    }
}

object! {
    /// A snapshot and the volume that it goes into.
    pub struct DataDownloadSpec {
        /// The volume.
        target_volume: TargetVolumeSpec = "targetVolume", required;
        /// The location of the data.
        backup_storage_location: String = "backupStorageLocation", required;
        /// The data mover; the built-in one if empty.
        datamover: String = "datamover";
        /// The snapshot in the repository.
        snapshot_id: String = "snapshotID", required;
        /// The namespace that the volume was backed up in.
        source_namespace: String = "sourceNamespace", required;
        /// Settings of the data mover.
        data_mover_config: BTreeMap<String, String> = "dataMoverConfig";
        /// Whether it is to stop.
        cancel: bool = "cancel";
        /// How long its steps may take.
        operation_timeout: GoDuration = "operationTimeout", required;
        /// The system that the node must have.
        node_os: NodeOs = "nodeOS";
        /// Logical bytes of the snapshot.
        snapshot_size: i64 = "snapshotSize";
    }
}

object! {
    /// How far a download has come.
    pub struct DataDownloadStatus {
        /// How far it has come.
        phase: PodVolumePhase = "phase";
        /// Why it failed, or what else there is to say.
        message: String = "message";
        /// When it began.
        start_timestamp: Option<Time> = "startTimestamp", nullable;
        /// When it ended.
        completion_timestamp: Option<Time> = "completionTimestamp", nullable;
        /// Counts of its bytes.
        progress: DataProgress = "progress";
        /// The node that writes the volume.
        node: String = "node";
        /// The node that took it.
        accepted_by_node: String = "acceptedByNode";
        /// When a node took it.
        accepted_timestamp: Option<Time> = "acceptedTimestamp", nullable;
    }
}
