//! The clock: for people, for choosing whom to wait for, and for waiting; no rule of safety reads it. In a
//! simulation it follows the seed.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

#[cfg(test)]
use crate::simulation::system;

/// Milliseconds since 1970, as far as the system's clock is right.
pub(crate) fn now_ms() -> i64 {
    #[cfg(test)]
    if let Some(now_ms) = system::now_ms() {
        return now_ms;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A clock that is never set: the time since it was first asked.
pub(crate) fn uptime() -> Duration {
    #[cfg(test)]
    if let Some(uptime) = system::uptime() {
        return uptime;
    }
    BEGUN.elapsed()
}

/// Waits.
pub(crate) async fn sleep(duration: Duration) {
    #[cfg(test)]
    if system::is_seeded() {
        return system::sleep(duration).await;
    }
    tokio::time::sleep(duration).await;
}
