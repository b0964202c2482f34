//! The agent as a whole: dials the coordinator, registers, and keeps the conversation up while its tasks
//! run on their own threads.

mod client;
mod conversation;
mod inventory;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub(crate) use client::{Client, backoff, connect};
use orlop_proto::v1::agents_client::AgentsClient;
use tokio_util::sync::CancellationToken;

use self::conversation::Conversation;
pub(crate) use self::inventory::Inventory;
use crate::{backup::Limits, task::TaskTable, volumes::DiscoverOptions};

/// Inventories of large nodes are larger than gRPC's default of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// A conversation that lasted so long was a good one: the next dial is at once.
const GOOD: Duration = Duration::from_secs(30);

/// What an agent needs to know before it begins.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The coordinator, such as `https://127.0.0.1:7070`.
    pub server: String,
    /// Certificate of the authority that signed the coordinator's certificate, PEM.
    pub ca_pem: String,
    /// The bearer token.
    pub token: TokenSource,
    /// Name of the node.
    pub node: String,
    /// Where volumes are looked for.
    pub discover: DiscoverOptions,
    /// Memory that backups may use for data in flight over all tasks, in bytes.
    pub memory_bytes: u64,
    /// How fast all backups together may go.
    pub limits: Limits,
}

/// Where the bearer token comes from.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// It stays the same.
    Fixed(String),
    /// It is in a file, and may be another one each time that it is read.
    File(PathBuf),
}

/// Why an agent cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The coordinator's address or certificate, or the token, is not one.
    #[error("use {what} to reach the coordinator: {reason}")]
    Config {
        /// What is wrong.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// Serves the node until `shutdown`. A coordinator that cannot be reached is dialled again and again;
/// running tasks do not notice. At `shutdown` tasks are stopped; the coordinator has them begun again by the
/// next agent.
///
/// # Errors
/// The configuration cannot be used.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AppError> {
    let client = connect(&config)?;
    let inventory = Arc::new(Inventory::new(config.discover.clone()));
    let tasks = Arc::new(TaskTable::new(
        &config,
        client.clone(),
        Arc::clone(&inventory),
    ));
    let mut failures = 0;
    while !shutdown.is_cancelled() {
        let begun = std::time::Instant::now();
        let agents = AgentsClient::new(client.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let conversation = Conversation::new(&config.node, &inventory, &tasks);
        let ended = tokio::select! {
            () = shutdown.cancelled() => break,
            ended = conversation.hold(agents) => ended,
        };
        match ended {
            Ok(()) => tracing::info!("coordinator ended the conversation"),
            Err(status) => {
                tracing::warn!(status = %status, "conversation with the coordinator broke");
            }
        }
        failures = if begun.elapsed() > GOOD {
            0
        } else {
            failures + 1
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(backoff(failures)) => {}
        }
    }
    tasks.stop_all().await;
    Ok(())
}
