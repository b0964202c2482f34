//! What both ends of the service `Store` must agree on besides its messages: bounds, and kinds of refusals.

/// Largest object that passes the gateway, in bytes.
pub const MAX_OBJECT_BYTES: u64 = 64 << 20;
/// Bytes of every message of a put but the last, and most of a message of a get: far below what one message may
/// have, so that calls on one connection take turns.
pub const DATA_BYTES: usize = 256 << 10;
/// Objects in one message of a list.
pub const LISTED: usize = 1000;
/// Longest name or prefix, in bytes.
pub const MAX_OBJECT_NAME_BYTES: usize = 900;

/// Domain of all reasons in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "orlop.io";

/// Reasons in `google.rpc.ErrorInfo` by which the client knows an error of the store again.
pub mod reason {
    pub use crate::reason::{SESSION_ENDED, SESSION_FENCED};

    /// There is no such object.
    pub const NOT_FOUND: &str = "OBJECT_NOT_FOUND";
    /// The store has no room left; metadata [`super::STORE`].
    pub const FULL: &str = "STORE_FULL";
    /// An object is not what it should be; metadata [`super::OBJECT`] and [`super::DETAIL`].
    pub const DAMAGED: &str = "DAMAGED";
    /// The task or session is not one of the caller's, as far as the coordinator knows yet.
    pub const FORBIDDEN: &str = "FORBIDDEN";
    /// No such name for this session, ever.
    pub const NAME_FORBIDDEN: &str = "NAME_FORBIDDEN";
    /// Not now: much is going on, the stream stood still, or the coordinator is shutting down.
    pub const LATER: &str = "LATER";
    /// The store failed, and another attempt may succeed.
    pub const UNAVAILABLE: &str = "STORE_UNAVAILABLE";
    /// The store failed, and another attempt will fail too.
    pub const FAILED: &str = "STORE_FAILED";
}

/// Key of the store's place in the metadata of a reason.
pub const STORE: &str = "store";
/// Key of an object's name in the metadata of a reason.
pub const OBJECT: &str = "object";
/// Key of what is wrong in the metadata of a reason.
pub const DETAIL: &str = "detail";
