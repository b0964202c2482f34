//! `orlop schedule …`: what a client asks of the server about schedules.

mod create;
mod update;

use anyhow::Result;
use clap::{Args, Subcommand};
use orlop_core::VolumeRef;
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::{
    backup::{self, NameArgs},
    run::{self, Kind},
};
use crate::{
    client::{ClientArgs, refused},
    exit::Outcome,
    output::OutputArgs,
    shapes::ScheduleShape,
};

/// Verbs on schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Make a schedule
    Create(create::CreateArgs),
    /// Show all schedules, or one
    Get(GetArgs),
    /// Change a schedule; what is not given stays as it is
    Update(update::UpdateArgs),
    /// Remove a schedule; its backups stay
    Delete(NameArgs),
    /// Let turns pass without a backup
    Pause(NameArgs),
    /// Make backups again; turns that passed are not made up for
    Resume(NameArgs),
    /// Make a backup now
    Trigger(TriggerArgs),
}

/// Which schedules.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of one schedule; all if left out
    name: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A schedule whose turn is to come now.
#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// Name of the schedule
    name: String,
    /// Wait until the backup has ended
    #[arg(short, long)]
    wait: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a schedule backs up.
#[derive(Debug, Args)]
pub(crate) struct WhatArgs {
    /// Only pods of this namespace
    #[arg(short = 'n', long = "namespace", value_name = "NS")]
    namespaces: Vec<String>,
    /// Only this pod
    #[arg(long = "pod", value_name = "NS/POD")]
    pods: Vec<String>,
    /// Exactly this volume, whatever the pod's annotations say
    #[arg(long = "volume", value_name = "NS/POD/VOL", conflicts_with_all = ["namespaces", "pods"])]
    volumes: Vec<VolumeRef>,
    /// Leave out entries that match, with what is below them: * and ? within a name, ** across directories, a leading / for the
    /// volume's root (without it anywhere), a trailing / for directories only
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Label of the snapshots
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

impl ScheduleCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        match self {
            Self::Create(args) => args.run().await,
            Self::Get(args) => args.run().await,
            Self::Update(args) => args.run().await,
            Self::Delete(args) => {
                let mut schedules = args.client.connect().await?.schedules();
                let request = v1::DeleteScheduleRequest { name: args.name };
                schedules.delete(request).await.map_err(refused)?;
                Ok(Outcome::Done)
            }
            Self::Pause(args) => pause(args, true).await,
            Self::Resume(args) => pause(args, false).await,
            Self::Trigger(args) => args.run(cancel).await,
        }
    }
}

impl GetArgs {
    async fn run(self) -> Result<Outcome> {
        let mut schedules = self.client.connect().await?.schedules();
        if let Some(name) = self.name {
            let request = v1::GetScheduleRequest { name };
            let answer = schedules.get(request).await.map_err(refused)?.into_inner();
            return print_one(self.output, answer.schedule);
        }
        let request = v1::ListSchedulesRequest {};
        let answer = schedules.list(request).await.map_err(refused)?.into_inner();
        let list: Vec<ScheduleShape> = answer.schedules.into_iter().map(Into::into).collect();
        self.output
            .print(&list, |list| ScheduleShape::table(list))?;
        Ok(Outcome::Done)
    }
}

impl TriggerArgs {
    async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let client = self.client.connect().await?;
        let request = v1::TriggerScheduleRequest { name: self.name };
        let answer = client.schedules().trigger(request).await.map_err(refused)?;
        let begun = answer.into_inner().backup.unwrap_or_default();
        if !self.wait {
            backup::print_one(self.output, begun)?;
            return Ok(Outcome::Done);
        }
        let run = run::wait(&client, Kind::Backup, &begun.name, self.quiet, &cancel).await?;
        let request = v1::GetBackupRequest { name: begun.name };
        let answer = client.backups().get(request).await.map_err(refused)?;
        backup::print_one(self.output, answer.into_inner().backup.unwrap_or_default())?;
        run::verdict(&run)
    }
}

async fn pause(args: NameArgs, paused: bool) -> Result<Outcome> {
    let mut schedules = args.client.connect().await?.schedules();
    let request = v1::PauseScheduleRequest {
        name: args.name,
        paused,
    };
    let answer = schedules.pause(request).await.map_err(refused)?;
    print_one(args.output, answer.into_inner().schedule)
}

/// Prints one schedule as an object, or as a table of one line.
fn print_one(output: OutputArgs, schedule: Option<v1::Schedule>) -> Result<Outcome> {
    let shape = ScheduleShape::from(schedule.unwrap_or_default());
    output.print(&shape, |shape| {
        ScheduleShape::table(std::slice::from_ref(shape))
    })?;
    Ok(Outcome::Done)
}
