//! The connection to the coordinator: TLS by its own authority, the token in every call.

use std::time::Duration;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{AgentConfig, AppError};

/// A coordinator that does not answer for this long is taken to be gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A channel that dials when it is needed and again when it broke, and adds token and node to every call.
pub(crate) type Client = InterceptedService<Channel, Credentials>;

/// What every call shows.
#[derive(Clone)]
pub(crate) struct Credentials {
    authorization: MetadataValue<Ascii>,
    node: MetadataValue<Ascii>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        metadata.insert("orlop-node", self.node.clone());
        Ok(request)
    }
}

/// The connection, not dialled yet.
pub(crate) fn connect(config: &AgentConfig) -> Result<Client, AppError> {
    let fail = |what| {
        move |error: tonic::transport::Error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            AppError::Config {
                what,
                reason: source.unwrap_or_else(|| error.to_string()),
            }
        }
    };
    let header = |what, text: &str| {
        let value = text.parse::<MetadataValue<Ascii>>();
        value.map_err(|error| AppError::Config {
            what,
            reason: error.to_string(),
        })
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&config.ca_pem));
    let channel = Endpoint::from_shared(config.server.clone())
        .map_err(fail("the coordinator's address"))?
        .tls_config(tls)
        .map_err(fail("the authority's certificate"))?
        .connect_timeout(CONNECT_PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy();
    let mut authorization = header("the token", &format!("Bearer {}", config.token))?;
    authorization.set_sensitive(true);
    let credentials = Credentials {
        authorization,
        node: header("the node's name", &config.node)?,
    };
    Ok(InterceptedService::new(channel, credentials))
}

/// How long to wait after `failures` failures in a row: doubling from 200 ms, with jitter so that agents do
/// not come back all at once.
pub(crate) fn backoff(failures: u32) -> Duration {
    let full = Duration::from_millis(200)
        .saturating_mul(1 << failures.min(10))
        .min(MAX_PAUSE);
    // The clock's nanoseconds are random enough for a pause.
    let jitter = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() % 1000;
    full.mul_f64(0.5 + f64::from(jitter) / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        assert!(backoff(0) <= Duration::from_millis(200));
        assert!(backoff(3) >= Duration::from_millis(800));
        assert!(backoff(60) <= MAX_PAUSE);
    }
}
