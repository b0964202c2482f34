//! Which server a verb asks, and with what it proves who asks.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_core::with_causes;
use orlop_kubernetes::{client::Connection, reach::Reach};
use orlop_runtime::token;
use tokio_util::sync::CancellationToken;

use super::{CA_PAUSE, Client};
use crate::{exit, node};

/// Where a server of this machine listens.
const LOCAL_SERVER: &str = "127.0.0.1:7070";

/// A server, and what it wants to see.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// The server [default: 127.0.0.1:7070]
    #[arg(long, env = "ORLOP_SERVER", value_name = "HOST:PORT")]
    server: Option<String>,
    /// File that holds the bearer token (default: where a server of this machine leaves it)
    #[arg(long, env = "ORLOP_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File that holds the certificate of the server's authority (default: beside the token)
    #[arg(long, env = "ORLOP_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Which server: one of this machine, one by its address, or the coordinator of a cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The cluster's kubeconfig (default: KUBECONFIG, or ~/.kube/config)
    ///
    /// Asked is the server that --server, --token-file or --ca-file name. Without them it is a server of this machine, if
    /// one has left its token here. Without that, or with --kubeconfig or --context, it is the coordinator of the cluster,
    /// through the API server: nothing but the kubeconfig is needed, and no port is opened here.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig (default: its current one)
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Namespace of Orlop in the cluster
    #[arg(
        long,
        env = "ORLOP_NAMESPACE",
        value_name = "NAME",
        default_value = "velero"
    )]
    orlop_namespace: String,
}

/// The file that was named, or the first that a server has left.
fn located(given: Option<&Path>, name: &str, option: &str) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    left(name).ok_or_else(|| {
        exit::failure(
            exit::FAILED,
            format!(
                "no {name} at {}: is the server running? else give {option}",
                places(name)
            ),
        )
    })
}

/// The first file of that name that a server has left.
fn left(name: &str) -> Option<PathBuf> {
    let mut dirs = node::run_dirs().into_iter().map(|dir| dir.join(name));
    dirs.find(|path| path.exists())
}

/// Where a server may leave it.
fn places(name: &str) -> String {
    let dirs = node::run_dirs().into_iter();
    let places: Vec<String> = dirs
        .map(|dir| dir.join(name).display().to_string())
        .collect();
    places.join(" or ")
}

impl ServerArgs {
    /// The server's address.
    pub(crate) fn address(&self) -> &str {
        self.server.as_deref().unwrap_or(LOCAL_SERVER)
    }

    /// Token and authority certificate, from the files.
    fn credentials(&self) -> Result<(String, String)> {
        let token_file = self.token_path()?;
        let beside = token_file.with_file_name("ca.pem");
        let given = self
            .ca_file
            .as_deref()
            .or_else(|| beside.exists().then_some(beside.as_path()));
        let ca_file = located(given, "ca.pem", "--ca-file")?;
        let ca_pem = std::fs::read_to_string(&ca_file)
            .with_context(|| format!("cannot read the certificate {}", ca_file.display()))?;
        Ok((token::read(&token_file)?, ca_pem))
    }

    /// The file of the token.
    pub(crate) fn token_path(&self) -> Result<PathBuf> {
        located(self.token_file.as_deref(), "token", "--token-file")
    }

    /// The authority's certificate. A file that is named and is not there yet is waited for: in a cluster the
    /// coordinator makes it. `None` if `cancel` comes first.
    pub(crate) async fn awaited_ca(&self, cancel: &CancellationToken) -> Result<Option<String>> {
        let mut told = false;
        loop {
            match &self.ca_file {
                Some(path) if !path.exists() => {}
                _ => {
                    let (_, ca_pem) = self.credentials()?;
                    return Ok(Some(ca_pem));
                }
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!("waiting for the coordinator's certificate");
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(None),
                () = tokio::time::sleep(CA_PAUSE) => {}
            }
        }
    }

