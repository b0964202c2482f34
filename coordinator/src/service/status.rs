//! Refusals as `google.rpc.Status` with details.

use std::collections::HashMap;

use orlop_proto::{
    ProtocolError,
    reason::{SESSION_ENDED, SESSION_FENCED},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::runs::{Refusal, with_sources};

/// Domain of all error reasons.
const DOMAIN: &str = "orlop.io";

fn with_reason(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// The call shows no token, or a wrong one.
pub(super) fn unauthenticated(what: &str) -> Status {
    let message = format!("{what}: use the token file of the coordinator (--token-file)");
    with_reason(Code::Unauthenticated, "TOKEN", &message)
}

/// A message breaks the contract.
pub(super) fn malformed(error: ProtocolError) -> Status {
    let message = error.to_string();
    let mut details = ErrorDetails::with_bad_request_violation(error.field, error.reason);
    details.set_error_info("MALFORMED", DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// A request is not fulfilled.
pub(super) fn refused(refusal: Refusal) -> Status {
    let said = refusal.to_string();
    match refusal {
        Refusal::NotFound {
            kind,
            name,
            message,
        } => {
            let mut details =
                ErrorDetails::with_resource_info(kind, name, String::new(), message.clone());
            details.set_error_info(
                format!("{}_NOT_FOUND", kind.to_uppercase()),
                DOMAIN,
                HashMap::new(),
            );
            Status::with_error_details(Code::NotFound, message, details)
        }
        Refusal::Exists { kind, name } => {
            let mut details = ErrorDetails::with_resource_info(kind, name, String::new(), &said);
            details.set_error_info("EXISTS", DOMAIN, HashMap::new());
            Status::with_error_details(Code::AlreadyExists, said, details)
        }
        Refusal::Invalid { field, message } => malformed(ProtocolError::new(field, message)),
        Refusal::Precondition(message) => {
            with_reason(Code::FailedPrecondition, "PRECONDITION", &message)
        }
        Refusal::Forbidden(message) => with_reason(Code::PermissionDenied, "FORBIDDEN", &message),
        Refusal::Unavailable(message) => with_reason(Code::Unavailable, "UNAVAILABLE", &message),
        Refusal::Repository(error) => repository(&error),
    }
}

/// The repository failed.
pub(super) fn repository(error: &orlop_repository::Error) -> Status {
    let message = with_sources(error);
    if error.is_not_found() {
        with_reason(Code::NotFound, "SNAPSHOT_NOT_FOUND", &message)
    } else if error.is_cancelled() {
        with_reason(Code::Cancelled, "CANCELED", &message)
    } else if matches!(error, orlop_repository::Error::NoSession { .. }) {
        with_reason(Code::FailedPrecondition, SESSION_ENDED, &message)
    } else if matches!(error, orlop_repository::Error::Fenced { .. }) {
        with_reason(Code::FailedPrecondition, SESSION_FENCED, &message)
    } else if matches!(error, orlop_repository::Error::Damaged { .. }) {
        with_reason(Code::DataLoss, "DAMAGED", &message)
    } else if error.is_permanent() {
        with_reason(Code::FailedPrecondition, "REPOSITORY", &message)
    } else {
        with_reason(Code::Unavailable, "REPOSITORY", &message)
    }
}

/// As [`repository`], for sessions: what each of them needs is there in every repository, so that if it is not, the whole is
/// away with its disk or bucket, and may come back.
pub(super) fn session(error: &orlop_repository::Error) -> Status {
    use orlop_repository::Error;
    match error {
        Error::NotFound { .. } | Error::NoRepository { .. } => {
            let message = format!(
                "{}: is it the right bucket, and is the disk mounted?",
                with_sources(error)
            );
            with_reason(Code::Unavailable, "REPOSITORY", &message)
        }
        _ => repository(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_that_is_away_may_come_back_and_a_snapshot_may_not() {
        let store = || "/stores/default".to_owned();
        let name = "log/0000000000000001".to_owned();
        let away = orlop_repository::Error::NotFound {
            name,
            store: store(),
        };
        assert_eq!(session(&away).code(), Code::Unavailable);
        assert_eq!(repository(&away).code(), Code::NotFound);
        let none = orlop_repository::Error::NoRepository { store: store() };
        assert_eq!(session(&none).code(), Code::Unavailable);
        let gone = orlop_repository::Error::NoSnapshot {
            wanted: "s".to_owned(),
            store: store(),
            hint: String::new(),
        };
        assert_eq!(session(&gone).code(), Code::NotFound);
    }

    #[test]
    fn a_malformed_field_is_in_the_details() {
        let status = malformed(ProtocolError::new("volumes[1].pod", "is required"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "volumes[1].pod");
    }

    #[test]
    fn what_was_not_found_is_in_the_details() {
        let status = refused(Refusal::NotFound {
            kind: "backup",
            name: "b".to_owned(),
            message: "backup b not found".to_owned(),
        });
        assert_eq!(
            (status.code(), status.message()),
            (Code::NotFound, "backup b not found")
        );
        let details = status.get_error_details();
        assert_eq!(details.resource_info().unwrap().resource_name, "b");
        assert_eq!(details.error_info().unwrap().reason, "BACKUP_NOT_FOUND");
    }
}
