//! `Backup`: a run over many pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::TypedLocalObjectReference,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, Time},
};

use super::{
    duration::GoDuration,
    hooks::{BackupHooks, HookStatus},
    kind::kind,
    shape::{object, words},
};

/// The version of the files of a backup, for `status.formatVersion` and `metadata/version` in the tarball.
pub const FORMAT_VERSION: &str = "1.1.0";

kind! {
    /// A named run over many pods: Kubernetes objects and volume snapshots.
    pub struct Backup = "v1", "backups";
    columns [];
    /// What to back up and how.
    spec: BackupSpec,
    /// How far it has come; written by the server.
    status: BackupStatus,
}

object! {
    /// Labels to give to what is made from a template.
    pub struct Metadata {
        /// The labels.
        labels: BTreeMap<String, String> = "labels";
    }
}

object! {
    /// How to read volumes.
    pub struct UploaderConfigForBackup {
        /// Files of a volume that are read at the same time; 0 leaves it to the agent.
        parallel_files_upload: i32 = "parallelFilesUpload";
    }
}

object! {
    /// What to back up and how.
    pub struct BackupSpec {
        /// Labels of a schedule's backups.
        metadata: Metadata = "metadata";
        /// Namespaces to take, exact or with wildcards; all if empty.
        included_namespaces: Vec<String> = "includedNamespaces", nullable;
        /// Namespaces to leave out; this wins over what is included.
        excluded_namespaces: Vec<String> = "excludedNamespaces", nullable;
        /// Resources to take, such as `deployments.apps`; all if empty.
        included_resources: Vec<String> = "includedResources", nullable;
        /// Resources to leave out.
        excluded_resources: Vec<String> = "excludedResources", nullable;
        /// Cluster resources to take; without any, only those that others refer to.
        included_cluster_scoped_resources: Vec<String> = "includedClusterScopedResources", nullable;
        /// Cluster resources to leave out.
        excluded_cluster_scoped_resources: Vec<String> = "excludedClusterScopedResources", nullable;
        /// Resources of namespaces to take; all if empty.
        included_namespace_scoped_resources: Vec<String> = "includedNamespaceScopedResources", nullable;
        /// Resources of namespaces to leave out.
        excluded_namespace_scoped_resources: Vec<String> = "excludedNamespaceScopedResources", nullable;
        /// Labels of the objects to take.
        label_selector: Option<LabelSelector> = "labelSelector", nullable;
        /// Several selectors, of which an object must match one; not together with `labelSelector`.
        or_label_selectors: Vec<LabelSelector> = "orLabelSelectors", nullable;
        /// Whether to take snapshots of persistent volumes through the cloud; we have none.
        snapshot_volumes: Option<bool> = "snapshotVolumes", nullable;
        /// How long the backup is kept.
        ttl: GoDuration = "ttl";
        /// Whether to take cluster resources; not set means those that belong to what is taken.
        include_cluster_resources: Option<bool> = "includeClusterResources", nullable;
        /// Commands to run in pods before and after.
        hooks: BackupHooks = "hooks";
        /// The location to write to; the default one if empty.
        storage_location: String = "storageLocation";
        /// Locations of cloud snapshots; of no use to us.
        volume_snapshot_locations: Vec<String> = "volumeSnapshotLocations";
        /// The old name of `defaultVolumesToFsBackup`.
        default_volumes_to_restic: Option<bool> = "defaultVolumesToRestic", nullable;
        /// Whether all volumes of the pods are taken unless annotations exclude them.
        default_volumes_to_fs_backup: Option<bool> = "defaultVolumesToFsBackup", nullable;
        /// Resource → objects, separated by commas, to take before the others of their kind.
        ordered_resources: BTreeMap<String, String> = "orderedResources", nullable;
        /// How long to wait for a CSI snapshot; of no use to us.
        csi_snapshot_timeout: GoDuration = "csiSnapshotTimeout";
        /// How long to wait for work that goes on beside the backup.
        item_operation_timeout: GoDuration = "itemOperationTimeout";
        /// The ConfigMap with rules for volumes.
        resource_policy: Option<TypedLocalObjectReference> = "resourcePolicy";
        /// Whether to move snapshot data; of no use to us.
        snapshot_move_data: Option<bool> = "snapshotMoveData", nullable;
        /// The data mover; of no use to us.
        datamover: String = "datamover";
        /// How to read volumes.
        uploader_config: Option<UploaderConfigForBackup> = "uploaderConfig", nullable;
        /// The label by which volumes are snapshotted together; of no use to us.
        volume_group_snapshot_label_key: String = "volumeGroupSnapshotLabelKey";
    }
}

