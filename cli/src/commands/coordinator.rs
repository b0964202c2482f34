//! `orlop coordinator`: the coordinator on its own; agents dial it.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::Args;
use orlop_coordinator::{Coordinator, CoordinatorConfig, Limits};
use orlop_repository::{InitOptions, Repository, open_store};
use orlop_runtime::{identity::Authority, token};
use tokio_util::sync::CancellationToken;

use super::{repo::UnlockArgs, standalone};
use crate::{
    exit::{self, Outcome},
    node,
};

/// Where the coordinator listens and keeps its state.
#[derive(Debug, Args)]
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
    unlock: UnlockArgs,
}

impl CoordinatorArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let data_dir = standalone::make_dir(&self.data_dir)?;
        let unlock = self.unlock.find()?;
        let (repository, store_url) = match self.repository {
            None => {
                let dir = data_dir.join("repo");
                let repository = standalone::open_or_init(&dir, unlock, &data_dir).await?;
                (repository, dir.display().to_string())
            }
            Some(url) => {
                let unlock = unlock.ok_or_else(|| {
                    exit::usage("no password for the repository: set ORLOP_PASSWORD, or give --password-file or --key-file")
                })?;
                let store = open_store(&url)?;
                let repository = match Repository::open(store.clone(), &unlock).await {
                    Err(orlop_repository::Error::NoRepository { .. }) => {
                        Repository::init(store, &unlock, InitOptions::default()).await?
                    }
                    opened => opened?,
                };
                (repository, url)
            }
        };
        let identity = Authority::load_or_create(&data_dir.join("tls"), &self.tls_names)?;
        let bearer = token::load_or_create(&data_dir.join("token"))?;
        let ca_pem = identity.ca_pem.clone();
        let coordinator = Coordinator::bind(CoordinatorConfig {
            listen: self.listen,
            repository,
            store_url,
            location: self.location,
            state_db: data_dir.join("state.db"),
            identity,
            token: bearer.clone(),
            limits: Limits::default(),
        })
        .await?;
        node::announce(&bearer, &ca_pem);
        coordinator.run(cancel).await?;
        Ok(Outcome::Done)
    }
}
