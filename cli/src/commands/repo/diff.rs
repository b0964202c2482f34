//! `orlop repo diff`.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use orlop_repository::{Committer, Diff, Difference, ReadSession};
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, on_thread};
use crate::{exit::Outcome, output::OutputArgs, shapes::ChangeShape};

/// Which snapshots to compare.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The earlier snapshot: an id, the beginning of one, latest, or latest:NS/POD/VOL
    old: String,
    /// The later snapshot
    new: String,
    /// Also entries of which only owner, permissions, times or attributes differ
    #[arg(long)]
    metadata: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl DiffArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let old = repository.resolve(&self.old).await?;
        let new = repository.resolve(&self.new).await?;
        if old.volume.namespace != new.volume.namespace {
            eprintln!(
                "warning: the snapshots are of two namespaces, which share no chunks: every file with content counts as changed"
            );
        }
        let handle = tokio::runtime::Handle::current();
        on_thread(move || {
            let open = |snapshot| {
                ReadSession::open(
                    Arc::clone(&repository) as Arc<dyn Committer>,
                    Arc::clone(repository.store()),
                    snapshot,
                    handle.clone(),
                    cancel.clone(),
                )
            };
            let before = open(old.id)?;
            let after = match open(new.id) {
                Ok(after) => after,
                Err(error) => {
                    before.end();
                    return Err(error.into());
                }
            };
            let wanted = |difference| self.metadata || difference != Difference::Metadata;
            let changes = Diff::new(&before, &after)
                .filter(|change| change.as_ref().map_or(true, |c| wanted(c.difference)))
                .map(|change| Ok(ChangeShape::from(&change?)));
            let printed = self.output.print_each(changes, ChangeShape::line);
            before.end();
            after.end();
            printed
        })
        .await?;
        Ok(Outcome::Done)
    }
}
