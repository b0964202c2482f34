//! How the test server answers one request: as planned, or as the service does.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{S3Fault, S3Op, Shared};

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;
type AnyBody = BoxBody<Bytes, Failure>;

/// Serves one connection.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    // How a connection ends is the client's affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Kind of a request, and the key or prefix that it is for.
fn asked(request: &Request<Incoming>) -> (S3Op, String) {
    let path = request.uri().path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key);
    let query = request.uri().query().unwrap_or_default();
    if *request.method() == Method::GET && query.contains("list-type=2") {
        let prefix = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("prefix="));
        let prefix = prefix.unwrap_or_default().replace("%2F", "/");
        return (S3Op::List, prefix);
    }
    let op = match *request.method() {
        Method::PUT => S3Op::Put,
        Method::HEAD => S3Op::Head,
        Method::DELETE => S3Op::Delete,
        _ => S3Op::Get,
    };
    (op, key.to_owned())
}

/// The region that a request is signed for.
fn signed_region(request: &Request<Incoming>) -> Option<&str> {
    let header = request.headers().get("authorization")?.to_str().ok()?;
    header.split_once("Credential=")?.1.split('/').nth(2)
}

fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|e| match e {}).boxed()
}

fn refusal(
    op: S3Op,
    status: u16,
    code: &str,
    xml: &str,
    headers: &[(String, String)],
) -> Response<AnyBody> {
    let body = if code.is_empty() || op == S3Op::Head {
        String::new()
    } else {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>as planned</Message>{xml}</Error>"
        )
    };
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/xml");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(full(body)).unwrap()
}

fn gone() -> Failure {
    "the connection is closed as planned".into()
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<AnyBody>, Failure> {
    let (op, key) = asked(&request);
    let fault = shared.faults.next(op, &key);
    shared
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((op, key));
    let before = match &fault {
        Some(S3Fault::Refuse {
            status,
            code,
            xml,
            headers,
        }) => {
            // Read what is sent first: an answer before that may be lost with the connection.
            let _ = request.into_body().collect().await;
            return Ok(refusal(op, *status, code, xml, headers));
        }
        Some(S3Fault::Text(status, text)) => {
            let _ = request.into_body().collect().await;
            return Ok(Response::builder()
                .status(*status)
                .body(full(text.clone()))?);
        }
        Some(S3Fault::Reset) => return Err(gone()),
        Some(S3Fault::ResetInUpload) => {
            let mut body = request.into_body();
            let _ = body.frame().await;
            return Err(gone());
        }
        Some(S3Fault::Hang) => std::future::pending().await,
        Some(S3Fault::Hold(gate)) => {
            gate.pass().await;
            Duration::ZERO
        }
        Some(S3Fault::Slow(time)) => *time,
        _ => Duration::ZERO,
    };
    if before > Duration::ZERO {
        tokio::time::sleep(before).await;
    }
    if let Some(right) = &shared.options.region
        && let Some(region) = signed_region(&request)
        && region != right
    {
        let xml = format!("<Region>{right}</Region>");
        return Ok(refusal(op, 400, "AuthorizationHeaderMalformed", &xml, &[]));
    }
    let response = shared.service.call(request.map(s3s::Body::from)).await?;
    match fault {
        Some(S3Fault::LoseAnswer) => Err(gone()),
        Some(S3Fault::FailAfter) => Ok(refusal(op, 500, "InternalError", "", &[])),
        Some(S3Fault::NotFoundAfter) => Ok(refusal(op, 404, "NoSuchKey", "", &[])),
        Some(S3Fault::HalfBody) => half(response).await,
        _ => Ok(response.map(|body| body.map_err(Failure::from).boxed())),
    }
}

/// The answer with half of its body; nothing if it has none.
async fn half(response: Response<s3s::Body>) -> Result<Response<AnyBody>, Failure> {
    let (mut head, body) = response.into_parts();
    let whole = body.collect().await?.to_bytes();
    if whole.is_empty() {
        return Err(gone());
    }
    head.headers.insert("content-length", whole.len().into());
    let part = whole.slice(..whole.len() / 2);
    let frames = [Ok(Frame::data(part)), Err(gone())];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Ok(Response::from_parts(head, BoxBody::new(body)))
}
