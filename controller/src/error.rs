//! Why the controller does not start, and why a step of it fails.

use orlop_kubernetes::client::ClientError;
use tonic::{Code, Status};

/// Why the controller does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A real Velero works on the same objects.
    #[error(
        "{kind} {name} of namespace {namespace} runs {image}: two servers on the same objects undo each other's work; \
         run `kubectl -n {namespace} delete {kind} {name}`, or install Orlop in another namespace"
    )]
    Velero {
        /// Deployment or DaemonSet.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The image that gives it away.
        image: String,
    },
    /// The API server does not answer or refuses.
    #[error("cannot look for another Velero")]
    Cluster(#[source] ClientError),
    /// The coordinator cannot be reached by what was given.
    #[error("no way to the coordinator at {server}: {message}")]
    Coordinator {
        /// Its address.
        server: String,
        /// What is wrong.
        message: String,
    },
}

/// Why a step failed. It is tried again; the engine writes it to the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// With the API server.
    #[error("{0}")]
    Cluster(#[from] ClientError),
    /// With the coordinator.
    #[error("the coordinator {}", told(.0))]
    Coordinator(Box<Status>),
    /// With what was read.
    #[error("{0}")]
    Unreadable(String),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        Self::Coordinator(Box::new(status))
    }
}

impl Trouble {
    /// Whether it goes away by itself, or by trying again with what is there now.
    pub(crate) fn is_ordinary(&self) -> bool {
        match self {
            Self::Cluster(error) => {
                error.is_transient() || matches!(error, ClientError::Conflict { .. })
            }
            Self::Coordinator(status) => is_passing(status),
            Self::Unreadable(_) => false,
        }
    }
}

/// Whether the same call may succeed later without anybody doing anything.
pub(crate) fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Unknown
    )
}

fn told(status: &Status) -> String {
    match status.code() {
        Code::Unavailable => format!("does not answer: {}", status.message()),
        Code::DeadlineExceeded => "has not answered in time".to_owned(),
        Code::Unauthenticated => format!("does not know us: {}; check the token", status.message()),
        code => format!("refuses: {} ({code:?})", status.message()),
    }
}
