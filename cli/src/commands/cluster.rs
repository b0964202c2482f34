//! What coordinator and controller need to know of the cluster that they run in.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_controller::{Config, Controller, Coordinator};
use orlop_coordinator::{ClusterAccess, PLACES_FILE};
use orlop_kubernetes::{
    client::Connection,
    identity,
    remembered::{self, PLACES_CONFIG_MAP},
};
use orlop_runtime::{identity::Authority, metrics::Metrics};
use tokio_util::sync::CancellationToken;

/// How often the file of places is looked at, and how long the cluster may take to note it.
const LOOK: Duration = Duration::from_secs(5);

/// The port of a pod at which its Service looks for downloads.
pub(crate) const DOWNLOADS_PORT: u16 = 7071;
/// The port of a pod at which monitoring looks, as with Velero.
pub(crate) const METRICS_PORT: u16 = 8085;

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// Work in the cluster that this runs in, as its pod's service account
    #[arg(long, conflicts_with = "kubeconfig")]
    in_cluster: bool,
    /// Work in the cluster that this file describes
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the installation (default: that of the pod or the file)
    #[arg(long, env = "VELERO_NAMESPACE", value_name = "NAMESPACE")]
    cluster_namespace: Option<String>,
    /// Directory of the nodes below which persistent volumes of type hostPath are backed up
    #[arg(long = "host-root", value_name = "DIR")]
    host_roots: Vec<String>,
    /// Leave Velero's custom resources alone: only calls begin anything
    #[arg(long)]
    no_controller: bool,
    /// Back up all volumes where neither the backup nor the pod says so
    #[arg(long)]
    default_volumes_to_fs_backup: bool,
    /// The version that clients of Velero are told
    #[arg(long, value_name = "VERSION", default_value = orlop_controller::SERVER_VERSION)]
    velero_version: String,
}

impl ClusterArgs {
    /// The cluster; `None` if there is none.
    pub(crate) async fn connect(&self) -> Result<Option<ClusterAccess>> {
        let connection = match &self.kubeconfig {
            _ if self.in_cluster => Connection::in_cluster().await?,
            Some(path) => Connection::from_kubeconfig(Some(path), None).await?,
            None => return Ok(None),
        };
        let connection = match &self.cluster_namespace {
            Some(namespace) => connection.with_namespace(namespace),
            None => connection,
        };
        Ok(Some(ClusterAccess {
            connection,
            host_roots: self.host_roots.clone(),
        }))
    }

    /// The port, at the address that is listened on, if this runs in a pod: clients look for it there.
    pub(crate) fn pod_port(&self, listen: IpAddr, port: u16) -> Option<SocketAddr> {
        self.in_cluster.then(|| SocketAddr::new(listen, port))
    }

    /// The controller of the cluster, unless it runs on its own. It calls the coordinator like any client.
    pub(crate) fn controller(
        &self,
        access: &ClusterAccess,
        server: &str,
        token: &str,
        ca_pem: &str,
        metrics: &Metrics,
    ) -> Result<Option<Controller>> {
        if self.no_controller {
            return Ok(None);
        }
        let config = Config {
            server_version: self.velero_version.clone(),
            all_volumes: self.default_volumes_to_fs_backup,
            ..Config::default()
        };
        let coordinator = Coordinator::at(server, token, Some(ca_pem))?;
        let connection = access.connection.clone();
        let controller = Controller::new(config, connection, coordinator);
        Ok(Some(controller.told_to(metrics)))
    }
}

/// Brings the authority that the cluster remembers into the data directory before one is made there.
pub(crate) async fn recall_authority(access: &ClusterAccess, tls_dir: &Path) -> Result<()> {
    identity::recall(&access.connection, tls_dir, &Authority::FILES)
        .await
        .context("read the authority that the cluster remembers")
}

/// Brings what the cluster remembers of the places of repositories into the data directory: a place that held one and is empty
/// now has lost its file system, and no new one is made there.
pub(crate) async fn recall_places(access: &ClusterAccess, data_dir: &Path) -> Result<()> {
    let path = data_dir.join(PLACES_FILE);
    remembered::recall(&access.connection, PLACES_CONFIG_MAP, &path)
        .await
        .context("read which repositories the cluster remembers")?;
    Ok(())
}

/// Lets the cluster remember them, until `cancel`.
pub(crate) async fn keep_places(
    access: Option<ClusterAccess>,
    data_dir: PathBuf,
    cancel: CancellationToken,
) {
    let Some(access) = access else { return };
    let path = data_dir.join(PLACES_FILE);
    let mut kept: Option<String> = None;
    loop {
        let last = tokio::select! {
            () = cancel.cancelled() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let text = std::fs::read_to_string(&path).ok();
        if let Some(text) = text.filter(|text| Some(text) != kept.as_ref()) {
            let done = remembered::remember(&access.connection, PLACES_CONFIG_MAP, &path, &text);
            match tokio::time::timeout(LOOK, done).await {
                Ok(Ok(())) => kept = Some(text),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the cluster does not remember which repositories there are");
                }
                Err(_) => {}
            }
        }
        if last {
            return;
        }
    }
}

/// Lets the cluster remember the authority, and shows its certificate to agents.
pub(crate) async fn remember_authority(access: &ClusterAccess, tls_dir: &Path) -> Result<()> {
    identity::remember(&access.connection, tls_dir, &Authority::FILES)
        .await
        .context("let the cluster remember the authority")
}

/// Runs the controller until `cancel`.
pub(crate) async fn run_controller(
    controller: Option<Controller>,
    cancel: CancellationToken,
) -> Result<()> {
    let Some(controller) = controller else {
        cancel.cancelled().await;
        return Ok(());
    };
    Ok(controller.run(cancel).await?)
}
