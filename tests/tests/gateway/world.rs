//! A coordinator over a store that is nobody else's, an agent that dials it through a relay, and a client.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use orlop_agent::{
    app::{self, AgentConfig, TokenSource},
    backup::Limits as Shares,
    volumes::DiscoverOptions,
};
use orlop_coordinator::{
    Coordinator, CoordinatorConfig, GatewayLimits, Home, Limits, StoreAccess, SystemClock,
};
use orlop_proto::v1::{self, backups_client::BackupsClient, restores_client::RestoresClient};
use orlop_repository::{InitOptions, ObjectStore, Repository};
use orlop_runtime::{identity::Authority, metrics::Metrics};
use orlop_tests::key_file;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::cut::Relay;

pub(crate) const TOKEN: &str = "the-token";
const PATIENCE: Duration = Duration::from_mins(2);

/// What a caller says of itself.
#[derive(Clone)]
pub(crate) struct Caller {
    node: Option<String>,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        if let Some(node) = &self.node {
            metadata.insert("orlop-node", node.parse().unwrap());
        }
        Ok(request)
    }
}

pub(crate) type Client = InterceptedService<Channel, Caller>;

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.unwrap().unwrap();
    }
}

pub(crate) struct World {
    dir: TempDir,
    pub(crate) identity: Authority,
    pub(crate) store: Arc<dyn ObjectStore>,
    limits: Limits,
    address: SocketAddr,
    relay: Option<Relay>,
    coordinator: Option<Running>,
    agent: Option<Running>,
}

impl World {
    /// A coordinator that serves a new repository in `store`.
    pub(crate) async fn over(store: Arc<dyn ObjectStore>, gateway: GatewayLimits) -> Self {
        // Small packs, so that a small volume has several.
        let options = InitOptions {
            pack_bytes: 1 << 20,
            ..InitOptions::default()
        };
        Repository::init(Arc::clone(&store), &key_file(), options)
            .await
            .unwrap();
        Self::with(store, gateway).await
    }

    /// A coordinator that serves the repository in `store`.
    pub(crate) async fn with(store: Arc<dyn ObjectStore>, gateway: GatewayLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["kubelet/pods", "logs"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let mut world = Self {
            identity: Authority::load_or_create(&dir.path().join("tls"), &[]).unwrap(),
            dir,
            store,
            limits: Limits {
                gateway,
                ..Limits::default()
            },
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            relay: None,
            coordinator: None,
            agent: None,
        };
        world.start_coordinator().await;
        world
    }

    pub(crate) async fn start_coordinator(&mut self) {
        let repository = Repository::open(Arc::clone(&self.store), &key_file()).await;
        let config = CoordinatorConfig {
            listen: self.address,
            home: Some(Home {
                location: "default".to_owned(),
                // Who follows it comes to a place where there is nothing.
                url: self.dir.path().join("nowhere").display().to_string(),
                repository: Some(repository.unwrap()),
            }),
            unlock: None,
            data_dir: self.dir.path().join("data"),
            store_access: StoreAccess::Auto,
            own_node: None,
            state_db: self.dir.path().join("state.db"),
            identity: self.identity.clone(),
            downloads: None,
            cluster: None,
            token: TOKEN.to_owned(),
            metrics_listen: None,
            metrics: Metrics::default(),
            limits: self.limits.clone(),
            clock: Arc::new(SystemClock::default()),
        };
        let coordinator = Coordinator::bind(config).await.unwrap();
        self.address = coordinator.local_addr();
        let shutdown = CancellationToken::new();
        let own = shutdown.clone();
        let task = tokio::spawn(async move { coordinator.run(own).await.unwrap() });
        self.coordinator = Some(Running { shutdown, task });
    }

    pub(crate) async fn stop_coordinator(&mut self) {
        self.coordinator.take().unwrap().stop().await;
    }

    /// Starts the agent of `node-1`.
    pub(crate) async fn start_agent(&mut self) {
        let relay = Relay::to(self.address).await;
        let config = AgentConfig {
            server: format!("https://{}", relay.address),
            ca_pem: self.identity.ca_pem.clone(),
            token: TokenSource::Fixed(TOKEN.to_owned()),
            node: "node-1".to_owned(),
            discover: DiscoverOptions {
                kubelet_dir: self.dir.path().join("kubelet"),
                log_pods_dir: Some(self.dir.path().join("logs")),
                pods_file: None,
                volumes_file: None,
                host_roots: Vec::new(),
            },
            memory_bytes: 256 << 20,
            limits: Shares::default(),
        };
        self.relay = Some(relay);
        let shutdown = CancellationToken::new();
        let own = shutdown.clone();
        let task = tokio::spawn(async move { app::run(config, own).await.unwrap() });
        self.agent = Some(Running { shutdown, task });
    }

    /// Between the agent and the coordinator.
    pub(crate) fn relay(&self) -> &Relay {
        self.relay.as_ref().unwrap()
    }

    pub(crate) async fn stop(mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop().await;
        }
        self.stop_coordinator().await;
        let nowhere = self.dir.path().join("nowhere");
        assert!(!nowhere.exists(), "somebody has followed the URL");
    }

