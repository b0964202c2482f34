//! The connection to the coordinator: TLS by its own authority, the token in every call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{AgentConfig, AppError, TokenSource};

/// A coordinator that does not answer for this long is taken to be gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// A token in a file is read again after so long: the kubelet puts a new one there long before the old one ends.
const TOKEN_FRESH: Duration = Duration::from_mins(1);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A channel that dials when it is needed and again when it broke, and adds token and node to every call.
pub(crate) type Client = InterceptedService<Channel, Credentials>;

/// What every call shows.
#[derive(Clone)]
pub(crate) struct Credentials {
    token: Arc<Token>,
    node: MetadataValue<Ascii>,
}

/// The bearer token; one in a file is read again when it may have changed.
struct Token {
    source: TokenSource,
    read: Mutex<Option<(Instant, MetadataValue<Ascii>)>>,
}

impl Token {
    fn header(&self) -> Result<MetadataValue<Ascii>, String> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let path = match (&self.source, &*read) {
            (TokenSource::Fixed(_), Some((_, header))) => return Ok(header.clone()),
            (TokenSource::Fixed(token), None) => {
                let header = bearer(token)?;
                *read = Some((Instant::now(), header.clone()));
                return Ok(header);
            }
            (TokenSource::File(_), Some((at, header))) if at.elapsed() < TOKEN_FRESH => {
                return Ok(header.clone());
            }
            (TokenSource::File(path), _) => path,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("read {}: {error}", path.display()))?;
        let header = bearer(text.trim())?;
        *read = Some((Instant::now(), header.clone()));
        Ok(header)
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, String> {
    let mut header: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| "it is not visible ASCII".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = self
            .token
            .header()
            .map_err(|reason| Status::unavailable(format!("the token: {reason}")))?;
        let metadata = request.metadata_mut();
        metadata.insert("authorization", header);
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
    let token = Token {
        source: config.token.clone(),
        read: Mutex::default(),
    };
    token.header().map_err(|reason| AppError::Config {
        what: "the token",
        reason,
    })?;
    let credentials = Credentials {
        token: Arc::new(token),
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
    fn a_token_in_a_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let token = Token {
            source: TokenSource::File(path.clone()),
            read: Mutex::default(),
        };
        assert_eq!(token.header().unwrap(), "Bearer first");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(token.header().unwrap(), "Bearer first", "it is fresh");
        let old = Instant::now().checked_sub(TOKEN_FRESH).unwrap();
        token.read.lock().unwrap().as_mut().unwrap().0 = old;
        assert_eq!(token.header().unwrap(), "Bearer second");
        std::fs::remove_file(&path).unwrap();
        token.read.lock().unwrap().as_mut().unwrap().0 = old;
        assert!(token.header().is_err());
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert!(backoff(0) <= Duration::from_millis(200));
        assert!(backoff(3) >= Duration::from_millis(800));
        assert!(backoff(60) <= MAX_PAUSE);
    }
}
