//! The coordinator of a cluster, reached through its API server.

use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use hyper_util::rt::TokioIo;
use orlop_core::with_causes;
use orlop_kubernetes::reach::Reach;
use tonic::{
    codegen::http::Uri,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tower::service_fn;

use super::{
    Client,
    bearer::{Authorized, Bearer},
};
use crate::exit;

/// How long a connection may take, with all that is asked of the API server for it.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// A connection on which nothing comes is asked so often whether it lives, ...
const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// ... and must answer within this: proxies on the way drop connections without a word.
const ALIVE_LIMIT: Duration = Duration::from_secs(20);

/// Why there is no connection, with all causes: gRPC passes on the first line alone.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreached(String);

impl Client {
    /// Connects to the coordinator that `reach` leads to. Each connection is a port-forward of its own to the pod that is
    /// ready then, so that calls after a restart of the coordinator find the new one.
    pub(super) async fn through_cluster(reach: Reach) -> Result<Self> {
        let (ca_pem, token) = tokio::join!(reach.ca(), reach.token());
        // Where Orlop is not at all there is no account either.
        let (ca_pem, token) = (ca_pem?, token?);
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        // Nothing is looked up by this name: the certificate must be for it.
        let endpoint = Endpoint::from_shared(format!("https://{}", reach.server_name()))
            .context("the namespace is no name of one")?
            .tls_config(tls)
            .context("set up TLS")?
            .connect_timeout(CONNECT_LIMIT)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_LIMIT)
            .keep_alive_while_idle(true);
        let to_pod = reach.clone();
        let connector = service_fn(move |_: Uri| {
            let reach = to_pod.clone();
            async move {
                let opened = reach.open().await;
                opened
                    .map(TokioIo::new)
                    .map_err(|error| Unreached(with_causes(&error)))
            }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| failed(error.into(), reach.namespace()))?;
        let bearer = Bearer::renewed(reach, token);
        Ok(Self {
            service: Authorized::new(channel, bearer),
        })
    }
}

/// What went wrong, without the layers that it came through.
fn failed(error: Error, namespace: &str) -> Error {
    let reason = error
        .chain()
        .find_map(|one| one.downcast_ref::<Unreached>());
    if let Some(Unreached(reason)) = reason {
        return exit::failure(exit::FAILED, reason.clone());
    }
    error.context(format!(
        "cannot reach the coordinator in namespace {namespace}"
    ))
}
