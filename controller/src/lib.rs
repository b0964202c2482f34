//! Turns Velero's custom resources into calls to the coordinator, and its answers into their status.
//!
//! Each kind has a reconciler: a decision without I/O, and what carries it out. All of it may be stopped anywhere and
//! begun anew: what is to be done is read from the objects each time.

mod agents;
mod backup;
mod clock;
mod coordinator;
mod delete;
mod engine;
mod error;
mod expire;
mod guard;
mod location;
mod metrics;
mod names;
mod parts;
mod patch;
mod repositories;
mod requests;
mod restore;
mod rounds;
mod runs;
mod schedule;
mod sync;
mod volumes;

use std::{pin::Pin, sync::Arc};

use orlop_kubernetes::{client::Connection, cluster_info::server_version};
use orlop_runtime::metrics::Metrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use coordinator::Coordinator;
pub use error::Error;
pub use location::{BucketAddress, bucket_address};

use parts::Parts;
use rounds::Followed;

/// The version that we claim to be by default: it keeps the choices of KOTS on, and suits the `velero` command of it.
pub const SERVER_VERSION: &str = concat!("v1.16.2+orlop.", env!("CARGO_PKG_VERSION"));

/// How the controller behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The version that clients are told.
    pub server_version: String,
    /// Our own Deployment, into which directories of locations are mounted.
    pub deployment: String,
    /// The directory of its first container below which they are.
    pub stores: String,
    /// Whether all volumes are taken where neither the backup nor the pod says so.
    pub all_volumes: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_version: SERVER_VERSION.to_owned(),
            deployment: "velero".to_owned(),
            stores: "/stores".to_owned(),
            all_volumes: false,
        }
    }
}

/// The controller of one namespace: that of its connection.
pub struct Controller {
    parts: Arc<Parts>,
}

impl Controller {
    /// A controller that does nothing yet.
    pub fn new(config: Config, connection: Connection, coordinator: Coordinator) -> Self {
        Self {
            parts: Arc::new(Parts::new(config, connection, coordinator)),
        }
    }

    /// Adds what monitoring is to be told of it.
    #[must_use]
    pub fn told_to(self, metrics: &Metrics) -> Self {
        metrics.add(self.parts.refused.clone());
        self
    }

    /// Works until `cancel`. All that it has begun has ended when it returns.
    ///
    /// # Errors
    /// A real Velero works on the same objects, or the API server does not answer at the start.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            begun = self.begin() => begun?,
        }
        let mut loops = JoinSet::new();
        let parts = &self.parts;
        macro_rules! look_after {
            ($($reconciler:expr, $kept:ident;)*) => {$(
                let reconciler = Arc::new($reconciler);
                loops.spawn(engine::run(reconciler, parts.$kept.clone(), cancel.clone()));
            )*};
        }
        look_after! {
            location::Locations(Arc::clone(parts)), locations;
            backup::Backups(Arc::clone(parts)), backups;
            backup::Volumes(Arc::clone(parts)), volumes;
            restore::Restores(Arc::clone(parts)), restores;
            restore::Volumes(Arc::clone(parts)), restored;
            schedule::Schedules(Arc::clone(parts)), schedules;
            delete::Deletions::new(Arc::clone(parts)), deletions;
            requests::Downloads(Arc::clone(parts)), downloads;
            requests::Statuses(Arc::clone(parts)), statuses;
            repositories::Repositories(Arc::clone(parts)), repositories;
        }
        for round in [
            Round::Sync,
            Round::Expire,
            Round::Repositories,
            Round::Agents,
            Round::Backups,
            Round::Restores,
        ] {
            loops.spawn(round.run(Arc::clone(parts), cancel.clone()));
        }
        tracing::info!(namespace = parts.namespace(), "the controller works");
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        Ok(())
    }
}

impl Controller {
    async fn begin(&self) -> Result<(), Error> {
        let connection = &self.parts.connection;
        guard::check(connection).await?;
        match server_version(connection).await {
            Ok(version) => drop(self.parts.version.set(version)),
            // It is for annotations only.
            Err(error) => tracing::warn!(%error, "the version of Kubernetes is not known"),
        }
        Ok(())
    }
}

/// What is done from time to time.
#[derive(Clone, Copy)]
enum Round {
    Sync,
    Expire,
    Repositories,
    Agents,
    Backups,
    Restores,
}

impl Round {
    async fn run(self, parts: Arc<Parts>, cancel: CancellationToken) {
        let round: Pin<Box<dyn Future<Output = ()> + Send>> = match self {
            Self::Sync => Box::pin(rounds::sync(parts)),
            Self::Expire => Box::pin(rounds::expire(parts)),
            Self::Repositories => Box::pin(rounds::repositories(parts)),
            Self::Agents => Box::pin(rounds::agents(parts)),
            Self::Backups => Box::pin(rounds::follow(parts, Followed::Backups)),
            Self::Restores => Box::pin(rounds::follow(parts, Followed::Restores)),
        };
        rounds::until_cancelled(cancel, round).await;
    }
}
