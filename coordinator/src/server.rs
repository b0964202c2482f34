//! The coordinator as a whole: listens, serves, schedules, records.

use std::{
    fs::{File, TryLockError},
    io::ErrorKind,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use orlop_kubernetes::{access::Reviewer, events::EventWriter};
use orlop_proto::{
    DESCRIPTORS,
    v1::{
        agents_server::AgentsServer, artifacts_server::ArtifactsServer,
        backups_server::BackupsServer, locations_server::LocationsServer,
        restores_server::RestoresServer, schedules_server::SchedulesServer,
        sessions_server::SessionsServer, snapshots_server::SnapshotsServer,
        store_server::StoreServer, system_server::SystemServer,
    },
};
use orlop_runtime::{metrics, private};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Identity, Server, ServerTlsConfig,
    server::{Router, TcpIncoming},
};
use tonic_reflection::server::Builder as Reflection;

use crate::{
    clock::Clock,
    cluster::{Cluster, Directory, KubeCluster},
    config::{ClusterAccess, CoordinatorConfig, DownloadEndpoint},
    downloads::{self, Downloads},
    error::{Error, Result},
    locations::Locations,
    maintenance::Maintenance,
    metrics::Told,
    runs::{Parts, Refusal, Runs},
    schedules::Schedules,
    service::{
        AgentsService, ArtifactsService, BackupsService, ClusterGate, Context, Gate,
        LocationsService, RestoresService, SchedulesService, SessionsService, SnapshotsService,
        StoreService, SystemService, store,
    },
    tasks::Tasks,
};

/// Inventories and commits of large volumes are larger than gRPC's default of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;
/// Streams get so long to end at a shutdown.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);
/// Streams that read snapshots at once; the runtime has 512 blocking threads for everything.
const READERS: usize = 32;
/// A peer that does not answer for this long is taken to be gone.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A coordinator that listens but does not serve yet.
pub struct Coordinator {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    context: Context,
    /// Where downloads are served.
    endpoint: Option<TcpListener>,
    /// Where monitoring is told, and what.
    monitored: Option<(TcpListener, metrics::Metrics)>,
    /// Writes the events of the cluster.
    events: Option<EventWriter>,
    /// Keeps others out of the data directory.
    lock: File,
}

