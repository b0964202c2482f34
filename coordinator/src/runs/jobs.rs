//! What takes a while and must not be done under the lock: making results durable, and removing what was deleted.

use std::{collections::VecDeque, time::Instant};

use super::RunKey;

/// What to do about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Make its result durable.
    Record,
    /// Remove everything that is recorded of it, and its snapshots.
    Remove,
}

/// Something to do about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) key: RunKey,
    /// Location of its repository and records.
    pub(super) location: String,
    pub(super) work: Work,
}

/// Jobs that wait, in order for each location.
#[derive(Default)]
pub(super) struct Jobs {
    waiting: VecDeque<(Job, Option<Instant>)>,
}

impl Jobs {
    /// Adds a job, unless it waits already.
    pub(super) fn push(&mut self, job: Job) {
        if !self.waiting.iter().any(|(other, _)| *other == job) {
            self.waiting.push_back((job, None));
        }
    }

    /// Adds a job that was tried in vain, for another time.
    pub(super) fn postpone(&mut self, job: Job, until: Instant) {
        if !self.waiting.iter().any(|(other, _)| *other == job) {
            self.waiting.push_back((job, Some(until)));
        }
    }

    /// Takes the first job whose time has come of a location that is not `busy`, and up to `most` jobs of the same
    /// kind behind it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        most: usize,
        busy: impl Fn(&str) -> bool,
    ) -> Option<Vec<Job>> {
        let come = |until: &Option<Instant>| until.is_none_or(|until| until <= now);
        let first = self
            .waiting
            .iter()
            .find(|(job, until)| come(until) && !busy(&job.location))
            .map(|(job, _)| (job.location.clone(), job.work))?;
        let mut taken = Vec::new();
        let mut left = VecDeque::with_capacity(self.waiting.len());
        for (job, until) in self.waiting.drain(..) {
            if taken.len() < most
                && come(&until)
                && (&job.location, job.work) == (&first.0, first.1)
            {
                taken.push(job);
            } else {
                left.push_back((job, until));
            }
        }
        self.waiting = left;
        Some(taken)
    }

    /// When the next job that was postponed comes.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|(_, until)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use orlop_core::run::RunKind;

    use super::*;

    fn job(name: &str, location: &str, work: Work) -> Job {
        Job {
            key: RunKey::new(RunKind::Backup, name),
            location: location.to_owned(),
            work,
        }
    }

    #[test]
    fn a_location_that_fails_holds_up_no_other() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut jobs = Jobs::default();
        for (name, location) in [("a", "near"), ("b", "near"), ("c", "far")] {
            jobs.push(job(name, location, Work::Remove));
            jobs.push(job(name, location, Work::Remove));
        }
        jobs.push(job("d", "near", Work::Record));
        let near = jobs.take(now, 9, |_| false).unwrap();
        assert_eq!(near.len(), 2);
        for job in near {
            jobs.postpone(job, later);
        }
        let names = |jobs: Option<Vec<Job>>| -> Vec<String> {
            jobs.unwrap_or_default()
                .into_iter()
                .map(|job| job.key.name)
                .collect()
        };
        assert_eq!(
            names(jobs.take(now, 9, |location| location == "near")),
            ["c"]
        );
        assert_eq!(names(jobs.take(now, 9, |_| false)), ["d"]);
        assert_eq!(names(jobs.take(now, 9, |_| false)), [""; 0]);
        assert_eq!(jobs.next(), Some(later));
        assert_eq!(names(jobs.take(later, 1, |_| false)), ["a"]);
    }
}
