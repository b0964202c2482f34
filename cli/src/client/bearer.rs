//! Who asks: the bearer token of every call, and a new one before its time is over.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use orlop_core::with_causes;
use orlop_kubernetes::reach::{CLIENT_ACCOUNT, ClientToken, Reach};
use tokio::sync::Mutex;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        BoxFuture, Service, StdError,
        http::{HeaderValue, Request, Response, header::AUTHORIZATION},
    },
    transport::Channel,
};

/// The token of the next call.
#[derive(Clone)]
pub(super) enum Bearer {
    /// Always the same.
    Fixed(HeaderValue),
    /// One that the API server gives out.
    Renewed(Arc<Renewed>),
}

/// A token that is replaced in time.
pub(super) struct Renewed {
    reach: Reach,
    current: Mutex<ClientToken>,
}

fn header(token: &str) -> Result<HeaderValue> {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.context("the token is not visible ASCII")?;
    value.set_sensitive(true);
    Ok(value)
}

impl Bearer {
    pub(super) fn fixed(token: &str) -> Result<Self> {
        Ok(Self::Fixed(header(token)?))
    }

    pub(super) fn renewed(reach: Reach, token: ClientToken) -> Self {
        let current = Mutex::new(token);
        Self::Renewed(Arc::new(Renewed { reach, current }))
    }

    async fn header(&self) -> Result<HeaderValue, Status> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Renewed(renewed) => {
                let mut current = renewed.current.lock().await;
                if current.is_due(SystemTime::now()) {
                    match renewed.reach.token().await {
                        Ok(token) => *current = token,
                        Err(error) if current.is_over(SystemTime::now()) => {
                            return Err(Status::unavailable(with_causes(&error)));
                        }
                        // There is time for another try.
                        Err(error) => tracing::debug!(%error, "the token was not renewed"),
                    }
                }
                header(&current.token).map_err(|error| Status::internal(error.to_string()))
            }
        }
    }

    /// What a refusal means beyond what the server says of it.
    fn explained(&self, response: &Response<Body>) -> Option<Status> {
        let Self::Renewed(renewed) = self else {
            return None;
        };
        let code = response.headers().get("grpc-status")?;
        (Code::from_bytes(code.as_bytes()) == Code::Unauthenticated).then(|| {
            Status::unauthenticated(format!(
                "the coordinator in namespace {} does not take tokens of ServiceAccount {CLIENT_ACCOUNT}: it is older \
                 than this program, {}; update it with orlop install",
                renewed.reach.namespace(),
                env!("CARGO_PKG_VERSION"),
            ))
        })
    }
}

/// A channel whose calls carry a token.
#[derive(Clone)]
pub(crate) struct Authorized {
    channel: Channel,
    bearer: Bearer,
}

impl Authorized {
    pub(super) fn new(channel: Channel, bearer: Bearer) -> Self {
        Self { channel, bearer }
    }
}

impl Service<Request<Body>> for Authorized {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = BoxFuture<Response<Body>, StdError>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let bearer = self.bearer.clone();
        // The one that is ready is used, its clone may not be.
        let clone = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, clone);
        Box::pin(async move {
            let value = bearer.header().await?;
            request.headers_mut().insert(AUTHORIZATION, value);
            let response = channel.call(request).await?;
            match bearer.explained(&response) {
                Some(status) => Err(status.into()),
                None => Ok(response),
            }
        })
    }
}
