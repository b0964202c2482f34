//! Puts the objects of an installation into a cluster, and waits until they work.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::Secret,
};
use kube::{
    api::{Api, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{ClientError, Connection, Objects},
    velero::{BackupStorageLocation, location::LocationPhase},
};

/// How long one object may take.
const OBJECT_LIMIT: Duration = Duration::from_secs(30);
/// A definition takes a moment until its objects can be made.
const DEFINED_WAIT: Duration = Duration::from_millis(500);
/// The server that is being installed is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Under which name these changes are recorded, so that a later installation may take back what an earlier one said.
const FIELD_MANAGER: &str = "orlop-install";
/// The Secret with what opens the repositories, and its key.
const PASSWORD: (&str, &str) = ("velero-repo-credentials", "repository-password");

/// Why an installation has not ended well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// An object cannot be made.
    #[error("make {object}")]
    Object {
        /// Its kind and name.
        object: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The API server does not answer.
    #[error("look at what was installed")]
    Look(#[from] ClientError),
    /// It does not work in time.
    #[error("after {}s {what}; look at: {command}", limit.as_secs())]
    NotReady {
        /// How long was waited.
        limit: Duration,
        /// What is missing.
        what: String,
        /// What shows more.
        command: String,
    },
    /// It was told to stop.
    #[error("stopped before all was ready; the same command goes on with it")]
    Cancelled,
}

/// What an installation has come to.
#[derive(Debug, Clone)]
pub struct Installed {
    /// What opens the repositories: without it no backup can be read. `None` as long as there is no location.
    pub password: Option<String>,
}

/// Applies `objects` in their order (server-side: what others have added to them stays) and waits until the server,
/// its agents and, if `objects` have one, its location work.
///
/// # Errors
/// See [`InstallError`]. What was applied stays; the same call goes on.
pub async fn install(
    connection: &Connection,
    objects: &[Value],
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<Installed, InstallError> {
    tokio::select! {
        () = cancel.cancelled() => Err(InstallError::Cancelled),
        done = install_all(connection, objects, limit) => done,
    }
}

async fn install_all(
    connection: &Connection,
    objects: &[Value],
    limit: Duration,
) -> Result<Installed, InstallError> {
    for object in objects {
        apply(connection, object).await.map_err(|source| {
            let kind = object["kind"].as_str().unwrap_or_default();
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            InstallError::Object {
                object: format!("{kind} {name}"),
                source,
            }
        })?;
    }
    let has_location = objects
        .iter()
        .any(|object| object["kind"] == "BackupStorageLocation");
    let end = Instant::now() + limit;
    while let Some((what, command)) = missing(connection, has_location).await? {
        if Instant::now() >= end {
            return Err(InstallError::NotReady {
                limit,
                what,
                command,
            });
        }
        sleep(LOOK).await;
    }
    let secrets = Objects::<Secret>::of(connection, Some(connection.namespace()));
    let (name, key) = PASSWORD;
    let secret = secrets.get(name).await?;
    let value = secret.and_then(|secret| secret.data?.remove(key));
    Ok(Installed {
        password: value.map(|value| String::from_utf8_lossy(&value.0).into_owned()),
    })
}

async fn apply(connection: &Connection, object: &Value) -> Result<(), ClientError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = GroupVersionKind::gvk(group, version, &text(&object["kind"]));
    let (name, namespace) = (
        text(&object["metadata"]["name"]),
        text(&object["metadata"]["namespace"]),
    );
    let end = Instant::now() + OBJECT_LIMIT;
    loop {
        let applied = connection
            .call(OBJECT_LIMIT, async |client| {
                let (resource, capabilities) = pinned_kind(&client, &kind).await?;
                let objects: Api<DynamicObject> = match capabilities.scope {
                    Scope::Cluster => Api::all_with(client, &resource),
                    Scope::Namespaced => Api::namespaced_with(client, &namespace, &resource),
                };
                let parameters = PatchParams::apply(FIELD_MANAGER).force();
                objects
                    .patch(&name, &parameters, &Patch::Apply(object))
                    .await
            })
            .await;
        match applied {
            // Its definition was made a moment ago.
            Err(error) if error.is_not_found() && Instant::now() < end => sleep(DEFINED_WAIT).await,
            other => return other.map(drop),
        }
    }
}

/// What does not work yet, and the command that shows more.
async fn missing(
    connection: &Connection,
    has_location: bool,
) -> Result<Option<(String, String)>, ClientError> {
    let namespace = connection.namespace();
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let deployments = Objects::<Deployment>::of(connection, Some(namespace));
    let deployment = json!(deployments.get("velero").await?);
    let is_current = |object: &Value| {
        let seen = number(&object["status"]["observedGeneration"]);
        seen >= number(&object["metadata"]["generation"])
    };
    let status = &deployment["status"];
    let is_up = is_current(&deployment)
        && number(&status["updatedReplicas"]) >= 1
        && number(&status["availableReplicas"]) >= 1
        && number(&status["unavailableReplicas"]) == 0;
    if !is_up {
        let command = format!("kubectl -n {namespace} describe pod -l deploy=velero");
        return Ok(Some(("the coordinator is not ready".to_owned(), command)));
    }
    let sets = Objects::<DaemonSet>::of(connection, Some(namespace));
    let set = json!(sets.get("node-agent").await?);
    let status = &set["status"];
    let wanted = number(&status["desiredNumberScheduled"]);
    let available = number(&status["numberAvailable"]);
    let is_new = number(&status["updatedNumberScheduled"]) == wanted;
    if !is_current(&set) || !is_new || available < wanted {
        let command = format!("kubectl -n {namespace} describe pod -l name=node-agent");
        let what = format!("{available} of {wanted} agents are ready");
        return Ok(Some((what, command)));
    }
    if has_location {
        let locations = Objects::<BackupStorageLocation>::of(connection, Some(namespace));
        let location = locations.get("default").await?;
        let status = location.map(|location| location.status).unwrap_or_default();
        if status.phase != LocationPhase::Available {
            let what = format!("location default is not available: {}", status.message);
            let command = format!("kubectl -n {namespace} get backupstoragelocations -o yaml");
            return Ok(Some((what, command)));
        }
    }
    Ok(None)
}
