//! Objects of any kind in the API, with the patience of a restore: a server that is away for minutes breaks nothing.

use std::time::Duration;

use kube::api::{GetParams, Patch, PatchParams, PostParams};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{CALL_LIMIT, ClientError, Connection, FIELD_MANAGER, with_jitter},
    collect::ServedKind,
};

/// How long a server that is away is waited for with one object.
const PATIENCE: Duration = Duration::from_mins(10);

/// The same, once it was waited for in vain.
const IMPATIENCE: Duration = Duration::from_secs(30);

/// How long a webhook that does not answer is waited for: the server itself is there.
const WEBHOOK_PATIENCE: Duration = Duration::from_mins(1);

/// How often a call is done again that came between two others of the server.
const CONFLICTS_MAX: u32 = 5;

const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Stop {
    /// Somebody has cancelled the restore.
    Cancelled,
    /// The server says no, or is away for too long.
    Failed(ClientError),
}

/// The API, as a restore uses it.
pub(super) struct Api<'a> {
    pub(super) connection: &'a Connection,
    pub(super) cancel: &'a CancellationToken,
    patience: Duration,
}

impl<'a> Api<'a> {
    pub(super) fn new(connection: &'a Connection, cancel: &'a CancellationToken) -> Self {
        Self {
            connection,
            cancel,
            patience: PATIENCE,
        }
    }

    /// Waits, unless it is cancelled.
    pub(super) async fn pause(&self, time: Duration) -> Result<(), Stop> {
        let waited = self.cancel.run_until_cancelled(sleep(time)).await;
        waited.ok_or(Stop::Cancelled)
    }

    /// Does a call until it is answered.
    pub(super) async fn patiently<T, F>(&mut self, work: impl Fn() -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let begun = Instant::now();
        let (mut wait, mut conflicts) = (WAIT_MIN, 0);
        loop {
            let done = self.cancel.run_until_cancelled(work()).await;
            let error = match done.ok_or(Stop::Cancelled)? {
                Ok(done) => {
                    self.patience = PATIENCE;
                    return Ok(done);
                }
                Err(error) => error,
            };
            match &error {
                ClientError::Conflict { .. } if conflicts < CONFLICTS_MAX => conflicts += 1,
                error if error.is_transient() => {
                    let limit = if is_webhook(error) {
                        WEBHOOK_PATIENCE.min(self.patience)
                    } else {
                        self.patience
                    };
                    if begun.elapsed() + wait > limit {
                        self.patience = IMPATIENCE;
                        return Err(Stop::Failed(error.clone()));
                    }
                }
                _ => return Err(Stop::Failed(error)),
            }
            self.pause(with_jitter(wait)).await?;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// An object; `None` if there is none of that name, or no such kind.
    pub(super) async fn get(
        &mut self,
        kind: &ServedKind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, Stop> {
        let connection = self.connection;
        let request = &kind.request(namespace);
        let found = self
            .patiently(async || {
                let answer = connection.call(CALL_LIMIT, async |client| {
                    let request = request.get(name, &GetParams::default());
                    let request = request.map_err(kube::Error::BuildRequest)?;
                    client.request_text(request).await
                });
                read(&answer.await?)
            })
            .await;
        match found {
            Ok(object) => Ok(Some(object)),
            Err(Stop::Failed(error)) if error.is_not_found() => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Makes an object, and returns it as the server keeps it.
    pub(super) async fn create(
        &mut self,
        kind: &ServedKind,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, Stop> {
        let connection = self.connection;
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let parameters = &parameters;
        let body = &object.to_string().into_bytes();
        let request = &kind.request(namespace);
        self.patiently(async || {
            let answer = connection.call(CALL_LIMIT, async |client| {
                let request = request.create(parameters, body.clone());
                let request = request.map_err(kube::Error::BuildRequest)?;
                client.request_text(request).await
            });
            read(&answer.await?)
        })
        .await
    }

    /// Merges `patch` into an object, or into a part of it such as `status`.
    pub(super) async fn patch(
        &mut self,
        kind: &ServedKind,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
        part: Option<&str>,
    ) -> Result<Value, Stop> {
        let connection = self.connection;
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let parameters = &parameters;
        let patch = &Patch::Merge(patch);
        let request = &kind.request(namespace);
        self.patiently(async || {
            let answer = connection.call(CALL_LIMIT, async |client| {
                let request = match part {
                    Some(part) => request.patch_subresource(part, name, parameters, patch),
                    None => request.patch(name, parameters, patch),
                };
                let request = request.map_err(kube::Error::BuildRequest)?;
                client.request_text(request).await
            });
            read(&answer.await?)
        })
        .await
    }
}

/// An answer that is an object.
fn read(text: &str) -> Result<Value, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::Unreadable {
        what: "the API server's answer".to_owned(),
        message: error.to_string(),
    })
}

/// Whether a webhook of the cluster keeps the server from an answer.
fn is_webhook(error: &ClientError) -> bool {
    matches!(error, ClientError::Unavailable { message, .. } if message.contains("webhook"))
}
