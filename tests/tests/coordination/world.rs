//! A node with pods, a coordinator, an agent, and a client.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orlop_agent::{
    app::{self, AgentConfig, TokenSource},
    backup::Limits as Shares,
    volumes::DiscoverOptions,
};
use orlop_coordinator::{
    Clock, Coordinator, CoordinatorConfig, Home, Limits, StoreAccess, SystemClock,
};
use orlop_proto::v1::{
    self, RunPhase, backups_client::BackupsClient, restores_client::RestoresClient,
    sessions_client::SessionsClient, snapshots_client::SnapshotsClient,
    system_client::SystemClient,
};
use orlop_repository::{
    InitOptions, Repository, Unlock, open_store,
    store::{FaultyStore, Plan},
};
use orlop_runtime::{identity::Authority, metrics::Metrics};
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

#[derive(Clone)]
pub(crate) struct Token(String);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.0).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

pub(crate) type Client = InterceptedService<Channel, Token>;

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

pub(crate) struct World {
    dir: TempDir,
    identity: Authority,
    address: SocketAddr,
    relay: Option<Relay>,
    coordinator: Option<Running>,
    agent: Option<Running>,
    /// What monitoring is told since the coordinator's last start.
    pub(crate) metrics: Metrics,
    /// What the coordinator reads the time from.
    pub(crate) clock: Arc<dyn Clock>,
    /// How the coordinator's store fails from its next start on.
    pub(crate) faults: Plan,
    /// URL of the location that the coordinator opens itself; without one it is given an open repository.
    pub(crate) home: Option<String>,
    /// Name of the data directory: another one is another coordinator's.
    pub(crate) data: String,
    /// The coordinator's limits.
    pub(crate) limits: Limits,
    /// How agents reach stores.
    pub(crate) access: StoreAccess,
}

