//! A task's thread: finds the volume, backs it up or restores into it, and says how that ended.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use orlop_core::{
    Issue, Monitor, Progress, RestoreMode, S3Keys, SnapshotId,
    run::{Outcome, TaskResult},
    with_causes,
};
use orlop_repository::{
    Committer, ObjectStore, ReadSession, Repository, StoreOptions, open_store_with,
    store::S3Credentials,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    order::{Order, Route, Work},
    table::failed,
};
use crate::{
    app::Inventory,
    backup::{self, BackupJob, Budget, CheckpointEvery},
    marks::{Done, MarkDir, MarkOwner},
    restore::{self, RestoreJob, RestoreTarget},
    volumes::FoundVolume,
};

/// A backup's worker holds about this much: chunks that are read, compressed and sealed.
const WORKER_BYTES: u64 = 24 << 20;
/// A pack on its way to the store, and the one that is being filled.
const UPLOAD_BYTES: u64 = 96 << 20;
/// Marks of progress are written this often.
const MARK_PERIOD: Duration = Duration::from_secs(1);

/// What tasks work with.
pub(super) struct Tools {
    /// Name of this node.
    pub(super) node: String,
    /// The volumes of the node.
    pub(super) inventory: Arc<Inventory>,
    /// Bounds of one backup.
    pub(super) budget: Budget,
    /// Memory of one task.
    pub(super) memory_bytes: u64,
    /// The runtime that does the network.
    pub(super) handle: Handle,
}

/// The coordinator's halves of a task.
pub(super) struct Ways {
    /// Grants sessions.
    pub(super) committer: Arc<dyn Committer>,
    /// Its store, for a task that does not open one itself.
    pub(super) gateway: Arc<dyn ObjectStore>,
}

/// The processors of this machine.
fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// Each of the tasks that a coordinator gives by default (half as many as there are processors) gets its
/// share of the memory.
pub(super) fn share(memory_bytes: u64) -> u64 {
    memory_bytes / (cores() / 2).max(1)
}

/// What a backup does with its share of the memory.
pub(super) fn budget(share: u64) -> Budget {
    let cores = cores();
    Budget {
        workers: (share / WORKER_BYTES).clamp(1, cores) as usize,
        uploads: (share / UPLOAD_BYTES).clamp(1, 2) as u32,
    }
}

/// Does the task. Blocks.
pub(super) fn run(
    order: &Order,
    tools: &Tools,
    ways: Ways,
    monitor: &Arc<dyn Monitor>,
    cancel: &CancellationToken,
) -> Outcome {
    let Ways { committer, gateway } = ways;
    let store = match &order.store {
        Route::Gateway => gateway,
        Route::Direct { url, keys, ca_pem } => {
            match open(url, options(keys.as_ref(), ca_pem), &tools.handle) {
                Ok(store) => store,
                Err(outcome) => return outcome,
            }
        }
    };
    let (volume, marks) = match tools.inventory.find(&order.volume, order.place.as_ref()) {
        Ok(found) => found,
        Err(message) => return failed(message, true),
    };
    match &order.work {
        Work::Backup { .. } => backup(order, tools, volume, committer, store, monitor, cancel),
        Work::Restore {
            snapshot,
            mode,
            directory,
            path,
            marks_expected,
        } => {
            let restore = Restore {
                order,
                tools,
                snapshot: *snapshot,
                mode: *mode,
                directory: directory.as_deref(),
                path,
            };
            // Who waits in the pod would wait for ever: without marks nothing is restored.
            let marks = marks.map(|dir| open_marks(&dir, order)).transpose();
            let done = marks.as_ref().ok().and_then(|marks| marks.as_ref()?.done());
            if let Some(done) = done {
                return Outcome::Completed(before(*snapshot, done));
            }
            let begun = marks.and_then(|marks| {
                marks
                    .iter()
                    .try_for_each(|marks| marks.begin(marks_expected))?;
                Ok(marks)
            });
            match begun {
                Ok(marks) => restore.run(&volume, marks, committer, store, monitor, cancel),
                Err(error) => failed(format!("cannot write marks for the pod: {error}"), true),
            }
        }
    }
}

/// Opens the store of the repository. In a place that only looks like it a backup would leave all its packs
/// before it is noticed.
fn open(
    url: &str,
    options: StoreOptions,
    handle: &Handle,
) -> Result<Arc<dyn ObjectStore>, Outcome> {
    let store =
        open_store_with(url, options).map_err(|error| failed(with_causes(&error), false))?;
    let error = match handle.block_on(Repository::exists(&*store)) {
        Ok(true) => return Ok(store),
        Ok(false) => return Err(failed(elsewhere(url), false)),
        Err(error) => error,
    };
    Err(failed(with_causes(&error), !error.is_permanent()))
}

fn options(keys: Option<&S3Keys>, ca_pem: &str) -> StoreOptions {
    StoreOptions {
        credentials: keys.map(S3Credentials::from),
        ca_pem: ca_pem.to_owned(),
    }
}

fn elsewhere(url: &str) -> String {
    format!(
        "{url} holds no repository as this node sees it: let the coordinator run with --store-access gateway"
    )
}

