//! The loop that reads all bytes again, a part of them each day.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use orlop_core::NoMonitor;
use orlop_repository::{CheckOptions, CheckReport, Covered, Repository};
use tokio_util::sync::CancellationToken;

use super::Maintenance;

/// A round that failed is tried again after so long.
const AGAIN: Duration = Duration::from_hours(1);
/// How often the loop looks whether a location's time has come.
const LOOK: Duration = Duration::from_secs(30);
/// A location that was never looked at waits for so long after the start.
const FIRST: Duration = Duration::from_mins(10);

/// What came of looking for damage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrubbed {
    /// When it ended, milliseconds since 1970; 0 if nobody has looked since the start.
    pub(crate) at_ms: i64,
    /// What came of it, one line.
    pub(crate) said: String,
    /// Whether it failed; damage is no failure.
    pub(crate) failed: bool,
    /// Damaged objects.
    pub(crate) damaged: u64,
    /// What all checks together have read; `None` while that is not known.
    pub(crate) covered: Option<Covered>,
}

impl Maintenance {
    /// Reads a part of the bytes of each location that answers, one location after the other, every so often,
    /// until `shutdown`: after as many rounds as there are days set, all of it. What was read is recorded in the
    /// repository, so that a round that is cut short goes on when the coordinator is started again.
    pub(crate) async fn run_scrubber(self: Arc<Self>, shutdown: CancellationToken) {
        let limits = &self.runs.parts.limits;
        let (every, rounds) = (limits.scrub_every, limits.scrub_days);
        if rounds == 0 || every.is_zero() {
            return;
        }
        let options = CheckOptions::round(rounds, limits.scrub_bytes_per_second);
        let clock = Arc::clone(&self.runs.parts.clock);
        let mut due: BTreeMap<String, Duration> = BTreeMap::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK.min(every)) => {}
            }
            let places = self.runs.locations().open_ones();
            due.retain(|name, _| places.iter().any(|(place, _)| place == name));
            self.lock_scrubbed()
                .retain(|name, _| places.iter().any(|(place, _)| place == name));
            for (name, repository) in places {
                if !due.contains_key(&name) {
                    let wait = self.first_round(&name, &repository, &options).await;
                    due.insert(name.clone(), clock.passed() + wait);
                }
                if due.get(&name).is_some_and(|at| clock.passed() < *at) {
                    continue;
                }
                let again = self.scrub(&name, &repository, options, &shutdown).await;
                due.insert(name, clock.passed() + again.min(every));
                if shutdown.is_cancelled() {
                    return;
                }
            }
        }
    }

    fn lock_scrubbed(&self) -> MutexGuard<'_, BTreeMap<String, Scrubbed>> {
        self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of looking for damage in a location last.
    pub(crate) fn scrubbed(&self, location: &str) -> Option<Scrubbed> {
        self.lock_scrubbed().get(location).cloned()
    }

    /// Learns from the repository what was read before; says how long to wait.
    async fn first_round(
        &self,
        location: &str,
        repository: &Arc<Repository>,
        options: &CheckOptions,
    ) -> Duration {
        let every = self.runs.parts.limits.scrub_every;
        let known = match repository.covered(options).await {
            Ok(known) => known,
            Err(error) => {
                let reason = crate::runs::with_sources(&error);
                tracing::warn!(location, reason, "cannot read what was checked before");
                return AGAIN.min(every);
            }
        };
        let scrubbed = Scrubbed {
            damaged: known.covered.damaged_packs,
            covered: Some(known.covered),
            ..Scrubbed::default()
        };
        self.lock_scrubbed()
            .entry(location.to_owned())
            .or_insert(scrubbed);
        let Some(ended_ms) = known.ended_ms else {
            // None yet, or one that was cut short.
            return FIRST.min(every);
        };
        let passed_ms = self.runs.now_ms().saturating_sub(ended_ms).max(0);
        every.saturating_sub(Duration::from_millis(passed_ms.unsigned_abs()))
    }

    /// Says after how long to do it again.
    async fn scrub(
        &self,
        location: &str,
        repository: &Arc<Repository>,
        options: CheckOptions,
        shutdown: &CancellationToken,
    ) -> Duration {
        let cancel = shutdown.child_token();
        let done = repository.check(options, Arc::new(NoMonitor), cancel).await;
        if shutdown.is_cancelled() {
            return Duration::ZERO;
        }
        self.note_checked(location, &done);
        if done.is_ok() {
            self.runs.parts.limits.scrub_every
        } else {
            AGAIN
        }
    }

    /// Remembers what came of looking for damage in a location, and says so.
    pub(crate) fn note_checked(
        &self,
        location: &str,
        done: &Result<CheckReport, orlop_repository::Error>,
    ) {
        let at_ms = self.runs.now_ms();
        let mut scrubbed = self.lock_scrubbed();
        let known = scrubbed.entry(location.to_owned()).or_default();
        match done {
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                known.at_ms = at_ms;
                known.failed = true;
                known.said = crate::runs::with_sources(error);
                tracing::warn!(location, reason = known.said, "could not look for damage");
            }
            Ok(report) => {
                let damaged = report.damage.len() as u64 + report.more_damage;
                let unread = report.covered.damaged_packs;
                *known = Scrubbed {
                    at_ms,
                    said: said(report),
                    failed: false,
                    // What an earlier round found is damaged until it is read again or repaired.
                    damaged: damaged.max(unread),
                    covered: Some(report.covered),
                };
                if known.damaged == 0 {
                    tracing::info!(
                        location,
                        read_bytes = report.bytes,
                        covered_bytes = report.covered.read_bytes,
                        total_bytes = report.covered.total_bytes,
                        "looked for damage and found none"
                    );
                } else {
                    let first = report.damage.first().map_or("", |one| &one.object);
                    tracing::error!(
                        location,
                        damaged_objects = known.damaged,
                        first,
                        "the repository is damaged: see `orlop location check` and `orlop repo repair`"
                    );
                }
            }
        }
    }
}

fn said(report: &CheckReport) -> String {
    let damaged = report.damage.len() as u64 + report.more_damage;
    match (report.damage.first(), damaged) {
        (None, _) => format!(
            "{} objects, {} bytes read: no damage",
            report.objects, report.bytes
        ),
        (Some(one), 1) => format!("1 damaged object: {}", one.object),
        (Some(one), n) => format!("{n} damaged objects, {} among them", one.object),
    }
}
