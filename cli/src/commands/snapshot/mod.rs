//! `orlop snapshot …`: looks into snapshots through the server.

mod file;

use std::ffi::OsString;

use anyhow::Result;
use clap::{Args, Subcommand};
use orlop_core::VolumeRef;
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::backup::to_wire;
use crate::{
    client::{ClientArgs, refused},
    exit::{self, Outcome},
    output::OutputArgs,
    shapes::{EntryShape, SnapshotShape},
};

/// Verbs on snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List snapshots, oldest first
    Ls(LsArgs),
    /// List what is in a snapshot
    Browse(BrowseArgs),
    /// Show a snapshot, or get a file of it
    Get(file::GetArgs),
}

/// Where to look.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Look in this location only
    #[arg(long, default_value = "", hide_default_value = true)]
    location: String,
}

/// Which snapshots.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only those of this backup
    #[arg(long, default_value = "", hide_default_value = true)]
    backup: String,
    /// Only those of this namespace
    #[arg(
        short,
        long,
        value_name = "NS",
        default_value = "",
        hide_default_value = true
    )]
    namespace: String,
    /// Only those of this volume
    #[arg(long, value_name = "NS/POD/VOL")]
    volume: Option<VolumeRef>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct BrowseArgs {
    /// Id of the snapshot, the beginning of one, latest, or latest:NS/POD/VOL
    snapshot: String,
    /// A directory, whose entries are listed, or a file
    #[arg(default_value = "", hide_default_value = true)]
    path: OsString,
    /// List everything below, not only a directory's own entries
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl SnapshotCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let work = async {
            match self {
                Self::Ls(args) => list(args).await,
                Self::Browse(args) => browse(args).await,
                Self::Get(args) => args.run().await,
            }
        };
        tokio::select! {
            result = work => result,
            () = cancel.cancelled() => Err(exit::failure(exit::INTERRUPTED, "interrupted")),
        }
    }
}

async fn list(args: LsArgs) -> Result<Outcome> {
    let request = v1::ListSnapshotsRequest {
        backup: args.backup,
        namespace: args.namespace,
        volume: args.volume.map(to_wire),
        location: args.place.location,
    };
    let mut snapshots = args.client.connect().await?.snapshots();
    let answer = snapshots.list(request).await.map_err(refused)?.into_inner();
    let list: Vec<SnapshotShape> = answer
        .snapshots
        .into_iter()
        .map(SnapshotShape::from)
        .collect();
    args.output
        .print(&list, |list| SnapshotShape::table(list))?;
    Ok(Outcome::Done)
}

async fn browse(args: BrowseArgs) -> Result<Outcome> {
    let path = super::repo::manifest_path(&args.path);
    let request = v1::ListEntriesRequest {
        snapshot: args.snapshot,
        path: path.clone().into(),
        recursive: args.recursive,
        location: args.place.location,
    };
    let mut snapshots = args.client.connect().await?.snapshots();
    let mut parts = snapshots
        .list_entries(request)
        .await
        .map_err(refused)?
        .into_inner();
    let mut printer = args.output.printer();
    let mut first = true;
    while let Some(part) = parts.message().await.map_err(refused)? {
        for entry in part.entries {
            // The directory that was asked for is not one of its own entries.
            let itself = std::mem::take(&mut first) && entry.kind() == v1::EntryKind::Directory;
            if !(itself && entry.path == path) {
                printer.item(&EntryShape::from(entry), EntryShape::line)?;
            }
        }
    }
    printer.finish()?;
    Ok(Outcome::Done)
}
