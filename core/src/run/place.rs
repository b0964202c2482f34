//! Where a volume is in a cluster.

use serde::{Deserialize, Serialize};

use crate::chunking::Chunking;

/// Where a volume is in a cluster: for the agent that opens it, and for those who show it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the volume's directory below those of its pod and plugin.
    pub directory: String,
    /// The directory of the node that a persistent volume of type hostPath is; empty for all others.
    pub host_path: String,
    /// Name of its claim, in the pod's namespace; empty if it has none.
    pub claim: String,
    /// UID of its claim; empty if it has none.
    pub claim_uid: String,
    /// Name of the persistent volume of its claim; empty if it has none.
    pub persistent_volume: String,
    /// How its large files are cut.
    pub chunking: Chunking,
}
