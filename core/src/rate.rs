//! How fast something may go on: a rate in bytes per second, counted without a clock.

use std::{num::NonZeroU64, time::Duration};

/// What may be taken at once after a pause: as much as the rate allows in this time.
const BURST: Duration = Duration::from_millis(250);

/// Lets so many bytes pass per second.
#[derive(Debug, Clone)]
pub struct Rate {
    per_second: NonZeroU64,
    /// When all that was taken is paid for.
    paid: Duration,
}

impl Rate {
    /// So many bytes per second.
    pub fn new(per_second: NonZeroU64) -> Self {
        Self {
            per_second,
            paid: Duration::ZERO,
        }
    }

    /// Takes bytes at a time, counted from a beginning that is always the same; returns how long whoever takes
    /// them must wait. What is taken may be more than passes in a second: then the wait is as long as it needs.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.per_second.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid = self
            .paid
            .max(now.saturating_sub(BURST))
            .saturating_add(cost);
        self.paid.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u64) -> Rate {
        Rate::new(NonZeroU64::new(per_second).unwrap())
    }

    #[test]
    fn over_time_no_more_passes_than_the_rate_allows() {
        let mut rate = rate(1000);
        let start = Duration::from_secs(100);
        let mut now = start;
        for _ in 0..1000 {
            now += rate.take(7, now);
        }
        assert_eq!(now + BURST, start + Duration::from_secs(7));
    }

    #[test]
    fn a_pause_is_not_saved_up() {
        let mut rate = rate(1000);
        rate.take(1, Duration::from_secs(1));
        let now = Duration::from_hours(1);
        assert_eq!(rate.take(1000, now) + BURST, Duration::from_secs(1));
    }

    #[test]
    fn any_amount_at_any_rate_is_counted() {
        assert_eq!(
            rate(1).take(u64::MAX, Duration::ZERO),
            Duration::from_nanos(u64::MAX)
        );
        assert_eq!(
            rate(u64::MAX).take(5, Duration::from_secs(9)),
            Duration::ZERO
        );
    }
}
