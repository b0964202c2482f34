//! Why a request is not fulfilled.

use std::fmt;

use orlop_core::run::{SelectError, not_found};

use super::RunKey;

/// Why a request is not fulfilled.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What was named does not exist.
    NotFound {
        /// Its kind: `backup`, `volume`, …
        kind: &'static str,
        /// Its name.
        name: String,
        /// The sentence for a person.
        message: String,
    },
    /// The name is in use for something else.
    Exists {
        /// Its kind: `backup`, `schedule`, …
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A field of the request cannot be fulfilled as it is.
    Invalid {
        /// The field.
        field: &'static str,
        /// Why.
        message: String,
    },
    /// The state of things does not allow it now.
    Precondition(String),
    /// The task does not hold what it asks for.
    Forbidden(String),
    /// Nothing can be done at the moment; another time it can.
    Unavailable(String),
    /// The repository failed.
    Repository(orlop_repository::Error),
}

impl From<orlop_repository::Error> for Refusal {
    fn from(error: orlop_repository::Error) -> Self {
        Self::Repository(error)
    }
}

impl From<SelectError> for Refusal {
    fn from(error: SelectError) -> Self {
        let message = error.to_string();
        match error {
            SelectError::Unknown(_) => Self::NotFound {
                kind: "volume",
                name: String::new(),
                message,
            },
            _ => Self::Precondition(message),
        }
    }
}

impl Refusal {
    /// There is no such run; near misses are among `names`.
    pub(super) fn unknown_run(key: &RunKey, names: &[String]) -> Self {
        let message = not_found(
            key.kind.as_str(),
            &key.name,
            names.iter().map(String::as_str),
        );
        Self::NotFound {
            kind: key.kind.as_str(),
            name: key.name.clone(),
            message,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { message, .. }
            | Self::Precondition(message)
            | Self::Forbidden(message)
            | Self::Unavailable(message) => f.write_str(message),
            Self::Exists { kind, name } => write!(
                f,
                "{kind} {name} exists already and was asked for differently: choose another name"
            ),
            Self::Invalid { field, message } => write!(f, "field `{field}`: {message}"),
            Self::Repository(error) => f.write_str(&with_sources(error)),
        }
    }
}

/// The error and what caused it, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}
