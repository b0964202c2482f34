//! The gRPC services: messages are checked here, `runs` and the repository do the work, and refusals become
//! `google.rpc.Status` with details.

mod agents;
mod artifacts;
mod auth;
mod backups;
mod gate;
mod listing;
mod locations;
mod maintain;
mod restores;
mod schedules;
mod sessions;
mod snapshots;
mod status;
pub(crate) mod store;
mod system;
mod watch;

use std::{pin::Pin, sync::Arc};

pub(crate) use agents::AgentsService;
pub(crate) use artifacts::{ArtifactsService, download};
pub(crate) use backups::BackupsService;
pub(crate) use gate::{ClusterGate, Gate};
pub(crate) use locations::LocationsService;
pub use maintain::{check_message, collect_message};
pub(crate) use restores::RestoresService;
pub(crate) use schedules::SchedulesService;
pub(crate) use sessions::SessionsService;
pub(crate) use snapshots::SnapshotsService;
pub(crate) use store::StoreService;
pub(crate) use system::SystemService;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    downloads::Downloads, maintenance::Maintenance, runs::Runs, schedules::Schedules, tasks::Tasks,
};

/// What every service works with.
#[derive(Clone)]
pub(crate) struct Context {
    /// Runs and agents.
    pub(crate) runs: Arc<Runs>,
    /// Schedules.
    pub(crate) schedules: Arc<Schedules>,
    /// What looks after locations.
    pub(crate) maintenance: Arc<Maintenance>,
    /// URLs for downloads.
    pub(crate) downloads: Arc<Downloads>,
    /// Owner of what runs beside a call.
    pub(crate) tasks: Arc<Tasks>,
    /// Streams that may read snapshots at once: each holds a blocking thread as long as its client takes.
    pub(crate) readers: Arc<Semaphore>,
    /// Ends streams.
    pub(crate) shutdown: CancellationToken,
    /// When the coordinator started, milliseconds since 1970.
    pub(crate) started_ms: i64,
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
