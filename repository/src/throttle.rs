//! A rate that threads and tasks share.

use std::{
    num::NonZeroU64,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use orlop_core::Rate;
use tokio_util::sync::CancellationToken;

/// A waiting thread looks this often whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Bytes per second that all its users together may pass.
#[derive(Debug)]
pub struct Throttle {
    rate: Mutex<Rate>,
    begun: Instant,
}

impl Throttle {
    /// So many bytes per second.
    pub fn new(per_second: NonZeroU64) -> Self {
        Self {
            rate: Mutex::new(Rate::new(per_second)),
            begun: Instant::now(),
        }
    }

    fn wait_for(&self, bytes: u64) -> Duration {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.take(bytes, self.begun.elapsed())
    }

    /// Counts bytes, and blocks until they may have passed or the work is cancelled.
    pub fn take(&self, bytes: u64, cancel: &CancellationToken) {
        let until = Instant::now() + self.wait_for(bytes).min(Duration::from_secs(1 << 30));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || cancel.is_cancelled() {
                return;
            }
            thread::sleep(left.min(LOOK));
        }
    }

    /// As [`Self::take`], in a task.
    pub async fn taken(&self, bytes: u64, cancel: &CancellationToken) {
        let wait = self.wait_for(bytes);
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn throttle(per_second: u64) -> Throttle {
        Throttle::new(NonZeroU64::new(per_second).unwrap())
    }

    #[test]
    fn threads_share_the_rate() {
        let (throttle, cancel) = (Arc::new(throttle(100_000)), CancellationToken::new());
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| throttle.take(1000, &cancel)));
            }
        });
        // 40,000 bytes, of which a quarter of a second's are free.
        assert!(begun.elapsed() >= Duration::from_millis(140));
    }

    #[test]
    fn who_is_cancelled_waits_no_longer() {
        let (throttle, cancel) = (throttle(1), CancellationToken::new());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| throttle.take(1 << 40, &cancel));
            cancel.cancel();
            waiting.join().unwrap();
        });
    }

    #[tokio::test]
    async fn tasks_wait_as_threads_do() {
        let (throttle, cancel) = (throttle(10_000), CancellationToken::new());
        let begun = Instant::now();
        throttle.taken(4000, &cancel).await;
        assert!(begun.elapsed() >= Duration::from_millis(140));
        cancel.cancel();
        throttle.taken(1 << 40, &cancel).await;
    }
}