    pub(crate) fn remove_state(&self) {
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let _ = fs::remove_file(self.dir.path().join(name));
        }
    }

    /// The directory of a new pod's volume `data`.
    pub(crate) fn pod(&self, name: &str) -> PathBuf {
        let at = |name: &str| self.dir.path().join(name);
        fs::create_dir_all(at(&format!("logs/shop_{name}_uid-{name}"))).unwrap();
        let volumes = at(&format!("kubelet/pods/uid-{name}/volumes"));
        let volume = volumes.join("kubernetes.io~empty-dir/data");
        fs::create_dir_all(&volume).unwrap();
        volume
    }

    /// A connection of somebody without a token.
    pub(crate) async fn channel(&self) -> Channel {
        let ca = Certificate::from_pem(&self.identity.ca_pem);
        Endpoint::from_shared(format!("https://{}", self.address))
            .unwrap()
            .tls_config(ClientTlsConfig::new().ca_certificate(ca))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn client(&self, node: Option<&str>) -> Client {
        let node = node.map(str::to_owned);
        InterceptedService::new(self.channel().await, Caller { node })
    }

    pub(crate) async fn until_known(&self, name: &str) {
        let known = async {
            let mut backups = BackupsClient::new(self.client(None).await);
            loop {
                let name = name.to_owned();
                if backups.get(v1::GetBackupRequest { name }).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
    }

    pub(crate) async fn create(&self, name: &str) {
        let request = v1::CreateBackupRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let mut backups = BackupsClient::new(self.client(None).await);
        backups.create(request).await.unwrap();
    }

    /// Watches the backup until it has ended.
    pub(crate) async fn wait(&self, name: &str) -> v1::Backup {
        let name = name.to_owned();
        let watch = async {
            let mut backups = BackupsClient::new(self.client(None).await);
            let states = backups.watch(v1::WatchBackupsRequest { name }).await;
            let mut states = states.unwrap().into_inner();
            let mut last = None;
            while let Some(state) = states.message().await.unwrap() {
                last = state.backup;
            }
            last.unwrap()
        };
        tokio::time::timeout(PATIENCE, watch).await.unwrap()
    }

    pub(crate) async fn backup(&self, name: &str) -> v1::Backup {
        self.create(name).await;
        self.wait(name).await
    }

    /// Begins to restore a backup of pod `from` into pod `to`.
    pub(crate) async fn create_restore(&self, name: &str, backup: &str, from: &str, to: &str) {
        let request = v1::CreateRestoreRequest {
            name: name.to_owned(),
            from_backup: backup.to_owned(),
            pod_mapping: [(from.to_owned(), to.to_owned())].into(),
            ..Default::default()
        };
        let mut restores = RestoresClient::new(self.client(None).await);
        restores.create(request).await.unwrap();
    }

    /// Restores a backup of pod `from` into pod `to`.
    pub(crate) async fn restore(
        &self,
        name: &str,
        backup: &str,
        from: &str,
        to: &str,
    ) -> v1::Restore {
        self.create_restore(name, backup, from, to).await;
        let name = name.to_owned();
        let watch = async {
            let mut restores = RestoresClient::new(self.client(None).await);
            let states = restores.watch(v1::WatchRestoresRequest { name }).await;
            let mut states = states.unwrap().into_inner();
            let mut last = None;
            while let Some(state) = states.message().await.unwrap() {
                last = state.restore;
            }
            last.unwrap()
        };
        tokio::time::timeout(PATIENCE, watch).await.unwrap()
    }
}
