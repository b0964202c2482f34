//! `orlop repo snapshots`.

use anyhow::Result;
use clap::Args;

use super::RepoArgs;
use crate::{exit::Outcome, output::OutputArgs, shapes::SnapshotShape};

/// Which repository's snapshots.
#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl SnapshotsArgs {
    pub(crate) async fn run(self) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let list: Vec<SnapshotShape> = repository
            .snapshots()
            .await?
            .iter()
            .map(SnapshotShape::from)
            .collect();
        self.output
            .print(&list, |list| SnapshotShape::table(list))?;
        Ok(Outcome::Done)
    }
}
