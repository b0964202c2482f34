//! `orlop repo repair`.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use orlop_core::Monitor;
use orlop_repository::{RepairOptions, Sample};
use tokio_util::sync::CancellationToken;

use super::{WriteArgs, check::parse_sample};
use crate::{exit::Outcome, output::OutputArgs, progress::Display, shapes::RepairShape, text};

/// What to repair.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    repo: WriteArgs,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Read data first, to find damage that no check has found yet: all, or a share such as 10%, a part such as 1/7, or
    /// a size such as 5GiB
    #[arg(
        long,
        value_name = "SAMPLE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100%",
        value_parser = parse_sample
    )]
    read_data: Option<Sample>,
    /// Wait so long for backups and checks that run, such as 90s or 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = text::parse_duration)]
    wait: Duration,
    /// Shut out those that began longer ago: a backup that is still running begins again
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = text::parse_duration)]
    fence_after: Duration,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl RepairArgs {
    /// All is in order (exit 0) if no snapshot lacks anything, and nothing is left to do.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let display = Arc::new(Display::new("repair", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let options = RepairOptions {
            dry_run: self.dry_run,
            read: self.read_data,
            patience: self.wait,
            fence_after: self.fence_after,
        };
        let report = Box::pin(repository.repair(options, monitor, cancel)).await;
        display.finish();
        let shape = RepairShape::from(report?);
        self.output.print(&shape, RepairShape::table)?;
        Ok(Outcome::with_errors(!shape.is_sound()))
    }
}