    async fn connect(&self) -> Result<Client> {
        let (bearer, ca_pem) = self.credentials()?;
        Client::connect(self.address(), &bearer, &ca_pem).await
    }

    fn is_named(&self) -> bool {
        self.server.is_some() || self.token_file.is_some() || self.ca_file.is_some()
    }
}

/// Where a verb asks.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// The server that is named.
    Named,
    /// One of this machine, which has left its token.
    Local,
    /// The cluster that is named.
    Cluster,
    /// The cluster, since there is nothing else.
    Else,
}

impl ClientArgs {
    fn way(&self, has_local: impl FnOnce() -> bool) -> Result<Way> {
        let is_cluster = self.kubeconfig.is_some() || self.context.is_some();
        match (self.server.is_named(), is_cluster) {
            // Neither may win: what was asked of the wrong one cannot be taken back.
            (true, true) => Err(exit::usage(
                "--server, --token-file and --ca-file (ORLOP_SERVER, ORLOP_TOKEN_FILE, ORLOP_CA_FILE) name a server, \
                 --kubeconfig and --context another one: leave either out",
            )),
            (true, false) => Ok(Way::Named),
            (false, true) => Ok(Way::Cluster),
            (false, false) if has_local() => Ok(Way::Local),
            (false, false) => Ok(Way::Else),
        }
    }

    /// Connects to the server.
    pub(crate) async fn connect(&self) -> Result<Client> {
        match self.way(|| left("token").is_some())? {
            Way::Named => self.server.connect().await,
            Way::Local => {
                let connected = self.server.connect().await;
                connected.context("a server of this machine has left its token, so it was asked; for a cluster give --context or --kubeconfig")
            }
            Way::Cluster => {
                let connection = self.cluster().await.context("find the cluster")?;
                Client::through_cluster(Reach::new(connection)).await
            }
            Way::Else => {
                let connection = self.cluster().await.map_err(|error| {
                    let reason = with_causes(error.as_ref());
                    let places = places("token");
                    exit::failure(
                        exit::FAILED,
                        format!(
                            "nothing says which server to ask. Of this machine: no token at {places}; is the server \
                             running? else give --server, --token-file and --ca-file. Of a cluster: {reason}; give \
                             --kubeconfig, or set KUBECONFIG"
                        ),
                    )
                })?;
                Client::through_cluster(Reach::new(connection)).await
            }
        }
    }

    async fn cluster(&self) -> Result<Connection> {
        let (file, context) = (self.kubeconfig.as_deref(), self.context.as_deref());
        let connection = Connection::from_kubeconfig(file, context).await?;
        Ok(connection.with_namespace(&self.orlop_namespace))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        client: ClientArgs,
    }

    fn way(args: &[&str], has_local: bool) -> Result<Way> {
        let line = Line::try_parse_from([&["orlop"], args].concat())?;
        line.client.way(|| has_local)
    }

    #[test]
    fn what_is_named_comes_before_what_is_found() {
        for has_local in [true, false] {
            for args in [
                ["--server", "s:1"],
                ["--token-file", "t"],
                ["--ca-file", "c"],
            ] {
                assert_eq!(way(&args, has_local).unwrap(), Way::Named, "{args:?}");
            }
            for args in [["--kubeconfig", "k"], ["--context", "c"]] {
                assert_eq!(way(&args, has_local).unwrap(), Way::Cluster, "{args:?}");
            }
        }
        assert_eq!(way(&[], true).unwrap(), Way::Local);
        assert_eq!(way(&[], false).unwrap(), Way::Else);
        // The namespace alone chooses nothing.
        let namespace = ["--orlop-namespace", "n"];
        assert_eq!(way(&namespace, true).unwrap(), Way::Local);
    }

    #[test]
    fn two_servers_are_one_too_many() {
        let error = way(&["--server", "s:1", "--context", "c"], true).unwrap_err();
        assert!(error.to_string().contains("leave either out"), "{error}");
    }
}
