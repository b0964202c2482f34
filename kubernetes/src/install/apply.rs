//! Puts the objects of an installation into a cluster, and waits until they work.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    api::{Api, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{PASSWORD_KEY, PASSWORD_SECRET, ready::Watched};
use crate::client::{ClientError, Connection, Objects};

/// How long one object may take.
const OBJECT_LIMIT: Duration = Duration::from_secs(30);
/// A definition takes a moment until its objects can be made.
const DEFINED_WAIT: Duration = Duration::from_millis(500);
/// The server that is being installed is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Under which name these changes are recorded, so that a later installation may take back what an earlier one said.
const FIELD_MANAGER: &str = "orlop-install";

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
    /// A pod does not work, and will not by waiting.
    #[error("{what}; look at: {command}")]
    Broken {
        /// What is wrong.
        what: String,
        /// What shows more.
        command: String,
    },
    /// Nothing can be made in a namespace that is being deleted.
    #[error(
        "namespace {namespace} is being deleted: run this again when `kubectl get namespace {namespace}` finds it no more; \
         pods that do not end and finalizers hold it up, which its status names"
    )]
    Going {
        /// The namespace.
        namespace: String,
    },
    /// What it said of the location will not change by waiting.
    #[error("location {name} cannot be used: {message}")]
    Location {
        /// The location.
        name: String,
        /// Why, with the remedy.
        message: String,
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
/// its agents and, if `objects` have one, its location work. What waiting cannot mend, such as a password that opens
/// nothing, is not waited for. `tell` hears what is waited for each time that changes.
///
/// # Errors
/// See [`InstallError`]. What was applied stays; the same call goes on.
pub async fn install(
    connection: &Connection,
    objects: &[Value],
    limit: Duration,
    tell: &(dyn Fn(&str) + Sync),
    cancel: &CancellationToken,
) -> Result<Installed, InstallError> {
    tokio::select! {
        () = cancel.cancelled() => Err(InstallError::Cancelled),
        done = install_all(connection, objects, limit, tell) => done,
    }
}

async fn install_all(
    connection: &Connection,
    objects: &[Value],
    limit: Duration,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Installed, InstallError> {
    let namespace = connection.namespace();
    let there = Objects::<Namespace>::of(connection, None)
        .get(namespace)
        .await?;
    if there.is_some_and(|there| there.metadata.deletion_timestamp.is_some()) {
        return Err(InstallError::Going {
            namespace: namespace.to_owned(),
        });
    }
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
    let mut watched = Watched::new(connection, objects).await?;
    let end = Instant::now() + limit;
    let mut told = String::new();
    while let Some((what, command)) = watched.missing().await? {
        if what != told {
            tell(&what);
            told.clone_from(&what);
        }
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
    let secret = secrets.get(PASSWORD_SECRET).await?;
    let value = secret.and_then(|secret| secret.data?.remove(PASSWORD_KEY));
    Ok(Installed {
        password: value.map(|value| String::from_utf8_lossy(&value.0).into_owned()),
    })
}

pub(super) async fn apply(connection: &Connection, object: &Value) -> Result<(), ClientError> {
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