impl Coordinator {
    /// Listens, opens the state database and all locations, and reads from them what is finished. A location that
    /// does not answer is looked at again later.
    ///
    /// # Errors
    /// The address or the data directory is in use, the state database or the files of locations cannot be read, the
    /// location that it is started with can never be opened as it is (a wrong password), or the identity is no TLS identity.
    pub async fn bind(config: CoordinatorConfig) -> Result<Self> {
        let listen = config.listen;
        let fail = |source| Error::Bind {
            address: listen,
            source,
        };
        // The address is taken at once, so that no second coordinator goes on, but nobody is let in before all is open.
        let socket = taken(listen).map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?;
        private::create_dir(&config.data_dir)?;
        let lock = locked(&config.data_dir)?;
        let (endpoint, downloads) =
            open_downloads(config.downloads, config.cluster.is_some(), &config.clock).await?;
        let monitored = match config.metrics_listen {
            Some(address) => Some((bound(address).await?, config.metrics.clone())),
            None => None,
        };
        let clock = Arc::clone(&config.clock);
        let locations = Locations::load(&config.data_dir, config.home, config.unlock, clock)?;
        let spool_dir = config.data_dir.join("spool");
        let tokens = config.cluster.as_ref().map(|access| ClusterGate {
            reviewer: Reviewer::new(&access.connection),
            namespace: access.connection.namespace().to_owned(),
        });
        let gate = Gate::new(&config.token, tokens);
        let (cluster, events): (Arc<dyn Cluster>, _) = match config.cluster {
            None => (Arc::new(Directory::default()), None),
            Some(access) => {
                let ClusterAccess {
                    connection,
                    host_roots,
                } = access;
                let (cluster, events) = KubeCluster::new(connection, host_roots, spool_dir.clone());
                (Arc::new(cluster), Some(events))
            }
        };
        let parts = Parts {
            cluster,
            locations: Arc::new(locations),
            store_access: config.store_access,
            own_node: config.own_node,
            context_key: config.identity.own_key("task contexts"),
            spool_dir,
            limits: config.limits,
            clock: config.clock,
        };
        let started_ms = parts.clock.now_ms();
        let runs = Arc::new(Runs::load(parts, &config.state_db)?);
        let schedules = Arc::new(Schedules::new(Arc::clone(&runs)));
        let maintenance = Maintenance::new(Arc::clone(&runs), Arc::clone(&schedules));
        let maintenance = Arc::new(maintenance);
        maintenance.begin().await.map_err(|refusal| match refusal {
            Refusal::Repository(error) => Error::Repository(error),
            refusal => Error::Begin(refusal.to_string()),
        })?;
        config.metrics.add(Told::new(&runs, &maintenance));
        let context = Context {
            schedules,
            maintenance,
            downloads: Arc::new(downloads),
            runs,
            tasks: Arc::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            shutdown: CancellationToken::new(),
            started_ms,
        };
        let identity = Identity::from_pem(config.identity.cert_pem, config.identity.key_pem);
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .map_err(|error| Error::Serve(error.to_string()))?
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE));
        let router = services(server, &context, &gate).await?;
        let listener = socket.listen(BACKLOG).map_err(fail)?;
        Ok(Self {
            listener,
            address,
            router,
            context,
            endpoint,
            monitored,
            events,
            lock,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`. Tasks run on in their agents, and are taken up again by the next coordinator.
    ///
    /// # Errors
    /// The server failed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self {
            listener,
            address,
            router,
            context,
            endpoint,
            monitored,
            events,
            lock,
        } = self;
        let own: Tasks = Tasks::default();
        own.spawn(Arc::clone(&context.runs).run_scheduler(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.runs).run_recorder(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.runs).run_session_ender(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.maintenance).run_health(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.maintenance).run_collector(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.maintenance).run_scrubber(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.runs).run_hooks(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.runs).run_restores(context.shutdown.clone()));
        if let Some(events) = events {
            own.spawn(events.run(context.shutdown.clone()));
        }
        if let Some(endpoint) = endpoint {
            let (context, shutdown) = (context.clone(), context.shutdown.clone());
            if !context.downloads.has_address() {
                own.spawn(downloads::learn_address(context.clone(), shutdown.clone()));
            }
            own.spawn(downloads::serve(endpoint, context, shutdown));
        }
        if let Some((listener, told)) = monitored {
            own.spawn(metrics::serve(listener, told, context.shutdown.clone()));
        }
        own.spawn(Arc::clone(&context.schedules).run_turns(context.shutdown.clone()));
        own.spawn(Arc::clone(&context.schedules).run_upkeep(context.shutdown.clone()));
        tracing::info!(%address, "coordinator listens");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let ending = context.shutdown.clone();
        let signal = ending.clone().cancelled_owned();
        let serve = router.serve_with_incoming_shutdown(incoming, signal);
        tokio::pin!(serve);
        let served = tokio::select! {
            served = &mut serve => Some(served),
            () = shutdown.cancelled() => None,
        };
        ending.cancel();
        context.runs.cut_all();
        let served = match served {
            Some(served) => served,
            // Connections that do not end in time are dropped.
            None => tokio::time::timeout(SHUTDOWN_PATIENCE, serve)
                .await
                .unwrap_or(Ok(())),
        };
        own.join().await;
        context.tasks.join().await;
        drop(lock);
        tracing::info!("coordinator has ended");
        served.map_err(|error| Error::Serve(error.to_string()))
    }
}

/// The endpoint of downloads, and what makes their URLs.
async fn open_downloads(
    wanted: Option<DownloadEndpoint>,
    in_cluster: bool,
    clock: &Arc<dyn Clock>,
) -> Result<(Option<TcpListener>, Downloads)> {
    let Some(wanted) = wanted else {
        return Ok((None, Downloads::new(None, Arc::clone(clock))));
    };
    let endpoint = bound(wanted.listen).await?;
    let address = endpoint.local_addr().map_err(|source| Error::Bind {
        address: wanted.listen,
        source,
    })?;
    let url = wanted
        .url
        .or_else(|| (!in_cluster).then(|| format!("http://{address}")));
    let url = url.map(|url| url.trim_end_matches('/').to_owned());
    Ok((Some(endpoint), Downloads::new(url, Arc::clone(clock))))
}

/// Takes the lock of a data directory, which the system gives back when the process ends.
fn locked(dir: &Path) -> Result<File> {
    let fail = |source| Error::Lock {
        dir: dir.to_owned(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            dir: dir.to_owned(),
        }),
        // Some network file systems know no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

async fn bound(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| Error::Bind { address, source })
}

fn taken(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn services(mut server: Server, context: &Context, gate: &Gate) -> Result<Router> {
    macro_rules! guarded {
        ($server:ident, $service:ident) => {{
            let service = $server::new($service(context.clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            gate.before(service)
        }};
    }
    let reflection = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let gateway = StoreService::new(
        store::for_sessions(&context.runs),
        context.runs.parts.limits.gateway.clone(),
        Arc::clone(&context.tasks),
        context.shutdown.clone(),
    );
    let gateway = StoreServer::new(gateway).max_decoding_message_size(store::MAX_MESSAGE_BYTES);
    let fail = |error: tonic_reflection::server::Error| Error::Serve(error.to_string());
    let v1 = reflection().build_v1().map_err(fail)?;
    let v1alpha = reflection().build_v1alpha().map_err(fail)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    Ok(server
        .add_service(health)
        .add_service(gate.before(v1))
        .add_service(gate.before(v1alpha))
        .add_service(guarded!(BackupsServer, BackupsService))
        .add_service(guarded!(RestoresServer, RestoresService))
        .add_service(guarded!(SchedulesServer, SchedulesService))
        .add_service(guarded!(LocationsServer, LocationsService))
        .add_service(guarded!(ArtifactsServer, ArtifactsService))
        .add_service(guarded!(SnapshotsServer, SnapshotsService))
        .add_service(guarded!(SystemServer, SystemService))
        .add_service(guarded!(AgentsServer, AgentsService))
        .add_service(guarded!(SessionsServer, SessionsService))
        .add_service(gate.before(gateway)))
}
