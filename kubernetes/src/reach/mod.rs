//! How a client outside of the cluster reaches the coordinator: through the API server, with what a kubeconfig allows.
//!
//! The coordinator's certificate is checked by the authority that it shows in a ConfigMap, and who asks is proven by a
//! token of a ServiceAccount that only the coordinator takes.

mod error;
mod pod;
mod stream;

use std::time::{Duration, SystemTime};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Namespace, Pod, ServiceAccount},
};
use kube::{Api, api::PostParams};

pub use error::ReachError;
pub use stream::PodStream;

use crate::{
    client::{CALL_LIMIT, ClientError, Connection, Objects},
    identity::{CA_CONFIG_MAP, CA_FILE},
};
use error::refused;
use pod::Target;

/// The ServiceAccount as which people call the coordinator. It has no rights in the API.
pub const CLIENT_ACCOUNT: &str = "orlop-client";
/// The audience that its tokens are made for: the API server does not take them.
pub const CLIENT_AUDIENCE: &str = "orlop.io/client";

/// What all pods of the coordinator's Deployment have, and its Service looks for.
const SELECTOR: &str = "deploy=velero";
/// How long a token is to last; the API server may decide otherwise.
const TOKEN_LASTS: Duration = Duration::from_hours(1);

/// The way to the coordinator in the connection's namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reach {
    connection: Connection,
}

/// A token for the coordinator.
#[derive(Clone)]
pub struct ClientToken {
    /// What is sent.
    pub token: String,
    /// When it was given out, by our clock.
    pub obtained: SystemTime,
    /// How long it lasts from then on.
    pub lasts: Duration,
}

impl std::fmt::Debug for ClientToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientToken")
            .field("obtained", &self.obtained)
            .field("lasts", &self.lasts)
            .finish_non_exhaustive()
    }
}

impl ClientToken {
    /// Whether another should be had: half of its time is over, or the clock was set back.
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.age(now).is_none_or(|age| age >= self.lasts / 2)
    }

    /// Whether its time is over, as far as our clock can tell.
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.age(now).is_some_and(|age| age >= self.lasts)
    }

    fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(self.obtained).ok()
    }
}

impl Reach {
    /// The way to the coordinator in the namespace of `connection`.
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// The namespace of the coordinator.
    pub fn namespace(&self) -> &str {
        self.connection.namespace()
    }

    /// The name in the coordinator's certificate.
    pub fn server_name(&self) -> String {
        format!("orlop.{}.svc", self.namespace())
    }

    /// The certificates of the authority that has signed the coordinator's, as PEM.
    ///
    /// # Errors
    /// There is no coordinator in the namespace, or the API server does not answer or refuses.
    pub async fn ca(&self) -> Result<String, ReachError> {
        let namespace = self.namespace();
        let resource = format!("configmaps/{CA_CONFIG_MAP}");
        let maps = Objects::<ConfigMap>::of(&self.connection, Some(namespace));
        let found = maps.get(CA_CONFIG_MAP).await;
        let found = found.map_err(refused(namespace, "get", &resource))?;
        let pem = found.and_then(|map| map.data?.remove(CA_FILE));
        if let Some(pem) = pem.filter(|pem| !pem.trim().is_empty()) {
            return Ok(pem);
        }
        let namespace = namespace.to_owned();
        // Who may not look at namespaces is told the likelier of the two.
        let spaces = Objects::<Namespace>::of(&self.connection, None);
        match spaces.get(&namespace).await {
            Ok(None) => Err(ReachError::NoNamespace { namespace }),
            _ => Err(ReachError::NotInstalled { namespace }),
        }
    }

    /// A new token for the coordinator.
    ///
    /// # Errors
    /// There is no account for clients, or the API server does not answer or refuses.
    pub async fn token(&self) -> Result<ClientToken, ReachError> {
        let namespace = self.namespace();
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![CLIENT_AUDIENCE.to_owned()],
                expiration_seconds: Some(TOKEN_LASTS.as_secs() as i64),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let obtained = SystemTime::now();
        let made = self
            .connection
            .call(CALL_LIMIT, async |client| {
                let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
                let parameters = PostParams::default();
                accounts
                    .create_token_request(CLIENT_ACCOUNT, &parameters, &request)
                    .await
            })
            .await;
        if matches!(&made, Err(error) if error.is_not_found()) {
            let namespace = namespace.to_owned();
            return Err(ReachError::NoAccount { namespace });
        }
        let resource = format!("serviceaccounts/token of {CLIENT_ACCOUNT}");
        let made = made.map_err(refused(namespace, "create", &resource))?;
        // When it ends is by the server's clock, which may differ from ours.
        let lasts = made.spec.expiration_seconds.unwrap_or(0);
        let given = made.status.ok_or_else(|| {
            let error = ClientError::Unreadable {
                what: "the API server's answer".to_owned(),
                message: "there is no token in it".to_owned(),
            };
            refused(namespace, "create", &resource)(error)
        })?;
        Ok(ClientToken {
            token: given.token,
            obtained,
            lasts: Duration::from_secs(u64::try_from(lasts).unwrap_or(0)),
        })
    }

    /// A new connection to the coordinator's port, in the pod that is ready now.
    ///
    /// # Errors
    /// No pod is ready, or the API server does not answer or refuses. That nothing listens there is only told by the
    /// first read.
    pub async fn open(&self) -> Result<PodStream, ReachError> {
        let namespace = self.namespace();
        let pods = Objects::<Pod>::of(&self.connection, Some(namespace));
        let pods = pods.list(SELECTOR).await;
        let pods = pods.map_err(refused(namespace, "list", "pods"))?;
        let Target { pod, port } = pod::choose(namespace, &pods)?;
        let forwarder = self
            .connection
            .call(CALL_LIMIT, async |client| {
                let pods: Api<Pod> = Api::namespaced(client, namespace);
                pods.portforward(&pod, &[port]).await
            })
            .await;
        // A WebSocket begins with a GET: API servers before 1.35 ask for "get", later ones for both.
        let verb = "get and create";
        let forwarder = forwarder.map_err(refused(namespace, verb, "pods/portforward"))?;
        PodStream::new(forwarder, &pod, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_half_its_time_and_when_the_clock_cannot_be_trusted() {
        let obtained = SystemTime::UNIX_EPOCH + Duration::from_hours(24);
        let token = ClientToken {
            token: "secret".to_owned(),
            obtained,
            lasts: Duration::from_secs(100),
        };
        let after = |seconds| obtained + Duration::from_secs(seconds);
        assert!(!token.is_due(after(49)) && token.is_due(after(50)));
        assert!(!token.is_over(after(99)) && token.is_over(after(100)));
        let before = obtained - Duration::from_secs(1);
        assert!(token.is_due(before) && !token.is_over(before));
        assert!(!format!("{token:?}").contains("secret"));
    }
}
