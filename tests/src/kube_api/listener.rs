//! The server's port, which can refuse connections for a while without being lost to another.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Shared, lock, serve::serve};
use crate::s3::{S3Tls, acceptor};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Accepts connections for a server.
pub(super) struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
    tls: Option<(TlsAcceptor, tempfile::NamedTempFile)>,
    /// What ends all connections, shared by those that are open; the port alone while they are refused.
    up: Mutex<Result<Arc<CancellationToken>, TcpSocket>>,
    runtime: Option<Runtime>,
}

/// A socket that holds a port; connections are refused until it listens.
fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Listener {
    pub(super) fn start(shared: &Arc<Shared>, tls: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kube-api")
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let socket = bound((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Self {
            shared: Arc::clone(shared),
            address,
            tls: tls.then(|| acceptor(S3Tls::Good)),
            up: Mutex::new(Err(socket)),
            runtime: Some(runtime),
        };
        listener.accept();
        listener
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The authority's certificate, if there is TLS.
    pub(super) fn ca(&self) -> Option<&std::path::Path> {
        self.tls.as_ref().map(|(_, file)| file.path())
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it ends with the listener")
    }

    /// Accepts connections, if they are refused.
    pub(super) fn accept(&self) {
        let _entered = self.runtime().enter();
        let mut up = lock(&self.up);
        if up.is_ok() {
            return;
        }
        let down = Arc::new(CancellationToken::new());
        if let Err(socket) = std::mem::replace(&mut *up, Ok(Arc::clone(&down))) {
            let listener = socket.listen(BACKLOG).unwrap();
            let acceptor = self.tls.as_ref().map(|(acceptor, _)| acceptor.clone());
            let shared = Arc::clone(&self.shared);
            self.runtime()
                .spawn(accept_until(down, shared, listener, acceptor));
        }
    }

    /// Ends all connections and refuses new ones.
    pub(super) fn refuse(&self) {
        let _entered = self.runtime().enter();
        let mut up = lock(&self.up);
        let Ok(down) = &*up else {
            return;
        };
        down.cancel();
        let ended = soon(|| (Arc::strong_count(down) == 1).then_some(()));
        ended.expect("no connection goes on");
        let held = soon(|| bound(self.address).ok());
        *up = Err(held.expect("nobody else has the port"));
    }
}

/// What there is within some seconds.
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..10_000 {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves until it is told to end; `down` is let go of last.
async fn accept_until(
    down: Arc<CancellationToken>,
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            () = down.cancelled() => return,
        };
        let _ = stream.set_nodelay(true);
        let (shared, acceptor, down) = (Arc::clone(&shared), acceptor.clone(), Arc::clone(&down));
        tokio::spawn(async move {
            match acceptor {
                None => serve(shared, stream, down).await,
                Some(acceptor) => {
                    let shaken = tokio::select! {
                        shaken = acceptor.accept(stream) => shaken,
                        () = down.cancelled() => return,
                    };
                    if let Ok(stream) = shaken {
                        serve(shared, stream, down).await;
                    }
                }
            }
        });
    }
}
