//! Points in time as file systems keep them.

use serde::{Deserialize, Serialize};

/// A time in seconds and nanoseconds since 1970-01-01T00:00:00Z, before and after it.
///
/// `nanos` is 0..1_000_000_000 and always counts forward, as in `struct timespec`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub secs: i64,
    /// Nanoseconds that follow `secs`, below 10^9.
    pub nanos: u32,
}

impl Timestamp {
    /// The time `secs` + `nanos`.
    pub const fn new(secs: i64, nanos: u32) -> Self {
        Self { secs, nanos }
    }
}
