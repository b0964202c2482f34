//! `orlop repo copy`.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_core::Monitor;
use orlop_repository::{Copier, Error, Repository, SnapshotState, Unlock, open_store};
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, allow_writing, key_file, on_thread, password_file, password_in};
use crate::{
    exit::{self, Outcome},
    output::OutputArgs,
    progress::Display,
    shapes::CopyShape,
};

/// What to copy, and where to.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The repository to copy into, which `orlop repo init` has made
    #[arg(long, value_name = "URL")]
    to: String,
    /// File that holds that repository's password (default: the variable ORLOP_TO_PASSWORD, or else what opens
    /// the first repository)
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
    /// File that holds that repository's key, instead of a password
    #[arg(long, value_name = "FILE", conflicts_with = "to_password_file")]
    to_key_file: Option<PathBuf>,
    /// Promise that nothing else writes that repository: for stores that overwrite objects
    #[arg(
        long,
        env = "ORLOP_EXCLUSIVE",
        num_args = 0,
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    exclusive: bool,
    /// Snapshots: ids, beginnings of ids, latest, or latest:NS/POD/VOL; all if none is named. Those that are
    /// there already are passed over
    snapshots: Vec<String>,
    /// Copy all snapshots but checkpoints
    #[arg(long, conflicts_with = "snapshots")]
    all: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl CopyArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let from = self.repo.open().await?;
        let to = self.open_target().await?;
        let mut named = BTreeSet::new();
        for text in &self.snapshots {
            named.insert(from.resolve(text).await?.id);
        }
        let display = Arc::new(Display::new("copy", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let handle = tokio::runtime::Handle::current();
        let (output, stop) = (self.output, cancel.clone());
        let copied = on_thread(move || {
            let mut copier = Copier::new(from, to, handle, monitor, cancel)?;
            let wanted: Vec<_> = copier
                .snapshots()
                .iter()
                .filter(|info| {
                    named.contains(&info.id)
                        || (named.is_empty() && info.state != SnapshotState::Partial)
                })
                .cloned()
                .collect();
            let mut printer = output.printer();
            let mut failed = false;
            for info in wanted {
                let begun = Instant::now();
                let report = match copier.copy(&info) {
                    Ok(report) => report,
                    // What one snapshot has lost keeps no later one from the other place.
                    Err(error) if error.is_loss() => {
                        eprintln!("error: cannot copy snapshot {}: {error}", info.id);
                        failed = true;
                        continue;
                    }
                    Err(Error::NoSnapshot { .. }) if !named.contains(&info.id) => {
                        eprintln!("snapshot {} was forgotten meanwhile", info.id);
                        continue;
                    }
                    Err(error) => {
                        let what = format!("cannot copy snapshot {}", info.id);
                        return Err(anyhow::Error::new(error).context(what));
                    }
                };
                let shape = CopyShape::new(&info, &report, begun.elapsed());
                printer.item(&shape, CopyShape::line)?;
            }
            printer.finish()?;
            Ok(failed)
        })
        .await;
        display.finish();
        if copied.is_err() && stop.is_cancelled() {
            return Err(exit::interrupted());
        }
        Ok(Outcome::with_errors(copied?))
    }

    async fn open_target(&self) -> Result<Arc<Repository>> {
        let unlock = self.unlock_target()?;
        let store = open_store(&self.to)?;
        let cache = self.repo.cache_for(&self.to);
        let repository = Repository::open_cached(store, &unlock, cache.as_deref())
            .await
            .context("the repository to copy into")?;
        allow_writing(repository, self.exclusive)
    }

    fn unlock_target(&self) -> Result<Unlock> {
        if let Some(path) = &self.to_key_file {
            return key_file(path);
        }
        if let Some(path) = &self.to_password_file {
            return password_file(path);
        }
        match password_in("ORLOP_TO_PASSWORD")? {
            Some(unlock) => Ok(unlock),
            None => self.repo.unlock.require(),
        }
    }
}
