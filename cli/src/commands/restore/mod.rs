//! `orlop restore …`: what a client asks of the server about restores.

mod create;
mod get;
mod objects;
mod submit;

pub(crate) use submit::{RunArgs, made_up_name, mode_to_wire, submit};

use anyhow::Result;
use clap::Subcommand;
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::{
    backup::{LogsArgs, NameArgs},
    run::{self, Kind},
};
use crate::{client::refused, exit::Outcome};

/// Verbs on restores.
#[derive(Debug, Subcommand)]
pub(crate) enum RestoreCommand {
    /// Restore a backup, or snapshots of volumes
    Create(Box<create::CreateArgs>),
    /// Show all restores, oldest first, or one
    Get(get::GetArgs),
    /// Show everything about one restore
    Describe(NameArgs),
    /// Print a restore's log
    Logs(LogsArgs),
    /// Stop a restore that runs
    Cancel(NameArgs),
    /// Remove a restore's record and log
    Delete(NameArgs),
}

impl RestoreCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        match self {
            Self::Create(args) => args.run(cancel).await,
            Self::Get(args) => args.run().await,
            Self::Describe(args) => get::describe(args).await,
            Self::Logs(args) => {
                let client = args.client.connect().await?;
                run::print_log(&client, Kind::Restore, &args.name, args.follow, &cancel).await
            }
            Self::Cancel(args) => {
                let mut restores = args.client.connect().await?.restores();
                let request = v1::CancelRestoreRequest { name: args.name };
                let answer = restores
                    .cancel(request)
                    .await
                    .map_err(refused)?
                    .into_inner();
                get::print_one(args.output, answer.restore.unwrap_or_default())?;
                Ok(Outcome::Done)
            }
            Self::Delete(args) => {
                let mut restores = args.client.connect().await?.restores();
                let request = v1::DeleteRestoreRequest { name: args.name };
                restores.delete(request).await.map_err(refused)?;
                Ok(Outcome::Done)
            }
        }
    }
}
