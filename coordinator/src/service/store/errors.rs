//! Errors of the store as `google.rpc.Status`, so that the client can tell them apart again.

use std::collections::HashMap;

use orlop_proto::store::{DETAIL, DOMAIN, OBJECT, STORE, reason};
use orlop_repository::{Error, ObjectStore};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::runs::with_sources;

fn refusal<const N: usize>(
    code: Code,
    reason: &str,
    message: &str,
    metadata: [(&str, &str); N],
) -> Status {
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// The store failed.
pub(super) fn store(error: &Error, from: &dyn ObjectStore) -> Status {
    let message = &with_sources(error);
    match error {
        Error::NotFound { .. } => refusal(Code::NotFound, reason::NOT_FOUND, message, []),
        Error::Full { .. } => {
            let place = from.description();
            refusal(
                Code::ResourceExhausted,
                reason::FULL,
                message,
                [(STORE, &place)],
            )
        }
        Error::Damaged {
            name,
            reason: detail,
        } => {
            let metadata = [(OBJECT, name.as_str()), (DETAIL, detail.as_str())];
            refusal(Code::DataLoss, reason::DAMAGED, message, metadata)
        }
        Error::NoSession { .. } => {
            refusal(Code::FailedPrecondition, reason::SESSION_ENDED, message, [])
        }
        Error::Fenced { .. } => refusal(
            Code::FailedPrecondition,
            reason::SESSION_FENCED,
            message,
            [],
        ),
        Error::Invalid(_) => refusal(Code::InvalidArgument, reason::FAILED, message, []),
        error if error.is_permanent() => {
            refusal(Code::FailedPrecondition, reason::FAILED, message, [])
        }
        _ => refusal(Code::Unavailable, reason::UNAVAILABLE, message, []),
    }
}

/// The session may not use this name.
pub(super) fn forbidden(name: &str, allowed: &str) -> Status {
    let message = format!("{name:?} is not for this session: {allowed}");
    refusal(Code::PermissionDenied, reason::NAME_FORBIDDEN, &message, [])
}

/// The gateway has much to do.
pub(super) fn busy(what: &str) -> Status {
    let message = format!("the coordinator {what} now");
    refusal(Code::Unavailable, reason::LATER, &message, [])
}

/// The client takes or gives nothing.
pub(super) fn idle() -> Status {
    let message = "the stream stood still for too long";
    refusal(Code::DeadlineExceeded, reason::LATER, message, [])
}

/// The coordinator ends.
pub(super) fn closing() -> Status {
    let message = "the coordinator is shutting down";
    refusal(Code::Unavailable, reason::LATER, message, [])
}
