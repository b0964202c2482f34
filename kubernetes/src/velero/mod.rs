//! Velero's custom resources as Rust types: `velero.io/v1`, and the data mover's `velero.io/v2alpha1`.
//!
//! They can be used with `kube::Api`. Status is an ordinary part of the object: it is written by a merge
//! patch of the object itself, never of a subresource. An object that cannot be read, for a duration that
//! is none, breaks the list it is in; list `DeserializeGuard<Backup>` where strangers write.

pub(crate) mod shape;

mod kind;
mod known;

pub mod backup;
pub mod data_mover;
pub mod duration;
pub mod hooks;
pub mod labels;
pub mod location;
pub mod patch;
pub mod pod_volume;
pub mod repository;
pub mod request;
pub mod restore;
pub mod schedule;

pub use backup::{Backup, BackupPhase, BackupSpec, BackupStatus};
pub use data_mover::{DataDownload, DataUpload};
pub use duration::{GoDuration, ParseDurationError};
pub use hooks::{ExecHook, HookErrorMode};
pub use location::{BackupStorageLocation, VolumeSnapshotLocation};
pub use patch::merge_patch;
pub use pod_volume::{PodVolumeBackup, PodVolumePhase, PodVolumeRestore};
pub use repository::BackupRepository;
pub use request::{DeleteBackupRequest, DownloadRequest, DownloadTargetKind, ServerStatusRequest};
pub use restore::{Restore, RestorePhase, RestoreSpec, RestoreStatus};
pub use schedule::Schedule;

pub(crate) use kind::{Kind, Names};
pub(crate) use shape::describe;

/// The API group of all of them.
pub const GROUP: &str = "velero.io";

#[cfg(test)]
mod tests;
