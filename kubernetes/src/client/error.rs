//! Why a call to the API server failed.

use std::{error::Error, time::Duration};

use kube::{core::Status, error::Error as KubeError};
use orlop_core::with_causes;

/// Why a call to the API server failed. Messages are the server's own where it has answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The object does not exist, or its kind or its namespace.
    #[error("{message}")]
    NotFound {
        /// The server's message.
        message: String,
    },
    /// An object of that name exists.
    #[error("{message}")]
    AlreadyExists {
        /// The server's message.
        message: String,
    },
    /// The object has changed meanwhile; read it again and decide again.
    #[error("{message}")]
    Conflict {
        /// The server's message.
        message: String,
    },
    /// The server does not know who asks: the token is wrong or has expired.
    #[error("the API server does not accept our credentials: {message}")]
    Unauthorized {
        /// The server's message, or why there are no credentials.
        message: String,
    },
    /// Who asks may not do this; the message names the missing right.
    #[error("{what}; give the service account a role that allows it")]
    Forbidden {
        /// The server's message: who may not do what.
        what: String,
    },
    /// The server cannot take the request as it is; to repeat it is useless.
    #[error("{message}")]
    Invalid {
        /// The server's message, with the fields that are wrong.
        message: String,
    },
    /// The point of a list or watch to go on from is too old; begin again.
    #[error("{message}")]
    Expired {
        /// The server's message.
        message: String,
    },
    /// The server cannot be reached, is overloaded or has an error of its own.
    #[error("the API server is unavailable: {message}")]
    Unavailable {
        /// The server's message, or what broke on the way to it.
        message: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// There was no answer in time. Whether something was done is unknown.
    #[error("the API server did not answer within {}s", limit.as_secs())]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// The answer, or an object in it, is not what it should be.
    #[error("{what} cannot be read: {message}")]
    Unreadable {
        /// Kind, namespace and name, as far as known.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// There is no usable configuration: no kubeconfig, no service account, or a URL that is none.
    #[error("no way to the API server: {message}")]
    Configuration {
        /// What is missing or wrong.
        message: String,
    },
    /// A request that cannot even be written.
    #[error("the request cannot be made: {message}")]
    Request {
        /// Why.
        message: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut { .. })
    }

    /// Whether the object, its kind or its namespace does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// What an answer with an error means.
    pub(crate) fn of_status(status: &Status) -> Self {
        let message = if status.message.is_empty() {
            format!("{} (code {})", status.reason, status.code)
        } else {
            status.message.clone()
        };
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::NotFound { message },
            (409, "AlreadyExists") => Self::AlreadyExists { message },
            (409, _) => Self::Conflict { message },
            (401, _) => Self::Unauthorized { message },
            (403, _) => Self::Forbidden { what: message },
            (410, _) | (_, "Expired" | "Gone") => Self::Expired { message },
            (429 | 500.., _) => Self::Unavailable {
                message,
                retry_after: status
                    .details
                    .as_ref()
                    .map(|details| details.retry_after_seconds)
                    .filter(|seconds| *seconds > 0)
                    .map(|seconds| Duration::from_secs(seconds.into())),
            },
            _ => Self::Invalid { message },
        }
    }
}

impl From<KubeError> for ClientError {
    fn from(error: KubeError) -> Self {
        match error {
            KubeError::Api(status) => Self::of_status(&status),
            KubeError::Auth(error) => Self::Unauthorized {
                message: with_causes(&error),
            },
            KubeError::HyperError(error) => unavailable(&error),
            KubeError::ReadEvents(error) => unavailable(&error),
            KubeError::Service(error) => unavailable(error.as_ref()),
            KubeError::UpgradeConnection(error) => unavailable(&error),
            KubeError::SerdeError(error) => unreadable(&error),
            KubeError::FromUtf8(error) => unreadable(&error),
            KubeError::BuildRequest(error) => Self::Request {
                message: with_causes(&error),
            },
            other => Self::Configuration {
                message: with_causes(&other),
            },
        }
    }
}

fn unavailable(error: &(dyn Error + 'static)) -> ClientError {
    ClientError::Unavailable {
        message: with_causes(error),
        retry_after: None,
    }
}

fn unreadable(error: &(dyn Error + 'static)) -> ClientError {
    ClientError::Unreadable {
        what: "the API server's answer".to_owned(),
        message: with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(code: u16, reason: &str) -> ClientError {
        let status = json!({
            "code": code, "reason": reason, "message": "m", "details": {"retryAfterSeconds": 3},
        });
        ClientError::of_status(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn an_answer_is_told_by_its_code_and_reason() {
        assert!(of(404, "NotFound").is_not_found());
        let message = "m".to_owned();
        let cases = [
            (
                409,
                "AlreadyExists",
                ClientError::AlreadyExists {
                    message: message.clone(),
                },
            ),
            (
                409,
                "Conflict",
                ClientError::Conflict {
                    message: message.clone(),
                },
            ),
            (
                403,
                "Forbidden",
                ClientError::Forbidden {
                    what: message.clone(),
                },
            ),
            (
                422,
                "Invalid",
                ClientError::Invalid {
                    message: message.clone(),
                },
            ),
            (
                410,
                "Expired",
                ClientError::Expired {
                    message: message.clone(),
                },
            ),
            (401, "Unauthorized", ClientError::Unauthorized { message }),
        ];
        for (code, reason, want) in cases {
            assert_eq!(of(code, reason), want);
            assert!(!want.is_transient());
        }
    }

    #[test]
    fn a_server_in_trouble_is_asked_again_after_the_time_that_it_wants() {
        for code in [429, 500, 503, 504] {
            let error = of(code, "");
            assert!(error.is_transient());
            assert!(
                matches!(error, ClientError::Unavailable { retry_after: Some(wait), .. } if wait.as_secs() == 3)
            );
        }
    }
}
