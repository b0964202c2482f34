//! Windows at work: chunks are fetched and written while the next windows are planned.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crossbeam_channel::bounded;
use orlop_core::IssueKind;
use orlop_repository::{Batch, FetchLimits};
use tokio_util::sync::CancellationToken;

use super::{
    dirs::DirCache,
    error::RestoreError,
    links::{self, Link},
    plan::Planner,
    select::Selection,
    shared::Shared,
    source::Source,
    window::{Budget, Ready},
};

/// Restores everything but what is deferred.
pub(super) fn run(
    shared: &Shared,
    source: &dyn Source,
    selection: &Selection,
    limits: FetchLimits,
    budget: Budget,
    cancel: &CancellationToken,
) -> Result<(), RestoreError> {
    let executor = Executor {
        shared,
        source,
        limits,
        budget,
        cancel,
    };
    let mut cache = shared.cache();
    let failed = executor.planned(&mut cache, |planner| planner.run(selection))?;
    if !failed.is_empty() && !shared.tally.is_stopped() {
        executor.planned(&mut cache, |planner| planner.copies(failed))?;
    }
    Ok(())
}

struct Executor<'a> {
    shared: &'a Shared,
    source: &'a dyn Source,
    limits: FetchLimits,
    budget: Budget,
    cancel: &'a CancellationToken,
}

impl Executor<'_> {
    /// Executes the windows that `plan` makes on a thread of its own; returns the hard links that
    /// could not be made.
    fn planned(
        &self,
        cache: &mut DirCache,
        plan: impl FnOnce(Planner<'_>) -> Result<(), RestoreError> + Send,
    ) -> Result<Vec<Link>, RestoreError> {
        let mut failed = Vec::new();
        thread::scope(|scope| {
            // The next window waits with the planner: two are executed at a time.
            let (sender, windows) = bounded(0);
            let planner = Planner::new(
                self.shared,
                self.source,
                self.limits.workers,
                self.budget,
                self.cancel,
                sender,
            );
            let planning = scope.spawn(move || plan(planner));
            let queue: Mutex<VecDeque<Arc<Ready<'_>>>> = Mutex::default();
            let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
            let mut windows = windows.into_iter().map(|window| {
                let window = Arc::new(window);
                lock().push_back(Arc::clone(&window));
                window as Arc<dyn Batch + '_>
            });
            let mut finished = || {
                // The lock must not be held while links are made.
                let window = lock().pop_front();
                let links = window.map(|window| window.take_links());
                self.links(links.unwrap_or_default(), cache, &mut failed);
                !self.is_stopped()
            };
            let fetched = self.source.fetch(&mut windows, self.limits, &mut finished);
            // The planner finds its channel closed and ends.
            drop(windows);
            let planned = planning.join().expect("the planner does not panic");
            fetched.map_err(RestoreError::from).and(planned)
        })?;
        if self.cancel.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        Ok(failed)
    }

    fn links(&self, links: Vec<Link>, cache: &mut DirCache, failed: &mut Vec<Link>) {
        for link in links {
            if self.is_stopped() {
                return;
            }
            if let Err(errno) = links::link(self.shared, cache, &link) {
                let message =
                    format!("restored as a copy: it cannot be linked to its other name: {errno}");
                let kind = IssueKind::Metadata;
                self.shared
                    .tally
                    .issue(&link.entry.path, kind, errno.raw_os_error(), message);
                failed.push(link);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled() || self.shared.tally.is_stopped()
    }
}
