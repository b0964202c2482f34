//! `BackupStorageLocation` and `VolumeSnapshotLocation`: where backups live.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::SecretKeySelector, apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    duration::GoDuration,
    kind::kind,
    shape::{object, words},
};

kind! {
    /// Where backups live and how to reach it.
    pub struct BackupStorageLocation = "v1", "backupstoragelocations", short "bsl";
    columns [
        ("Phase", "string", ".status.phase"),
        ("Last Validated", "date", ".status.lastValidationTime"),
        ("Age", "date", ".metadata.creationTimestamp"),
        ("Default", "boolean", ".spec.default"),
    ];
    /// Where it is.
    spec: BackupStorageLocationSpec,
    /// Whether it can be reached; written by the server.
    status: BackupStorageLocationStatus,
}

object! {
    /// The bucket of a location.
    pub struct ObjectStorageLocation {
        /// The bucket, or for directories a name that stands for one.
        bucket: String = "bucket", required;
        /// What all keys begin with; empty for the bucket's root.
        prefix: String = "prefix";
        /// Certificates to trust beside the system's: PEM in base64.
        ca_cert: ByteString = "caCert";
        /// The Secret with such certificates.
        ca_cert_ref: Option<SecretKeySelector> = "caCertRef";
    }
}

words! {
    /// What a location may be used for.
    pub enum LocationAccessMode {
        /// Restores only.
        ReadOnly = "ReadOnly",
        /// Backups and restores.
        ReadWrite = "ReadWrite",
    }
}

object! {
    /// Where a location is.
    pub struct BackupStorageLocationSpec {
        /// The kind of store, such as `aws` or `replicated.com/nfs`.
        provider: String = "provider", required;
        /// Settings of the provider.
        config: BTreeMap<String, String> = "config";
        /// The Secret with credentials.
        credential: Option<SecretKeySelector> = "credential";
        /// The bucket.
        object_storage: ObjectStorageLocation = "objectStorage", required;
        /// Whether backups that name no location go here.
        default: bool = "default";
        /// What it may be used for; everything if not set.
        access_mode: LocationAccessMode = "accessMode";
        /// How often backups that others put there are looked for; 0 for never.
        backup_sync_period: Option<GoDuration> = "backupSyncPeriod", nullable;
        /// How often it is tried; 0 for never.
        validation_frequency: Option<GoDuration> = "validationFrequency", nullable;
    }
}

words! {
    /// Whether a location can be reached.
    pub enum LocationPhase {
        /// It can.
        Available = "Available",
        /// It cannot; the message says why.
        Unavailable = "Unavailable",
    }
}

object! {
    /// Whether a location can be reached.
    pub struct BackupStorageLocationStatus {
        /// Whether it can be reached.
        phase: LocationPhase = "phase";
        /// When its backups were last compared with the cluster's.
        last_synced_time: Option<Time> = "lastSyncedTime", nullable;
        /// When it was last tried.
        last_validation_time: Option<Time> = "lastValidationTime", nullable;
        /// Why it cannot be reached.
        message: String = "message";
        /// Not used any more.
        last_synced_revision: String = "lastSyncedRevision";
        /// Not used any more.
        access_mode: LocationAccessMode = "accessMode";
    }
}

kind! {
    /// Where cloud snapshots live. We make none; the kind is there for the `velero` command.
    pub struct VolumeSnapshotLocation = "v1", "volumesnapshotlocations", short "vsl";
    columns [];
    /// Where it is.
    spec: VolumeSnapshotLocationSpec,
    /// Whether it can be reached.
    status: VolumeSnapshotLocationStatus,
}

object! {
    /// Where cloud snapshots live.
    pub struct VolumeSnapshotLocationSpec {
        /// The kind of cloud.
        provider: String = "provider", required;
        /// Settings of the provider.
        config: BTreeMap<String, String> = "config";
        /// The Secret with credentials.
        credential: Option<SecretKeySelector> = "credential";
    }
}

object! {
    /// Whether cloud snapshots can be made.
    pub struct VolumeSnapshotLocationStatus {
        /// Whether it can be reached.
        phase: LocationPhase = "phase";
    }
}
