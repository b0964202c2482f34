//! `BackupRepository`: the volumes' data of one namespace in one location.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    duration::GoDuration,
    kind::kind,
    pod_volume::UploaderType,
    shape::{object, words},
};

kind! {
    /// The volumes' data of one namespace in one location.
    pub struct BackupRepository = "v1", "backuprepositories";
    columns [
        ("Age", "date", ".metadata.creationTimestamp"),
        ("Repository Type", "string", ".spec.repositoryType"),
    ];
    /// What it is for.
    spec: BackupRepositorySpec,
    /// Whether it can be used; written by the server.
    status: BackupRepositoryStatus,
}

object! {
    /// What a repository is for.
    pub struct BackupRepositorySpec {
        /// The namespace whose volumes it holds.
        volume_namespace: String = "volumeNamespace", required;
        /// The location that it is in.
        backup_storage_location: String = "backupStorageLocation", required;
        /// The engine.
        repository_type: UploaderType = "repositoryType", or_empty;
        /// Where restic finds it; of old repositories only.
        restic_identifier: String = "resticIdentifier";
        /// How often what no snapshot needs is removed.
        maintenance_frequency: GoDuration = "maintenanceFrequency", required;
        /// Settings of the engine.
        repository_config: BTreeMap<String, String> = "repositoryConfig", nullable;
    }
}

words! {
    /// Whether a repository can be used.
    pub enum BackupRepositoryPhase {
        /// Nobody has looked at it.
        New = "New",
        /// It can.
        Ready = "Ready",
        /// It cannot; the message says why.
        NotReady = "NotReady",
    }
}

words! {
    /// How a maintenance ended.
    pub enum MaintenanceResult {
        /// Well.
        Succeeded = "Succeeded",
        /// Not well; the message says why.
        Failed = "Failed",
    }
}

object! {
    /// One maintenance of a repository.
    pub struct Maintenance {
        /// How it ended.
        result: MaintenanceResult = "result";
        /// When it began.
        start_timestamp: Option<Time> = "startTimestamp", nullable;
        /// When it ended.
        complete_timestamp: Option<Time> = "completeTimestamp", nullable;
        /// Why it failed.
        message: String = "message";
    }
}

object! {
    /// Whether a repository can be used.
    pub struct BackupRepositoryStatus {
        /// Whether it can be used.
        phase: BackupRepositoryPhase = "phase";
        /// Why it cannot be used.
        message: String = "message";
        /// When it was last maintained with success.
        last_maintenance_time: Option<Time> = "lastMaintenanceTime", nullable;
        /// The last maintenances, at most 25, the newest last.
        recent_maintenance: Vec<Maintenance> = "recentMaintenance";
    }
}
