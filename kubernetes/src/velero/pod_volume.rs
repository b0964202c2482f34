//! `PodVolumeBackup` and `PodVolumeRestore`: one volume's part of a backup or restore.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    kind::kind,
    shape::{object, words},
};

kind! {
    /// One volume's part of a backup.
    pub struct PodVolumeBackup = "v1", "podvolumebackups";
    columns [
        ("Status", "string", ".status.phase"),
        ("Started", "date", ".status.startTimestamp"),
        ("Bytes Done", "integer", ".status.progress.bytesDone"),
        ("Total Bytes", "integer", ".status.progress.totalBytes"),
        ("Incremental Bytes", "integer", ".status.incrementalBytes"),
        ("Storage Location", "string", ".spec.backupStorageLocation"),
        ("Age", "date", ".metadata.creationTimestamp"),
        ("Node", "string", ".status.node"),
        ("Uploader", "string", ".spec.uploaderType"),
    ];
    /// The volume and where it goes.
    spec: PodVolumeBackupSpec,
    /// How far it has come; written by the server.
    status: PodVolumeBackupStatus,
}

words! {
    /// Which engine keeps a volume's data.
    pub enum UploaderType {
        /// What we claim to be, since the schema knows no other.
        Kopia = "kopia",
        /// Of old backups only.
        Restic = "restic",
    }
}

words! {
    /// How far a volume has come.
    pub enum PodVolumePhase {
        /// Nobody has looked at it.
        New = "New",
        /// A node has taken it.
        Accepted = "Accepted",
        /// The volume is at hand.
        Prepared = "Prepared",
        /// Data is moving.
        InProgress = "InProgress",
        /// It is to stop.
        Canceling = "Canceling",
        /// Ended: it was stopped.
        Canceled = "Canceled",
        /// Ended: everything is there.
        Completed = "Completed",
        /// Ended without a result.
        Failed = "Failed",
    }
}

impl PodVolumePhase {
    /// Whether nothing will change any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Canceled | Self::Completed | Self::Failed)
    }
}

object! {
    /// Counts of a volume's bytes.
    pub struct DataProgress {
        /// Bytes in all, as far as is known.
        total_bytes: i64 = "totalBytes";
        /// Bytes done; at the end the same as the total.
        bytes_done: i64 = "bytesDone";
    }
}

object! {
    /// A volume and where its backup goes.
    pub struct PodVolumeBackupSpec {
        /// The node that has the volume.
        node: String = "node", required;
        /// The pod that has the volume.
        pod: ObjectReference = "pod", required;
        /// The volume's name in the pod's spec.
        volume: String = "volume", required;
        /// The location that the backup goes to.
        backup_storage_location: String = "backupStorageLocation", required;
        /// The repository, for older servers; may be empty.
        repo_identifier: String = "repoIdentifier", required;
        /// The engine.
        uploader_type: UploaderType = "uploaderType", or_empty;
        /// Labels of the snapshot.
        tags: BTreeMap<String, String> = "tags";
        /// Settings of the engine.
        uploader_settings: BTreeMap<String, String> = "uploaderSettings", nullable;
        /// Whether it is to stop.
        cancel: bool = "cancel";
    }
}

object! {
    /// How far a volume's backup has come.
    pub struct PodVolumeBackupStatus {
        /// How far it has come.
        phase: PodVolumePhase = "phase";
        /// The directory on the node.
        path: String = "path";
        /// The snapshot that was made.
        snapshot_id: String = "snapshotID";
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
        /// When a node took it.
        accepted_timestamp: Option<Time> = "acceptedTimestamp", nullable;
    }
}

kind! {
    /// One volume's part of a restore.
    pub struct PodVolumeRestore = "v1", "podvolumerestores";
    columns [
        ("Status", "string", ".status.phase"),
        ("Started", "date", ".status.startTimestamp"),
        ("Bytes Done", "integer", ".status.progress.bytesDone"),
        ("Total Bytes", "integer", ".status.progress.totalBytes"),
        ("Storage Location", "string", ".spec.backupStorageLocation"),
        ("Age", "date", ".metadata.creationTimestamp"),
        ("Node", "string", ".status.node"),
        ("Uploader Type", "string", ".spec.uploaderType"),
    ];
    /// The volume and where its data comes from.
    spec: PodVolumeRestoreSpec,
    /// How far it has come; written by the server.
    status: PodVolumeRestoreStatus,
}

object! {
    /// A volume and where its data comes from.
    pub struct PodVolumeRestoreSpec {
        /// The pod that has the volume.
        pod: ObjectReference = "pod", required;
        /// The volume's name in the pod's spec.
        volume: String = "volume", required;
        /// The location of the backup.
        backup_storage_location: String = "backupStorageLocation", required;
        /// The repository, for older servers; may be empty.
        repo_identifier: String = "repoIdentifier", required;
        /// The engine.
        uploader_type: UploaderType = "uploaderType", or_empty;
        /// The snapshot to restore.
        snapshot_id: String = "snapshotID", required;
        /// The namespace that the volume was backed up in.
        source_namespace: String = "sourceNamespace", required;
        /// Settings of the engine.
        uploader_settings: BTreeMap<String, String> = "uploaderSettings", nullable;
        /// Whether it is to stop.
        cancel: bool = "cancel";
        /// Logical bytes of the snapshot.
        snapshot_size: i64 = "snapshotSize";
    }
}

object! {
    /// How far a volume's restore has come.
    pub struct PodVolumeRestoreStatus {
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
        /// When a node took it.
        accepted_timestamp: Option<Time> = "acceptedTimestamp", nullable;
        /// The node that writes the volume.
        node: String = "node";
    }
}
