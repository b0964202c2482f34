//! A relay between agent and coordinator whose connections can be cut or held up at any moment.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::JoinHandle,
};

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    cut: Arc<broadcast::Sender<()>>,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(broadcast::Sender::new(4));
        let cuts = Arc::clone(&cut);
        let held = watch::Sender::new(false);
        let holds = held.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                let (up, down) = (holds.subscribe(), holds.subscribe());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else {
                        return;
                    };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    tokio::select! {
                        _ = cut.recv() => {}
                        () = pump(near_in, far_out, up) => {}
                        () = pump(far_in, near_out, down) => {}
                    }
                });
            }
        });
        Self {
            address,
            cut,
            held,
            task,
        }
    }

    pub(crate) fn cut(&self) {
        let _ = self.cut.send(());
    }

    /// Lets nothing through until it is called with `false`.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut held: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if held.wait_for(|held| !held).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
