//! `orlop repo restore`.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _, path::PathBuf, sync::Arc, time::Instant};

use anyhow::Result;
use clap::Args;
use orlop_agent::{
    restore::{self, InPlace, RestoreJob, RestoreTarget, Selection},
    scan::Pattern,
};
use orlop_core::{Monitor, RestoreMode};
use orlop_repository::SnapshotState;
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, manifest_path, with_session};
use crate::{
    exit::{self, Outcome},
    output::OutputArgs,
    progress::Display,
    shapes::RestoreShape,
};

/// What to restore, and where to.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Id of the snapshot, the beginning of one, latest, or latest:NS/POD/VOL
    snapshot: String,
    /// Directory to restore into; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// Restore only this entry and what is below it; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,
    /// Restore only entries that match, and what is below them; may be given several times. Patterns are
    /// those of --exclude: * and ? within a name, ** across directories, a leading / for the volume's root
    #[arg(long, value_name = "PATTERN")]
    include: Vec<Pattern>,
    /// What to do with what the target holds: empty, overwrite, exact or new-dir
    #[arg(long, default_value_t = RestoreMode::Empty)]
    mode: RestoreMode,
    /// Which files that are there and differ are changed in place, instead of being written anew beside the
    /// old one: auto (from 8 MiB, if at least half is as it should be), always, or never
    #[arg(long, value_name = "WHEN", default_value_t = InPlace::Auto)]
    in_place: InPlace,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl RestoreArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let info = repository.resolve(&self.snapshot).await?;
        let snapshot = info.id;
        if info.state == SnapshotState::Partial {
            eprintln!(
                "warning: snapshot {snapshot} is a checkpoint of a backup that has not finished: the volume's later entries are not in it"
            );
        }
        let job = RestoreJob {
            mode: self.mode,
            select: Selection {
                paths: self.paths.iter().map(|path| manifest_path(path)).collect(),
                include: self.include,
            },
            in_place: self.in_place,
            ..RestoreJob::new(RestoreTarget::Path(self.target.clone()))
        };
        let display = Arc::new(Display::new("restore", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let stop = cancel.clone();
        let started = Instant::now();
        let report = with_session(repository, snapshot, cancel.clone(), move |session| {
            Ok(restore::run(job, session, monitor, stop)?)
        })
        .await;
        display.finish();
        if report.is_err() && cancel.is_cancelled() {
            return Err(exit::interrupted());
        }
        let report = report?;
        let target = self.target.as_os_str().as_bytes();
        let shape = RestoreShape::new(snapshot, target, self.mode, started.elapsed(), &report);
        self.output.print(&shape, RestoreShape::table)?;
        Ok(Outcome::with_errors(display.errors() > 0))
    }
}
