//! Reasons in `google.rpc.ErrorInfo` of the service `Sessions`, by which agents know an error again.

/// The session has ended, or never was.
pub const SESSION_ENDED: &str = "SESSION_ENDED";
/// The session was shut out by a collection.
pub const SESSION_FENCED: &str = "SESSION_FENCED";
