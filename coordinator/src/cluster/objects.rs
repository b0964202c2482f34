//! What is said between a restore and who makes its objects.

use std::path::Path;

pub(crate) use orlop_kubernetes::restore::{
    BackedVolume, ContainerState, ItemEnd, ItemReport, PodState, RestoreHook, RestoreSink,
    RestoredPod,
};
use orlop_kubernetes::velero::{Backup, Restore};

/// A restore of objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectsRequest<'a> {
    /// What is asked for.
    pub(crate) restore: &'a Restore,
    /// The backup that is restored.
    pub(crate) backup: &'a Backup,
    /// The backup's objects, a plain `.tar.gz`.
    pub(crate) tarball: &'a Path,
    /// Volumes with snapshots.
    pub(crate) volumes: &'a [BackedVolume],
}
