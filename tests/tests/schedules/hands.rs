//! A clock whose hands a test moves.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use orlop_coordinator::{Clock, Reading};

pub(crate) struct Hands(Mutex<Reading>);

impl Hands {
    pub(crate) fn at(time: &str) -> Self {
        Self(Mutex::new(Reading {
            now_ms: ms(time),
            passed: Duration::ZERO,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap()
    }

    /// Time goes by until the clock shows `time`.
    pub(crate) fn go_to(&self, time: &str) {
        let mut hands = self.lock();
        let step = u64::try_from(ms(time) - hands.now_ms).expect("time does not go back");
        hands.passed += Duration::from_millis(step);
        hands.now_ms = ms(time);
    }

    /// So much time goes by.
    pub(crate) fn pass(&self, time: Duration) {
        let mut hands = self.lock();
        hands.passed += time;
        hands.now_ms += i64::try_from(time.as_millis()).unwrap();
    }

    /// Somebody sets the clock.
    pub(crate) fn set(&self, time: &str) {
        self.lock().now_ms = ms(time);
    }
}

impl Clock for Hands {
    fn read(&self) -> Reading {
        *self.lock()
    }
}

pub(crate) fn ms(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}
