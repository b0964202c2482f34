//! The programs of the installation's pods, which work in this process.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orlop_agent::{
    app::{self, AgentConfig, TokenSource},
    volumes::DiscoverOptions,
};
use orlop_controller::{Config, Controller};
use orlop_coordinator::{
    ClusterAccess, Coordinator, CoordinatorConfig, DownloadEndpoint, Limits, StoreAccess,
    SystemClock,
};
use orlop_kubernetes::{client::Connection, identity};
use orlop_runtime::{identity::Authority, metrics::Metrics};
use orlop_tests::kube_api::KubeApi;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::kubelet::NODE;

const TOKEN: &str = "the-token";
/// How long a program may take to end.
const GRACE: Duration = Duration::from_mins(1);

/// A program that runs in a pod.
struct Program {
    pod: String,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Program {
    async fn end(self) {
        self.cancel.cancel();
        for task in self.tasks {
            tokio::time::timeout(GRACE, task)
                .await
                .expect("a program ends when it is told so")
                .unwrap();
        }
    }
}

/// Coordinator and agent, each if it runs.
pub(super) struct Programs {
    api: Arc<KubeApi>,
    dir: PathBuf,
    grpc: SocketAddr,
    downloads: SocketAddr,
    ca_pem: String,
    coordinator: Option<Program>,
    agent: Option<Program>,
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], orlop_tests::free_port()))
}

impl Programs {
    pub(super) fn new(api: &Arc<KubeApi>, dir: &Path) -> Self {
        Self {
            api: Arc::clone(api),
            dir: dir.to_owned(),
            grpc: local(),
            downloads: local(),
            ca_pem: String::new(),
            coordinator: None,
            agent: None,
        }
    }

    /// Whether one of them runs.
    pub(super) fn any(&self) -> bool {
        self.coordinator.is_some() || self.agent.is_some()
    }

    /// Whether agents know whom to dial.
    pub(super) fn is_known(&self) -> bool {
        !self.ca_pem.is_empty()
    }

    /// Ends the program of a workload if its pod is not among those that are alive.
    pub(super) async fn end_if_gone(&mut self, workload: &str, alive: &[&str]) {
        let place = match workload {
            "velero" => &mut self.coordinator,
            _ => &mut self.agent,
        };
        if let Some(program) = place.take_if(|program| !alive.contains(&&*program.pod)) {
            program.end().await;
        }
    }

    /// Ends both.
    pub(super) async fn end_all(&mut self) {
        let programs = [self.agent.take(), self.coordinator.take()];
        for program in programs.into_iter().flatten() {
            program.end().await;
        }
    }

    /// As `orlop coordinator --in-cluster` does it, with an empty data directory.
    pub(super) async fn start_coordinator(&mut self, pod: String) {
        let connection = Connection::to_url(&self.api.url(), None).unwrap();
        let connection = connection.with_namespace("velero");
        let data_dir = self.dir.join(format!("data-{pod}"));
        let tls = data_dir.join("tls");
        fs::create_dir_all(&data_dir).unwrap();
        let files = Authority::FILES;
        identity::recall(&connection, &tls, &files).await.unwrap();
        let authority = Authority::load_or_create(&tls, &[]).unwrap();
        identity::remember(&connection, &tls, &files).await.unwrap();
        self.ca_pem.clone_from(&authority.ca_pem);
        let coordinator = Coordinator::bind(CoordinatorConfig {
            listen: self.grpc,
            home: None,
            unlock: None,
            store_access: StoreAccess::Auto,
            own_node: None,
            state_db: data_dir.join("state.db"),
            data_dir,
            identity: authority.clone(),
            downloads: Some(DownloadEndpoint {
                listen: self.downloads,
                url: Some(format!("http://{}", self.downloads)),
            }),
            cluster: Some(ClusterAccess {
                connection: connection.clone(),
                host_roots: Vec::new(),
            }),
            token: TOKEN.to_owned(),
            metrics_listen: None,
            metrics: Metrics::default(),
            limits: Limits::default(),
            clock: Arc::new(SystemClock::default()),
        })
        .await
        .unwrap();
        let server = format!("https://{}", self.grpc);
        let calls =
            orlop_controller::Coordinator::at(&server, TOKEN, Some(&authority.ca_pem)).unwrap();
        let config = Config {
            stores: self.dir.join("stores").display().to_string(),
            ..Config::default()
        };
        let controller = Controller::new(config, connection, calls);
        let cancel = CancellationToken::new();
        let (one, other) = (cancel.clone(), cancel.clone());
        let tasks = vec![
            tokio::spawn(async move { controller.run(one).await.unwrap() }),
            tokio::spawn(async move { coordinator.run(other).await.unwrap() }),
        ];
        self.coordinator = Some(Program { pod, cancel, tasks });
    }

    /// As `orlop agent serve` does it.
    pub(super) fn start_agent(&mut self, pod: String) {
        let config = AgentConfig {
            server: format!("https://{}", self.grpc),
            ca_pem: self.ca_pem.clone(),
            token: TokenSource::Fixed(TOKEN.to_owned()),
            node: NODE.to_owned(),
            discover: DiscoverOptions {
                kubelet_dir: self.dir.join("kubelet"),
                log_pods_dir: Some(self.dir.join("logs")),
                ..DiscoverOptions::default()
            },
            memory_bytes: 256 << 20,
            limits: orlop_agent::backup::Limits::default(),
        };
        let cancel = CancellationToken::new();
        let own = cancel.clone();
        let tasks = vec![tokio::spawn(
            async move { app::run(config, own).await.unwrap() },
        )];
        self.agent = Some(Program { pod, cancel, tasks });
    }
}
