//! One object in the cluster: made, or compared with the one that is there.

use std::{borrow::Cow, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    ItemEnd,
    api::{Api, Stop},
    compare,
    json::text,
    order::{CLAIMS, PODS, VOLUMES},
};
use crate::{
    client::ClientError,
    collect::ServedKind,
    velero::labels::{BACKUP_NAME, RESTORE_NAME},
};

/// How long a pod or claim is waited for that is being deleted.
const GOING_MAX: Duration = Duration::from_mins(2);

/// How long the cluster may take to give a new namespace its service account.
const ACCOUNT_MAX: Duration = Duration::from_secs(30);

const LOOK: Duration = Duration::from_secs(1);

/// Their node ports may be taken.
const SERVICES: &str = "services";

/// How often an object is looked for again that is neither there nor can be made.
const LOOKS_MAX: u32 = 5;

/// An object that is to be there.
pub(super) struct Wanted<'a> {
    /// Plural and group.
    pub(super) resource: &'a str,
    pub(super) kind: &'a ServedKind,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) object: &'a Value,
    /// Whether an object is this restore's own.
    pub(super) is_own: &'a (dyn Fn(&Value) -> bool + Sync),
    /// Whether an object that is there and differs is changed.
    pub(super) updates: bool,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) end: ItemEnd,
    pub(super) warnings: Vec<String>,
    pub(super) errors: Vec<String>,
    /// The object as it is in the cluster, if this restore has made it.
    pub(super) own: Option<Value>,
}

impl Outcome {
    pub(super) fn new(end: ItemEnd) -> Self {
        Self {
            end,
            warnings: Vec::new(),
            errors: Vec::new(),
            own: None,
        }
    }

    pub(super) fn failed(error: String) -> Self {
        Self {
            errors: vec![error],
            ..Self::new(ItemEnd::Failed)
        }
    }

    fn own(object: Value) -> Self {
        Self {
            own: Some(object),
            ..Self::new(ItemEnd::Created)
        }
    }
}

/// Makes an object, unless it is there.
///
/// It is looked for first: a server may refuse an object for what the very same one has already taken.
///
/// # Errors
/// It was cancelled; everything else is in the outcome.
pub(super) async fn apply(api: &mut Api<'_>, wanted: &Wanted<'_>) -> Result<Outcome, Stop> {
    match attempt(api, wanted).await {
        Err(Stop::Failed(error)) => Ok(Outcome::failed(error.to_string())),
        done => done,
    }
}

