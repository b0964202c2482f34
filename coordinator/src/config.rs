//! What a coordinator needs to know before it begins.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use orlop_kubernetes::client::Connection;
use orlop_repository::Unlock;
use orlop_runtime::{identity::Authority, metrics::Metrics};

use crate::{clock::Clock, locations::Home};

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
    /// How long the backup of a volume may stand still, unless the backup says another time.
    pub task_patience: Duration,
    /// How often agents say that they live.
    pub heartbeat: Duration,
    /// What may pass the gateway at once.
    pub gateway: GatewayLimits,
    /// How often schedules are looked at.
    pub tick: Duration,
    /// How often locations are looked at, and what other coordinators have recorded there.
    pub validate_every: Duration,
    /// How often space is freed in each location; zero for never.
    pub collect_every: Duration,
    /// In how many rounds all bytes of a location are read again; 0 for never.
    pub scrub_days: u32,
    /// How often there is such a round.
    pub scrub_every: Duration,
    /// How fast bytes are read then, in bytes a second; 0 for as fast as can be.
    pub scrub_bytes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks_per_node: None,
            tasks_per_location: 0,
            // Long enough for a node to be restarted.
            node_deadline: Duration::from_mins(5),
            task_patience: Duration::from_hours(4),
            heartbeat: Duration::from_secs(10),
            gateway: GatewayLimits::default(),
            tick: Duration::from_secs(1),
            validate_every: Duration::from_mins(1),
            collect_every: Duration::from_hours(24),
            scrub_days: 30,
            scrub_every: Duration::from_hours(24),
            scrub_bytes_per_second: 64 << 20,
        }
    }
}

/// What may pass the gateway at once. A share of a node keeps one that hangs from holding up the others.
#[derive(Debug, Clone)]
pub struct GatewayLimits {
    /// Calls of all nodes.
    pub streams: u32,
    /// Calls of one node.
    pub streams_per_node: u32,
    /// Objects in memory on their way in, in bytes.
    pub put_bytes: u32,
    /// Those of one node; also the largest object that it can put.
    pub put_bytes_per_node: u32,
    /// Objects in memory on their way out, in bytes.
    pub get_bytes: u32,
    /// Those of one node.
    pub get_bytes_per_node: u32,
    /// A stream that stands still for so long is ended; a call waits for room for twice as long.
    pub idle: Duration,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            streams: 256,
            streams_per_node: 64,
            // Six packs of all nodes, four of one. With what goes out it leaves the coordinator the larger part of
            // the 256 MiB that it may use.
            put_bytes: 96 << 20,
            put_bytes_per_node: 64 << 20,
            get_bytes: 48 << 20,
            get_bytes_per_node: 32 << 20,
            idle: Duration::from_secs(30),
        }
    }
}

impl GatewayLimits {
    /// How long an object of `bytes` may take to come in, however steadily it trickles.
    pub(crate) fn patience(&self, bytes: u64) -> Duration {
        /// Bytes a second; a line that is slower cannot be backed up over.
        const SLOWEST: u64 = 64 << 10;
        self.idle * 2 + Duration::from_secs(bytes / SLOWEST)
    }
}

/// How agents reach the stores of repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreAccess {
    /// The agent in the coordinator's own process opens it itself; all others go through the coordinator.
    #[default]
    Auto,
    /// Every agent opens it itself: all of them must see the same directory, or have credentials.
    Direct,
    /// Every agent goes through the coordinator.
    Gateway,
}

/// Where artifacts are downloaded by who speaks only HTTP.
#[derive(Debug, Clone)]
pub struct DownloadEndpoint {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Scheme, host and port by which clients reach it; `None`: as the cluster says, or else by the address that it
    /// listens on.
    pub url: Option<String>,
}

/// The cluster that a coordinator looks after.
#[derive(Debug, Clone)]
pub struct ClusterAccess {
    /// The way to its API server.
    pub connection: Connection,
    /// Directories of nodes below which agents read persistent volumes of type hostPath.
    pub host_roots: Vec<String>,
}

/// What a coordinator is made of.
pub struct CoordinatorConfig {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The location that it is started with, which is the default one; `None` if locations are made by calls only.
    pub home: Option<Home>,
    /// What opens a repository whose location has no password or key file of its own.
    pub unlock: Option<Unlock>,
    /// Directory of what must outlive a restart: locations with their secrets, heads of logs. Made if it is missing.
    pub data_dir: PathBuf,
    /// Whether agents open stores themselves.
    pub store_access: StoreAccess,
    /// The node whose agent runs in this process.
    pub own_node: Option<String>,
    /// The state database; made if it does not exist. It may be deleted while the coordinator is down.
    pub state_db: PathBuf,
    /// What the server shows to clients.
    pub identity: Authority,
    /// What clients and agents show to the server.
    pub token: String,
    /// The cluster; `None` if there is no Kubernetes API.
    pub cluster: Option<ClusterAccess>,
    /// Where artifacts are downloaded; `None` for nowhere.
    pub downloads: Option<DownloadEndpoint>,
    /// Where monitoring is told, by plain HTTP at `/metrics`; `None` for nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// What it is told; the coordinator adds its own.
    pub metrics: Metrics,
    /// Limits.
    pub limits: Limits,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
}
