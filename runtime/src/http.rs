//! Endpoints of plain HTTP.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Clients have so long to end at a shutdown.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until `shutdown`; clients that have not ended five seconds later are cut off. `what` is what is
/// served, for the log.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    what: &'static str,
    shutdown: CancellationToken,
) {
    let address = listener
        .local_addr()
        .ok()
        .map(|address| address.to_string());
    tracing::info!(what, address, "an endpoint is served");
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(what, %error, "an endpoint is served no more");
        },
        () = patience => {}
    }
}
