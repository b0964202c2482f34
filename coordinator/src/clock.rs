//! The clocks, read only at the edges: by services and loops, never by what decides.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What the clocks show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The clock on the wall, milliseconds since 1970. It may be wrong, and it may jump.
    pub now_ms: i64,
    /// Time that has passed since some moment; it never jumps.
    pub passed: Duration,
}

/// What a coordinator reads the time from. A test has one of its own.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn read(&self) -> Reading;

    /// The clock on the wall, milliseconds since 1970.
    fn now_ms(&self) -> i64 {
        self.read().now_ms
    }

    /// Time that has passed since some moment.
    fn passed(&self) -> Duration {
        self.read().passed
    }
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn read(&self) -> Reading {
        Reading {
            now_ms: jiff::Timestamp::now().as_millisecond(),
            passed: self.0.elapsed(),
        }
    }
}

/// A clock on the wall that was put forward or back by more than this has jumped; daily corrections are smaller.
const JUMP_MS: i64 = 60 * 1000;
/// After a jump the clock on the wall is believed again when it has gone steadily for so long.
const DOUBT: Duration = Duration::from_hours(1);
/// So long it must have gone steadily after the start: a machine may come up with a wrong clock that is put right soon.
const DOUBT_AT_START: Duration = Duration::from_mins(10);

/// Tells whether the clock on the wall can be believed. What is deleted because of its age waits while it cannot.
#[derive(Default)]
pub(crate) struct Steadiness {
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    /// The clock on the wall less the time that has passed.
    offset_ms: i64,
    /// Doubted until so much time has passed.
    doubt: Duration,
}

impl Steadiness {
    /// Looks at the clock: milliseconds since 1970, unless it cannot be believed now.
    pub(crate) fn believed_ms(&self, clock: &dyn Clock) -> Option<i64> {
        let Reading { now_ms, passed } = clock.read();
        let offset_ms = now_ms.saturating_sub(passed.as_millis() as i64);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.get_or_insert(Seen {
            offset_ms,
            doubt: passed + DOUBT_AT_START,
        });
        if offset_ms.abs_diff(last.offset_ms) > JUMP_MS.unsigned_abs() {
            tracing::warn!(
                by_ms = offset_ms.saturating_sub(last.offset_ms),
                "the clock has jumped: nothing is deleted because of its age for an hour"
            );
            last.doubt = passed + DOUBT;
        }
        last.offset_ms = offset_ms;
        (passed >= last.doubt).then_some(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hands(i64, u64);

    impl Clock for Hands {
        fn read(&self) -> Reading {
            Reading {
                now_ms: self.0,
                passed: Duration::from_secs(self.1),
            }
        }
    }

    #[test]
    fn a_clock_that_has_jumped_is_doubted_for_an_hour() {
        let steadiness = Steadiness::default();
        let look = |seconds: i64, passed| {
            let believed = steadiness.believed_ms(&Hands(seconds * 1000, passed));
            assert!(believed.is_none_or(|ms| ms == seconds * 1000));
            believed.is_some()
        };
        assert!(!look(1_000_000, 5), "it has just started");
        assert!(!look(1_000_599, 604));
        assert!(look(1_000_600, 605));
        assert!(look(1_000_660, 610), "a correction");
        assert!(!look(9_000_000, 615));
        assert!(!look(9_001_800, 2415));
        assert!(!look(1_003_000, 2500), "back again");
        assert!(!look(1_006_599, 6099));
        assert!(look(1_006_600, 6100));
    }
}
