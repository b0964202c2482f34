//! Why the coordinator is not reached, and what would help.

use super::{CLIENT_ACCOUNT, SELECTOR};
use crate::{client::ClientError, identity::CA_CONFIG_MAP};

/// Why the coordinator is not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// The namespace does not exist.
    #[error(
        "the cluster has no namespace {namespace}: give --orlop-namespace, or another --context"
    )]
    NoNamespace {
        /// The namespace.
        namespace: String,
    },
    /// No coordinator has shown its certificate in the namespace.
    #[error(
        "namespace {namespace} has no ConfigMap {CA_CONFIG_MAP}, in which a coordinator shows its certificate: if Orlop is \
         in another namespace give --orlop-namespace, else look at: kubectl -n {namespace} get deployment velero"
    )]
    NotInstalled {
        /// The namespace.
        namespace: String,
    },
    /// There is no account for clients.
    #[error(
        "namespace {namespace} has no ServiceAccount {CLIENT_ACCOUNT}: the Orlop there is older than this program; \
         update it with orlop install, or apply deploy/base/service-accounts.yaml"
    )]
    NoAccount {
        /// The namespace.
        namespace: String,
    },
    /// The user of the kubeconfig lacks a right.
    #[error(
        "you may not {verb} {resource} in namespace {namespace}, which reaching the coordinator needs: ask for a role \
         that allows it (docs/operations.md has one). The API server says: {message}"
    )]
    Forbidden {
        /// The namespace.
        namespace: String,
        /// The verbs.
        verb: String,
        /// The resource, with its name if it must be that one.
        resource: String,
        /// The API server's message.
        message: String,
    },
    /// The Deployment has no pod.
    #[error(
        "no pod of the coordinator is in namespace {namespace} (label {SELECTOR}): kubectl -n {namespace} describe \
         deployment velero"
    )]
    NoPod {
        /// The namespace.
        namespace: String,
    },
    /// No pod of the coordinator is ready.
    #[error(
        "the coordinator's pod {pod} is not ready ({why}): kubectl -n {namespace} describe pod {pod}"
    )]
    NotReady {
        /// The namespace.
        namespace: String,
        /// The newest pod.
        pod: String,
        /// What it is instead.
        why: String,
    },
    /// The port-forward has no stream of its own.
    #[error("the API server forwards no port {port} of pod {pod}")]
    NoStream {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
    },
    /// The API server does not answer or refuses.
    #[error("{verb} {resource} in namespace {namespace}")]
    Client {
        /// The namespace.
        namespace: String,
        /// The verbs.
        verb: String,
        /// The resource.
        resource: String,
        /// Why it failed.
        #[source]
        source: ClientError,
    },
}

/// What an error of a call means that needs the right to `verb` `resource`.
pub(super) fn refused(
    namespace: &str,
    verb: &str,
    resource: &str,
) -> impl FnOnce(ClientError) -> ReachError {
    let (namespace, verb, resource) = (namespace.to_owned(), verb.to_owned(), resource.to_owned());
    move |error| match error {
        ClientError::Forbidden { what } => ReachError::Forbidden {
            namespace,
            verb,
            resource,
            message: what,
        },
        source => ReachError::Client {
            namespace,
            verb,
            resource,
            source,
        },
    }
}
