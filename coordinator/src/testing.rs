//! A gateway without rules, for tests that the way through it keeps what stores promise.

use std::{net::SocketAddr, sync::Arc};

use orlop_proto::v1::store_server::StoreServer;
use orlop_repository::ObjectStore;
use orlop_runtime::identity::Authority;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Identity, Server, ServerTlsConfig,
    server::{Router, TcpIncoming},
};

use crate::{
    config::GatewayLimits,
    error::{Error, Result},
    service::{
        Gate, StoreService,
        store::{Access, MAX_MESSAGE_BYTES, Rules},
    },
    tasks::Tasks,
};

/// Serves one store to every task and session, under all names; nothing but the token is asked for.
pub struct OpenGateway {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    tasks: Arc<Tasks>,
    ending: CancellationToken,
}

impl OpenGateway {
    /// Listens on `listen`.
    ///
    /// # Errors
    /// The address is in use, or the identity is no TLS identity.
    pub async fn bind(
        listen: SocketAddr,
        store: Arc<dyn ObjectStore>,
        identity: &Authority,
        token: &str,
        limits: GatewayLimits,
    ) -> Result<Self> {
        let fail = |source| Error::Bind {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let (tasks, ending) = (Arc::new(Tasks::default()), CancellationToken::new());
        let access = Access {
            store,
            rules: Rules::Everything,
        };
        let doorkeeper = Arc::new(move |_: &str, _, _| Ok(access.clone()));
        let service = StoreService::new(doorkeeper, limits, Arc::clone(&tasks), ending.clone());
        let service = StoreServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let identity = Identity::from_pem(&identity.cert_pem, &identity.key_pem);
        let mut server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .map_err(|error| Error::Serve(error.to_string()))?;
        let router = server.add_service(Gate::new(token, None).before(service));
        Ok(Self {
            listener,
            address,
            router,
            tasks,
            ending,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// The server failed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let serve = self.router.serve_with_incoming(incoming);
        let served = tokio::select! {
            served = serve => served,
            () = shutdown.cancelled() => Ok(()),
        };
        self.ending.cancel();
        self.tasks.join().await;
        served.map_err(|error| Error::Serve(error.to_string()))
    }
}
