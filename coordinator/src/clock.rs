//! The wall clock, read only at the edges: by services and loops, never by what decides.

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