words! {
    /// How far a backup has come.
    pub enum BackupPhase {
        /// Nobody has looked at it.
        New = "New",
        /// Others come first.
        Queued = "Queued",
        /// It is its turn.
        ReadyToStart = "ReadyToStart",
        /// Ended: it asks for something that cannot be.
        FailedValidation = "FailedValidation",
        /// It runs.
        InProgress = "InProgress",
        /// Objects are done, work of plugins goes on.
        WaitingForPluginOperations = "WaitingForPluginOperations",
        /// The same, with errors.
        WaitingForPluginOperationsPartiallyFailed = "WaitingForPluginOperationsPartiallyFailed",
        /// The result is being recorded.
        Finalizing = "Finalizing",
        /// The same, with errors.
        FinalizingPartiallyFailed = "FinalizingPartiallyFailed",
        /// Ended: everything is there.
        Completed = "Completed",
        /// Ended: something is missing.
        PartiallyFailed = "PartiallyFailed",
        /// Ended without a result.
        Failed = "Failed",
        /// Being deleted.
        Deleting = "Deleting",
    }
}

impl BackupPhase {
    /// Whether nothing will change any more, except by deletion.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::FailedValidation | Self::Completed | Self::PartiallyFailed | Self::Failed
        )
    }
}

object! {
    /// Counts of a backup's objects.
    pub struct BackupProgress {
        /// Objects found so far; grows while it runs.
        total_items: i32 = "totalItems";
        /// Objects written.
        items_backed_up: i32 = "itemsBackedUp";
    }
}

object! {
    /// How far a backup has come.
    pub struct BackupStatus {
        /// The major version of the backup's files: 1.
        version: i32 = "version";
        /// The version of the backup's files.
        format_version: String = "formatVersion";
        /// When it may be deleted.
        expiration: Option<Time> = "expiration", nullable;
        /// How far it has come.
        phase: BackupPhase = "phase";
        /// How many come before it, itself included; 0 when it does not wait.
        queue_position: i32 = "queuePosition";
        /// What is wrong with the spec.
        validation_errors: Vec<String> = "validationErrors", nullable;
        /// When it began.
        start_timestamp: Option<Time> = "startTimestamp", nullable;
        /// When it ended.
        completion_timestamp: Option<Time> = "completionTimestamp", nullable;
        /// Cloud snapshots begun.
        volume_snapshots_attempted: i32 = "volumeSnapshotsAttempted";
        /// Cloud snapshots made.
        volume_snapshots_completed: i32 = "volumeSnapshotsCompleted";
        /// Why it failed as a whole.
        failure_reason: String = "failureReason";
        /// Warnings in its log.
        warnings: i32 = "warnings";
        /// Errors in its log.
        errors: i32 = "errors";
        /// Counts of its objects.
        progress: Option<BackupProgress> = "progress", nullable;
        /// CSI snapshots begun.
        csi_volume_snapshots_attempted: i32 = "csiVolumeSnapshotsAttempted";
        /// CSI snapshots made.
        csi_volume_snapshots_completed: i32 = "csiVolumeSnapshotsCompleted";
        /// Operations of plugins begun.
        backup_item_operations_attempted: i32 = "backupItemOperationsAttempted";
        /// Operations of plugins that ended well.
        backup_item_operations_completed: i32 = "backupItemOperationsCompleted";
        /// Operations of plugins that failed.
        backup_item_operations_failed: i32 = "backupItemOperationsFailed";
        /// Counts of its hooks.
        hook_status: Option<HookStatus> = "hookStatus", nullable;
    }
}
