//! `orlop restore create`.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
};

use anyhow::Result;
use clap::Args;
use orlop_core::{RestoreMode, VolumeRef};
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    RunArgs,
    objects::{ObjectArgs, velero_object},
    submit::{made_up_name, mode_to_wire, submit},
};
use crate::{
    client::{Client, ClientArgs, refused},
    commands::{backup::to_wire, repo::manifest_path},
    exit::{self, Outcome},
};

/// What to restore, and where to. Of a backup of a cluster its Kubernetes objects are made again, and the volumes of their
/// pods follow; all else restores volumes into what exists.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the restore; made from the backup's name and the time if left out
    name: Option<String>,
    /// Restore this backup: its objects and volumes
    #[arg(long, value_name = "BACKUP", required_unless_present = "snapshots")]
    from_backup: Option<String>,
    /// Restore this snapshot into the volume it was made of, or into another
    #[arg(
        long = "snapshot",
        value_name = "SNAPSHOT[=NS/POD/VOL]",
        conflicts_with = "from_backup"
    )]
    snapshots: Vec<String>,
    /// Restore what was in one namespace into another
    #[arg(long, value_name = "FROM:TO", value_parser = mapping)]
    namespace_mapping: Vec<(String, String)>,
    #[command(flatten)]
    objects: ObjectArgs,
    /// Restore the volumes alone, into pods that exist
    #[arg(long)]
    volumes_only: bool,
    /// Restore volumes of one pod into those of another
    #[arg(long, value_name = "FROM:TO", value_parser = mapping)]
    pod_mapping: Vec<(String, String)>,
    /// What to do with what the volumes hold: refuse it (empty), replace entries of the same name and keep others as Velero
    /// does (overwrite, the default), make the volume exactly as it was (exact), or leave it alone and restore into a
    /// directory in the volume that has the restore's name (new-dir)
    #[arg(long)]
    mode: Option<RestoreMode>,
    /// Restore only this entry and what is below it
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Location of the snapshots; that of the backup, or the one that has them, if left out
    #[arg(long, default_value = "", hide_default_value = true)]
    location: String,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    client: ClientArgs,
}

impl CreateArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        // Before anybody is asked.
        let volumes = self.snapshots.iter().map(|text| volume(text));
        let volumes = volumes.collect::<Result<Vec<_>>>()?;
        let client = self.client.connect().await?;
        let object = match &self.from_backup {
            Some(backup) => self.object(&client, backup).await?,
            None => None,
        };
        let mut request = v1::CreateRestoreRequest {
            name: self
                .name
                .unwrap_or_else(|| made_up_name(self.from_backup.as_deref())),
            from_backup: self.from_backup.unwrap_or_default(),
            location: self.location,
            ..Default::default()
        };
        if let Some(object) = object {
            request.velero_object = object.into();
        } else {
            if self.objects.is_given() {
                return Err(exit::usage(
                    "there are no Kubernetes objects to choose from: leave out the options that choose objects, or name a \
                     backup of a cluster with --from-backup and without --volumes-only",
                ));
            }
            request.volumes = volumes;
            request.namespace_mapping = self
                .namespace_mapping
                .into_iter()
                .collect::<HashMap<_, _>>();
            request.pod_mapping = self.pod_mapping.into_iter().collect::<HashMap<_, _>>();
            request.mode = mode_to_wire(self.mode.unwrap_or(RestoreMode::Overwrite));
            request.path = manifest_path(self.path.as_deref().unwrap_or(OsStr::new(""))).into();
        }
        submit(&client, request, &self.run, &cancel).await
    }

    /// The object that says which Kubernetes objects of the backup are made again; `None` if it has none, or if its
    /// volumes alone are wanted.
    async fn object(&self, client: &Client, backup: &str) -> Result<Option<Vec<u8>>> {
        if self.volumes_only || !has_objects(client, backup).await? {
            return Ok(None);
        }
        let for_volumes = [
            ("--mode", self.mode.is_some()),
            ("--path", self.path.is_some()),
            ("--pod-mapping", !self.pod_mapping.is_empty()),
        ];
        if let Some((option, _)) = for_volumes.iter().find(|(_, is_given)| *is_given) {
            return Err(exit::usage(format!(
                "{option} is for volumes of pods that exist, and backup {backup} has Kubernetes objects to make again: \
                 restore its volumes alone with --volumes-only, or leave out {option}"
            )));
        }
        velero_object(backup, &self.namespace_mapping, &self.objects).map(Some)
    }
}

/// Whether a backup that the server knows has Kubernetes objects. Of one that it does not know there may be snapshots.
async fn has_objects(client: &Client, backup: &str) -> Result<bool> {
    let request = v1::GetBackupRequest {
        name: backup.to_owned(),
    };
    match client.backups().get(request).await {
        Ok(answer) => {
            let objects = answer.into_inner().backup.and_then(|one| one.objects);
            Ok(objects.is_some_and(|objects| objects.total > 0))
        }
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(refused(status)),
    }
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
        claim: None,
    })
}
