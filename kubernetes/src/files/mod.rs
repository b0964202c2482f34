//! Velero's files in the object store: where they are, and what is in them.
//!
//! Everything but the log and the tarball is one JSON value, compressed unless it is the backup object.
//! Nothing here talks to a store.

pub mod error;
pub mod gzip;
pub mod keys;
pub mod log;
pub mod resource_list;
pub mod results;
pub mod spool;
pub mod tarball;
pub mod volume_info;

mod hook_log;
mod logfmt;

pub use error::FileError;
pub use gzip::{gunzip, gzip, json_from_gzip, json_to_gzip};
pub use hook_log::HookLog;
pub use keys::{BackupFile, File, RestoreFile, backup_of, top_level_names};
pub use log::{Level, LogWriter, Record};
pub use resource_list::{ResourceList, RestoreOutcome};
pub use results::{ResultGroup, Results};
pub use spool::{SpoolWriter, SpooledItem, read_spool};
pub use tarball::{ItemPath, Tarball, TarballItem, TarballLimits, TarballWriter};
pub use volume_info::{BackupVolumeInfo, PodVolumeInfo, PvInfo, RestoreVolumeInfo};
