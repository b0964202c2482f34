//! Connections: from bytes to requests, and from answers to bytes.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    access::KubeUser,
    discovery::discover,
    exec,
    failure::Failure,
    faults::KubeFault,
    forward, lock,
    request::{KubeRequest, Target},
    verbs::{self, Answer, Switched},
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves one connection until either side ends it or the server goes down.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, down: Arc<CancellationToken>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let until = Arc::clone(&down);
    let service =
        service_fn(move |request| respond(Arc::clone(&shared), request, Arc::clone(&down)));
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        // What a client did wrong with its connection is its own affair.
        _ = connection => {}
        () = until.cancelled() => {}
    }
}

/// Answers a request; an error ends the connection.
async fn respond(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
    down: Arc<CancellationToken>,
) -> io::Result<Response<Body>> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut request = KubeRequest::new(&parts.method, &parts.uri, &parts.headers, body);
    let user = identify(&shared, &parts.headers);
    if let Ok(user) = &user {
        request.user.clone_from(&user.name);
    }
    lock(&shared.requests).push(request.clone());
    let fault = shared.faults.take(&request);
    match fault {
        Some(KubeFault::Drop) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(KubeFault::Delay(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let answer = match fault.and_then(KubeFault::answer) {
        Some((failure, wait)) => Ok(refuse(&failure, wait)),
        None => user
            .and_then(|user| route(&shared, &request, &user))
            .and_then(|answer| match answer {
                Answer::Switch(call) => {
                    let client = Client {
                        headers: &parts.headers,
                        upgrade,
                        down,
                    };
                    switch(&shared, call, client)
                }
                answer => Ok(written(answer)),
            }),
    };
    if fault == Some(KubeFault::DropAfter) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    Ok(answer.unwrap_or_else(|failure| refuse(&failure, None)))
}

/// Who asks; nobody in particular where the server does not want to know.
fn identify(shared: &Shared, headers: &HeaderMap) -> Result<KubeUser, Failure> {
    let access = lock(&shared.access);
    let header = headers.get(header::AUTHORIZATION);
    let token = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let store = shared.store();
    let found = token
        .and_then(|token| access.token(&store, token))
        .filter(|token| token.audiences(&[]).is_ok());
    match found {
        Some(token) => Ok(token.user.clone()),
        None if access.required => Err(Failure::unauthorized()),
        None => Ok(KubeUser::default()),
    }
}

fn route(shared: &Arc<Shared>, request: &KubeRequest, user: &KubeUser) -> Result<Answer, Failure> {
    if matches!(request.path.as_str(), "/healthz" | "/livez" | "/readyz") {
        return Ok(Answer::Text("ok".to_owned()));
    }
    if request.method == "GET"
        && let Some(found) = discover(&shared.store().kinds, &request.path)
    {
        return Ok(Answer::Object(200, found));
    }
    let target = Target::parse(&request.path).ok_or_else(Failure::no_such_path)?;
    verbs::answer(shared, &target, request, user)
}

fn full(bytes: impl Into<Bytes>) -> Body {
    let never = |never: Infallible| match never {};
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

fn json(code: u16, object: &Value) -> Response<Body> {
    let mut response = Response::new(full(object.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("codes are of HTTP");
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn refuse(failure: &Failure, wait: Option<u32>) -> Response<Body> {
    let mut response = json(failure.code, &failure.status());
    if failure.reason.is_empty() {
        *response.body_mut() = full(failure.message.clone());
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    if let Some(wait) = wait {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, wait.into());
    }
    response
}

fn written(answer: Answer) -> Response<Body> {
    match answer {
        Answer::Object(code, object) => json(code, &object),
        Answer::Text(text) => Response::new(full(text)),
        Answer::Watch(chunks) => {
            let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Answer::Switch(_) => unreachable!("the protocol is switched"),
    }
}

/// What a WebSocket is made of.
struct Client<'a> {
    headers: &'a HeaderMap,
    upgrade: OnUpgrade,
    down: Arc<CancellationToken>,
}

/// Switches to a WebSocket, on which a command is then played or ports are forwarded.
fn switch(
    shared: &Arc<Shared>,
    call: Switched,
    client: Client<'_>,
) -> Result<Response<Body>, Failure> {
    let header = |name| {
        let value = client.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    };
    if !header(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return Err(Failure::bad_request("Upgrade request required"));
    }
    let known: &[&str] = match call {
        Switched::Exec(_) => &exec::PROTOCOLS,
        Switched::Forward(_) => &forward::PROTOCOLS,
    };
    let protocol = exec::protocol(known, header(header::SEC_WEBSOCKET_PROTOCOL))?;
    let accept = derive_accept_key(header(header::SEC_WEBSOCKET_KEY).as_bytes());
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if let Ok(upgraded) = client.upgrade.await {
            let played = async {
                match call {
                    Switched::Exec(call) => exec::play(&shared.pods, call, upgraded).await,
                    Switched::Forward(call) => forward::play(call, upgraded).await,
                }
            };
            tokio::select! {
                () = played => {}
                () = client.down.cancelled() => {}
            }
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(full(""));
    response.map_err(|e| Failure::internal(e.to_string()))
}
