//! `orlop repo stats`.

use anyhow::Result;
use clap::Args;

use super::RepoArgs;
use crate::{exit::Outcome, output::OutputArgs, shapes::stats_table};

/// Which repository to measure.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl StatsArgs {
    pub(crate) async fn run(self) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let stats = repository.stats().await?;
        self.output.print(&stats, stats_table)?;
        Ok(Outcome::Done)
    }
}
