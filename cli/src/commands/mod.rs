//! The command line: one file per verb.

mod agent;
mod backup;
mod bootstrap;
mod cluster;
mod completions;
mod coordinator;
mod crds;
mod install;
mod limits;
mod location;
mod repo;
mod restore;
mod restore_wait;
pub(crate) mod run;
mod schedule;
mod snapshot;
pub(crate) mod standalone;
mod status;
mod volume;

use std::{pin::Pin, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use orlop_runtime::logging::{self, LogFormat};
use tokio_util::sync::CancellationToken;

use crate::{
    demo,
    exit::{self, Outcome},
};

/// How long a verb that is interrupted may take to say where things stand.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Backs up and restores the volumes of Kubernetes pods, node by node
#[derive(Debug, Parser)]
#[command(
    name = "orlop",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work on a repository directly, without a server
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// Back up volumes through the server, and look at backups
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Restore backups and volumes through the server, and look at restores
    #[command(subcommand)]
    Restore(restore::RestoreCommand),
    /// Make backups again and again through the server, and look at schedules
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Say where backups are kept, and look after these places, through the server
    #[command(subcommand)]
    Location(location::LocationCommand),
    /// Look into snapshots through the server
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Restore data into volumes that exist, through the server
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Show nodes, volumes, locations and schedules: is everything in order?
    Status(status::StatusArgs),
    /// Run coordinator and agent in one process on one machine
    Standalone(standalone::StandaloneArgs),
    /// Run the coordinator
    Coordinator(coordinator::CoordinatorArgs),
    /// Run the agent of this node
    Agent(agent::AgentArgs),
    /// Wait in an init container until the restore of the pod's volumes has ended
    RestoreWait(restore_wait::RestoreWaitArgs),
    /// Show the whole job on made-up data, in a temporary directory
    Demo(demo::DemoArgs),
    /// Install into a Kubernetes cluster, or print what would be
    Install(install::InstallArgs),
    /// Begin in an empty cluster with backups that exist: install, list them, restore
    Bootstrap(bootstrap::BootstrapArgs),
    /// Print the definitions of Velero's custom resources
    Crds(crds::CrdsArgs),
    /// Print a script that completes orlop's words in a shell
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Runs the verb; `cancel` is cancelled by a signal.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let daemon = matches!(
            self.command,
            Command::Standalone(_) | Command::Coordinator(_) | Command::Agent(_)
        );
        let json = std::env::var("ORLOP_LOG_FORMAT").is_ok_and(|format| format == "json");
        let format = if json {
            LogFormat::Json
        } else {
            LogFormat::Text
        };
        logging::init_from(format, if daemon { "info" } else { "warn" });
        match self.command {
            Command::Repo(command) => Box::pin(command.run(cancel)).await,
            Command::Backup(command) => {
                asking(Box::pin(command.run(cancel.clone())), &cancel).await
            }
            Command::Restore(command) => {
                asking(Box::pin(command.run(cancel.clone())), &cancel).await
            }
            Command::Schedule(command) => {
                asking(Box::pin(command.run(cancel.clone())), &cancel).await
            }
            Command::Location(command) => {
                asking(Box::pin(command.run(cancel.clone())), &cancel).await
            }
            Command::Snapshot(command) => {
                asking(Box::pin(command.run(cancel.clone())), &cancel).await
            }
            Command::Volume(command) => {
                asking(Box::pin(command.run(cancel.clone())), &cancel).await
            }
            Command::Status(args) => asking(Box::pin(args.run()), &cancel).await,
            Command::Standalone(args) => args.run(cancel).await,
            Command::Coordinator(args) => args.run(cancel).await,
            Command::Agent(args) => args.run(cancel).await,
            Command::RestoreWait(args) => args.run(cancel).await,
            Command::Demo(args) => demo::run(args, cancel).await,
            Command::Install(args) => args.run(cancel).await,
            Command::Bootstrap(args) => args.run(cancel).await,
            Command::Crds(args) => args.run(),
            Command::Completions(args) => Ok(args.run()),
        }
    }
}

/// Ends a verb that asks a server and is interrupted, unless it soon ends by itself and says more.
async fn asking(
    mut verb: Pin<Box<dyn Future<Output = Result<Outcome>>>>,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    tokio::select! {
        biased;
        ended = &mut verb => return ended,
        () = cancel.cancelled() => {}
    }
    let ended = tokio::time::timeout(LAST_WORDS, verb).await;
    ended.unwrap_or_else(|_| {
        Err(exit::failure(
            exit::INTERRUPTED,
            "interrupted before the server has answered",
        ))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
