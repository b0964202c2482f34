//! Metrics of this process: what is measured, and the endpoint that tells it to monitoring.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http;

/// The type of the OpenMetrics text format, version 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The type of the older format of Prometheus, for who does not ask for the other one: the same text is right in both.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is measured in this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<RwLock<Registry>>);

impl Metrics {
    /// Adds what `collector` tells: it is asked each time that somebody looks, and must answer at once.
    pub fn add(&self, collector: impl Collector) {
        let mut registry = self.0.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(collector));
    }

    /// All of it in the [OpenMetrics text format](https://prometheus.io/docs/specs/om/open_metrics_spec/).
    ///
    /// # Errors
    /// A collector failed.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let registry = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Answers `GET /metrics` on `listener` until `shutdown`, in plain HTTP and to everybody, as monitoring expects: what is told are
/// counts and names of schedules, locations and nodes.
pub async fn serve(listener: TcpListener, metrics: Metrics, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(answer))
        .with_state(metrics);
    http::serve(listener, router, "metrics", shutdown).await;
}

/// Writes one metric, named and explained.
///
/// # Errors
/// The writer failed.
pub fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    about: (&str, &str),
    metric: &impl EncodeMetric,
) -> fmt::Result {
    tell_unit(encoder, about, None, metric)
}

/// Writes one metric whose name goes on with its unit.
///
/// # Errors
/// The writer failed.
pub fn tell_unit(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let kind = metric.metric_type();
    metric.encode(encoder.encode_descriptor(name, help, unit, kind)?)
}

async fn answer(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let wanted = accept.is_some_and(|value| value.contains("application/openmetrics-text"));
    let kind = if wanted { OPEN_METRICS } else { PLAIN };
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::ConstCounter;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    #[derive(Debug)]
    struct Seven;

    impl Collector for Seven {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            tell(&mut encoder, ("seven", "Always"), &ConstCounter::new(7_u64))
        }
    }

    async fn ask(address: std::net::SocketAddr, path: &str, accept: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn what_is_measured_is_told_in_the_format_that_is_asked_for() {
        let metrics = Metrics::default();
        metrics.add(Seven);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, metrics, shutdown.clone()));
        let plain = ask(address, "/metrics", "*/*").await;
        assert!(plain.starts_with("HTTP/1.1 200"), "{plain}");
        assert!(plain.contains("content-type: text/plain; version=0.0.4"));
        assert!(
            plain.contains("# TYPE seven counter\nseven_total 7\n"),
            "{plain}"
        );
        let open = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let open = ask(address, "/metrics", open).await;
        assert!(open.contains("content-type: application/openmetrics-text"));
        assert!(open.ends_with("# EOF\n"), "{open}");
        let other = ask(address, "/", "*/*").await;
        assert!(other.starts_with("HTTP/1.1 404"), "{other}");
        shutdown.cancel();
        server.await.unwrap();
    }
}
