//! Files as clients of Velero fetch them: a `DownloadRequest`, a look every 25 ms, one plain GET, gunzip.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use orlop_kubernetes::files::gunzip;
use serde_json::{Value, json};

use super::{
    client::{Client, VELERO},
    go,
};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// How often the CLI looks.
const POLL: Duration = Duration::from_millis(25);
/// How long it looks by default.
const PATIENCE: Duration = Duration::from_mins(1);
/// No file of a test is larger.
const MOST: u64 = 64 << 20;

/// What a GET brings.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) content_encoding: Option<String>,
    pub(crate) bytes: Bytes,
}

/// The URL of a file.
pub(crate) async fn url(client: &Client, kind: &str, of: &str) -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{of}-{:08x}-{number:x}", std::process::id());
    let target = json!({"target": {"kind": kind, "name": of}});
    let request = go::object("DownloadRequest", &json!({"name": name}), &target);
    client
        .create(&format!("{VELERO}/downloadrequests"), &request)
        .await;
    let path = format!("{VELERO}/downloadrequests/{name}");
    let began = Instant::now();
    loop {
        tokio::time::sleep(POLL).await;
        let answer = client.get(&path).await;
        if let Some(url) = answer["status"]["downloadURL"].as_str()
            && !url.is_empty()
        {
            assert!(answer["status"]["expiration"].is_string(), "{answer}");
            return url.to_owned();
        }
        assert!(
            began.elapsed() < PATIENCE,
            "no URL of {kind} {of}: {answer}"
        );
    }
}

/// One GET.
pub(crate) async fn fetch(url: &str) -> Page {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (authority, path) = rest.split_once('/').unwrap();
    let stream = tokio::net::TcpStream::connect(authority).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let pump = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .uri(format!("/{path}"))
        .header("host", authority)
        .header("user-agent", "Go-http-client/1.1")
        .header("accept-encoding", "gzip")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    drop(sender);
    pump.await.unwrap().unwrap();
    let encoding = head.headers.get("content-encoding");
    Page {
        status: head.status.as_u16(),
        content_encoding: encoding.map(|value| value.to_str().unwrap().to_owned()),
        bytes,
    }
}

/// The bytes of a file, which must be there. Go unpacks by itself what says that it is packed, and the second gunzip
/// would fail then.
pub(crate) async fn raw(client: &Client, kind: &str, of: &str) -> Bytes {
    let page = fetch(&url(client, kind, of).await).await;
    let text = String::from_utf8_lossy(&page.bytes);
    assert_eq!(page.status, 200, "{kind} {of}: {text}");
    assert_eq!(page.content_encoding, None);
    page.bytes
}

/// A text.
pub(crate) async fn text(client: &Client, kind: &str, of: &str) -> String {
    let bytes = raw(client, kind, of).await;
    String::from_utf8(gunzip(&bytes[..], MOST).unwrap()).unwrap()
}

/// A file of JSON.
pub(crate) async fn json_file(client: &Client, kind: &str, of: &str) -> Value {
    serde_json::from_str(&text(client, kind, of).await).unwrap()
}

/// The same, or `None` where the CLI bears a 404.
pub(crate) async fn json_or_none(client: &Client, kind: &str, of: &str) -> Option<Value> {
    let page = fetch(&url(client, kind, of).await).await;
    if page.status == 404 {
        return None;
    }
    assert_eq!((page.status, page.content_encoding), (200, None));
    let text = gunzip(&page.bytes[..], MOST).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}
