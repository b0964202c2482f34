//! What the coordinator knows of pods and volumes, wherever it knows it from.

mod directory;

pub(crate) use directory::Directory;
use orlop_core::run::KnownVolume;

/// Pods and volumes. `Directory` knows what agents report; an adapter of the Kubernetes API stands beside it.
pub(crate) trait Cluster: Send + Sync {
    /// The agent of `node` has found exactly these volumes.
    fn report(&self, node: &str, volumes: Vec<KnownVolume>);

    /// All volumes of all nodes.
    fn volumes(&self) -> Vec<KnownVolume>;

    /// The volumes of one node.
    fn volumes_of(&self, node: &str) -> Vec<KnownVolume>;
}
