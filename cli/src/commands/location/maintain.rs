//! `orlop location check` and `collect`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_core::{Monitor as _, Progress};
use orlop_proto::v1::{self, maintain_request::Operation, maintain_response::Event};
use orlop_repository::CheckDepth;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{ClientArgs, refused},
    commands::repo::{CheckDepthArgs, CollectLimits},
    exit::{self, Outcome},
    output::OutputArgs,
    progress::Display,
    shapes::{CheckShape, CollectShape},
};

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Name of the location; the default one if left out
    name: Option<String>,
    #[command(flatten)]
    depth: CheckDepthArgs,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// How far to go.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// Name of the location; the default one if left out
    name: Option<String>,
    /// Say what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Refuse to remove more than this share of the repository
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    max_removed: u32,
    #[command(flatten)]
    limits: CollectLimits,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lets the server work until its report comes.
async fn maintain(
    client: &ClientArgs,
    location: Option<String>,
    operation: Operation,
    display: &Display,
    cancel: &CancellationToken,
) -> Result<Event> {
    let request = v1::MaintainRequest {
        location: location.unwrap_or_default(),
        operation: Some(operation),
    };
    let mut system = client.connect().await?.system();
    let answer = system.maintain(request).await.map_err(refused)?;
    let mut events = answer.into_inner();
    loop {
        let event = tokio::select! {
            event = events.message() => event.map_err(refused)?,
            () = cancel.cancelled() => {
                return Err(exit::failure(exit::INTERRUPTED, "interrupted: the server stops too"));
            }
        };
        let event = event.and_then(|event| event.event);
        match event.context("the server has ended without a report")? {
            Event::Progress(progress) => display.progress(Progress::from(progress)),
            report => return Ok(report),
        }
    }
}

impl CheckArgs {
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let options = self.depth.options()?;
        let depth = match options.depth {
            CheckDepth::Structure => v1::CheckDepth::Structure,
            CheckDepth::Existence => v1::CheckDepth::Existence,
            CheckDepth::Scrub => v1::CheckDepth::Scrub,
            CheckDepth::Data => v1::CheckDepth::Data,
        };
        let display = Arc::new(Display::new("check", self.quiet));
        let operation = Operation::Check(v1::CheckOperation {
            read_data: options.depth == CheckDepth::Data,
            depth: depth.into(),
            sample: options.sample.to_string(),
            resume: options.resume,
        });
        let report = maintain(&self.client, self.name, operation, &display, &cancel).await;
        display.finish();
        let Event::Check(report) = report? else {
            anyhow::bail!("the server has sent another report");
        };
        let ok = report.ok;
        self.output
            .print(&CheckShape::from(report), CheckShape::table)?;
        Ok(Outcome::with_errors(!ok))
    }
}

impl CollectArgs {
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let display = Arc::new(Display::new("collect", self.quiet));
        let operation = Operation::Collect(v1::CollectOperation {
            dry_run: self.dry_run,
            max_removed_percent: self.max_removed,
            dead_percent: self.limits.dead_share.into(),
            budget_bytes: self.limits.budget.max(1),
            // 0 would mean the usual time.
            wait_seconds: self.limits.wait.as_secs().max(1),
            fence_after_seconds: self.limits.fence_after.as_secs().max(1),
        });
        let report = maintain(&self.client, self.name, operation, &display, &cancel).await;
        display.finish();
        let Event::Collect(report) = report? else {
            anyhow::bail!("the server has sent another report");
        };
        let shape = CollectShape::from(report);
        self.output.print(&shape, CollectShape::table)?;
        Ok(Outcome::with_errors(shape.waits()))
    }
}
