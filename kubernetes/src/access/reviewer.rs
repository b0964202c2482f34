//! Asks the API server about tokens and rights.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::SubjectAccessReview,
    core::v1::Pod,
};
use sha2::{Digest as _, Sha256};

use super::{
    cache::Cache,
    identity::{Identity, Right, question},
};
use crate::client::{ClientError, Connection, Objects};

/// How long a yes holds.
const YES: Duration = Duration::from_mins(1);

/// How long a no holds: short, for somebody is about to mend it.
const NO: Duration = Duration::from_secs(5);

/// How many answers of each kind are remembered.
const REMEMBERED: usize = 1024;

/// Asks the API server who somebody is and what they may do, and remembers the answers for a minute: a token that
/// was withdrawn is good for so long. Cheap to clone; clones remember together.
#[derive(Clone)]
pub struct Reviewer {
    connection: Connection,
    /// By a hash of audience and token, so that no token stays in memory.
    tokens: Arc<Cache<[u8; 32], Option<Identity>>>,
    rights: Arc<Cache<(Identity, Right), bool>>,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}

impl Reviewer {
    /// Needs the rights of the cluster role `system:auth-delegator`.
    pub fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            tokens: Arc::new(Cache::new(REMEMBERED)),
            rights: Arc::new(Cache::new(REMEMBERED)),
        }
    }

    /// Who has this token; `None` if nobody has, it has expired, or it is not meant for `audience`, which is the API
    /// server itself if it is empty: by what name that goes differs from cluster to cluster.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn identity(
        &self,
        token: &str,
        audience: &str,
    ) -> Result<Option<Identity>, ClientError> {
        let mut hash = Sha256::new();
        hash.update((audience.len() as u64).to_le_bytes());
        hash.update(audience);
        hash.update(token);
        let key: [u8; 32] = hash.finalize().into();
        let now = Instant::now();
        if let Some(known) = self.tokens.get(&key, now) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let reviews = Objects::<TokenReview>::of(&self.connection, None);
        let status = reviews.create(&review).await?.status.unwrap_or_default();
        // A server that knows of no audiences names none; then the token was meant for the server itself.
        let meant =
            audience.is_empty() || status.audiences.iter().flatten().any(|one| one == audience);
        let known = status.authenticated == Some(true) && meant;
        let identity = status.user.filter(|_| known).map(Identity::of);
        let lasts = if identity.is_some() { YES } else { NO };
        self.tokens.put(key, identity.clone(), now, lasts);
        Ok(identity)
    }

    /// Whether somebody may do something.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn allows(&self, who: &Identity, right: &Right) -> Result<bool, ClientError> {
        let key = (who.clone(), right.clone());
        let now = Instant::now();
        if let Some(known) = self.rights.get(&key, now) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: question(who, right),
            ..SubjectAccessReview::default()
        };
        let reviews = Objects::<SubjectAccessReview>::of(&self.connection, None);
        let status = reviews.create(&review).await?.status;
        let allowed = status.is_some_and(|status| status.allowed);
        let lasts = if allowed { YES } else { NO };
        self.rights.put(key, allowed, now, lasts);
        Ok(allowed)
    }

    /// The node on which the pod of somebody's token runs; `None` if the token is no pod's, or the pod is gone or
    /// has no node yet. Older servers do not say it with the token, then the pod is looked up.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn node_of(&self, who: &Identity) -> Result<Option<String>, ClientError> {
        if who.node_name.is_some() {
            return Ok(who.node_name.clone());
        }
        let (Some(name), Some(uid)) = (&who.pod_name, &who.pod_uid) else {
            return Ok(None);
        };
        let Some((namespace, _)) = who.service_account() else {
            return Ok(None);
        };
        let pods = Objects::<Pod>::of(&self.connection, Some(namespace));
        let pod = pods.get(name).await?;
        let pod = pod.filter(|pod| pod.metadata.uid.as_ref() == Some(uid));
        Ok(pod.and_then(|pod| pod.spec?.node_name))
    }
}
