//! `DeleteBackupRequest`, `DownloadRequest` and `ServerStatusRequest`: questions that clients put as objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    kind::kind,
    shape::{object, words},
};

kind! {
    /// Somebody wants a backup gone, with its files and its snapshots.
    pub struct DeleteBackupRequest = "v1", "deletebackuprequests";
    columns [
        ("BackupName", "string", ".spec.backupName"),
        ("Status", "string", ".status.phase"),
    ];
    /// Which backup.
    spec: DeleteBackupRequestSpec,
    /// What became of it; written by the server.
    status: DeleteBackupRequestStatus,
}

object! {
    /// Which backup to delete.
    pub struct DeleteBackupRequestSpec {
        /// The backup's name.
        backup_name: String = "backupName", required;
    }
}

words! {
    /// How far a deletion has come.
    pub enum DeleteBackupRequestPhase {
        /// Nobody has looked at it.
        New = "New",
        /// It runs.
        InProgress = "InProgress",
        /// Ended; `errors` says whether well.
        Processed = "Processed",
    }
}

object! {
    /// What became of a deletion.
    pub struct DeleteBackupRequestStatus {
        /// How far it has come.
        phase: DeleteBackupRequestPhase = "phase";
        /// Why the backup is still there.
        errors: Vec<String> = "errors", nullable;
    }
}

kind! {
    /// Somebody wants to read a file of a backup or restore.
    pub struct DownloadRequest = "v1", "downloadrequests";
    columns [];
    /// Which file.
    spec: DownloadRequestSpec,
    /// Where to get it; written by the server.
    status: DownloadRequestStatus,
}

words! {
    /// The files of a backup or restore.
    pub enum DownloadTargetKind {
        /// A backup's log.
        BackupLog = "BackupLog",
        /// A backup's objects.
        BackupContents = "BackupContents",
        /// A backup's cloud snapshots.
        BackupVolumeSnapshots = "BackupVolumeSnapshots",
        /// A backup's operations of plugins.
        BackupItemOperations = "BackupItemOperations",
        /// The names of a backup's objects.
        BackupResourceList = "BackupResourceList",
        /// A backup's errors and warnings.
        BackupResults = "BackupResults",
        /// A restore's log.
        RestoreLog = "RestoreLog",
        /// A restore's errors and warnings.
        RestoreResults = "RestoreResults",
        /// The names of a restore's objects.
        RestoreResourceList = "RestoreResourceList",
        /// A restore's operations of plugins.
        RestoreItemOperations = "RestoreItemOperations",
        /// A backup's CSI snapshots.
        CsiBackupVolumeSnapshots = "CSIBackupVolumeSnapshots",
        /// The contents of a backup's CSI snapshots.
        CsiBackupVolumeSnapshotContents = "CSIBackupVolumeSnapshotContents",
        /// What a backup knows of each volume.
        BackupVolumeInfos = "BackupVolumeInfos",
        /// What a restore knows of each volume.
        RestoreVolumeInfo = "RestoreVolumeInfo",
    }
}

object! {
    /// Which file of which backup or restore.
    pub struct DownloadTarget {
        /// The file.
        kind: DownloadTargetKind = "kind", required;
        /// The backup's or restore's name.
        name: String = "name", required;
    }
}

object! {
    /// Which file to download.
    pub struct DownloadRequestSpec {
        /// The file.
        target: DownloadTarget = "target", required;
    }
}

words! {
    /// Whether a request was answered.
    pub enum RequestPhase {
        /// Not yet.
        New = "New",
        /// It was.
        Processed = "Processed",
    }
}

object! {
    /// Where to get a file.
    pub struct DownloadRequestStatus {
        /// Whether the URL is there.
        phase: RequestPhase = "phase";
        /// Where to get the file with a plain GET.
        download_url: String = "downloadURL";
        /// When the URL stops to work; the request is deleted then.
        expiration: Option<Time> = "expiration", nullable;
    }
}

kind! {
    /// Somebody wants to know whether the server runs and which version it is.
    pub struct ServerStatusRequest = "v1", "serverstatusrequests", short "ssr";
    columns [];
    /// Nothing.
    spec: ServerStatusRequestSpec,
    /// The answer; written by the server.
    status: ServerStatusRequestStatus,
}

object! {
    /// Nothing: the request itself is the question.
    pub struct ServerStatusRequestSpec {
    }
}

object! {
    /// A plugin of the server.
    pub struct PluginInfo {
        /// Its name.
        name: String = "name", required;
        /// What it does.
        kind: String = "kind", required;
    }
}

object! {
    /// What the server says of itself.
    pub struct ServerStatusRequestStatus {
        /// Whether it has answered.
        phase: RequestPhase = "phase";
        /// When it answered; the request is deleted a minute later.
        processed_timestamp: Option<Time> = "processedTimestamp", nullable;
        /// The version it claims.
        server_version: String = "serverVersion";
        /// Its plugins.
        plugins: Vec<PluginInfo> = "plugins", nullable;
    }
}
