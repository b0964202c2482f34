//! `orlop repo check`.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use orlop_core::Monitor;
use orlop_repository::CheckOptions;
use tokio_util::sync::CancellationToken;

use super::RepoArgs;
use crate::{exit::Outcome, output::OutputArgs, progress::Display, shapes::CheckShape};

/// How deep to look.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Read and verify all data, not only the structure
    #[arg(long)]
    read_data: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl CheckArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let display = Arc::new(Display::new("check", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let options = CheckOptions {
            read_data: self.read_data,
        };
        let report = repository.check(options, monitor, cancel).await;
        display.finish();
        let report = report?;
        let ok = report.ok;
        self.output
            .print(&CheckShape::from(report), CheckShape::table)?;
        Ok(Outcome::with_errors(!ok))
    }
}
