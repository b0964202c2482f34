//! `orlop backup get` and `describe`.

use anyhow::Result;
use clap::Args;
use orlop_proto::v1;

use super::NameArgs;
use crate::{
    client::{ClientArgs, refused},
    exit::Outcome,
    output::OutputArgs,
    shapes::{BackupRunShape, Run},
};

/// Which backups.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of one backup; all if left out
    name: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl GetArgs {
    pub(crate) async fn run(self) -> Result<Outcome> {
        let mut backups = self.client.connect().await?.backups();
        if let Some(name) = self.name {
            let answer = backups
                .get(v1::GetBackupRequest { name })
                .await
                .map_err(refused)?;
            print_one(self.output, answer.into_inner().backup.unwrap_or_default())?;
        } else {
            let answer = backups
                .list(v1::ListBackupsRequest {})
                .await
                .map_err(refused)?;
            let list = answer.into_inner().backups;
            let runs: Vec<Run> = list.iter().cloned().map(Run::from).collect();
            let shapes: Vec<BackupRunShape> = list.into_iter().map(BackupRunShape::from).collect();
            self.output.print(&shapes, |_| Run::table(&runs))?;
        }
        Ok(Outcome::Done)
    }
}

/// Prints one backup as an object, or as a table of one line.
pub(crate) fn print_one(output: OutputArgs, backup: v1::Backup) -> Result<()> {
    let run = Run::from(backup.clone());
    output.print(&BackupRunShape::from(backup), |_| Run::table(&[run]))
}

/// Everything about one backup.
pub(crate) async fn describe(args: NameArgs) -> Result<Outcome> {
    let mut backups = args.client.connect().await?.backups();
    let answer = backups
        .get(v1::GetBackupRequest { name: args.name })
        .await
        .map_err(refused)?;
    let backup = answer.into_inner().backup.unwrap_or_default();
    let run = Run::from(backup.clone());
    args.output
        .print(&BackupRunShape::from(backup), |_| run.description())?;
    Ok(Outcome::Done)
}
