//! What follows an installation where there are backups already: its password first, then the backups, then a restore.

use std::time::Duration;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{LOCATION, PASSWORD_KEY, PASSWORD_SECRET};
use crate::{
    client::{ClientError, Connection, Objects},
    velero::{Backup, BackupStorageLocation, Restore},
};

/// The store is looked into this often.
const LOOK: Duration = Duration::from_secs(1);
/// A server that goes away and comes back is waited for so long.
const AWAY_LIMIT: Duration = Duration::from_mins(2);

/// Why a recovery cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The API server does not answer or refuses.
    #[error("{action}")]
    Client {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: ClientError,
    },
    /// There is another password, and somebody may need it.
    #[error(
        "Secret {PASSWORD_SECRET} in namespace {namespace} has another password, and it is not overwritten: it may be the \
         last copy. Keep it (kubectl -n {namespace} get secret {PASSWORD_SECRET} -o jsonpath='{{.data.{PASSWORD_KEY}}}' | \
         base64 -d), then run: kubectl -n {namespace} delete secret {PASSWORD_SECRET}"
    )]
    OtherPassword {
        /// The namespace.
        namespace: String,
    },
    /// The stored backups were not listed in time.
    #[error(
        "the backups in location {LOCATION} were not listed within {}s; look at: kubectl -n {namespace} logs \
         deployment/velero",
        limit.as_secs()
    )]
    NotListed {
        /// The namespace.
        namespace: String,
        /// How long was waited.
        limit: Duration,
    },
    /// There is a restore of that name already.
    #[error("there is a restore {name} already: choose another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// The restore was deleted while it was waited for.
    #[error("restore {name} was deleted")]
    Gone {
        /// The name.
        name: String,
    },
    /// It was told to stop.
    #[error("stopped; what was begun goes on")]
    Cancelled,
}

fn failed(action: &'static str) -> impl FnOnce(ClientError) -> RecoverError {
    move |source| RecoverError::Client { action, source }
}

/// Keeps the repository's password in the cluster, before anything there can make one. True if it was not there.
///
/// # Errors
/// There is another password, which stays; or the server does not answer or refuses.
pub async fn keep_password(connection: &Connection, password: &str) -> Result<bool, RecoverError> {
    let namespace = connection.namespace();
    let space = Namespace {
        metadata: ObjectMeta {
            name: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let spaces = Objects::<Namespace>::of(connection, None);
    match spaces.create(&space).await {
        Ok(_) | Err(ClientError::AlreadyExists { .. }) => {}
        Err(error) => return Err(failed("make the namespace")(error)),
    }
    let value = ByteString(password.as_bytes().to_vec());
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(PASSWORD_SECRET.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some([(PASSWORD_KEY.to_owned(), value.clone())].into()),
        ..Secret::default()
    };
    let secrets = Objects::<Secret>::of(connection, Some(namespace));
    match secrets.create(&secret).await {
        Ok(_) => return Ok(true),
        Err(ClientError::AlreadyExists { .. }) => {}
        Err(error) => return Err(failed("make the Secret with the password")(error)),
    }
    let found = secrets.get(PASSWORD_SECRET).await;
    let found = found.map_err(failed("read the Secret with the password"))?;
    let there = found.and_then(|secret| secret.data?.remove(PASSWORD_KEY));
    match there {
        Some(there) if there == value => Ok(false),
        Some(there) if !there.0.is_empty() => Err(RecoverError::OtherPassword {
            namespace: namespace.to_owned(),
        }),
        // A Secret without it loses nothing.
        _ => {
            let patch = json!({"data": {PASSWORD_KEY: value}});
            let patched = secrets.merge_patch(PASSWORD_SECRET, &patch).await;
            patched.map_err(failed("put the password into its Secret"))?;
            Ok(true)
        }
    }
}

/// When the stored backups were listed last; `None` if never.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn last_listed(connection: &Connection) -> Result<Option<Time>, RecoverError> {
    let namespace = Some(connection.namespace());
    let locations = Objects::<BackupStorageLocation>::of(connection, namespace);
    let found = locations.get(LOCATION).await;
    let found = found.map_err(failed("look at the location"))?;
    Ok(found.and_then(|location| location.status.last_synced_time))
}

/// The backups in the location's store, oldest first, once they have been listed at another time than `before`.
///
/// # Errors
/// They are not listed within `limit`, the server refuses, or `cancel` was cancelled.
pub async fn stored_backups(
    connection: &Connection,
    before: Option<&Time>,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<Vec<Backup>, RecoverError> {
    let namespace = connection.namespace();
    let listed = async {
        let end = Instant::now() + limit;
        loop {
            let last = last_listed(connection).await?;
            if last.is_some() && last.as_ref() != before {
                break;
            }
            if Instant::now() >= end {
                return Err(RecoverError::NotListed {
                    namespace: namespace.to_owned(),
                    limit,
                });
            }
            sleep(LOOK).await;
        }
        let backups = Objects::<Backup>::of(connection, Some(namespace));
        backups.list("").await.map_err(failed("list the backups"))
    };
    let mut backups = tokio::select! {
        () = cancel.cancelled() => return Err(RecoverError::Cancelled),
        listed = listed => listed?,
    };
    backups.retain(|backup| backup.spec.storage_location == LOCATION);
    backups.sort_by_key(|backup| {
        let began = backup.status.start_timestamp.as_ref().map(|time| time.0);
        (began, backup.metadata.name.clone())
    });
    Ok(backups)
}

/// Asks for a restore of everything in a backup.
///
/// # Errors
/// There is one of that name, or the server does not answer or refuses.
pub async fn ask_restore(
    connection: &Connection,
    name: &str,
    backup: &str,
) -> Result<(), RecoverError> {
    const ACTION: &str = "ask for the restore";
    let mut restore = Restore::default();
    restore.metadata.name = Some(name.to_owned());
    restore.metadata.namespace = Some(connection.namespace().to_owned());
    backup.clone_into(&mut restore.spec.backup_name);
    let restores = Objects::<Restore>::of(connection, Some(connection.namespace()));
    match restores.create(&restore).await {
        Ok(_) => Ok(()),
        Err(ClientError::AlreadyExists { .. }) => Err(RecoverError::Exists {
            name: name.to_owned(),
        }),
        Err(error) => Err(failed(ACTION)(error)),
    }
}

/// Waits until a restore has ended, and tells `progress` what has become of it meanwhile.
///
/// # Errors
/// It is gone, the server is away for two minutes or refuses, or `cancel` was cancelled: the restore goes on.
pub async fn wait_restore(
    connection: &Connection,
    name: &str,
    progress: &mut (dyn FnMut(&Restore) + Send),
    cancel: &CancellationToken,
) -> Result<Restore, RecoverError> {
    let restores = Objects::<Restore>::of(connection, Some(connection.namespace()));
    let mut away_since = None;
    loop {
        match restores.get(name).await {
            Ok(Some(restore)) => {
                away_since = None;
                if restore.status.phase.is_final() {
                    return Ok(restore);
                }
                progress(&restore);
            }
            Ok(None) => {
                return Err(RecoverError::Gone {
                    name: name.to_owned(),
                });
            }
            Err(error) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if !error.is_transient() || since.elapsed() >= AWAY_LIMIT {
                    return Err(failed("look at the restore")(error));
                }
            }
        }
        if cancel.run_until_cancelled(sleep(LOOK)).await.is_none() {
            return Err(RecoverError::Cancelled);
        }
    }
}
