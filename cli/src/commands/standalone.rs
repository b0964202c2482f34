//! `orlop standalone`: coordinator and agent in one process on one machine, over loopback gRPC, with
//! a repository in the data directory.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_agent::{
    app::{self, AgentConfig, TokenSource},
    backup,
    volumes::DiscoverOptions,
};
use orlop_coordinator::{Coordinator, CoordinatorConfig, Home, Limits, StoreAccess, SystemClock};
use orlop_repository::{Repository, Unlock, open_store};
use orlop_runtime::{identity::Authority, metrics::Metrics, private, token};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    coordinator::{StoreArgs, UpkeepArgs},
    limits::LimitArgs,
    repo::UnlockArgs,
};
use crate::{
    exit::{self, Outcome},
    identity, node,
};

/// The kubelet's directory unless another is given.
pub(crate) const KUBELET_DIR: &str = "/var/lib/kubelet";
/// What the whole process may hold in memory, in bytes.
pub(crate) const MEMORY_BYTES: u64 = 256 << 20;

/// Where pods' volumes are found.
#[derive(Debug, Clone, Args)]
pub(crate) struct DiscoverArgs {
    /// The kubelet's directory
    #[arg(long, value_name = "DIR", default_value = KUBELET_DIR)]
    pub(crate) kubelet_dir: PathBuf,
    /// Directory of container logs, whose names tell the pods' names (default: ../log/pods as seen from above the
    /// kubelet's directory if there is one, else /var/log/pods)
    #[arg(long, value_name = "DIR")]
    pub(crate) pod_logs_dir: Option<PathBuf>,
    /// Pod manifests (YAML or JSON): their annotations decide which volumes are selected
    #[arg(long, value_name = "FILE")]
    pub(crate) pods: Option<PathBuf>,
    /// List of volumes, each with namespace, pod, volume and path
    #[arg(long, value_name = "FILE")]
    pub(crate) volumes: Option<PathBuf>,
}

impl DiscoverArgs {
    pub(crate) fn options(&self) -> DiscoverOptions {
        let beside = || {
            // As /var/log/pods lies beside /var/lib/kubelet.
            let above = self.kubelet_dir.parent()?.parent()?;
            Some(above.join("log/pods")).filter(|dir| dir.is_dir())
        };
        let logs = self.pod_logs_dir.clone().or_else(beside);
        DiscoverOptions {
            kubelet_dir: self.kubelet_dir.clone(),
            log_pods_dir: Some(logs.unwrap_or_else(|| PathBuf::from("/var/log/pods"))),
            pods_file: self.pods.clone(),
            volumes_file: self.volumes.clone(),
            host_roots: Vec::new(),
        }
    }
}

/// One machine's server.
#[derive(Debug, Args)]
pub(crate) struct StandaloneArgs {
    /// Directory of repository, state, certificate and token; made if it is missing
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    discover: DiscoverArgs,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Address to tell monitoring on, by plain HTTP at /metrics
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Name of this machine (default: its host name)
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Further host name or address that clients use
    #[arg(long = "tls-name", value_name = "NAME")]
    tls_names: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    upkeep: UpkeepArgs,
    #[command(flatten)]
    unlock: UnlockArgs,
    #[command(flatten)]
    backup_limits: LimitArgs,
}

impl StandaloneArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let settings = Settings {
            data_dir: self.data_dir,
            discover: self.discover.options(),
            listen: self.listen,
            metrics_listen: self.metrics_listen,
            node: self.node.unwrap_or_else(node::name),
            tls_names: self.tls_names,
            store_access: self.store.access(),
            limits: self.upkeep.limits(),
            unlock: self.unlock.find()?,
            backup_limits: self.backup_limits.limits(),
        };
        loop {
            let server = start(settings.clone(), cancel.clone()).await?;
            node::announce(&server.token, &server.ca_pem);
            if !server.wait().await? {
                return Ok(Outcome::Done);
            }
        }
    }
}

/// What a standalone server needs to know.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) discover: DiscoverOptions,
    pub(crate) listen: SocketAddr,
    /// Where monitoring is told; `None` for nowhere.
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) node: String,
    pub(crate) tls_names: Vec<String>,
    pub(crate) store_access: StoreAccess,
    pub(crate) limits: Limits,
    /// What opens the repository; `None`: the key file in the data directory.
    pub(crate) unlock: Option<Unlock>,
    /// How fast backups may go.
    pub(crate) backup_limits: backup::Limits,
}

impl Settings {
    /// On a free loopback port, all in one directory.
    pub(crate) fn demo(data_dir: &Path, kubelet_dir: &Path, logs_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            discover: DiscoverOptions {
                kubelet_dir: kubelet_dir.to_owned(),
                log_pods_dir: Some(logs_dir.to_owned()),
                pods_file: None,
                volumes_file: None,
                host_roots: Vec::new(),
            },
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            metrics_listen: None,
            node: "demo-node".to_owned(),
            tls_names: Vec::new(),
            store_access: StoreAccess::Auto,
            limits: Limits::default(),
            unlock: None,
            backup_limits: backup::Limits::default(),
        }
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) token_file: PathBuf,
    pub(crate) ca_pem: String,
    pub(crate) ca_file: PathBuf,
    shutdown: CancellationToken,
    parts: [JoinHandle<Result<()>>; 2],
    renewed: JoinHandle<bool>,
}