async fn attempt(api: &mut Api<'_>, wanted: &Wanted<'_>) -> Result<Outcome, Stop> {
    let (kind, namespace, name) = (wanted.kind, wanted.namespace, wanted.name);
    let begun = Instant::now();
    let mut looks = 0;
    let (mut object, mut warnings) = (Cow::Borrowed(wanted.object), Vec::new());
    loop {
        if let Some(found) = api.get(kind, namespace, name).await? {
            let waits = matches!(wanted.resource, PODS | CLAIMS);
            let goes = !found["metadata"]["deletionTimestamp"].is_null();
            if waits && goes && begun.elapsed() < GOING_MAX {
                api.pause(LOOK).await?;
                continue;
            }
            return existing(api, wanted, found).await;
        }
        match api.create(kind, namespace, &object).await {
            Ok(made) => {
                let mut outcome = Outcome::own(made);
                outcome.warnings = warnings;
                return Ok(outcome);
            }
            // Somebody was faster, or an answer of ours was lost.
            Err(Stop::Failed(ClientError::AlreadyExists { .. })) if looks < LOOKS_MAX => looks += 1,
            Err(Stop::Failed(ClientError::Forbidden { what }))
                if lacks_account(&what) && begun.elapsed() < ACCOUNT_MAX =>
            {
                api.pause(LOOK).await?;
            }
            Err(Stop::Failed(ClientError::Invalid { message }))
                if wanted.resource == SERVICES && is_taken(&message) && warnings.is_empty() =>
            {
                object = Cow::Owned(without_node_ports(wanted.object));
                warnings.push(format!(
                    "it was given other node ports than it had: {message}"
                ));
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// Whether a node port belongs to another Service.
fn is_taken(message: &str) -> bool {
    message.contains("port is already allocated")
}

/// The Service, whose node ports the cluster chooses.
fn without_node_ports(service: &Value) -> Value {
    let mut service = service.clone();
    let spec = service.get_mut("spec").and_then(Value::as_object_mut);
    if let Some(spec) = spec {
        spec.remove("healthCheckNodePort");
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
    service
}

/// Whether a pod is refused because its account does not exist yet.
fn lacks_account(message: &str) -> bool {
    message.contains("looking up service account") && message.contains("not found")
}

async fn existing(api: &mut Api<'_>, wanted: &Wanted<'_>, found: Value) -> Result<Outcome, Stop> {
    if (wanted.is_own)(&found) {
        return Ok(Outcome::own(found));
    }
    if wanted.resource == VOLUMES && is_released_by(&found, wanted.object) {
        let patch = json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}});
        return patched(
            api,
            wanted,
            &patch,
            "its old claim is gone, but it cannot be freed",
        )
        .await;
    }
    if wanted.resource == "serviceaccounts" {
        return match compare::merged_account(&found, wanted.object) {
            Some(patch) => patched(api, wanted, &patch, "it is there, but cannot be merged").await,
            None => Ok(Outcome::new(ItemEnd::Skipped)),
        };
    }
    let Some(patch) = compare::difference(wanted.resource, &found, wanted.object) else {
        return Ok(Outcome::new(ItemEnd::Skipped));
    };
    if !wanted.updates {
        let mut outcome = Outcome::new(ItemEnd::Skipped);
        outcome.warnings.push(format!(
            "could not restore, {}:{} already exists. Warning: the in-cluster version is different than the backed-up \
             version",
            wanted.kind.kind, wanted.name
        ));
        return Ok(outcome);
    }
    let labels = json!({"metadata": {"labels": labels(wanted.object)}});
    let mut whole = patch;
    for (key, value) in labels["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
    {
        whole["metadata"]["labels"][key] = value.clone();
    }
    let why = "it is there and differs, but cannot be changed";
    let mut outcome = patched(api, wanted, &whole, why).await?;
    if outcome.end == ItemEnd::Skipped {
        let labelled = patched(api, wanted, &labels, "nor can its labels").await?;
        outcome.end = labelled.end;
        outcome.warnings.extend(labelled.warnings);
    }
    Ok(outcome)
}

/// Changes an object; that it cannot be changed is a warning, for it is there.
async fn patched(
    api: &mut Api<'_>,
    wanted: &Wanted<'_>,
    patch: &Value,
    why: &str,
) -> Result<Outcome, Stop> {
    let done = api
        .patch(wanted.kind, wanted.namespace, wanted.name, patch, None)
        .await;
    match done {
        Ok(_) => Ok(Outcome::new(ItemEnd::Updated)),
        Err(Stop::Cancelled) => Err(Stop::Cancelled),
        Err(Stop::Failed(error)) => {
            let mut outcome = Outcome::new(ItemEnd::Skipped);
            outcome.warnings.push(format!("{why}: {error}"));
            Ok(outcome)
        }
    }
}

/// The labels that say which restore an object is from.
fn labels(object: &Value) -> Value {
    let labels = &object["metadata"]["labels"];
    json!({BACKUP_NAME: labels[BACKUP_NAME], RESTORE_NAME: labels[RESTORE_NAME]})
}

/// Whether a persistent volume is kept for a claim that is gone, and is to serve a new one of the same name.
fn is_released_by(found: &Value, wanted: &Value) -> bool {
    let claim = |volume: &Value, key: &str| {
        text(volume, &format!("/spec/claimRef/{key}")).map(str::to_owned)
    };
    text(found, "/status/phase") == Some("Released")
        && ["namespace", "name"]
            .iter()
            .all(|key| claim(found, key).is_some() && claim(found, key) == claim(wanted, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_whose_node_ports_are_taken_gets_others() {
        let said = "Service \"a\" is invalid: spec.ports[0].nodePort: Invalid value: 30432: provided port is already allocated";
        assert!(is_taken(said));
        let service = json!({"spec": {
            "type": "NodePort", "healthCheckNodePort": 30001, "ports": [{"port": 1, "nodePort": 30432}, {"port": 2}],
        }});
        let want = json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}});
        assert_eq!(without_node_ports(&service), want);
    }

    #[test]
    fn only_a_volume_that_was_released_by_the_same_claim_is_freed() {
        let volume = |phase: &str, namespace: &str| {
            json!({
                "spec": {"claimRef": {"namespace": namespace, "name": "data", "uid": "u"}},
                "status": {"phase": phase},
            })
        };
        let wanted = json!({"spec": {"claimRef": {"namespace": "shop", "name": "data"}}});
        assert!(is_released_by(&volume("Released", "shop"), &wanted));
        assert!(!is_released_by(&volume("Bound", "shop"), &wanted));
        assert!(!is_released_by(&volume("Released", "mail"), &wanted));
        assert!(!is_released_by(
            &volume("Released", "shop"),
            &json!({"spec": {}})
        ));
    }
}
