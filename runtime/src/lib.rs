//! What makes a program a daemon: logging, metrics, shutdown, TLS identity, bearer token.

pub mod error;
pub mod http;
pub mod identity;
pub mod logging;
pub mod mac;
pub mod memory;
pub mod metrics;
pub mod private;
pub mod shutdown;
pub mod token;

pub use error::{Error, Result};
