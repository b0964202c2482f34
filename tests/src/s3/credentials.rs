//! A server of temporary credentials: what instances, containers and web identities are given them by.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;

use super::{ACCESS_KEY, SECRET_KEY, answer::Failure};

/// When the credentials end.
const ENDS: &str = "2099-01-01T00:00:00Z";

/// Gives out the keys of [`S3Server`](super::S3Server); it ends with the value.
pub struct CredentialServer {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl CredentialServer {
    /// Starts one on the loopback interface.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer)),
                );
            }
        });
        Self {
            address,
            runtime: Some(runtime),
        }
    }

    /// Its address as a URL without path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for CredentialServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Failure> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let has = |name: &str| head.headers.contains_key(name);
    let path = head.uri.path();
    let keys = format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Token":"t","Expiration":"{ENDS}","LastUpdated":"2020-01-01T00:00:00Z"}}"#
    );
    let sts = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{ENDS}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    let roles = "/latest/meta-data/iam/security-credentials/";
    let asks_sts = String::from_utf8_lossy(&body).contains("WebIdentityToken=the-token");
    let text = match (&head.method, path) {
        (&Method::PUT, "/latest/api/token") => "session".to_owned(),
        (&Method::GET, _) if path == roles && has("x-aws-ec2-metadata-token") => "role".to_owned(),
        (&Method::GET, _) if path.strip_prefix(roles) == Some("role") => keys,
        (&Method::GET, "/container") => keys,
        (&Method::POST, _) if asks_sts => sts,
        _ => return Ok(Response::builder().status(404).body(Full::default())?),
    };
    let response = Response::builder().header("x-aws-ec2-metadata-token-ttl-seconds", "600");
    Ok(response.body(Full::new(text.into()))?)
}
