//! `orlop restore create`.

use std::{collections::HashMap, ffi::OsString, os::unix::ffi::OsStrExt as _};

use anyhow::Result;
use clap::Args;
use orlop_core::{RestoreMode, VolumeRef};
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::get::print_one;
use crate::{
    client::{ClientArgs, refused},
    commands::{
        backup::to_wire,
        run::{self, Kind},
    },
    exit::{self, Outcome},
    output::OutputArgs,
};

/// What to restore, and where to.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the restore; made from the backup's name and the time if left out
    name: Option<String>,
    /// Restore every volume of this backup
    #[arg(long, value_name = "BACKUP", required_unless_present = "snapshots")]
    from_backup: Option<String>,
    /// Restore this snapshot into the volume it was made of, or into another
    #[arg(
        long = "snapshot",
        value_name = "SNAPSHOT[=NS/POD/VOL]",
        conflicts_with = "from_backup"
    )]
    snapshots: Vec<String>,
    /// Restore pods of one namespace into another
    #[arg(long, value_name = "FROM:TO", value_parser = mapping)]
    namespace_mapping: Vec<(String, String)>,
    /// Restore volumes of one pod into those of another
    #[arg(long, value_name = "FROM:TO", value_parser = mapping)]
    pod_mapping: Vec<(String, String)>,
    /// What to do with what the volumes hold: refuse it (empty), replace entries of the same name and
    /// keep others as Velero does (overwrite), or make the volume exactly as it was (exact)
    #[arg(long, default_value_t = RestoreMode::Overwrite)]
    mode: RestoreMode,
    /// Restore only this entry and what is below it
    #[arg(
        long,
        value_name = "PATH",
        default_value = "",
        hide_default_value = true
    )]
    path: OsString,
    /// Location of the snapshots; that of the backup, or the one that has them, if left out
    #[arg(long, default_value = "", hide_default_value = true)]
    location: String,
    /// Wait until the restore has ended
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

impl CreateArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let mode = match self.mode {
            RestoreMode::Empty => v1::RestoreMode::Empty,
            RestoreMode::Overwrite => v1::RestoreMode::Overwrite,
            RestoreMode::Exact => v1::RestoreMode::Exact,
            RestoreMode::NewDir => {
                return Err(exit::usage(
                    "a volume's directory exists already: use the mode empty, overwrite or exact",
                ));
            }
        };
        let name = self
            .name
            .unwrap_or_else(|| made_up_name(self.from_backup.as_deref()));
        let request = v1::CreateRestoreRequest {
            name: name.clone(),
            from_backup: self.from_backup.unwrap_or_default(),
            volumes: self
                .snapshots
                .iter()
                .map(|text| volume(text))
                .collect::<Result<_>>()?,
            namespace_mapping: self
                .namespace_mapping
                .into_iter()
                .collect::<HashMap<_, _>>(),
            pod_mapping: self.pod_mapping.into_iter().collect::<HashMap<_, _>>(),
            mode: mode.into(),
            path: self.path.as_bytes().to_vec().into(),
            location: self.location,
            ..Default::default()
        };
        let client = self.client.connect().await?;
        let answer = client
            .restores()
            .create(request)
            .await
            .map_err(refused)?
            .into_inner();
        if !self.wait {
            print_one(self.output, answer.restore.unwrap_or_default())?;
            return Ok(Outcome::Done);
        }
        let run = run::wait(&client, Kind::Restore, &name, self.quiet, &cancel).await?;
        let request = v1::GetRestoreRequest { name };
        let answer = client
            .restores()
            .get(request)
            .await
            .map_err(refused)?
            .into_inner();
        print_one(self.output, answer.restore.unwrap_or_default())?;
        run::verdict(&run)
    }
}

/// `BACKUP-20260131140000`.
fn made_up_name(backup: Option<&str>) -> String {
    let now = jiff::Timestamp::now().strftime("%Y%m%d%H%M%S");
    format!("{}-{now}", backup.unwrap_or("restore"))
}

/// `FROM:TO`.
fn mapping(text: &str) -> Result<(String, String)> {
    match text.split_once(':') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            Ok((from.to_owned(), to.to_owned()))
        }
        _ => Err(exit::usage(format!("{text:?} is not FROM:TO"))),
    }
}

/// `SNAPSHOT` or `SNAPSHOT=NS/POD/VOL`.
fn volume(text: &str) -> Result<v1::RestoreVolume> {
    let (snapshot, target) = match text.split_once('=') {
        Some((snapshot, target)) => {
            let target: VolumeRef = target.parse().map_err(|e| exit::usage(format!("{e}")))?;
            (snapshot, Some(to_wire(target)))
        }
        None => (text, None),
    };
    Ok(v1::RestoreVolume {
        snapshot: snapshot.to_owned(),
        target,
    })
}
