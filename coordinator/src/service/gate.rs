//! Who may call what: in front of every service, before a message is read.
//!
//! Everybody with the server's own token may everything. In a cluster a token of Kubernetes opens what its holder may
//! do with Velero's objects in the coordinator's namespace, and one of the account for clients all that clients call;
//! agents' services open to agents only, each for its own node.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as Polling, Poll},
};

use axum::http::{Request, Response};
use orlop_kubernetes::{
    access::{Identity, Reviewer, Right},
    reach::{CLIENT_ACCOUNT, CLIENT_AUDIENCE},
};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;

use super::auth::Auth;

/// The audience that agents' tokens are made for.
const AGENT_AUDIENCE: &str = "orlop.io/agent";
/// The audience of tokens that are not made for us: the API server, by whatever name.
const API_AUDIENCE: &str = "";
/// The service account of agents.
const AGENT_ACCOUNT: &str = "node-agent";
/// Metadata that names the caller's node.
const NODE: &str = "orlop-node";

/// The node of the agent that calls, as its token proves it.
#[derive(Debug, Clone)]
pub(crate) struct ProvenNode(pub(crate) String);

/// What tokens of Kubernetes are reviewed with.
#[derive(Debug, Clone)]
pub(crate) struct ClusterGate {
    /// Asks the API server.
    pub(crate) reviewer: Reviewer,
    /// The coordinator's own namespace.
    pub(crate) namespace: String,
}

/// Lets calls through, or not.
#[derive(Clone)]
pub(crate) struct Gate {
    auth: Auth,
    cluster: Option<Arc<ClusterGate>>,
}

impl Gate {
    /// By the server's own token, and by tokens of Kubernetes if there is a cluster.
    pub(crate) fn new(token: &str, cluster: Option<ClusterGate>) -> Self {
        Self {
            auth: Auth::new(token),
            cluster: cluster.map(Arc::new),
        }
    }

    /// Puts a service behind the gate.
    pub(crate) fn before<S>(&self, inner: S) -> Gated<S> {
        Gated {
            gate: self.clone(),
            inner,
        }
    }

    /// The node that the caller has proven to be on, if it is an agent of a cluster.
    async fn check<B>(&self, request: &Request<B>) -> Result<Option<ProvenNode>, Status> {
        let path = request.uri().path();
        if path.starts_with("/grpc.health.v1.Health/") {
            return Ok(None);
        }
        let header = |name| {
            request
                .headers()
                .get(name)
                .map(axum::http::HeaderValue::as_bytes)
        };
        let given = header("authorization");
        let refused = match self.auth.check(given) {
            Ok(()) => return Ok(None),
            Err(refused) => refused,
        };
        let token = given
            .and_then(|given| given.strip_prefix(b"Bearer "))
            .and_then(|token| std::str::from_utf8(token).ok());
        let (Some(cluster), Some(token)) = (&self.cluster, token) else {
            return Err(refused);
        };
        if is_for_agents(path) {
            let node = cluster.agent(token).await?.ok_or(refused)?;
            if header(NODE).is_some_and(|named| named != node.as_bytes()) {
                let message = format!("the token is of an agent on node {node}, not of another");
                return Err(Status::permission_denied(message));
            }
            return Ok(Some(ProvenNode(node)));
        }
        let made_for_us = cluster.identity(token, CLIENT_AUDIENCE).await?;
        // Who may have such a token of that account is decided where it is given out.
        let may_all = made_for_us
            .as_ref()
            .is_some_and(|who| cluster.is_for_clients(who));
        let who = match made_for_us {
            Some(who) => who,
            None => cluster
                .identity(token, API_AUDIENCE)
                .await?
                .ok_or(refused)?,
        };
        cluster.client(&who, may_all, path).await?;
        Ok(None)
    }
}

impl ClusterGate {
    async fn identity(&self, token: &str, audience: &str) -> Result<Option<Identity>, Status> {
        self.reviewer
            .identity(token, audience)
            .await
            .map_err(|error| unanswered(&error))
    }

    /// The node of the agent whose token it is; `None` if it is no agent's.
    async fn agent(&self, token: &str) -> Result<Option<String>, Status> {
        let Some(who) = self.identity(token, AGENT_AUDIENCE).await? else {
            return Ok(None);
        };
        let own = Some((self.namespace.as_str(), AGENT_ACCOUNT));
        if who.service_account() != own {
            return Err(Status::permission_denied(format!(
                "{} is no agent: agents run as {}/{AGENT_ACCOUNT}",
                who.user, self.namespace
            )));
        }
        let node = self.reviewer.node_of(&who).await;
        node.map_err(|error| unanswered(&error))
    }

    fn is_for_clients(&self, who: &Identity) -> bool {
        who.service_account() == Some((self.namespace.as_str(), CLIENT_ACCOUNT))
    }

