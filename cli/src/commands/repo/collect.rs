//! `orlop repo collect`.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use orlop_coordinator::collect_message;
use orlop_core::Monitor;
use orlop_repository::CollectOptions;
use tokio_util::sync::CancellationToken;

use super::WriteArgs;
use crate::{exit::Outcome, output::OutputArgs, progress::Display, shapes::CollectShape, text};

/// What a collection may do and when it gives up, wherever it runs.
#[derive(Debug, Args)]
pub(crate) struct CollectLimits {
    /// Write a pack anew when more than this share of it is garbage
    #[arg(long, value_name = "PERCENT", default_value_t = 40, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) dead_share: u8,
    /// Write at most this much anew, such as 500MiB; the rest is for the next time
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = text::parse_bytes)]
    pub(crate) budget: u64,
    /// Wait so long for backups and checks that run, such as 90s or 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = text::parse_duration)]
    pub(crate) wait: Duration,
    /// Shut out those that began longer ago: a backup that is still running begins again, and loses nothing
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = text::parse_duration)]
    pub(crate) fence_after: Duration,
}

/// How far to go.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    #[command(flatten)]
    repo: WriteArgs,
    /// Say what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Refuse to remove more than this share of the repository
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    max_removed: u8,
    #[command(flatten)]
    limits: CollectLimits,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl CollectArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let display = Arc::new(Display::new("collect", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let options = CollectOptions {
            dry_run: self.dry_run,
            dead_percent: self.limits.dead_share,
            budget_bytes: self.limits.budget,
            max_removed_percent: self.max_removed,
            patience: self.limits.wait,
            fence_after: self.limits.fence_after,
        };
        let report = repository.collect(options, monitor, cancel).await;
        display.finish();
        let shape = CollectShape::from(collect_message(report?));
        self.output.print(&shape, CollectShape::table)?;
        Ok(Outcome::with_errors(shape.waits()))
    }
}
