//! What is to be looked at and when: each object once at a time, and less often the more often that fails.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest one.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How a look at an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing is left to do until it changes.
    Done,
    /// It is to be looked at again after this.
    After(Duration),
    /// It is to be tried again; `jitter` is a random number up to 255.
    Failed {
        /// Spreads the attempts of many.
        jitter: u8,
    },
}

#[derive(Debug, Default)]
struct Entry {
    /// When it is to be looked at; `None` if not.
    due: Option<Instant>,
    running: bool,
    failures: u32,
    /// Before then it must not be looked at.
    rest: Option<Instant>,
}

/// Names of objects of one kind, ordered by when they are due. It holds a name as long as it is due or at work or
/// has failed, so it is never larger than what there is.
#[derive(Debug)]
pub(crate) struct Queue {
    /// How long an object is left in peace after it was looked at.
    gap: Duration,
    entries: HashMap<String, Entry>,
    order: BTreeSet<(Instant, String)>,
}

impl Queue {
    pub(crate) fn new(gap: Duration) -> Self {
        Self {
            gap,
            entries: HashMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Asks for a look at `name` no later than `at`, unless it has failed: then when its wait is over.
    pub(crate) fn add(&mut self, name: &str, at: Instant) {
        let entry = self.entries.entry(name.to_owned()).or_default();
        let at = entry.rest.map_or(at, |rest| at.max(rest));
        if entry.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = entry.due.replace(at)
            && !entry.running
        {
            self.order.remove(&(due, name.to_owned()));
        }
        if !entry.running {
            self.order.insert((at, name.to_owned()));
        }
    }

    /// The next name that is due, which is at work from now on.
    pub(crate) fn take(&mut self, now: Instant) -> Option<String> {
        let (due, _) = self.order.first()?;
        if *due > now {
            return None;
        }
        let (_, name) = self.order.pop_first()?;
        let entry = self.entries.get_mut(&name)?;
        entry.due = None;
        entry.running = true;
        Some(name)
    }

    /// When the next name is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Notes that the work on `name` has ended.
    pub(crate) fn finish(&mut self, name: &str, ended: Ended, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        entry.running = false;
        let asked = match ended {
            Ended::Done => {
                entry.failures = 0;
                entry.rest = Some(now + self.gap);
                None
            }
            Ended::After(wait) => {
                entry.failures = 0;
                entry.rest = Some(now + self.gap);
                Some(now + wait)
            }
            Ended::Failed { jitter } => {
                let wait = wait_after(entry.failures, jitter);
                entry.failures = entry.failures.saturating_add(1);
                entry.rest = Some(now + wait.max(self.gap));
                Some(now + wait)
            }
        };
        // What was asked for meanwhile waits as what is asked for from now on.
        let due = [entry.due.take(), asked].into_iter().flatten().min();
        match (due, entry.rest) {
            (Some(due), rest) => self.add(name, rest.map_or(due, |rest| due.max(rest))),
            (None, _) if self.gap.is_zero() => {
                self.entries.remove(name);
            }
            (None, _) => {}
        }
        self.forget_rested(now);
    }

    /// Names that are not due and have rested need no entry.
    fn forget_rested(&mut self, now: Instant) {
        if self.entries.len() > 2 * self.order.len() + 64 {
            self.entries.retain(|_, entry| {
                entry.running || entry.due.is_some() || entry.rest.is_some_and(|rest| rest > now)
            });
        }
    }
}

/// Half a second, doubled for each failure up to a minute, less up to a quarter.
fn wait_after(failures: u32, jitter: u8) -> Duration {
    let wait = FIRST_WAIT
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_WAIT);
    wait.mul_f64(1.0 - f64::from(jitter) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_object_is_looked_at_once_at_a_time() {
        let now = Instant::now();
        let mut queue = Queue::new(Duration::ZERO);
        queue.add("a", now);
        queue.add("a", now);
        assert_eq!(queue.take(now).as_deref(), Some("a"));
        queue.add("a", now);
        assert_eq!(queue.take(now), None);
        queue.finish("a", Ended::Done, now);
        assert_eq!(queue.take(now).as_deref(), Some("a"));
        queue.finish("a", Ended::Done, now);
        assert_eq!((queue.take(now), queue.entries.len()), (None, 0));
    }

    #[test]
    fn the_earlier_of_two_wishes_counts() {
        let now = Instant::now();
        let mut queue = Queue::new(Duration::ZERO);
        queue.add("a", now + 9 * SECOND);
        queue.add("a", now + 2 * SECOND);
        queue.add("a", now + 5 * SECOND);
        assert_eq!(queue.next(), Some(now + 2 * SECOND));
        assert_eq!(queue.take(now + SECOND), None);
        assert_eq!(queue.take(now + 2 * SECOND).as_deref(), Some("a"));
        queue.add("a", now + 3 * SECOND);
        queue.finish("a", Ended::After(30 * SECOND), now + 2 * SECOND);
        assert_eq!(queue.next(), Some(now + 3 * SECOND));
    }

    #[test]
    fn what_fails_waits_longer_each_time_whoever_asks() {
        let mut now = Instant::now();
        let mut queue = Queue::new(Duration::ZERO);
        queue.add("a", now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            queue.take(now).unwrap();
            queue.finish("a", Ended::Failed { jitter: 0 }, now);
            queue.add("a", now);
            let next = queue.next().unwrap();
            waits.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(
            waits,
            [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        queue.take(now).unwrap();
        queue.finish("a", Ended::After(SECOND), now);
        assert_eq!(queue.next(), Some(now + SECOND));
        let shortest = wait_after(3, 255);
        assert!(shortest > 3 * SECOND && shortest < 4 * SECOND);
    }

    #[test]
    fn between_two_looks_there_is_a_gap() {
        let now = Instant::now();
        let mut queue = Queue::new(SECOND);
        queue.add("a", now);
        queue.take(now).unwrap();
        queue.add("a", now);
        queue.finish("a", Ended::Done, now);
        assert_eq!(queue.next(), Some(now + SECOND));
        queue.take(now + SECOND).unwrap();
        queue.finish("a", Ended::Done, now + SECOND);
        queue.add("a", now + SECOND);
        assert_eq!(queue.next(), Some(now + 2 * SECOND));
    }

    #[test]
    fn what_is_not_due_any_more_is_forgotten() {
        let now = Instant::now();
        let mut queue = Queue::new(SECOND);
        for i in 0..1000 {
            let name = i.to_string();
            queue.add(&name, now + i * SECOND);
            queue.take(now + i * SECOND).unwrap();
            queue.finish(&name, Ended::Done, now + i * SECOND);
        }
        assert!(queue.entries.len() < 100, "{}", queue.entries.len());
    }
}
