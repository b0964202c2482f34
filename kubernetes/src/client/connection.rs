//! The way to the API server: who we are there, how long a call may take, and when one is tried again.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::Path,
    sync::Arc,
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::error::ClientError;
use orlop_core::with_causes;

/// How long one call may take, with all its attempts.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long one page of a list may take; the server's own limit is a minute.
pub(crate) const PAGE_LIMIT: Duration = Duration::from_mins(1);

/// Waits before a call is tried again that the server has refused to look at.
const WAITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// The longest time that the server may ask for and a call waits; with more it fails.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A connection to an API server, with the rights of one account. Cheap to clone; clones share their sockets.
///
/// A call that the server refuses for being busy (429, 503, 504) is tried again up to three times; nothing else is,
/// for it may have been done.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    namespace: Arc<str>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The connection that a pod's service account gives. Its token and the authority's certificate are read again
    /// when they change. Nothing is sent yet.
    ///
    /// # Errors
    /// We do not run in a pod, or its service account is not mounted.
    pub async fn in_cluster() -> Result<Self, ClientError> {
        // It reads files.
        let config = tokio::task::spawn_blocking(Config::incluster).await;
        let config = config.map_err(|error| configuration(&error))?;
        Self::of(config.map_err(|error| configuration(&error))?)
    }

    /// The connection that a kubeconfig describes: the one at `path`, else those of `KUBECONFIG`, else
    /// `~/.kube/config`; without `context`, its current one. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or it has no such context.
    pub async fn from_kubeconfig(
        path: Option<&Path>,
        context: Option<&str>,
    ) -> Result<Self, ClientError> {
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = match path {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|e| configuration(&e))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        Self::of(config.map_err(|error| configuration(&error))?)
    }

    /// The connection to a server at `url`, with a bearer token or none: for tests, which speak plain HTTP.
    ///
    /// # Errors
    /// The URL is none.
    pub fn to_url(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let mut config = Config::new(url.parse().map_err(|error| ClientError::Configuration {
            message: format!("{url:?} is no URL: {error}"),
        })?);
        config.auth_info =
            serde_json::from_value(json!({"token": token})).map_err(|e| configuration(&e))?;
        Self::of(config)
    }

    fn of(mut config: Config) -> Result<Self, ClientError> {
        // Attempts are counted here, within the limit of the call.
        config.default_retry = false;
        let namespace = config.default_namespace.as_str().into();
        let client = Client::try_from(config).map_err(|error| configuration(&error))?;
        Ok(Self { client, namespace })
    }

    /// The same connection, at home in another namespace.
    #[must_use]
    pub fn with_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The own namespace: that of the pod in a cluster, that of the context with a kubeconfig, else `default`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Does a call until it is answered, within `limit`.
    pub(crate) async fn call<T, F>(
        &self,
        limit: Duration,
        attempt: impl Fn(Client) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let end = Instant::now() + limit;
        let mut waits = WAITS.into_iter();
        loop {
            let answer = timeout_at(end, attempt(self.client.clone())).await;
            let Ok(answer) = answer else {
                return Err(ClientError::TimedOut { limit });
            };
            let error = match answer {
                Ok(done) => return Ok(done),
                Err(kube::Error::Api(status)) if matches!(status.code, 429 | 503 | 504) => {
                    ClientError::of_status(&status)
                }
                Err(error) => return Err(error.into()),
            };
            let Some(wait) = waits.next().and_then(|wait| next_wait(&error, wait)) else {
                return Err(error);
            };
            if Instant::now() + wait >= end {
                return Err(error);
            }
            sleep(wait).await;
        }
    }
}

fn configuration(error: &(dyn std::error::Error + 'static)) -> ClientError {
    ClientError::Configuration {
        message: with_causes(error),
    }
}

/// How long to wait before the next attempt; `None` if the server wants more than is worth it.
fn next_wait(error: &ClientError, wait: Duration) -> Option<Duration> {
    match error {
        ClientError::Unavailable {
            retry_after: Some(asked),
            ..
        } => (*asked <= WAIT_MAX).then(|| (*asked).max(wait)),
        _ => Some(with_jitter(wait)),
    }
}

/// A time of up to a quarter less, so that not all come back at once.
pub(crate) fn with_jitter(time: Duration) -> Duration {
    // Every state of the standard library's hashes has keys of its own.
    let random = RandomState::new().build_hasher().finish() % 256;
    time.saturating_sub(time * (random as u32) / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_left_in_peace_for_as_long_as_it_asks_but_not_for_ever() {
        let asked = |seconds| ClientError::Unavailable {
            message: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let wait = Duration::from_millis(200);
        assert_eq!(next_wait(&asked(1), wait), Some(Duration::from_secs(1)));
        assert_eq!(next_wait(&asked(60), wait), None);
    }

    #[test]
    fn jitter_takes_a_quarter_at_most() {
        for _ in 0..100 {
            let time = with_jitter(Duration::from_secs(4));
            assert!(time > Duration::from_secs(3) - Duration::from_millis(1));
            assert!(time <= Duration::from_secs(4));
        }
    }

    #[tokio::test]
    async fn a_url_needs_no_file_and_a_wrong_one_is_named() {
        let connection = Connection::to_url("http://127.0.0.1:1", Some("t")).unwrap();
        assert_eq!(connection.namespace(), "default");
        let connection = connection.with_namespace("velero");
        assert_eq!(connection.namespace(), "velero");
        let error = Connection::to_url("not a url", None).unwrap_err();
        assert!(error.to_string().contains("\"not a url\""), "{error}");
    }
}
