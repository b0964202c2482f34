//! Typed access to the cluster's objects through its API server.
//!
//! The crate's other rooms and the controller speak to the API server through this alone. Nothing here knows what
//! an object means.

mod connection;
mod error;
mod objects;
mod watch;

pub use connection::Connection;
pub use error::ClientError;
pub use objects::{Listing, ObjectKind, Objects, UnreadableObject};
pub use watch::Change;

pub(crate) use connection::{CALL_LIMIT, with_jitter};
pub(crate) use objects::{FIELD_MANAGER, list_page};
