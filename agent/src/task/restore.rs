//! A restore into a volume, and the marks by which its pod learns how it goes.

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use orlop_core::{
    Issue, Monitor, Progress, RestoreMode, SnapshotId,
    run::{Outcome, TaskResult},
    with_causes,
};
use orlop_proto::convert::clip;
use orlop_repository::{Committer, ObjectStore, ReadSession};
use tokio_util::sync::CancellationToken;

use super::{order::Order, table::failed, work::Tools};
use crate::{
    marks::{Done, MarkDir, MarkOwner},
    restore::{self, RestoreJob, RestoreTarget, is_mendable},
    volumes::FoundVolume,
};

/// Marks of progress are written this often.
const MARK_PERIOD: Duration = Duration::from_secs(1);

/// A task that restores.
pub(super) struct Restore<'a> {
    pub(super) order: &'a Order,
    pub(super) tools: &'a Tools,
    pub(super) snapshot: SnapshotId,
    pub(super) mode: RestoreMode,
    /// The directory of the volume to make and to restore into, if it is not the volume's root.
    pub(super) directory: Option<&'a str>,
    pub(super) path: &'a Option<Vec<u8>>,
    /// Whether a pod waits for it.
    pub(super) awaited: bool,
    pub(super) workers: usize,
}

impl Restore<'_> {
    /// Restores, and leaves a mark of how that ended for who waits in the pod.
    pub(super) fn run(
        &self,
        found: &FoundVolume,
        marks: Option<MarkDir>,
        committer: Arc<dyn Committer>,
        store: Arc<dyn ObjectStore>,
        monitor: &Arc<dyn Monitor>,
        cancel: &CancellationToken,
    ) -> Outcome {
        let monitor = Tally::new(monitor, marks);
        let outcome = match self.execute(found, committer, store, &monitor, cancel) {
            Outcome::Completed(result) if self.awaited && result.errors > 0 => {
                failed(monitor.unrestored(), true)
            }
            outcome => outcome,
        };
        let Some(marks) = &monitor.marks else {
            return outcome;
        };
        let marked = match &outcome {
            Outcome::Completed(result) if result.errors == 0 => marks.success(Done {
                bytes: result.logical_bytes,
                entries: result.entries,
                warnings: result.warnings,
            }),
            Outcome::Completed(_) => marks.failure(&monitor.unrestored(), false),
            Outcome::Failed { message, retry } => marks.failure(message, *retry && self.awaited),
            Outcome::Canceled => marks.stopped(),
        };
        match (marked, outcome) {
            (Err(error), Outcome::Completed(_)) => {
                failed(format!("cannot write marks for the pod: {error}"), true)
            }
            (Err(error), outcome) => {
                let task_id = self.order.id;
                tracing::warn!(%task_id, %error, "cannot write a mark");
                outcome
            }
            (Ok(()), outcome) => outcome,
        }
    }

    fn execute(
        &self,
        found: &FoundVolume,
        committer: Arc<dyn Committer>,
        store: Arc<dyn ObjectStore>,
        monitor: &Arc<Tally>,
        cancel: &CancellationToken,
    ) -> Outcome {
        let root = match found.open() {
            Ok(root) => root,
            Err(error) => {
                let volume = &self.order.volume;
                let message = format!("cannot open volume {volume}: {}", with_causes(&error));
                return failed(message, true);
            }
        };
        let handle = self.tools.handle.clone();
        let session =
            match ReadSession::open(committer, store, self.snapshot, handle, cancel.clone()) {
                Ok(session) => session,
                Err(error) if error.is_cancelled() => return Outcome::Canceled,
                Err(error) => {
                    let again = !error.is_permanent() || (self.awaited && is_mendable(&error));
                    return failed(with_causes(&error), again);
                }
            };
        let target = match self.directory {
            None => RestoreTarget::Fd(root, format!("volume {}", self.order.volume)),
            Some(name) => RestoreTarget::Inside(root, name.to_owned()),
        };
        let mut job = RestoreJob::new(target);
        job.mode = self.mode;
        job.select.paths.extend(self.path.clone());
        job.workers = self.workers;
        job.memory_bytes = self.tools.memory_bytes;
        let monitor_for_restore = Arc::clone(monitor) as Arc<dyn Monitor>;
        let report = restore::run(job, &session, monitor_for_restore, cancel.clone());
        let fetched_bytes = session.fetched_bytes();
        session.end();
        match report {
            Ok(report) => {
                let (warnings, errors) = monitor.issues();
                Outcome::Completed(TaskResult {
                    snapshot: self.snapshot,
                    logical_bytes: report.bytes,
                    transferred_bytes: fetched_bytes,
                    entries: report.files + report.dirs + report.others,
                    warnings,
                    errors,
                })
            }
            Err(error) if error.is_cancelled() => Outcome::Canceled,
            Err(error) => {
                let again = !error.is_permanent() || (self.awaited && error.is_mendable());
                failed(with_causes(&error), again)
            }
        }
    }
}

