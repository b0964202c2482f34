//! `orlop restore get` and `describe`.

use anyhow::Result;
use clap::Args;
use orlop_proto::v1;

use crate::{
    client::{ClientArgs, refused},
    commands::backup::NameArgs,
    exit::Outcome,
    output::OutputArgs,
    shapes::{RestoreRunShape, Run},
};

/// Which restores.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of one restore; all if left out
    name: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl GetArgs {
    pub(crate) async fn run(self) -> Result<Outcome> {
        let mut restores = self.client.connect().await?.restores();
        if let Some(name) = self.name {
            let answer = restores
                .get(v1::GetRestoreRequest { name })
                .await
                .map_err(refused)?;
            print_one(self.output, answer.into_inner().restore.unwrap_or_default())?;
        } else {
            let answer = restores
                .list(v1::ListRestoresRequest {})
                .await
                .map_err(refused)?;
            let list = answer.into_inner().restores;
            let runs: Vec<Run> = list.iter().cloned().map(Run::from).collect();
            let shapes: Vec<RestoreRunShape> =
                list.into_iter().map(RestoreRunShape::from).collect();
            self.output.print(&shapes, |_| Run::table(&runs))?;
        }
        Ok(Outcome::Done)
    }
}

/// Prints one restore as an object, or as a table of one line.
pub(crate) fn print_one(output: OutputArgs, restore: v1::Restore) -> Result<()> {
    let run = Run::from(restore.clone());
    output.print(&RestoreRunShape::from(restore), |_| Run::table(&[run]))
}

/// Everything about one restore.
pub(crate) async fn describe(args: NameArgs) -> Result<Outcome> {
    let mut restores = args.client.connect().await?.restores();
    let answer = restores
        .get(v1::GetRestoreRequest { name: args.name })
        .await
        .map_err(refused)?;
    let restore = answer.into_inner().restore.unwrap_or_default();
    let run = Run::from(restore.clone());
    args.output
        .print(&RestoreRunShape::from(restore), |_| run.description())?;
    Ok(Outcome::Done)
}
