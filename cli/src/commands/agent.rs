//! `orlop agent`: the agent of one node, which dials the coordinator.

use anyhow::Result;
use clap::Args;
use orlop_agent::app::{self, AgentConfig};
use tokio_util::sync::CancellationToken;

use super::standalone::{DiscoverArgs, MEMORY_BYTES};
use crate::{
    client::{self, ClientArgs},
    exit::Outcome,
    node,
};

/// Which coordinator, and which node.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    discover: DiscoverArgs,
    /// Name of this node (default: the host name)
    #[arg(long, env = "ORLOP_NODE", value_name = "NAME")]
    node: Option<String>,
    /// Memory that the agent may use, in MiB
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_BYTES >> 20)]
    memory_mib: u64,
}

impl AgentArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let (token, ca_pem) = self.client.credentials()?;
        let config = AgentConfig {
            server: client::url(&self.client.server),
            ca_pem,
            token,
            node: self.node.unwrap_or_else(node::name),
            discover: self.discover.options(),
            memory_bytes: self.memory_mib << 20,
        };
        app::run(config, cancel).await?;
        Ok(Outcome::Done)
    }
}
