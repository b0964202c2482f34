//! A task's thread: finds the volume, backs it up or restores into it, and says how that ended.

use std::sync::Arc;

use orlop_core::{
    Chunking, Monitor, S3Keys,
    run::{Outcome, TaskResult},
    with_causes,
};
use orlop_repository::{
    Committer, ObjectStore, Repository, StoreOptions, open_store_with, store::S3Credentials,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    order::{Order, Route, Work},
    restore::{Restore, before, open_marks, workers},
    table::failed,
};
use crate::{
    app::Inventory,
    backup::{self, BackupJob, Budget, CheckpointEvery, Limits},
    volumes::FoundVolume,
};

/// What tasks work with.
pub(super) struct Tools {
    /// Name of this node.
    pub(super) node: String,
    /// The volumes of the node.
    pub(super) inventory: Arc<Inventory>,
    /// Bounds of one backup.
    pub(super) budget: Budget,
    /// How fast all backups together may go.
    pub(super) limits: Limits,
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
            awaited,
            parallel,
        } => {
            let restore = Restore {
                order,
                tools,
                snapshot: *snapshot,
                mode: *mode,
                directory: directory.as_deref(),
                path,
                awaited: *awaited,
                workers: workers(tools.budget.workers, *parallel),
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
        chunking,
    } = order.work.clone()
    else {
        return failed("the task is not a backup".to_owned(), false);
    };
    let root = match found.open() {
        Ok(root) => root,
        Err(error) => {
            let (path, reason) = (found.path.display(), with_causes(&error));
            return failed(format!("open {path}: {reason}"), true);
        }
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
        limits: tools.limits.clone(),
        chunking: match chunking {
            Chunking::Auto => found.chunking,
            said => said,
        },
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
