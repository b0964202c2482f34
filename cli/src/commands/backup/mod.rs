//! `orlop backup …`: what a client asks of the server about backups.

mod create;
mod get;

pub(crate) use create::{seconds, to_wire};
pub(crate) use get::print_one;

use anyhow::Result;
use clap::{Args, Subcommand};
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::run::{self, Kind};
use crate::{
    client::{ClientArgs, refused},
    exit::Outcome,
    output::OutputArgs,
};

/// Verbs on backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Back up volumes
    Create(create::CreateArgs),
    /// Show all backups, oldest first, or one
    Get(get::GetArgs),
    /// Show everything about one backup
    Describe(NameArgs),
    /// Print a backup's log
    Logs(LogsArgs),
    /// Stop a backup that runs
    Cancel(NameArgs),
    /// Remove a backup, its snapshots and its log
    Delete(NameArgs),
}

/// One backup or restore.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// One backup's or restore's log.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Its name
    pub(crate) name: String,
    /// Go on until it has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

impl BackupCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        match self {
            Self::Create(args) => args.run(cancel).await,
            Self::Get(args) => args.run().await,
            Self::Describe(args) => get::describe(args).await,
            Self::Logs(args) => {
                let client = args.client.connect().await?;
                run::print_log(&client, Kind::Backup, &args.name, args.follow, &cancel).await
            }
            Self::Cancel(args) => {
                let mut backups = args.client.connect().await?.backups();
                let request = v1::CancelBackupRequest { name: args.name };
                let answer = backups.cancel(request).await.map_err(refused)?.into_inner();
                get::print_one(args.output, answer.backup.unwrap_or_default())?;
                Ok(Outcome::Done)
            }
            Self::Delete(args) => {
                let mut backups = args.client.connect().await?.backups();
                let request = v1::DeleteBackupRequest { name: args.name };
                backups.delete(request).await.map_err(refused)?;
                Ok(Outcome::Done)
            }
        }
    }
}
