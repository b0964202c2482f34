//! What a request asks for: its target, its query, its verb.

use bytes::Bytes;
use hyper::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::failure::Failure;

/// A request that the server was sent.
#[derive(Debug, Clone)]
pub struct KubeRequest {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path, still encoded.
    pub path: String,
    /// The query's pairs, decoded.
    pub query: Vec<(String, String)>,
    /// The body's type; empty without.
    pub content_type: String,
    /// The types that the client takes; empty without.
    pub accept: String,
    /// The body.
    pub body: Bytes,
    /// Who asked; empty when the server does not know.
    pub user: String,
}

impl KubeRequest {
    pub(super) fn new(method: &Method, uri: &hyper::Uri, headers: &HeaderMap, body: Bytes) -> Self {
        let header = |name| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Self {
            method: method.to_string(),
            path: uri.path().to_owned(),
            query: parse_query(uri.query().unwrap_or_default()),
            content_type: header(header::CONTENT_TYPE),
            accept: header(header::ACCEPT),
            body,
            user: String::new(),
        }
    }

    /// The first value of a key in the query; empty without.
    pub fn parameter(&self, key: &str) -> &str {
        let found = self.query.iter().find(|(one, _)| one == key);
        found.map_or("", |(_, value)| value)
    }

    /// All values of a key in the query.
    pub fn parameters(&self, key: &str) -> Vec<&str> {
        let all = self.query.iter().filter(|(one, _)| one == key);
        all.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as an object, from JSON or YAML.
    pub(super) fn object(&self) -> Result<Value, Failure> {
        if let Ok(value) = serde_json::from_slice(&self.body) {
            return Ok(value);
        }
        std::str::from_utf8(&self.body)
            .ok()
            .filter(|_| self.content_type.contains("yaml"))
            .and_then(|text| serde_saphyr::from_str(text).ok())
            .ok_or_else(|| {
                Failure::bad_request("the object provided is unrecognized (must be of type JSON)")
            })
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.parameter(key), "true" | "1")
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    /// A number in the query.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        match self.parameter(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let message = format!("invalid value for {key}: {text:?}");
                Failure::bad_request(message)
            }),
        }
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn parse_query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(&value.replace('+', " ")))
        })
        .collect()
}

/// What a path below `/api/v1` or `/apis/group/version` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: String,
}

impl Target {
    /// The target of a path; none if it names something else, such as an API group.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            _ => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, ""),
            [plural, name] => (*plural, Some(*name), ""),
            [plural, name, subresource] => (*plural, Some(*name), *subresource),
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            subresource: subresource.to_owned(),
        })
    }

    /// The verb by which access is given.
    pub(super) fn verb(&self, request: &KubeRequest) -> &'static str {
        match (request.method.as_str(), self.name.is_some()) {
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            (_, true) => "get",
            _ if request.flag("watch") => "watch",
            _ => "list",
        }
    }

    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}
