//! Asking for a restore, and waiting for it if that is wanted.

use anyhow::Result;
use clap::Args;
use orlop_core::RestoreMode;
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::get::print_one;
use crate::{
    client::{Client, refused},
    commands::run::{self, Kind},
    exit::Outcome,
    output::OutputArgs,
};

/// Whether to wait, and what to show.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Wait until the restore has ended
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Begins the restore, and prints it as it is then or, if it is waited for, as it has ended. Cancelling ends the waiting
/// alone.
pub(crate) async fn submit(
    client: &Client,
    request: v1::CreateRestoreRequest,
    args: &RunArgs,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let name = request.name.clone();
    let mut restores = client.restores();
    let answer = restores
        .create(request)
        .await
        .map_err(refused)?
        .into_inner();
    if !args.wait {
        print_one(args.output, answer.restore.unwrap_or_default())?;
        return Ok(Outcome::Done);
    }
    let run = run::wait(client, Kind::Restore, &name, args.quiet, cancel).await?;
    let request = v1::GetRestoreRequest { name };
    let answer = restores.get(request).await.map_err(refused)?.into_inner();
    print_one(args.output, answer.restore.unwrap_or_default())?;
    run::verdict(&run)
}

/// The mode as the wire names it.
pub(crate) fn mode_to_wire(mode: RestoreMode) -> i32 {
    v1::RestoreMode::from(mode).into()
}

/// `BACKUP-20260131140000`, or `restore-20260131140000123` if there is no backup: volumes are restored one after the
/// other by scripts, which take less than a second for each.
pub(crate) fn made_up_name(backup: Option<&str>) -> String {
    let now = jiff::Timestamp::now();
    match backup {
        Some(backup) => format!("{backup}-{}", now.strftime("%Y%m%d%H%M%S")),
        None => format!(
            "restore-{}{:03}",
            now.strftime("%Y%m%d%H%M%S"),
            now.subsec_millisecond()
        ),
    }
}
