//! What the coordinator knows of pods and volumes, wherever it knows it from, and what it does in pods.

mod directory;
mod kube;
mod lost;
mod objects;
mod target;

use std::path::PathBuf;

use async_trait::async_trait;
pub(crate) use directory::Directory;
pub(crate) use kube::KubeCluster;
pub(crate) use objects::{
    BackedVolume, ContainerState, ItemEnd, ItemReport, ObjectsRequest, PodState, RestoreHook,
    RestoreSink, RestoredPod,
};
use orlop_core::{
    Lineage, VolumeRef,
    hook::{Hook, HookOutcome},
    run::{BackupSpec, KnownVolume, NewPod, Objects, Place, RestoreSpec},
};
use orlop_kubernetes::{events::Occurrence, velero::Restore};
use orlop_proto::v1::LogLevel;
pub(crate) use target::{Located, Target};
use tokio_util::sync::CancellationToken;

use crate::runs::Refusal;

/// Pods and volumes. `Directory` knows what agents report; an adapter of the Kubernetes API stands beside it.
#[async_trait]
pub(crate) trait Cluster: Send + Sync {
    /// The agent of `node` has found exactly these volumes.
    fn report(&self, node: &str, volumes: Vec<KnownVolume>);

    /// All volumes of all nodes.
    fn volumes(&self) -> Vec<KnownVolume>;

    /// The volumes of one node.
    fn volumes_of(&self, node: &str) -> Vec<KnownVolume>;

    /// Chooses what a backup takes, and puts its Kubernetes objects aside.
    ///
    /// # Errors
    /// Something that was named is not known, or the API does not answer.
    async fn plan_backup(&self, name: &str, spec: &BackupSpec) -> Result<BackupPlan, Refusal>;

    /// The volume that a snapshot is restored into while its pod is there.
    ///
    /// # Errors
    /// There is none, it cannot be restored into, or the API does not answer.
    async fn locate(&self, target: &Target) -> Result<Located, Refusal> {
        target::among(target, &self.volumes())
    }

    /// Runs a hook in its container; ends soon after the hook's timeout at the latest.
    async fn run_hook(&self, namespace: &str, pod: &str, hook: &Hook) -> HookEnd;

    /// Scheme, host and port by which clients outside reach the endpoint of downloads, if the cluster has one for it.
    ///
    /// # Errors
    /// The API does not answer.
    async fn downloads_url(&self) -> Result<Option<String>, Refusal>;

    /// The object that says which objects a restore makes again and how.
    ///
    /// # Errors
    /// There is no Kubernetes API, or it is no such object.
    fn restore_object(&self, name: &str, spec: &RestoreSpec) -> Result<Restore, Refusal>;

    /// Makes the objects of a restore again, from the first one on: what it has made before counts as made.
    ///
    /// # Errors
    /// It was cancelled, or cannot go on; trouble with one object is told to `sink` and is none.
    async fn restore_objects(
        &self,
        request: &ObjectsRequest<'_>,
        sink: &mut dyn RestoreSink,
        cancel: &CancellationToken,
    ) -> Result<(), Refusal>;

    /// How far a restored pod has come.
    ///
    /// # Errors
    /// The API does not answer.
    async fn pod_state(&self, pod: &RestoredPod) -> Result<PodState, Refusal>;

    /// Tells of something on the object that it happens to, where people look at it. It neither waits nor fails.
    fn tell(&self, occurrence: Occurrence);

    /// Deletes the pod with this UID; one that is gone is no error.
    ///
    /// # Errors
    /// The API does not answer or refuses.
    async fn delete_pod(&self, namespace: &str, pod: &str, uid: &str) -> Result<(), Refusal>;

    /// Whether hooks of a container may run.
    ///
    /// # Errors
    /// The API does not answer.
    async fn container_state(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<ContainerState, Refusal>;

    /// Gives new persistent volumes of a restore what its backup knows of the old ones; what somebody should know of that.
    async fn finish_volumes(
        &self,
        request: &ObjectsRequest<'_>,
        cancel: &CancellationToken,
    ) -> Vec<String>;
}

/// What a backup takes.
#[derive(Debug, Default)]
pub(crate) struct BackupPlan {
    /// Volumes to back up.
    pub(crate) volumes: Vec<PlannedVolume>,
    /// Volumes that this backup took when it was begun before, and that are no more: they are failed from the start.
    pub(crate) lost: Vec<PlannedVolume>,
    /// Volumes of the pods concerned that are left out, each with the reason.
    pub(crate) skipped: Vec<(VolumeRef, String)>,
    /// Pods with hooks.
    pub(crate) pods: Vec<NewPod>,
    /// Pods, by namespace and name, that are backed up one after the other.
    pub(crate) order: Vec<(String, String)>,
    /// The Kubernetes objects; `None` where there is no Kubernetes API.
    pub(crate) objects: Option<PlannedObjects>,
    /// What else somebody should know.
    pub(crate) notes: Vec<(LogLevel, String)>,
}

/// A volume to back up.
#[derive(Debug)]
pub(crate) struct PlannedVolume {
    /// The volume.
    pub(crate) volume: VolumeRef,
    /// Where its snapshots go on from.
    pub(crate) lineage: Lineage,
    /// The node that has it.
    pub(crate) node: String,
    /// Where it is, if the Kubernetes API tells.
    pub(crate) place: Option<Place>,
}

/// Kubernetes objects that were put aside.
#[derive(Debug)]
pub(crate) struct PlannedObjects {
    /// The file that holds them; it belongs to who has the plan.
    pub(crate) file: PathBuf,
    /// Their number.
    pub(crate) counts: Objects,
}

/// How a hook has ended.
#[derive(Debug)]
pub(crate) struct HookEnd {
    /// How.
    pub(crate) outcome: HookOutcome,
    /// What it printed, as far as that is kept.
    pub(crate) stdout: String,
    /// What it printed as errors, as far as that is kept.
    pub(crate) stderr: String,
    /// Why it failed; empty if it did not.
    pub(crate) message: String,
}
