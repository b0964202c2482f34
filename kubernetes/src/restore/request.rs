//! What a restore of objects is asked for, and what it tells while it runs.

use std::{path::Path, time::Duration};

use orlop_core::{
    SnapshotId, VolumeRef,
    hook::{HookSource, OnError},
};

use crate::{
    client::ClientError,
    files::{FileError, ResourceList, RestoreOutcome},
    selection::InvalidFilters,
    velero::{Backup, Restore},
};

/// A volume that has a snapshot in the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedVolume {
    /// The volume as it was called when it was backed up.
    pub source: VolumeRef,
    /// Its snapshot.
    pub snapshot: SnapshotId,
    /// Its claim, in the pod's namespace; empty if it had none.
    pub claim: String,
    /// The persistent volume of its claim; empty if it had none.
    pub persistent_volume: String,
}

/// A restore of objects.
#[derive(Debug, Clone, Copy)]
pub struct RestoreRequest<'a> {
    /// What is asked for. Its uid tells its own objects from those of another restore of its name.
    pub restore: &'a Restore,
    /// The backup that is restored.
    pub backup: &'a Backup,
    /// The backup's objects, a plain `.tar.gz`. Its directory must have room for them uncompressed.
    pub tarball: &'a Path,
    /// Volumes with snapshots.
    pub volumes: &'a [BackedVolume],
    /// The image of `restore-wait`, when no ConfigMap says otherwise.
    pub image: &'a str,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemEnd {
    /// It was made, now or before the process was started again.
    Created,
    /// It was there and was changed.
    Updated,
    /// It is not there, or not as it should be.
    Failed,
    /// It was there and was left alone, or is not to be restored.
    Skipped,
}

impl From<ItemEnd> for RestoreOutcome {
    fn from(end: ItemEnd) -> Self {
        match end {
            ItemEnd::Created => Self::Created,
            ItemEnd::Updated => Self::Updated,
            ItemEnd::Failed => Self::Failed,
            ItemEnd::Skipped => Self::Skipped,
        }
    }
}

/// What became of an object, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemReport {
    /// Plural and group, such as `deployments.apps`.
    pub resource: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Its namespace in the cluster; empty for an object of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub end: ItemEnd,
    /// One line each: what somebody should know.
    pub warnings: Vec<String>,
    /// One line each: what is missing.
    pub errors: Vec<String>,
}

impl ItemReport {
    /// Adds it to the list of a restore's objects.
    pub fn list_in(&self, list: &mut ResourceList) {
        let namespace = Some(self.namespace.as_str()).filter(|name| !name.is_empty());
        let (api_version, kind) = (self.api_version.as_str(), self.kind.as_str());
        list.add_restored(api_version, kind, namespace, &self.name, self.end.into());
    }
}

/// A pod that was made, with volumes to restore into or hooks to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredPod {
    /// Its namespace in the cluster.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Volume in the pod, where its data was, and the snapshot that has it.
    pub volumes: Vec<(String, VolumeRef, SnapshotId)>,
    /// Hooks, in the order in which they run.
    pub hooks: Vec<RestoreHook>,
}

/// A command that runs in a restored pod once a container of it is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreHook {
    /// A name for people; several hooks may have the same.
    pub name: String,
    /// Where it was found.
    pub source: HookSource,
    /// The container, which may not exist.
    pub container: String,
    /// The program and its arguments, never empty; no shell splits or expands them.
    pub command: Vec<String>,
    /// Whether the pod's further hooks run when it fails.
    pub on_error: OnError,
    /// How long it may take.
    pub exec_timeout: Duration,
    /// How long to wait for the container; zero if nobody said.
    pub wait_timeout: Duration,
    /// Whether to wait until the container is ready rather than running.
    pub wait_for_ready: bool,
}

/// What is told while objects are restored. It is called on a thread that others wait for: it must not block for long.
pub trait RestoreSink: Send {
    /// So many objects are to be restored; the number may grow.
    fn total(&mut self, items: u64);

    /// An object is done. Each comes once.
    fn item(&mut self, report: ItemReport);

    /// A pod is there that has volumes to restore or hooks; it comes before the pod's own report. Pods that were made
    /// before the process was started again come too.
    fn pod(&mut self, pod: RestoredPod);
}

/// Why a restore of objects has ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Somebody has cancelled it.
    #[error("the restore of objects was cancelled")]
    Cancelled,
    /// What it asks for contradicts itself.
    #[error(transparent)]
    Invalid(#[from] InvalidFilters),
    /// It asks for something that we do not do.
    #[error("the restore asks for {what}, which does not exist here; take {field} out of it")]
    Unsupported {
        /// What.
        what: &'static str,
        /// The field that asks for it.
        field: &'static str,
    },
    /// The objects cannot be read.
    #[error("read the objects of the backup")]
    Tarball(#[from] FileError),
    /// The API server does not say which kinds it has, or nothing can be learnt of the settings.
    #[error("ask the API server what it has")]
    Client(#[from] ClientError),
}
