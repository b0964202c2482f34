//! What is said between a restore and who makes its objects.

#![allow(dead_code, reason = "what makes objects is not part of this build yet")]

use std::{path::Path, time::Duration};

use orlop_core::{
    SnapshotId, VolumeRef,
    hook::{HookSource, OnError},
    run::Place,
};
use orlop_kubernetes::velero::{Backup, Restore};

/// A volume that has a snapshot in the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackedVolume {
    /// The volume as it was called when it was backed up.
    pub(crate) source: VolumeRef,
    /// Its snapshot.
    pub(crate) snapshot: SnapshotId,
    /// Its claim, in the pod's namespace; empty if it had none.
    pub(crate) claim: String,
    /// The persistent volume of its claim; empty if it had none.
    pub(crate) persistent_volume: String,
}

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

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ItemEnd {
    /// It was made, now or before the process was started again.
    Created,
    /// It was there and was changed.
    Updated,
    /// It is not there, or not as it should be.
    Failed,
    /// It was there and was left alone, or is not to be restored.
    Skipped,
}

/// What became of an object, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ItemReport {
    /// Plural and group, such as `deployments.apps`.
    pub(crate) resource: String,
    /// Such as `Deployment`.
    pub(crate) kind: String,
    /// Such as `apps/v1`.
    pub(crate) api_version: String,
    /// Its namespace in the cluster; empty for an object of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// What became of it.
    pub(crate) end: ItemEnd,
    /// One line each: what somebody should know.
    pub(crate) warnings: Vec<String>,
    /// One line each: what is missing.
    pub(crate) errors: Vec<String>,
}

/// A pod that was made, with volumes to restore into or hooks to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestoredPod {
    /// Its namespace in the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) pod: String,
    /// Its uid.
    pub(crate) uid: String,
    /// Volume in the pod, where its data was, and the snapshot that has it.
    pub(crate) volumes: Vec<(String, VolumeRef, SnapshotId)>,
    /// Hooks, in the order in which they run.
    pub(crate) hooks: Vec<RestoreHook>,
}

/// A command that runs in a restored pod once a container of it is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestoreHook {
    /// A name for people; several hooks may have the same.
    pub(crate) name: String,
    /// Where it was found.
    pub(crate) source: HookSource,
    /// The container, which may not exist.
    pub(crate) container: String,
    /// The program and its arguments, never empty; no shell splits or expands them.
    pub(crate) command: Vec<String>,
    /// Whether the pod's further hooks run when it fails.
    pub(crate) on_error: OnError,
    /// How long it may take.
    pub(crate) exec_timeout: Duration,
    /// How long to wait for the container; zero if nobody said.
    pub(crate) wait_timeout: Duration,
    /// Whether to wait until the container is ready rather than running.
    pub(crate) wait_for_ready: bool,
}

/// What is told while objects are restored. It must not block for long.
pub(crate) trait RestoreSink: Send {
    /// So many objects are to be restored; the number may grow.
    fn total(&mut self, items: u64);

    /// An object is done. Each comes once.
    fn item(&mut self, report: ItemReport);

    /// A pod is there that has volumes to restore or hooks. Pods that were made before the process was started again come
    /// too.
    fn pod(&mut self, pod: RestoredPod);
}

/// How far a restored pod has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PodState {
    /// There is no pod of its name.
    Gone,
    /// Another pod has its name.
    Replaced {
        /// The other one's UID.
        uid: String,
        /// Whether it waits for its volumes too.
        waits: bool,
    },
    /// No node was found for it yet.
    Unscheduled {
        /// Why, as far as is known.
        reason: String,
    },
    /// It has a node and does not wait there yet.
    Starting {
        /// The node.
        node: String,
        /// Why it does not, as far as is known.
        reason: String,
    },
    /// It waits for its volumes.
    Waiting {
        /// The node.
        node: String,
        /// Where they are, by their names in the pod.
        places: Vec<(String, Place)>,
    },
    /// It has waited and goes on.
    Started,
    /// It has ended.
    Ended,
}

/// Whether hooks of a container may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContainerState {
    /// It runs.
    Running,
    /// It runs and is ready.
    Ready,
    /// It does not run yet.
    Starting {
        /// Why, as far as is known.
        reason: String,
    },
    /// It will never run.
    Never {
        /// Why.
        reason: String,
    },
}