/// As many as are wanted, and no more than there is memory for.
pub(super) fn workers(most: usize, wanted: Option<NonZeroUsize>) -> usize {
    wanted.map_or(most, |wanted| wanted.get().min(most))
}

/// The result of a task that has ended well before, and whose agent did not live to tell it.
pub(super) fn before(snapshot: SnapshotId, done: Done) -> TaskResult {
    TaskResult {
        snapshot,
        logical_bytes: done.bytes,
        transferred_bytes: 0,
        entries: done.entries,
        warnings: done.warnings,
        errors: 0,
    }
}

/// Opens the directory for marks.
pub(super) fn open_marks(dir: &FoundVolume, order: &Order) -> io::Result<MarkDir> {
    let fd = dir.open().map_err(io::Error::other)?;
    let owner = MarkOwner {
        run: order.run.clone(),
        task: order.id.to_string(),
        volume: order.volume.volume.clone(),
    };
    MarkDir::from_fd(fd, owner)
}

/// Passes everything on, counts issues, and marks progress.
struct Tally {
    to: Arc<dyn Monitor>,
    marks: Option<MarkDir>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    warnings: u64,
    errors: u64,
    /// The first error.
    first: Option<Issue>,
    marked: Option<Instant>,
}

impl Tally {
    fn new(to: &Arc<dyn Monitor>, marks: Option<MarkDir>) -> Arc<Self> {
        Arc::new(Self {
            to: Arc::clone(to),
            marks,
            counts: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Warnings and errors.
    fn issues(&self) -> (u64, u64) {
        let counts = self.lock();
        (counts.warnings, counts.errors)
    }

    /// How many entries could not be restored, and why the first of them.
    fn unrestored(&self) -> String {
        let counts = self.lock();
        let entries = match counts.errors {
            1 => "1 entry".to_owned(),
            many => format!("{many} entries"),
        };
        let first = counts.first.as_ref().map(|issue| {
            let path = String::from_utf8_lossy(&issue.path);
            format!("; first {path:?}: {}", issue.message)
        });
        clip(&format!(
            "{entries} could not be restored{}",
            first.unwrap_or_default()
        ))
    }
}

impl Monitor for Tally {
    fn progress(&self, progress: Progress) {
        self.to.progress(progress);
        let Some(marks) = &self.marks else { return };
        let mut counts = self.lock();
        if counts
            .marked
            .is_none_or(|last| last.elapsed() >= MARK_PERIOD)
        {
            counts.marked = Some(Instant::now());
            // The next mark of progress says more than an error about this one.
            let _ = marks.progress(&progress);
        }
    }

    fn issue(&self, issue: &Issue) {
        self.to.issue(issue);
        let mut counts = self.lock();
        if issue.kind.is_error() {
            counts.errors += 1;
            counts.first.get_or_insert_with(|| issue.clone());
        } else {
            counts.warnings += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use orlop_core::IssueKind;

    use super::*;

    #[test]
    fn files_at_once_are_never_more_than_there_is_memory_for() {
        let wanted = NonZeroUsize::new;
        assert_eq!(workers(4, None), 4);
        assert_eq!((workers(4, wanted(2)), workers(4, wanted(9))), (2, 4));
    }

    #[test]
    fn the_first_entry_that_could_not_be_restored_is_named() {
        struct Nobody;
        impl Monitor for Nobody {
            fn progress(&self, _progress: Progress) {}
            fn issue(&self, _issue: &Issue) {}
        }
        let to: Arc<dyn Monitor> = Arc::new(Nobody);
        let tally = Tally::new(&to, None);
        let issue = |path: &str, kind| Issue {
            path: path.as_bytes().to_vec(),
            kind,
            errno: 0,
            message: "its pack is missing".to_owned(),
        };
        tally.issue(&issue("a", IssueKind::Metadata));
        tally.issue(&issue("b/c", IssueKind::Unreadable));
        let one = "1 entry could not be restored; first \"b/c\": its pack is missing";
        assert_eq!(tally.unrestored(), one);
        tally.issue(&issue("d", IssueKind::Unreadable));
        assert!(
            tally
                .unrestored()
                .starts_with("2 entries could not be restored; first \"b/c\"")
        );
        assert_eq!(tally.issues(), (1, 2));
    }
}