fn backup(
    order: &Order,
    tools: &Tools,
    found: FoundVolume,
    committer: Arc<dyn Committer>,
    store: Arc<dyn ObjectStore>,
    monitor: &Arc<dyn Monitor>,
    cancel: &CancellationToken,
) -> Outcome {
    let Work::Backup {
        exclude,
        tags,
        force_full,
    } = order.work.clone()
    else {
        return failed("the task is not a backup".to_owned(), false);
    };
    let root = match found.open() {
        Ok(root) => root,
        Err(error) => return failed(with_causes(&error), true),
    };
    let job = BackupJob {
        root,
        volume: order.volume.clone(),
        lineage: found.lineage,
        node: tools.node.clone(),
        backup: order.run.clone(),
        tags,
        exclude,
        force_full,
        checkpoint_every: CheckpointEvery::default(),
        budget: tools.budget,
    };
    let handle = tools.handle.clone();
    let report = backup::run(job, committer, store, handle, Arc::clone(monitor), cancel);
    match report {
        Ok(report) => {
            Outcome::Completed(TaskResult {
                snapshot: report.snapshot,
                logical_bytes: report.logical_bytes,
                transferred_bytes: report.uploaded_bytes,
                entries: report.files.total + report.dirs + report.others,
                // Of the attempt that made the snapshot; the monitor may have heard of an earlier one.
                warnings: report.issues_total - report.errors,
                errors: report.errors,
            })
        }
        Err(error) if error.is_cancelled() => Outcome::Canceled,
        Err(error) => failed(with_causes(&error), !error.is_permanent()),
    }
}

struct Restore<'a> {
    order: &'a Order,
    tools: &'a Tools,
    snapshot: SnapshotId,
    mode: RestoreMode,
    directory: Option<&'a str>,
    path: &'a Option<Vec<u8>>,
}

impl Restore<'_> {
    /// Restores, and leaves a mark of how that ended for who waits in the pod.
    fn run(
        &self,
        found: &FoundVolume,
        marks: Option<MarkDir>,
        committer: Arc<dyn Committer>,
        store: Arc<dyn ObjectStore>,
        monitor: &Arc<dyn Monitor>,
        cancel: &CancellationToken,
    ) -> Outcome {
        let monitor = Tally::new(monitor, marks);
        let outcome = self.execute(found, committer, store, &monitor, cancel);
        let Some(marks) = &monitor.marks else {
            return outcome;
        };
        let marked = match &outcome {
            Outcome::Completed(result) if result.errors == 0 => marks.success(Done {
                bytes: result.logical_bytes,
                entries: result.entries,
                warnings: result.warnings,
            }),
            Outcome::Completed(result) => {
                marks.failure(&format!("{} entries could not be restored", result.errors))
            }
            Outcome::Failed { message, .. } => marks.failure(message),
            Outcome::Canceled => marks.failure("the restore was canceled"),
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
            Err(error) => return failed(with_causes(&error), true),
        };
        let handle = self.tools.handle.clone();
        let session =
            match ReadSession::open(committer, store, self.snapshot, handle, cancel.clone()) {
                Ok(session) => session,
                Err(error) if error.is_cancelled() => return Outcome::Canceled,
                Err(error) => return failed(with_causes(&error), !error.is_permanent()),
            };
        let target = match self.directory {
            None => RestoreTarget::Fd(root),
            Some(name) => RestoreTarget::Inside(root, name.to_owned()),
        };
        let mut job = RestoreJob::new(target);
        job.mode = self.mode;
        job.select.paths.extend(self.path.clone());
        job.workers = self.tools.budget.workers;
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
            Err(error) => failed(with_causes(&error), !error.is_permanent()),
        }
    }
}

/// The result of a task that has ended well before, and whose agent did not live to tell it.
fn before(snapshot: SnapshotId, done: Done) -> TaskResult {
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
fn open_marks(dir: &FoundVolume, order: &Order) -> io::Result<MarkDir> {
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
    counts: Mutex<(u64, u64, Option<Instant>)>,
}

impl Tally {
    fn new(to: &Arc<dyn Monitor>, marks: Option<MarkDir>) -> Arc<Self> {
        Arc::new(Self {
            to: Arc::clone(to),
            marks,
            counts: Mutex::default(),
        })
    }

    /// Warnings and errors.
    fn issues(&self) -> (u64, u64) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.0, counts.1)
    }
}

impl Monitor for Tally {
    fn progress(&self, progress: Progress) {
        self.to.progress(progress);
        let Some(marks) = &self.marks else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.2.is_none_or(|last| last.elapsed() >= MARK_PERIOD) {
            counts.2 = Some(Instant::now());
            // The next mark of progress says more than an error about this one.
            let _ = marks.progress(&progress);
        }
    }

    fn issue(&self, issue: &Issue) {
        self.to.issue(issue);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if issue.kind.is_error() {
            counts.1 += 1;
        } else {
            counts.0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_empty() {
        let budget = budget(0);
        assert_eq!((budget.workers, budget.uploads), (1, 1));
    }
}
