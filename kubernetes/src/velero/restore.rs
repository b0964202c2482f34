//! `Restore`: a run that puts a backup's objects and volumes back.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::TypedLocalObjectReference,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, Time},
};

use super::{
    duration::GoDuration,
    hooks::{HookStatus, RestoreHooks},
    kind::kind,
    shape::{object, words},
};

kind! {
    /// A named run that puts a backup's objects and volumes back.
    pub struct Restore = "v1", "restores";
    columns [];
    /// What to restore and how.
    spec: RestoreSpec,
    /// How far it has come; written by the server.
    status: RestoreStatus,
}

object! {
    /// Of which resources the status is restored too.
    pub struct RestoreStatusSpec {
        /// Resources with their status.
        included_resources: Vec<String> = "includedResources", nullable;
        /// Resources without their status.
        excluded_resources: Vec<String> = "excludedResources", nullable;
    }
}

object! {
    /// How to write volumes.
    pub struct UploaderConfigForRestore {
        /// Whether long runs of zeros become holes.
        write_sparse_files: Option<bool> = "writeSparseFiles", nullable;
        /// Files of a volume that are written at the same time; 0 leaves it to the agent.
        parallel_files_download: i32 = "parallelFilesDownload";
    }
}

object! {
    /// What to restore and how.
    pub struct RestoreSpec {
        /// The backup to restore; empty if a schedule says which.
        backup_name: String = "backupName";
        /// The schedule whose newest completed backup is restored.
        schedule_name: String = "scheduleName";
        /// Namespaces of the backup to restore; all if empty.
        included_namespaces: Vec<String> = "includedNamespaces", nullable;
        /// Namespaces of the backup to leave out.
        excluded_namespaces: Vec<String> = "excludedNamespaces", nullable;
        /// Resources to restore; all if empty.
        included_resources: Vec<String> = "includedResources", nullable;
        /// Resources to leave out.
        excluded_resources: Vec<String> = "excludedResources", nullable;
        /// Namespace of the backup → namespace in the cluster.
        namespace_mapping: BTreeMap<String, String> = "namespaceMapping";
        /// Labels of the objects to restore.
        label_selector: Option<LabelSelector> = "labelSelector", nullable;
        /// Several selectors, of which an object must match one; not together with `labelSelector`.
        or_label_selectors: Vec<LabelSelector> = "orLabelSelectors", nullable;
        /// Whether to restore persistent volumes.
        restore_pvs: Option<bool> = "restorePVs", nullable;
        /// Of which resources the status is restored too.
        restore_status: Option<RestoreStatusSpec> = "restoreStatus", nullable;
        /// Whether services keep their node ports.
        preserve_node_ports: Option<bool> = "preserveNodePorts", nullable;
        /// Whether to restore cluster resources; not set means those that belong to what is restored.
        include_cluster_resources: Option<bool> = "includeClusterResources", nullable;
        /// What to run in restored pods.
        hooks: RestoreHooks = "hooks";
        /// What to do with objects that exist and differ: `none` or `update`.
        existing_resource_policy: String = "existingResourcePolicy", nullable;
        /// How long to wait for work that goes on beside the restore.
        item_operation_timeout: GoDuration = "itemOperationTimeout";
        /// The ConfigMap with changes to make to objects.
        resource_modifier: Option<TypedLocalObjectReference> = "resourceModifier", nullable;
        /// How to write volumes.
        uploader_config: Option<UploaderConfigForRestore> = "uploaderConfig", nullable;
    }
}

words! {
    /// How far a restore has come.
    pub enum RestorePhase {
        /// Nobody has looked at it.
        New = "New",
        /// Ended: it asks for something that cannot be.
        FailedValidation = "FailedValidation",
        /// It runs.
        InProgress = "InProgress",
        /// Objects are done, work of plugins goes on.
        WaitingForPluginOperations = "WaitingForPluginOperations",
        /// The same, with errors.
        WaitingForPluginOperationsPartiallyFailed = "WaitingForPluginOperationsPartiallyFailed",
        /// Ended: everything is restored.
        Completed = "Completed",
        /// Ended: something is missing.
        PartiallyFailed = "PartiallyFailed",
        /// Ended without a result.
        Failed = "Failed",
        /// Hooks and persistent volumes are being finished.
        Finalizing = "Finalizing",
        /// The same, with errors.
        FinalizingPartiallyFailed = "FinalizingPartiallyFailed",
    }
}

impl RestorePhase {
    /// Whether nothing will change any more, except by deletion.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::FailedValidation | Self::Completed | Self::PartiallyFailed | Self::Failed
        )
    }
}

object! {
    /// Counts of a restore's objects.
    pub struct RestoreProgress {
        /// Objects to restore, as far as is known.
        total_items: i32 = "totalItems";
        /// Objects restored.
        items_restored: i32 = "itemsRestored";
    }
}

object! {
    /// How far a restore has come.
    pub struct RestoreStatus {
        /// How far it has come.
        phase: RestorePhase = "phase";
        /// What is wrong with the spec.
        validation_errors: Vec<String> = "validationErrors", nullable;
        /// Warnings in its results.
        warnings: i32 = "warnings";
        /// Errors in its results.
        errors: i32 = "errors";
        /// Why it failed as a whole.
        failure_reason: String = "failureReason";
        /// When it began.
        start_timestamp: Option<Time> = "startTimestamp", nullable;
        /// When it ended.
        completion_timestamp: Option<Time> = "completionTimestamp", nullable;
        /// Counts of its objects.
        progress: Option<RestoreProgress> = "progress", nullable;
        /// Operations of plugins begun.
        restore_item_operations_attempted: i32 = "restoreItemOperationsAttempted";
        /// Operations of plugins that ended well.
        restore_item_operations_completed: i32 = "restoreItemOperationsCompleted";
        /// Operations of plugins that failed.
        restore_item_operations_failed: i32 = "restoreItemOperationsFailed";
        /// Counts of its hooks.
        hook_status: Option<HookStatus> = "hookStatus", nullable;
    }
}
