//! What a coordinator needs to know before it begins.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use orlop_repository::Repository;
use orlop_runtime::identity::Authority;

/// How much may run at once, and how long silence is borne.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Tasks of one node; `None` for half of the processors that its agent has, at least 1.
    pub tasks_per_node: Option<u32>,
    /// Tasks of the location over all nodes; 0 for no limit.
    pub tasks_per_location: u32,
    /// A node whose agent is silent for so long loses its tasks. While it is silent for less they are taken to
    /// run on.
    pub node_deadline: Duration,
    /// How often agents say that they live.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks_per_node: None,
            tasks_per_location: 0,
            // Long enough for a node to be restarted.
            node_deadline: Duration::from_mins(5),
            heartbeat: Duration::from_secs(10),
        }
    }
}

/// What a coordinator is made of.
pub struct CoordinatorConfig {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The repository of the location.
    pub repository: Arc<Repository>,
    /// URL by which agents reach the repository's store.
    pub store_url: String,
    /// The location's name.
    pub location: String,
    /// The state database; made if it does not exist. It may be deleted while the coordinator is down.
    pub state_db: PathBuf,
    /// What the server shows to clients.
    pub identity: Authority,
    /// What clients and agents show to the server.
    pub token: String,
    /// Limits.
    pub limits: Limits,
}
