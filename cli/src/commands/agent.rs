//! `orlop agent`: the agent of one node, which dials the coordinator.

use anyhow::Result;
use clap::Args;
use orlop_agent::{
    app::{self, AgentConfig, TokenSource},
    volumes::{DiscoverOptions, HostRoot},
};
use tokio_util::sync::CancellationToken;

use super::{
    limits::LimitArgs,
    standalone::{DiscoverArgs, MEMORY_BYTES},
};
use crate::{
    client::{self, ServerArgs},
    exit::Outcome,
    identity, node,
};

/// Which coordinator, and which node.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    client: ServerArgs,
    #[command(flatten)]
    discover: DiscoverArgs,
    /// Name of this node (default: the host name)
    #[arg(long, env = "ORLOP_NODE", value_name = "NAME")]
    node: Option<String>,
    /// Directory of the node below which persistent volumes of type hostPath are read, and where it is mounted here if
    /// that is elsewhere
    #[arg(long = "host-root", value_name = "DIR[=MOUNTED]", value_parser = host_root)]
    host_roots: Vec<HostRoot>,
    /// Memory that the agent may use, in MiB
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_BYTES >> 20)]
    memory_mib: u64,
    #[command(flatten)]
    limits: LimitArgs,
}

fn host_root(text: &str) -> Result<HostRoot, String> {
    let (node, mounted) = text.split_once('=').unwrap_or((text, text));
    if !node.starts_with('/') || !mounted.starts_with('/') {
        return Err(
            "it needs absolute paths, such as /opt/local or /opt/local=/host/local".to_owned(),
        );
    }
    Ok(HostRoot {
        node: node.into(),
        mounted: mounted.into(),
    })
}

impl AgentArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let node = self.node.clone().unwrap_or_else(node::name);
        let limits = self.limits.limits();
        loop {
            let Some(ca_pem) = self.client.awaited_ca(&cancel).await? else {
                return Ok(Outcome::Done);
            };
            let config = AgentConfig {
                server: client::url(self.client.address()),
                ca_pem: ca_pem.clone(),
                token: TokenSource::File(self.client.token_path()?),
                node: node.clone(),
                discover: DiscoverOptions {
                    host_roots: self.host_roots.clone(),
                    ..self.discover.options()
                },
                memory_bytes: self.memory_mib << 20,
                limits: limits.clone(),
            };
            let stop = cancel.child_token();
            let run = app::run(config, stop.clone());
            tokio::pin!(run);
            tokio::select! {
                ended = &mut run => {
                    ended?;
                    return Ok(Outcome::Done);
                }
                () = identity::changed(self.client.ca_file.as_deref(), &ca_pem) => {}
            }
            tracing::info!(
                "the coordinator's authority has changed: the agent begins again with it"
            );
            stop.cancel();
            run.await?;
        }
    }
}
