//! A monitor that hears of an issue once, though a second attempt meets it again.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use orlop_core::{Issue, Monitor, Progress};

/// Issues of the first attempt that are remembered; further ones may be told twice.
const MAX_SEEN: usize = 64 << 10;

/// Passes everything on but what was told in an earlier attempt.
pub(super) struct Once {
    to: Arc<dyn Monitor>,
    again: AtomicBool,
    /// Hashes of path and kind.
    seen: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Once {
    pub(super) fn new(to: Arc<dyn Monitor>) -> Self {
        Self {
            to,
            again: false.into(),
            seen: Mutex::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Monitor for Once {
    fn progress(&self, progress: Progress) {
        self.to.progress(progress);
    }

    fn begins_again(&self, reason: &str) {
        self.again.store(true, Relaxed);
        self.to.begins_again(reason);
    }

    fn issue(&self, issue: &Issue) {
        let hash = self.hasher.hash_one((&issue.path, issue.kind));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.again.load(Relaxed) {
            if seen.contains(&hash) {
                return;
            }
        } else if seen.len() < MAX_SEEN {
            seen.insert(hash);
        }
        drop(seen);
        self.to.issue(issue);
    }
}

#[cfg(test)]
mod tests {
    use orlop_core::IssueKind;

    use super::*;

    #[derive(Default)]
    struct Ears(Mutex<Vec<Vec<u8>>>);

    impl Monitor for Ears {
        fn progress(&self, _progress: Progress) {}

        fn issue(&self, issue: &Issue) {
            self.0.lock().unwrap().push(issue.path.clone());
        }
    }

    #[test]
    fn a_second_attempt_tells_only_what_is_new() {
        let ears = Arc::new(Ears::default());
        let once = Once::new(ears.clone());
        let tell = |path: &[u8], kind| {
            once.issue(&Issue {
                path: path.to_vec(),
                kind,
                errno: 0,
                message: String::new(),
            });
        };
        tell(b"a", IssueKind::Unreadable);
        once.begins_again("");
        tell(b"a", IssueKind::Unreadable);
        tell(b"a", IssueKind::Metadata);
        tell(b"b", IssueKind::Unreadable);
        assert_eq!(*ears.0.lock().unwrap(), [b"a", b"a", b"b"]);
    }
}