impl Server {
    /// Waits until it has ended: after a shutdown, because a part of it failed, or because its certificates were renewed;
    /// then the answer is true.
    pub(crate) async fn wait(self) -> Result<bool> {
        let [mut coordinator, mut agent] = self.parts;
        // When one part ends the other has no reason to go on.
        let first = tokio::select! {
            ended = &mut coordinator => (ended, agent),
            ended = &mut agent => (ended, coordinator),
        };
        self.shutdown.cancel();
        let ended = first.0.context("a part of the server died")?;
        let other = first.1.await.context("a part of the server died")?;
        let renewed = self.renewed.await.context("renewing certificates died")?;
        ended.and(other)?;
        Ok(renewed)
    }

    /// Shuts it down.
    pub(crate) async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.wait().await.map(drop)
    }
}

/// Opens or makes everything in the data directory and starts coordinator and agent; the server
/// answers when this returns.
pub(crate) async fn start(settings: Settings, cancel: CancellationToken) -> Result<Server> {
    let data_dir = make_dir(&settings.data_dir)?;
    let unlock = or_key_file(settings.unlock, &data_dir).await?;
    let home = Home {
        location: "default".to_owned(),
        url: repository_url(&data_dir),
        repository: None,
    };
    let tls_dir = data_dir.join("tls");
    let authority = Authority::load_or_create(&tls_dir, &settings.tls_names)?;
    let token_file = data_dir.join("token");
    let bearer = token::load_or_create(&token_file)?;
    let ca_pem = authority.ca_pem.clone();
    let current = authority.clone();
    let coordinator = Coordinator::bind(CoordinatorConfig {
        listen: settings.listen,
        home: Some(home),
        unlock: Some(unlock),
        data_dir: data_dir.clone(),
        store_access: settings.store_access,
        own_node: Some(settings.node.clone()),
        state_db: data_dir.join("state.db"),
        identity: authority,
        downloads: None,
        cluster: None,
        token: bearer.clone(),
        metrics_listen: settings.metrics_listen,
        metrics: Metrics::default(),
        limits: settings.limits,
        clock: Arc::new(SystemClock::default()),
    })
    .await?;
    let address = coordinator.local_addr();
    let shutdown = cancel.child_token();
    let agent = AgentConfig {
        server: format!("https://{}", dialled(address)),
        ca_pem: ca_pem.clone(),
        token: TokenSource::Fixed(bearer.clone()),
        node: settings.node,
        discover: settings.discover,
        memory_bytes: MEMORY_BYTES,
        limits: settings.backup_limits,
    };
    let (stop_coordinator, stop_agent) = (shutdown.clone(), shutdown.clone());
    let parts = [
        tokio::spawn(async move { Ok(coordinator.run(stop_coordinator).await?) }),
        tokio::spawn(async move { Ok(app::run(agent, stop_agent).await?) }),
    ];
    let ca_file = tls_dir.join("ca.pem");
    let renewed = identity::renew(tls_dir, settings.tls_names, current, shutdown.clone());
    Ok(Server {
        address,
        token: bearer,
        token_file,
        ca_pem,
        ca_file,
        shutdown,
        parts,
        renewed,
    })
}

/// Where a process of this machine reaches a server that listens on `address`.
pub(crate) fn dialled(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// The directory by its absolute path; a new one is for its owner only.
pub(crate) fn make_dir(dir: &Path) -> Result<PathBuf> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))
}

/// The repository in `data_dir`.
pub(crate) fn repository_url(data_dir: &Path) -> String {
    data_dir.join("repo").display().to_string()
}

/// What opens repositories: `unlock`, or else the key file `repository.key` in `data_dir`, made if there is none.
pub(crate) async fn or_key_file(unlock: Option<Unlock>, data_dir: &Path) -> Result<Unlock> {
    if let Some(unlock) = unlock {
        return Ok(unlock);
    }
    let key_file = data_dir.join("repository.key");
    if let Some(text) = private::read(&key_file)? {
        return Ok(Unlock::KeyFile(text.into_bytes()));
    }
    let store = open_store(&repository_url(data_dir))?;
    if Repository::exists(&*store).await? {
        return Err(exit::usage(format!(
            "there is a repository in {} but not {}, which opens it: put your copy of the file back, or give the password \
             (ORLOP_PASSWORD, --password-file, --key-file)",
            data_dir.display(),
            key_file.display()
        )));
    }
    let text = token::load_or_create(&key_file)?;
    Ok(Unlock::KeyFile(format!("{text}\n").into_bytes()))
}