/// Bytes that do not compress, always the same for a seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["kubelet/pods", "logs", "repo"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let identity = Authority::load_or_create(&dir.path().join("tls"), &[]).unwrap();
        let store = open_store(dir.path().join("repo").to_str().unwrap()).unwrap();
        Repository::init(store, &unlock(), InitOptions::default())
            .await
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            dir,
            identity,
            address,
            relay: None,
            coordinator: None,
            agent: None,
            metrics: Metrics::default(),
            clock: Arc::new(SystemClock::default()),
            faults: Plan::Never,
            home: None,
            data: "data".to_owned(),
            limits: Limits {
                tick: Duration::from_millis(10),
                ..Limits::default()
            },
            access: StoreAccess::Direct,
        }
    }

    /// A world whose only volume takes a while to back up.
    pub(crate) async fn large() -> Self {
        let world = Self::new().await;
        world.pod("shop", "db", "uid-db");
        for i in 0..48 {
            world.write(
                "uid-db",
                "data",
                &format!("file-{i}"),
                &noise(8 << 20, i + 1),
            );
        }
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.path(&format!(
            "kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/{volume}"
        ))
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str, uid: &str) {
        fs::create_dir_all(self.path(&format!("logs/{namespace}_{name}_{uid}"))).unwrap();
        fs::create_dir_all(self.path(&format!("kubelet/pods/{uid}/volumes"))).unwrap();
    }

    pub(crate) fn empty_volume(&self, uid: &str, volume: &str) {
        fs::create_dir_all(self.volume(uid, volume)).unwrap();
    }

    pub(crate) fn write(&self, uid: &str, volume: &str, path: &str, bytes: &[u8]) {
        let path = self.volume(uid, volume).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read_tree(&self, uid: &str, volume: &str) -> BTreeMap<String, Vec<u8>> {
        fn walk(dir: &Path, prefix: &str, all: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), all);
                } else {
                    all.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        let mut all = BTreeMap::new();
        walk(&self.volume(uid, volume), "", &mut all);
        all
    }

    pub(crate) fn remove_state(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.path(&format!("state-{}.db{suffix}", self.data)));
        }
    }

    pub(crate) async fn start(&mut self) {
        self.start_coordinator().await;
        self.relay = Some(Relay::to(self.address).await);
        self.start_agent();
        self.until_connected().await;
    }

    /// Waits until the agent has told the coordinator of its volumes.
    pub(crate) async fn until_connected(&self) {
        let mut system = SystemClient::new(self.client(TOKEN).await);
        let connected = async {
            loop {
                let request = v1::GetStatusRequest {};
                let status = system.get_status(request).await.unwrap().into_inner();
                if status.nodes.iter().any(|node| node.connected) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.unwrap();
    }

    pub(crate) async fn start_coordinator(&mut self) {
        self.metrics = Metrics::default();
        let coordinator = Coordinator::bind(self.config().await).await.unwrap();
        self.address = coordinator.local_addr();
        let shutdown = CancellationToken::new();
        let own = shutdown.clone();
        let task = tokio::spawn(async move { coordinator.run(own).await.unwrap() });
        self.coordinator = Some(Running { shutdown, task });
    }

    /// Another coordinator beside the one that runs, with the same directory and an address of its own.
    pub(crate) async fn second_coordinator(&self) -> orlop_coordinator::Result<Coordinator> {
        let mut config = self.config().await;
        config.listen.set_port(0);
        config.metrics = Metrics::default();
        Coordinator::bind(config).await
    }

    async fn config(&self) -> CoordinatorConfig {
        let (url, repository) = if let Some(url) = &self.home {
            (url.clone(), None)
        } else {
            let url = self.path("repo").to_str().unwrap().to_owned();
            let store = FaultyStore::new(open_store(&url).unwrap(), self.faults);
            let repository = Repository::open(Arc::new(store), &unlock()).await;
            (url, Some(repository.unwrap()))
        };
        CoordinatorConfig {
            listen: self.address,
            home: Some(Home {
                location: "default".to_owned(),
                url,
                repository,
            }),
            unlock: Some(unlock()),
            data_dir: self.path(&self.data),
            store_access: self.access,
            own_node: None,
            state_db: self.path(&format!("state-{}.db", self.data)),
            identity: self.identity.clone(),
            downloads: None,
            cluster: None,
            token: TOKEN.to_owned(),
            metrics_listen: None,
            metrics: self.metrics.clone(),
            limits: self.limits.clone(),
            clock: Arc::clone(&self.clock),
        }
    }

    pub(crate) fn start_agent(&mut self) {
        let address = self.relay.as_ref().unwrap().address;
        let config = AgentConfig {
            server: format!("https://{address}"),
            ca_pem: self.identity.ca_pem.clone(),
            token: TokenSource::Fixed(TOKEN.to_owned()),
            node: "node-1".to_owned(),
            discover: DiscoverOptions {
                kubelet_dir: self.path("kubelet"),
                log_pods_dir: Some(self.path("logs")),
                pods_file: None,
                volumes_file: None,
                host_roots: Vec::new(),
            },
            memory_bytes: 256 << 20,
            limits: Shares::default(),
        };
        let shutdown = CancellationToken::new();
        let own = shutdown.clone();
        let task = tokio::spawn(async move { app::run(config, own).await.unwrap() });
        self.agent = Some(Running { shutdown, task });
    }

    pub(crate) async fn stop_coordinator(&mut self) {
        self.coordinator.take().unwrap().stop().await;
    }

    pub(crate) async fn stop_agent(&mut self) {
        self.agent.take().unwrap().stop().await;
    }

    pub(crate) async fn stop(mut self) {
        self.stop_agent().await;
        self.stop_coordinator().await;
    }

    pub(crate) fn cut_connections(&self) {
        self.relay.as_ref().unwrap().cut();
    }

    /// Lets nothing pass between agent and coordinator, so that what runs cannot end, or lets it pass again.
    pub(crate) fn hold(&self, held: bool) {
        self.relay.as_ref().unwrap().hold(held);
    }

    /// The service for agents, in the name of this node's agent.
    pub(crate) async fn sessions(&self) -> SessionsClient<Client> {
        SessionsClient::new(self.client(TOKEN).await)
    }

    pub(crate) async fn client(&self, token: &str) -> Client {
        let ca = Certificate::from_pem(&self.identity.ca_pem);
        let channel = Endpoint::from_shared(format!("https://{}", self.address))
            .unwrap()
            .tls_config(ClientTlsConfig::new().ca_certificate(ca))
            .unwrap()
            .connect()
            .await
            .unwrap();
        InterceptedService::new(channel, Token(token.to_owned()))
    }

    pub(crate) async fn with_token(&self, token: &str) -> BackupsClient<Client> {
        BackupsClient::new(self.client(token).await)
    }

    pub(crate) async fn backups(&self) -> BackupsClient<Client> {
        self.with_token(TOKEN).await
    }

    pub(crate) async fn restores(&self) -> RestoresClient<Client> {
        RestoresClient::new(self.client(TOKEN).await)
    }

    pub(crate) async fn create(&self, name: &str) {
        let request = v1::CreateBackupRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        self.backups().await.create(request).await.unwrap();
    }

    pub(crate) async fn backup(&self, name: &str) -> v1::Backup {
        self.create(name).await;
        self.wait(name).await
    }

    pub(crate) async fn get(&self, name: &str) -> Result<v1::Backup, Status> {
        let request = v1::GetBackupRequest {
            name: name.to_owned(),
        };
        Ok(self
            .backups()
            .await
            .get(request)
            .await?
            .into_inner()
            .backup
            .unwrap())
    }

    /// Deletes the backup and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) {
        let name = name.to_owned();
        let request = v1::DeleteBackupRequest { name: name.clone() };
        self.backups().await.delete(request).await.unwrap();
        let gone = async {
            while self.get(&name).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    /// Watches the backup until it has ended.
    pub(crate) async fn wait(&self, name: &str) -> v1::Backup {
        let request = v1::WatchBackupsRequest {
            name: name.to_owned(),
        };
        let watch = async {
            let mut states = self
                .backups()
                .await
                .watch(request)
                .await
                .unwrap()
                .into_inner();
            let mut last = None;
            while let Some(state) = states.message().await.unwrap() {
                last = state.backup;
            }
            last.unwrap()
        };
        tokio::time::timeout(PATIENCE, watch).await.unwrap()
    }

    /// Waits until the backup's task has got something done.
    pub(crate) async fn until_running(&self, name: &str) {
        let request = v1::WatchBackupsRequest {
            name: name.to_owned(),
        };
        let mut states = self
            .backups()
            .await
            .watch(request)
            .await
            .unwrap()
            .into_inner();
        while let Some(state) = states.message().await.unwrap() {
            let backup = state.backup.unwrap();
            assert!(
                backup.completed_ms == 0,
                "it has ended too early: {backup:?}"
            );
            if backup.phase() == RunPhase::Running {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    pub(crate) async fn until_known(&self, name: &str) {
        let known = async {
            while self.get(name).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
    }

    pub(crate) async fn restore(&self, request: v1::CreateRestoreRequest) -> v1::Restore {
        let mut restores = self.restores().await;
        let name = request.name.clone();
        restores.create(request).await.unwrap();
        let watch = async {
            let request = v1::WatchRestoresRequest { name };
            let mut states = restores.watch(request).await.unwrap().into_inner();
            let mut last = None;
            while let Some(state) = states.message().await.unwrap() {
                last = state.restore;
            }
            last.unwrap()
        };
        tokio::time::timeout(PATIENCE, watch).await.unwrap()
    }

    pub(crate) async fn log(&self, name: &str) -> Vec<String> {
        let request = v1::ReadLogRequest {
            name: name.to_owned(),
            follow: false,
            after: 0,
        };
        let mut log = self
            .backups()
            .await
            .read_log(request)
            .await
            .unwrap()
            .into_inner();
        let mut lines = Vec::new();
        while let Some(part) = log.message().await.unwrap() {
            lines.extend(part.lines.into_iter().map(|line| line.message));
        }
        lines
    }

    pub(crate) async fn entries(&self, snapshot: &str) -> Vec<String> {
        let request = v1::ListEntriesRequest {
            snapshot: snapshot.to_owned(),
            recursive: true,
            ..Default::default()
        };
        let mut client = SnapshotsClient::new(self.client(TOKEN).await);
        let mut parts = client.list_entries(request).await.unwrap().into_inner();
        let mut paths = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            paths.extend(part.entries.iter().map(path_of));
        }
        paths
    }

    pub(crate) async fn read_file(&self, snapshot: &str, path: &str) -> Vec<u8> {
        let path = path.to_owned().into();
        let request = v1::ReadFileRequest {
            snapshot: snapshot.to_owned(),
            path,
            ..Default::default()
        };
        let mut client = SnapshotsClient::new(self.client(TOKEN).await);
        let mut parts = client.read_file(request).await.unwrap().into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            bytes.extend_from_slice(&part.data);
        }
        bytes
    }

    pub(crate) async fn diff(&self, old: &str, new: &str) -> Vec<String> {
        let request = v1::DiffRequest {
            old: old.to_owned(),
            new: new.to_owned(),
            ..Default::default()
        };
        let mut client = SnapshotsClient::new(self.client(TOKEN).await);
        let mut parts = client.diff(request).await.unwrap().into_inner();
        let mut paths = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            paths.extend(
                part.entries
                    .iter()
                    .filter_map(|d| d.entry.as_ref())
                    .map(path_of),
            );
        }
        paths
    }

    pub(crate) async fn check(&self) -> v1::CheckReport {
        let operation = Some(v1::maintain_request::Operation::Check(v1::CheckOperation {
            read_data: true,
            ..v1::CheckOperation::default()
        }));
        let request = v1::MaintainRequest {
            location: String::new(),
            operation,
        };
        let mut client = SystemClient::new(self.client(TOKEN).await);
        let mut events = client.maintain(request).await.unwrap().into_inner();
        while let Some(event) = events.message().await.unwrap() {
            if let Some(v1::maintain_response::Event::Check(report)) = event.event {
                return report;
            }
        }
        panic!("no report came");
    }
}

fn path_of(entry: &v1::Entry) -> String {
    String::from_utf8_lossy(&entry.path).into_owned()
}

pub(crate) fn unlock() -> Unlock {
    Unlock::KeyFile(vec![7; 32])
}