    async fn client(&self, who: &Identity, may_all: bool, path: &str) -> Result<(), Status> {
        let Some((verb, resource)) = right_of(path) else {
            return Err(Status::permission_denied(
                "only the coordinator's own token opens this call",
            ));
        };
        if may_all {
            return Ok(());
        }
        let right = Right {
            verb: verb.to_owned(),
            group: "velero.io".to_owned(),
            resource: resource.to_owned(),
            namespace: self.namespace.clone(),
            name: String::new(),
        };
        let allowed = self.reviewer.allows(who, &right).await;
        if allowed.map_err(|error| unanswered(&error))? {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{} may not {verb} {resource}.velero.io in namespace {}: give it a role that allows that",
            who.user, self.namespace
        )))
    }
}

fn unanswered(error: &dyn std::error::Error) -> Status {
    let reason = crate::runs::with_sources(error);
    Status::unavailable(format!("the API server does not say who calls: {reason}"))
}

fn is_for_agents(path: &str) -> bool {
    [
        "/orlop.v1.Agents/",
        "/orlop.v1.Sessions/",
        "/orlop.v1.Store/",
    ]
    .iter()
    .any(|service| path.starts_with(service))
}

/// What one must be allowed to do with which of Velero's objects to make a call.
fn right_of(path: &str) -> Option<(&'static str, &'static str)> {
    let (service, call) = path.strip_prefix("/orlop.v1.")?.split_once('/')?;
    let resource = match service {
        "Backups" => "backups",
        "Restores" => "restores",
        "Schedules" => "schedules",
        "Locations" => "backupstoragelocations",
        "Artifacts" => "downloadrequests",
        "Snapshots" => "podvolumebackups",
        "System" => "serverstatusrequests",
        _ => return None,
    };
    let verb = match (service, call) {
        // What is in snapshots and artifacts may be secret: who may ask for downloads may read it.
        ("Snapshots", "ListEntries" | "ReadFile" | "Diff")
        | ("Artifacts", "Read" | "CreateDownloadUrl") => {
            return Some(("create", "downloadrequests"));
        }
        (_, "Get" | "GetStatus" | "ReadLog" | "Validate") => "get",
        (_, "List") => "list",
        (_, "Watch") => "watch",
        (_, "Create" | "Trigger") => "create",
        (_, "Update" | "Pause" | "Cancel" | "Maintain") => "update",
        (_, "Delete") => "delete",
        _ => return None,
    };
    Some((verb, resource))
}

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

    fn poll_ready(&mut self, context: &mut Polling<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let gate = self.gate.clone();
        // The one that is ready is used, its clone may not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            // Only its head is looked at, and the body need not be one that threads may share.
            let (head, body) = request.into_parts();
            let bare = Request::from_parts(head, ());
            let checked = gate.check(&bare).await;
            let (head, ()) = bare.into_parts();
            request = Request::from_parts(head, body);
            match checked {
                Ok(node) => {
                    if let Some(node) = node {
                        request.extensions_mut().insert(node);
                    }
                    inner.call(request).await
                }
                Err(status) => {
                    if status.code() != Code::Unauthenticated {
                        tracing::warn!(path = request.uri().path(), status = %status, "a call was refused");
                    }
                    Ok(status.into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(path: &str, header: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(path);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        request.body(()).unwrap()
    }

    async fn code(path: &str, header: Option<&str>) -> Code {
        let checked = Gate::new("secret", None).check(&call(path, header)).await;
        checked.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[tokio::test]
    async fn without_a_cluster_only_the_token_opens() {
        let path = "/orlop.v1.Backups/List";
        assert_eq!(code(path, Some("Bearer secret")).await, Code::Ok);
        for header in [None, Some("Bearer other"), Some("secret"), Some("")] {
            assert_eq!(
                code(path, header).await,
                Code::Unauthenticated,
                "{header:?}"
            );
        }
        assert_eq!(code("/grpc.health.v1.Health/Check", None).await, Code::Ok);
        assert_eq!(
            code("/orlop.v1.Agents/Session", None).await,
            Code::Unauthenticated
        );
    }

    #[test]
    fn every_call_needs_a_right_of_its_own() {
        for (path, wanted) in [
            ("Backups/Create", Some(("create", "backups"))),
            ("Backups/Watch", Some(("watch", "backups"))),
            ("Backups/Cancel", Some(("update", "backups"))),
            ("Backups/Delete", Some(("delete", "backups"))),
            ("Backups/ReadLog", Some(("get", "backups"))),
            (
                "Locations/Update",
                Some(("update", "backupstoragelocations")),
            ),
            ("Snapshots/ReadFile", Some(("create", "downloadrequests"))),
            ("Artifacts/Read", Some(("create", "downloadrequests"))),
            ("Artifacts/List", Some(("list", "downloadrequests"))),
            ("Agents/Session", None),
            ("Backups/Unheard", None),
        ] {
            assert_eq!(right_of(&format!("/orlop.v1.{path}")), wanted, "{path}");
        }
    }
}
