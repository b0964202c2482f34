//! Patches of all four types.

use std::sync::Arc;

use serde_json::Value;

use super::{
    apply,
    create::create,
    failure::{Cause, Failure},
    kind::Kind,
    request::KubeRequest,
    store::{Key, Store},
    strategic,
    update::{Part, find, update},
};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Changes an object as a request says; with an apply patch the object may be new, which is said too.
pub(super) fn patch(
    store: &mut Store,
    kind: &Arc<Kind>,
    key: &Key,
    request: &KubeRequest,
    part: Part,
) -> Result<(Arc<Value>, bool), Failure> {
    let strict = request.parameter("fieldValidation") == "Strict";
    let content_type = request.content_type.split(';').next().unwrap_or_default();
    let new = match content_type.trim() {
        JSON => by_operations(&*find(store, kind, key)?, request)?,
        MERGE => {
            let mut object = Value::clone(&*find(store, kind, key)?);
            json_patch::merge(&mut object, &request.object()?);
            object
        }
        STRATEGIC if !kind.custom => {
            let mut object = Value::clone(&*find(store, kind, key)?);
            strategic::merge(&mut object, &request.object()?);
            object
        }
        APPLY => return by_apply(store, kind, key, request, part),
        _ => {
            let mut accepted = vec![JSON, MERGE, STRATEGIC, APPLY];
            accepted.retain(|one| *one != STRATEGIC || !kind.custom);
            return Err(Failure::unsupported_media(&accepted));
        }
    };
    Ok((update(store, kind, key, new, part, strict)?, false))
}

fn by_operations(old: &Value, request: &KubeRequest) -> Result<Value, Failure> {
    let operations: json_patch::Patch = serde_json::from_slice(&request.body)
        .map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    let mut object = old.clone();
    json_patch::patch(&mut object, &operations).map_err(|e| {
        let message = "the server rejected our request due to an error in our request";
        let cause = Cause {
            field: e.path.to_string(),
            reason: "UnexpectedServerResponse",
            message: e.to_string(),
        };
        Failure::unprocessable(message).with_causes(&[cause])
    })?;
    Ok(object)
}

fn by_apply(
    store: &mut Store,
    kind: &Arc<Kind>,
    key: &Key,
    request: &KubeRequest,
    part: Part,
) -> Result<(Arc<Value>, bool), Failure> {
    let strict = request.parameter("fieldValidation") == "Strict";
    let manager = request.parameter("fieldManager");
    if manager.is_empty() {
        let cause = Cause::required("fieldManager", "is required for apply patch");
        let message = format!(
            "PatchOptions.meta.k8s.io \"\" is invalid: {}: {}",
            cause.field, cause.message
        );
        return Err(Failure::unprocessable(message).with_causes(&[cause]));
    }
    let wanted = request.object()?;
    let intent = apply::Intent {
        manager,
        force: request.flag("force"),
        api_version: &kind.api_version(),
        subresource: if part == Part::Status { "status" } else { "" },
    };
    let Some(old) = store.get(key).cloned() else {
        if part == Part::Status {
            return Err(Failure::not_found(kind, &key.name));
        }
        let empty = serde_json::json!({"metadata": {"name": key.name}});
        let new = apply::apply(kind, &key.name, &empty, &wanted, &intent)?;
        return Ok((create(store, kind, &key.namespace, new, strict)?, true));
    };
    let new = apply::apply(kind, &key.name, &old, &wanted, &intent)?;
    Ok((update(store, kind, key, new, part, strict)?, false))
}
