//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

/// Waits until `look` gives something, for a minute at most.
///
/// # Panics
/// It never does; the message says what was waited for.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_mins(1), what, look)
}

/// As [`eventually`], for `patience` at most.
///
/// # Panics
/// As for [`eventually`].
pub fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < patience,
            "waited {patience:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
