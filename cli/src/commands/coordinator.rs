//! `orlop coordinator`: the coordinator on its own; agents dial it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use orlop_coordinator::{
    Coordinator, CoordinatorConfig, DownloadEndpoint, Home, Limits, StoreAccess, SystemClock,
};
use orlop_runtime::{identity::Authority, metrics::Metrics, token};
use tokio_util::sync::CancellationToken;

use super::{
    cluster::{self, ClusterArgs},
    repo::UnlockArgs,
    standalone,
};
use crate::{
    exit::{self, Outcome},
    identity, node, text,
};

/// How agents get at the repository.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StoreArgs {
    /// How agents reach the repository's store
    #[arg(
        long = "store-access",
        env = "ORLOP_STORE_ACCESS",
        value_name = "HOW",
        default_value = "auto"
    )]
    how: How,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// The agent in the same process opens it itself, all others go through the coordinator
    Auto,
    /// Every agent opens it itself: the directory must be there on every node
    Direct,
    /// Every agent goes through the coordinator
    Gateway,
}

impl StoreArgs {
    pub(crate) fn access(self) -> StoreAccess {
        match self.how {
            How::Auto => StoreAccess::Auto,
            How::Direct => StoreAccess::Direct,
            How::Gateway => StoreAccess::Gateway,
        }
    }
}

/// What the coordinator does by itself.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct UpkeepArgs {
    /// Free space in each location this often, such as 24h; 0s for never
    #[arg(
        long,
        env = "ORLOP_COLLECT_EVERY",
        value_name = "TIME",
        default_value = "24h",
        value_parser = text::parse_duration
    )]
    collect_every: Duration,
    /// Read all bytes of each location again within so many days, a part of them each day, to find damage; 0 for never
    #[arg(
        long,
        env = "ORLOP_SCRUB_DAYS",
        value_name = "DAYS",
        default_value_t = 30
    )]
    scrub_days: u32,
    /// Read at most so many bytes a second for that; 0 for as many as there can be
    #[arg(
        long,
        env = "ORLOP_SCRUB_RATE",
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = text::parse_bytes
    )]
    scrub_rate: u64,
}

impl UpkeepArgs {
    pub(crate) fn limits(self) -> Limits {
        Limits {
            collect_every: self.collect_every,
            scrub_days: self.scrub_days,
            scrub_bytes_per_second: self.scrub_rate,
            ..Limits::default()
        }
    }
}

/// Where the coordinator listens and keeps its state.
#[derive(Debug, Clone, Args)]
pub(crate) struct CoordinatorArgs {
    /// Directory of state, certificate and token; made if it is missing
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The repository (default: repo in the data directory, with its key file beside it)
    #[arg(
        short = 'r',
        long = "repository",
        env = "ORLOP_REPOSITORY",
        value_name = "URL"
    )]
    repository: Option<String>,
    /// Name of the repository's location
    #[arg(long, value_name = "NAME", default_value = "default")]
    location: String,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Further host name or address by which agents and clients reach it
    #[arg(long = "tls-name", value_name = "NAME")]
    tls_names: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    upkeep: UpkeepArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Address to serve downloads on, by plain HTTP, to who has a URL that is good once (in a cluster: port 7071)
    #[arg(long, value_name = "ADDRESS:PORT")]
    downloads_listen: Option<SocketAddr>,
    /// Scheme, host and port by which clients reach downloads (in a cluster: those of Service orlop-downloads)
    #[arg(long, value_name = "URL")]
    downloads_url: Option<String>,
    /// Address to tell monitoring on, by plain HTTP at /metrics (in a cluster: port 8085)
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    unlock: UnlockArgs,
}

impl CoordinatorArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        // Tasks run on in their agents meanwhile.
        while self.clone().serve(&cancel).await? {}
        Ok(Outcome::Done)
    }

    /// Serves until `cancel`, or until the certificates are renewed: then the answer is true.
    async fn serve(self, cancel: &CancellationToken) -> Result<bool> {
        let data_dir = standalone::make_dir(&self.data_dir)?;
        let access = self.cluster.connect().await?;
        let unlock = self.unlock.find()?;
        let (url, unlock) = match self.repository {
            // In a cluster locations are custom resources.
            None if access.is_some() => (None, unlock),
            None => {
                let unlock = standalone::or_key_file(unlock, &data_dir).await?;
                (Some(standalone::repository_url(&data_dir)), Some(unlock))
            }
            Some(url) => {
                let unlock = unlock.ok_or_else(|| {
                    exit::usage("no password for the repository: set ORLOP_PASSWORD, or give --password-file or --key-file")
                })?;
                (Some(url), Some(unlock))
            }
        };
        let home = url.map(|url| Home {
            location: self.location,
            url,
            repository: None,
        });
        let tls_dir = data_dir.join("tls");
        if let Some(access) = &access {
            cluster::recall_authority(access, &tls_dir).await?;
            cluster::recall_places(access, &data_dir).await?;
        }
        let authority = Authority::load_or_create(&tls_dir, &self.tls_names)?;
        if let Some(access) = &access {
            cluster::remember_authority(access, &tls_dir).await?;
        }
        let bearer = token::load_or_create(&data_dir.join("token"))?;
        let ca_pem = authority.ca_pem.clone();
        let current = authority.clone();
        let url = self.downloads_url;
        let downloads = self.downloads_listen.or_else(|| {
            self.cluster
                .pod_port(self.listen.ip(), cluster::DOWNLOADS_PORT)
        });
        if url.is_some() && downloads.is_none() {
            return Err(exit::usage("--downloads-url needs --downloads-listen"));
        }
        let downloads = downloads.map(|listen| DownloadEndpoint { listen, url });
        let metrics_listen = self.metrics_listen.or_else(|| {
            self.cluster
                .pod_port(self.listen.ip(), cluster::METRICS_PORT)
        });
        let metrics = Metrics::default();
        let coordinator = Coordinator::bind(CoordinatorConfig {
            listen: self.listen,
            home,
            unlock,
            data_dir: data_dir.clone(),
            store_access: self.store.access(),
            own_node: None,
            state_db: data_dir.join("state.db"),
            identity: authority,
            downloads,
            cluster: access.clone(),
            token: bearer.clone(),
            metrics_listen,
            metrics: metrics.clone(),
            limits: self.upkeep.limits(),
            clock: Arc::new(SystemClock::default()),
        })
        .await?;
        node::announce(&bearer, &ca_pem);
        let server = format!("https://{}", standalone::dialled(coordinator.local_addr()));
        let controller = match &access {
            Some(access) => {
                let (cluster, server) = (&self.cluster, server.as_str());
                cluster.controller(access, server, &bearer, &ca_pem, &metrics)?
            }
            None => None,
        };
        // When one of the two ends the other has no reason to go on.
        let cancel = cancel.child_token();
        let stop = cancel.clone();
        let places = cluster::keep_places(access.clone(), data_dir, cancel.clone());
        let places = tokio::spawn(places);
        let renewed = identity::renew(tls_dir, self.tls_names, current, cancel.clone());
        let controller = tokio::spawn(async move {
            let _stop = stop.clone().drop_guard();
            cluster::run_controller(controller, stop).await
        });
        let served = coordinator.run(cancel.clone()).await;
        cancel.cancel();
        let renewed = renewed.await.context("renewing certificates died")?;
        places.await.context("noting repositories died")?;
        controller.await.context("the controller died")??;
        served?;
        Ok(renewed)
    }
}
