//! The coordinator's refusals as errors of the store, with how long to bear them.

use std::time::Duration;

use orlop_proto::store::{DETAIL, DOMAIN, OBJECT, STORE, reason};
use orlop_repository::{Error, SessionId};
use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt as _};

use crate::session::{PATIENCE, UNKNOWN_PATIENCE};

/// The store, for messages.
pub(super) const PLACE: &str = "the coordinator's store";
/// A store that fails is asked for so long.
const FAILING_PATIENCE: Duration = Duration::from_mins(1);

/// What a status means.
pub(super) struct Refusal {
    /// The error, should it stay.
    pub(super) error: Error,
    /// For how long the same call may be tried again; zero if that cannot help.
    pub(super) patience: Duration,
    /// Whether the coordinator has said this, and not the network.
    pub(super) answered: bool,
}

/// What the answer to a call for `name` means.
pub(super) fn read(
    action: &'static str,
    name: &str,
    session: SessionId,
    status: &Status,
) -> Refusal {
    let info = status.get_error_details().error_info().cloned();
    let Some(info) = info.filter(|info| info.domain == DOMAIN) else {
        return by_code(action, name, status);
    };
    let told = |key: &str, or: &str| info.metadata.get(key).map_or(or, String::as_str).to_owned();
    let name = name.to_owned();
    let (error, patience) = match info.reason.as_str() {
        reason::NOT_FOUND => {
            let store = PLACE.to_owned();
            (Error::NotFound { name, store }, Duration::ZERO)
        }
        reason::FULL => {
            let place = told(STORE, "unknown");
            let store = format!("{PLACE} ({place})");
            (Error::Full { name, store }, Duration::ZERO)
        }
        reason::DAMAGED => {
            let reason = told(DETAIL, status.message());
            let name = told(OBJECT, &name);
            (Error::Damaged { name, reason }, Duration::ZERO)
        }
        reason::SESSION_ENDED => (Error::NoSession { session }, Duration::ZERO),
        reason::SESSION_FENCED => (Error::Fenced { session }, Duration::ZERO),
        _ => {
            let patience = patience(&info, status.code());
            let message = status.message().to_owned();
            (remote(action, message, patience), patience)
        }
    };
    Refusal {
        error,
        patience,
        answered: true,
    }
}

fn patience(info: &ErrorInfo, code: Code) -> Duration {
    match (info.reason.as_str(), code) {
        // A coordinator that has lost its state database knows the task again when this agent has registered.
        (reason::FORBIDDEN, _) => UNKNOWN_PATIENCE,
        (reason::LATER, _) => PATIENCE,
        (reason::UNAVAILABLE, _) | (_, Code::Unavailable) => FAILING_PATIENCE,
        _ => Duration::ZERO,
    }
}

/// A status that is not the coordinator's own: the connection broke, or there is another server.
fn by_code(action: &'static str, name: &str, status: &Status) -> Refusal {
    let permanent = matches!(
        status.code(),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented | Code::Unauthenticated
    );
    let patience = if permanent { Duration::ZERO } else { PATIENCE };
    Refusal {
        error: remote(action, format!("{name}: {}", status.message()), patience),
        patience,
        answered: permanent,
    }
}

fn remote(action: &'static str, message: String, patience: Duration) -> Error {
    Error::Remote {
        action,
        message,
        transient: !patience.is_zero(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn told(code: Code, reason: &str, metadata: &[(&str, &str)]) -> Refusal {
        let metadata: HashMap<String, String> = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        let status = Status::with_error_details(code, "the message", details);
        read("write", "p/x", 7, &status)
    }

    #[test]
    fn errors_of_the_store_come_through() {
        let refusal = told(Code::NotFound, reason::NOT_FOUND, &[]);
        assert!(refusal.error.is_not_found() && refusal.patience.is_zero());

        let full = told(Code::ResourceExhausted, reason::FULL, &[(STORE, "/srv")]);
        assert!(matches!(full.error, Error::Full { .. }) && full.patience.is_zero());
        let text = full.error.to_string();
        assert!(text.contains("/srv") && text.contains("p/x"), "{text}");

        let metadata = [(OBJECT, "p/y"), (DETAIL, "it is short")];
        let damaged = told(Code::DataLoss, reason::DAMAGED, &metadata);
        let text = damaged.error.to_string();
        assert_eq!(text, "object p/y is damaged: it is short");

        let ended = told(Code::FailedPrecondition, reason::SESSION_ENDED, &[]);
        assert!(matches!(ended.error, Error::NoSession { session: 7 }));

        let fenced = told(Code::FailedPrecondition, reason::SESSION_FENCED, &[]);
        assert!(matches!(fenced.error, Error::Fenced { session: 7 }));
    }

    #[test]
    fn what_may_pass_is_borne_for_a_while() {
        for (code, why, transient) in [
            (Code::Unavailable, reason::UNAVAILABLE, true),
            (Code::DeadlineExceeded, reason::LATER, true),
            (Code::Unavailable, reason::LATER, true),
            (Code::Unavailable, "SOMETHING_NEW", true),
            (Code::PermissionDenied, reason::FORBIDDEN, true),
            (Code::PermissionDenied, reason::NAME_FORBIDDEN, false),
            (Code::FailedPrecondition, reason::FAILED, false),
            (Code::InvalidArgument, "MALFORMED", false),
            (Code::Unauthenticated, "TOKEN", false),
        ] {
            let refusal = told(code, why, &[]);
            assert_eq!(!refusal.error.is_permanent(), transient, "{why}");
            assert_eq!(!refusal.patience.is_zero(), transient, "{why}");
            assert!(refusal.answered);
        }
    }

    #[test]
    fn a_broken_connection_is_borne_longest() {
        let broken = read("write", "p/x", 7, &Status::internal("h2 protocol error"));
        assert!(!broken.error.is_permanent() && !broken.answered);
        assert_eq!(broken.patience, PATIENCE);
        let old = read("write", "p/x", 7, &Status::unimplemented("no such service"));
        assert!(old.error.is_permanent());
    }
}
