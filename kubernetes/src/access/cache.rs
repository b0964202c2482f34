//! Answers that are remembered for a while.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Remembers up to a number of answers, each until its time is over.
pub(super) struct Cache<K, V> {
    answers: Mutex<HashMap<K, (Instant, V)>>,
    max: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            answers: Mutex::default(),
            max,
        }
    }

    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = answers.get(key)?;
        (now < *until).then(|| answer.clone())
    }

    /// Remembers an answer. If there are too many, those that are over go, and else the one that would go first.
    pub(super) fn put(&self, key: K, answer: V, now: Instant, lasts: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= self.max && !answers.contains_key(&key) {
            answers.retain(|_, (until, _)| now < *until);
            if answers.len() >= self.max {
                let oldest = answers.iter().min_by_key(|(_, (until, _))| *until);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    answers.remove(&oldest);
                }
            }
        }
        answers.insert(key, (now + lasts, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_lasts_for_its_time() {
        let cache = Cache::new(2);
        let now = Instant::now();
        cache.put("a", 1, now, SECOND);
        assert_eq!(cache.get(&"a", now), Some(1));
        assert_eq!(cache.get(&"a", now + SECOND), None);
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let cache = Cache::new(2);
        let now = Instant::now();
        cache.put("short", 1, now, SECOND);
        cache.put("long", 2, now, SECOND * 3);
        cache.put("new", 3, now, SECOND * 2);
        let held = ["short", "long", "new"].map(|key| cache.get(&key, now));
        assert_eq!(held, [None, Some(2), Some(3)]);
    }
}
