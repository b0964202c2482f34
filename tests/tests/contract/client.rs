//! The API server as Go programs speak to it: paths, queries and bodies are theirs, and each request is remembered.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http_body_util::BodyExt as _;
use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// Where Velero's objects are.
pub(crate) const VELERO: &str = "/apis/velero.io/v1/namespaces/velero";
/// Where the pods of the installation are.
pub(crate) const CORE: &str = "/api/v1/namespaces/velero";
/// Where its workloads are.
pub(crate) const APPS: &str = "/apis/apps/v1/namespaces/velero";

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
/// How often KOTS looks.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// What is as it is in a query of Go's.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// The object.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{}: {}",
            self.status,
            self.body
        );
        self.body
    }
}

/// A client of one row.
#[derive(Clone)]
pub(crate) struct Client {
    kube: kube::Client,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Client {
    pub(crate) fn new(kube: kube::Client) -> Self {
        Self {
            kube,
            sent: Arc::default(),
        }
    }

    /// What was sent since the start: method, path with query, type of the body.
    pub(crate) fn sent(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> hyper::Response<Body> {
        let what = format!("{method} {path} {kind}");
        self.lock().push(what.trim_end().to_owned());
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json, */*");
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = request.body(Body::from(body)).unwrap();
        self.kube.send(request).await.unwrap()
    }

    /// Sends a request as it is.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Answer {
        let response = self.open(method, path, kind, body).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        Answer { status, body }
    }

    /// `Get`; `None` if there is none.
    pub(crate) async fn find(&self, path: &str) -> Option<Value> {
        let answer = self.send("GET", path, "", None).await;
        (answer.status != 404).then(|| answer.ok())
    }

    /// `Get` of what is there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send("GET", path, "", None).await.ok()
    }

    /// `List` with a label selector, or with none.
    pub(crate) async fn list(&self, path: &str, labels: &str) -> Vec<Value> {
        let path = match labels {
            "" => path.to_owned(),
            labels => format!("{path}?labelSelector={}", encoded(labels)),
        };
        let list = self.get(&path).await;
        list["items"].as_array().unwrap().clone()
    }

    /// `Create`.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Value {
        self.send("POST", path, "application/json", Some(object))
            .await
            .ok()
    }

    /// `Update`: a PUT of the whole object.
    pub(crate) async fn update(&self, path: &str, object: &Value) -> Value {
        self.send("PUT", path, "application/json", Some(object))
            .await
            .ok()
    }

    /// The same; `None` if somebody has changed it since it was read.
    pub(crate) async fn try_update(&self, path: &str, object: &Value) -> Option<Value> {
        let answer = self
            .send("PUT", path, "application/json", Some(object))
            .await;
        (answer.status != 409).then(|| answer.ok())
    }

    /// `Patch` with a merge patch.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Value {
        let kind = "application/merge-patch+json";
        self.send("PATCH", path, kind, Some(patch)).await.ok()
    }

    /// `Delete`; whether there was one.
    pub(crate) async fn delete(&self, path: &str) -> bool {
        // The options are encoded in the version of what is deleted.
        let version = match path.strip_prefix("/apis/velero.io/") {
            Some(_) => "velero.io/v1",
            None => "v1",
        };
        let options = json!({"kind": "DeleteOptions", "apiVersion": version});
        let answer = self
            .send("DELETE", path, "application/json", Some(&options))
            .await;
        answer.status != 404 && answer.ok() != Value::Null
    }

    /// Looks again and again at an object until it is as it should be.
    pub(crate) async fn until(
        &self,
        what: &str,
        path: &str,
        is_it: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Value {
        self.until_every(POLL, what, path, is_it).await
    }

    /// As [`Client::until`], every `poll`.
    pub(crate) async fn until_every(
        &self,
        poll: Duration,
        what: &str,
        path: &str,
        is_it: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Value {
        let began = Instant::now();
        loop {
            let found = self.find(path).await;
            if let Some(found) = &found
                && is_it(found)
            {
                return found.clone();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "waited in vain until {path} {what}: {found:?}"
            );
            tokio::time::sleep(poll).await;
        }
    }

    /// Waits until an object is in one of these phases.
    pub(crate) async fn phase(&self, path: &str, phases: &[&str]) -> Value {
        let what = format!("is {phases:?}");
        self.until(&what, path, |object| phases.contains(&phase(object)))
            .await
    }

    /// Waits until there is no such object.
    pub(crate) async fn gone(&self, path: &str) {
        let began = Instant::now();
        while let Some(found) = self.find(path).await {
            assert!(
                began.elapsed() < PATIENCE,
                "waited in vain for the end of {found}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Watches a list from its present state on, as an informer does.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let list = self.get(path).await;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        let path = format!(
            "{path}?allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=300&watch=true"
        );
        let response = self.open("GET", &path, "", None).await;
        assert_eq!(response.status(), 200);
        Watch {
            body: response.into_body(),
            text: Vec::new(),
        }
    }
}

/// A watch that goes on.
pub(crate) struct Watch {
    body: Body,
    text: Vec<u8>,
}

impl Watch {
    /// The next object that has changed.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                assert_ne!(event["type"], "ERROR", "{event}");
                if event["type"] != "BOOKMARK" {
                    return event["object"].take();
                }
            }
            let part = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let part = part.expect("something happens").expect("the watch goes on");
            self.text
                .extend_from_slice(part.unwrap().data_ref().unwrap());
        }
    }

    /// The phases of one object, without repetitions, until one of `last`.
    pub(crate) async fn phases(&mut self, of: &str, last: &[&str]) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let object = self.next().await;
            if name(&object) != of {
                continue;
            }
            let phase = phase(&object).to_owned();
            if seen.last() != Some(&phase) {
                seen.push(phase.clone());
            }
            if last.contains(&&*phase) {
                return seen;
            }
        }
    }
}

/// As Go encodes a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
}

/// The phase in an object's status; empty without.
pub(crate) fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}
