//! Lists, whole and by pages.

use std::sync::Arc;

use aws_smithy_types::base64;
use serde_json::{Value, json};

use super::{
    failure::Failure,
    kind::Kind,
    request::KubeRequest,
    selector::Selector,
    store::{Key, Store},
    view::View,
};

/// Where the next page begins, and of which state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// None for whatever state there is.
    revision: Option<u64>,
    namespace: String,
    name: String,
}

impl Token {
    fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, |revision| revision as i64);
        let start = format!("{}/{}\0", self.namespace, self.name);
        let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
        base64::encode(token.to_string())
    }

    fn decode(text: &str) -> Result<Self, Failure> {
        let parse = || {
            let token: Value = serde_json::from_slice(&base64::decode(text).ok()?).ok()?;
            let start = token["start"].as_str()?.trim_end_matches('\0');
            let (namespace, name) = start.split_once('/')?;
            Some(Self {
                revision: u64::try_from(token["rv"].as_i64()?).ok(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        };
        parse().ok_or_else(|| {
            let message =
                "continue key is not valid: incorrect encoded start key (version meta.k8s.io/v1)";
            Failure::bad_request(message)
        })
    }
}

/// Which state a list is of.
enum At {
    Newest,
    Revision(u64),
}

/// The answer to a request for a list.
pub(super) fn list(
    store: &Store,
    kind: &Kind,
    namespace: Option<&str>,
    request: &KubeRequest,
) -> Result<Value, Failure> {
    let selector = Selector::parse(
        request.parameter("labelSelector"),
        request.parameter("fieldSelector"),
    )?;
    let limit = request.number("limit")?.unwrap_or(0) as usize;
    let token = match request.parameter("continue") {
        "" => None,
        text => Some(Token::decode(text)?),
    };
    let at = match &token {
        Some(token) => token.revision.map_or(At::Newest, At::Revision),
        None => asked(store, request, limit)?,
    };
    let (mut found, revision) = state(store, kind, namespace, &at, token.as_ref())?;
    if let Some(token) = &token {
        let last = (&token.namespace, &token.name);
        found.retain(|(key, _)| (&key.namespace, &key.name) > last);
    }
    found.retain(|(_, object)| selector.takes(object));
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if limit > 0 && found.len() > limit {
        if selector.is_empty() {
            metadata["remainingItemCount"] = (found.len() - limit).into();
        }
        found.truncate(limit);
        let last = &found[limit - 1].0;
        let next = Token {
            revision: Some(revision),
            namespace: last.namespace.clone(),
            name: last.name.clone(),
        };
        metadata["continue"] = next.encode().into();
    }
    let objects = found.iter().map(|(_, object)| &**object);
    Ok(View::of(request).show_list(kind, &metadata, objects))
}

/// What `resourceVersion` and `resourceVersionMatch` ask for.
fn asked(store: &Store, request: &KubeRequest, limit: usize) -> Result<At, Failure> {
    let how = request.parameter("resourceVersionMatch");
    let Some(version) = request.number("resourceVersion")? else {
        if how.is_empty() {
            return Ok(At::Newest);
        }
        let message = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
        return Err(Failure::unprocessable(message));
    };
    if version > store.revision() {
        return Err(Failure::too_large_version(version, store.revision()));
    }
    match how {
        "Exact" => Ok(At::Revision(version)),
        // An old custom: pages of exactly this version.
        "" if limit > 0 && version > 0 => Ok(At::Revision(version)),
        "" | "NotOlderThan" => Ok(At::Newest),
        other => {
            let message = format!("resourceVersionMatch: Unsupported value: {other:?}");
            Err(Failure::unprocessable(message))
        }
    }
}

type Found = Vec<(Key, Arc<Value>)>;

fn state(
    store: &Store,
    kind: &Kind,
    namespace: Option<&str>,
    at: &At,
    token: Option<&Token>,
) -> Result<(Found, u64), Failure> {
    let place = kind.place();
    let revision = match at {
        At::Newest => return Ok((store.list(&place, namespace), store.revision())),
        At::Revision(revision) => *revision,
    };
    if let Some(found) = store.list_at(&place, namespace, revision) {
        return Ok((found, revision));
    }
    let Some(token) = token else {
        let message = format!("The resourceVersion for the provided list is too old: {revision}");
        return Err(Failure::expired(message));
    };
    let mut failure = Failure::expired(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted \
         between the time the first chunk was returned and now may show up in the list.",
    );
    let inconsistent = Token {
        revision: None,
        ..token.clone()
    };
    failure.continue_token = Some(inconsistent.encode());
    Err(failure)
}
