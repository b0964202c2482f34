//! Windows at work: chunks are fetched and written while the next window is planned.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use crossbeam_channel::bounded;
use orlop_core::IssueKind;
use orlop_repository::Error;
use tokio_util::sync::CancellationToken;

use super::{
    dirs::DirCache,
    error::RestoreError,
    links::{self, Link},
    others,
    plan::Planner,
    shared::Shared,
    source::Source,
    window::{Budget, Local, Window},
};

/// What one thread takes at a time of what needs no chunk.
const LOCALS_AT_ONCE: usize = 64;

/// Restores everything but what is deferred.
pub(super) fn run(
    shared: &Shared,
    source: &dyn Source,
    below: Option<&[u8]>,
    workers: usize,
    budget: Budget,
    cancel: &CancellationToken,
) -> Result<(), RestoreError> {
    let executor = Executor {
        shared,
        source,
        workers,
        budget,
        cancel,
    };
    let mut cache = shared.cache();
    let below = below.unwrap_or_default();
    let failed = executor.planned(&mut cache, |planner| planner.run(below))?;
    if !failed.is_empty() && !shared.tally.is_stopped() {
        executor.planned(&mut cache, |planner| planner.copies(failed))?;
    }
    Ok(())
}

struct Executor<'a> {
    shared: &'a Shared,
    source: &'a dyn Source,
    workers: usize,
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
            let (sender, windows) = bounded(1);
            let planner = Planner::new(self.shared, self.source, self.budget, self.cancel, sender);
            let planning = scope.spawn(move || plan(planner));
            let mut result = Ok(());
            for window in windows {
                result = self.window(window, cache, &mut failed);
                if result.is_err() {
                    // The planner finds its channel closed and ends.
                    break;
                }
            }
            let planned = planning.join().expect("the planner does not panic");
            result.and(planned)
        })?;
        if self.cancel.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        Ok(failed)
    }

    fn window(
        &self,
        mut window: Window,
        cache: &mut DirCache,
        failed: &mut Vec<Link>,
    ) -> Result<(), RestoreError> {
        let starts = window.sort_targets();
        let wanted = std::mem::take(&mut window.wanted);
        let fetch = !wanted.is_empty();
        let next = AtomicUsize::new(0);
        let (targets, all) = (&window.targets, &window.locals);
        let sink = |index: usize, chunk: Result<&[u8], Error>| {
            if !self.is_stopped() {
                self.write(&targets[starts[index]..starts[index + 1]], chunk);
            }
        };
        let helpers = match all.len().div_ceil(LOCALS_AT_ONCE) {
            0 | 1 => 0,
            blocks => blocks.min(self.workers).saturating_sub(1),
        };
        thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| self.locals(all, &next));
            }
            if helpers == 0 || !fetch {
                self.locals(all, &next);
            }
            if fetch {
                self.source.fetch(&wanted, self.workers, &sink)
            } else {
                Ok(())
            }
        })?;
        for link in window.links.drain(..) {
            if self.is_stopped() {
                break;
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
        if self.cancel.is_cancelled() {
            Err(RestoreError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled() || self.shared.tally.is_stopped()
    }

    fn write(&self, targets: &[super::window::Target], chunk: Result<&[u8], Error>) {
        let shared = self.shared;
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                let action = format!("restore it: {error}");
                for target in targets {
                    target.file.fail(shared, 0, &action);
                    target.file.piece_done(shared);
                }
                return;
            }
        };
        shared.tally.fetched(chunk.len());
        for target in targets {
            let start = target.chunk_offset as usize;
            if let Some(bytes) = chunk.get(start..start + target.len as usize) {
                target.file.write(shared, target.file_offset, bytes);
            } else {
                target.file.fail(
                    shared,
                    0,
                    "restore it: a chunk is shorter than the manifest says",
                );
                target.file.piece_done(shared);
            }
        }
    }

    fn locals(&self, locals: &[Local], next: &AtomicUsize) {
        loop {
            let start = next.fetch_add(LOCALS_AT_ONCE, Relaxed);
            let Some(rest) = locals.get(start..).filter(|rest| !rest.is_empty()) else {
                return;
            };
            for local in &rest[..rest.len().min(LOCALS_AT_ONCE)] {
                if self.is_stopped() {
                    return;
                }
                match local {
                    Local::Piece {
                        file,
                        offset,
                        piece,
                    } => {
                        file.write_piece(self.shared, *offset, piece);
                    }
                    Local::Other { dir, entry } => others::make(self.shared, dir, entry),
                }
            }
        }
    }
}
