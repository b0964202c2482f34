//! The loop that frees space.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use orlop_core::NoMonitor;
use orlop_repository::{CollectOptions, CollectState, Repository};
use tokio_util::sync::CancellationToken;

use super::Maintenance;

/// A collection that was refused or had to wait is tried again after so long.
const AGAIN: Duration = Duration::from_hours(1);
/// A location of which nothing is known waits for so long after the start.
const FIRST: Duration = Duration::from_hours(1);
/// How often the loop looks whether a location's time has come.
const LOOK: Duration = Duration::from_secs(30);

impl Maintenance {
    /// Frees space in each location that may be written, one after the other, every so often, until `shutdown`.
    pub(crate) async fn run_collector(self: Arc<Self>, shutdown: CancellationToken) {
        let every = self.runs.parts.limits.collect_every;
        if every.is_zero() {
            return;
        }
        let clock = Arc::clone(&self.runs.parts.clock);
        let mut due: BTreeMap<String, Duration> = BTreeMap::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK.min(every)) => {}
            }
            let places = self.runs.locations().open_ones();
            due.retain(|name, _| places.iter().any(|(place, _)| place == name));
            for (name, repository) in places {
                let now = clock.passed();
                let wait = || now + self.first_wait(&name);
                let at = *due.entry(name.clone()).or_insert_with(wait);
                if now < at || self.runs.locations().writable(&name).is_err() {
                    continue;
                }
                let again = self.collect(&name, &repository, &shutdown).await;
                due.insert(name, clock.passed() + again.min(every));
                if shutdown.is_cancelled() {
                    return;
                }
            }
        }
    }

    /// How long after the start a location's time comes. A wrong clock makes it come early or late, no more.
    fn first_wait(&self, location: &str) -> Duration {
        let every = self.runs.parts.limits.collect_every;
        let Some(last) = self.collected(location) else {
            return FIRST.min(every);
        };
        let passed_ms = self.runs.now_ms().saturating_sub(last.at_ms).max(0);
        every.saturating_sub(Duration::from_millis(passed_ms.unsigned_abs()))
    }

    /// Says after how long to do it again.
    async fn collect(
        &self,
        location: &str,
        repository: &Repository,
        shutdown: &CancellationToken,
    ) -> Duration {
        let every = self.runs.parts.limits.collect_every;
        let monitor = Arc::new(NoMonitor);
        let cancel = shutdown.child_token();
        let done = repository
            .collect(CollectOptions::default(), monitor, cancel)
            .await;
        if shutdown.is_cancelled() {
            return every;
        }
        self.note_collected(location, &done);
        match done {
            Ok(report) => {
                tracing::info!(
                    location,
                    removed_objects = report.removed_objects,
                    freed_bytes = report.removed_bytes,
                    "space was freed"
                );
                if report.state == CollectState::Waiting {
                    AGAIN
                } else {
                    every
                }
            }
            Err(error) => {
                let reason = crate::runs::with_sources(&error);
                tracing::warn!(location, reason, "space could not be freed");
                AGAIN
            }
        }
    }
}
