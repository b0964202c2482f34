//! Downloads for who speaks only HTTP: an endpoint of its own whose URLs are good once and for ten minutes.
//!
//! It serves nothing else, and nothing without such a URL. It speaks plain HTTP, because clients that know no authority
//! but the system's must be able to read it; what is secret in a URL is worth one artifact.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{Response, StatusCode, header},
    routing::get,
};
use orlop_proto::v1::ArtifactKind;
use orlop_runtime::http;
use rand::Rng as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    clock::Clock,
    runs::Refusal,
    service::{Context, download},
};

/// How long a URL is good.
const GOOD_FOR: Duration = Duration::from_mins(10);
/// URLs that are good at once; the oldest ones give way.
const MOST: usize = 10_000;
/// How long an address is taken to be right.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// The cluster is asked again so soon if it did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// URLs that are good now.
pub(crate) struct Downloads {
    /// Scheme, host and port by which clients reach the endpoint; `None` if there is none.
    base: Mutex<Option<String>>,
    clock: Arc<dyn Clock>,
    good: Mutex<HashMap<String, Ticket>>,
}

/// What a URL is good for.
#[derive(Debug, Clone)]
struct Ticket {
    kind: ArtifactKind,
    name: String,
    location: String,
    /// As time that has passed.
    until: Duration,
}

impl Downloads {
    /// No URLs yet; without `base` there will be none.
    pub(crate) fn new(base: Option<String>, clock: Arc<dyn Clock>) -> Self {
        Self {
            base: Mutex::new(base),
            clock,
            good: Mutex::default(),
        }
    }

    /// Whether it is known how clients reach the endpoint.
    pub(crate) fn has_address(&self) -> bool {
        let known = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_some()
    }

    /// From now on clients reach the endpoint by `base`.
    fn reached_by(&self, base: String) {
        let mut known = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&base) {
            tracing::info!(url = base, "downloads have an address");
            *known = Some(base);
        }
    }

    /// Makes a URL, and says until when it is good, in milliseconds since 1970.
    pub(crate) fn url(
        &self,
        kind: ArtifactKind,
        name: &str,
        location: &str,
    ) -> Result<(String, i64), Refusal> {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let base = base.clone().ok_or_else(|| {
            Refusal::Precondition(
                "there is no address for downloads: make the Service orlop-downloads, or start the coordinator with --downloads-listen and --downloads-url".to_owned(),
            )
        })?;
        let secret: [u128; 2] = rand::rng().random();
        let secret = format!("{:032x}{:032x}", secret[0], secret[1]);
        let reading = self.clock.read();
        let ticket = Ticket {
            kind,
            name: name.to_owned(),
            location: location.to_owned(),
            until: reading.passed + GOOD_FOR,
        };
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.retain(|_, ticket| ticket.until > reading.passed);
        if good.len() >= MOST
            && let Some(oldest) = good.iter().min_by_key(|(_, ticket)| ticket.until)
        {
            let oldest = oldest.0.clone();
            good.remove(&oldest);
        }
        let url = format!("{base}/download/{secret}");
        good.insert(secret, ticket);
        Ok((url, reading.now_ms + GOOD_FOR.as_millis() as i64))
    }

    /// Takes what a secret is good for: the next one who comes with it finds nothing.
    fn take(&self, secret: &str) -> Option<Ticket> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.remove(secret)
            .filter(|ticket| ticket.until > self.clock.passed())
    }
}

/// Serves downloads on `listener` until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, context: Context, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/download/{secret}", get(answer))
        .with_state(context);
    http::serve(listener, router, "downloads", shutdown).await;
}

/// Asks the cluster again and again how clients reach the endpoint, until `shutdown`.
pub(crate) async fn learn_address(context: Context, shutdown: CancellationToken) {
    let mut said = false;
    loop {
        let asked = tokio::select! {
            asked = context.runs.parts.cluster.downloads_url() => asked,
            () = shutdown.cancelled() => return,
        };
        let wait = match asked {
            Ok(Some(base)) => {
                context.downloads.reached_by(base);
                KNOWN_FOR
            }
            Ok(None) => KNOWN_FOR,
            Err(refusal) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(reason = %refusal, "cannot find out how clients reach downloads");
                }
                ASK_AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn answer(State(context): State<Context>, Path(secret): Path<String>) -> Response<Body> {
    let Some(ticket) = context.downloads.take(&secret) else {
        return text(
            StatusCode::GONE,
            "this URL is used up or has expired: ask for another one",
        );
    };
    match download(&context, ticket.kind, ticket.name, ticket.location).await {
        Ok(bytes) => Response::builder()
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CACHE_CONTROL, "no-store")
            .body(Body::from(bytes))
            .unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "")),
        Err(status) if status.code() == Code::NotFound => {
            text(StatusCode::NOT_FOUND, status.message())
        }
        Err(status) => text(StatusCode::SERVICE_UNAVAILABLE, status.message()),
    }
}

fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(message.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Reading;

    struct Hands(Mutex<u64>);

    impl Clock for Hands {
        fn read(&self) -> Reading {
            let seconds = *self.0.lock().unwrap();
            Reading {
                now_ms: seconds as i64 * 1000,
                passed: Duration::from_secs(seconds),
            }
        }
    }

    fn secret(url: &str) -> &str {
        url.rsplit('/').next().unwrap()
    }

    #[test]
    fn a_url_is_good_once_and_for_ten_minutes() {
        let hands = Arc::new(Hands(Mutex::new(100)));
        let downloads = Downloads::new(Some("http://h:1".to_owned()), hands.clone());
        let make = || downloads.url(ArtifactKind::BackupLog, "b", "l").unwrap();
        let (url, expires_ms) = make();
        assert!(url.starts_with("http://h:1/download/"));
        assert_eq!(expires_ms, 700_000);
        assert!(downloads.take(secret(&url)).is_some());
        assert!(downloads.take(secret(&url)).is_none());
        let (late, _) = make();
        *hands.0.lock().unwrap() = 701;
        assert!(downloads.take(secret(&late)).is_none());
        assert!(downloads.take("guessed").is_none());
    }

    #[test]
    fn urls_that_nobody_uses_do_not_pile_up() {
        let downloads = Downloads::new(Some(String::new()), Arc::new(Hands(Mutex::new(1))));
        for _ in 0..=MOST {
            downloads.url(ArtifactKind::BackupLog, "b", "l").unwrap();
        }
        assert_eq!(downloads.good.lock().unwrap().len(), MOST);
    }

    #[test]
    fn without_an_address_there_are_none() {
        let downloads = Downloads::new(None, Arc::new(Hands(Mutex::new(1))));
        let refused = downloads.url(ArtifactKind::BackupLog, "b", "l");
        assert!(matches!(refused, Err(Refusal::Precondition(_))));
    }
}
