//! `orlop volume …`: data of volumes that exist.

use std::{ffi::OsString, str::FromStr};

use anyhow::Result;
use clap::{Args, Subcommand};
use orlop_core::{RestoreMode, VolumeRef, run::ClaimRef};
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::{
    backup::to_wire,
    repo::manifest_path,
    restore::{RunArgs, made_up_name, mode_to_wire, submit},
};
use crate::{client::ClientArgs, exit::Outcome};

/// Verbs on volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Restore a snapshot's data, or a part of it, into a volume that exists
    Restore(RestoreArgs),
}

/// What to restore, and into which volume. The pod may run: it then sees its files change. Links in the volume are not
/// followed, whatever the pod does.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Id of the snapshot, the beginning of one, or latest:NS/POD/VOL
    #[arg(long, value_name = "SNAPSHOT")]
    from: String,
    /// The volume of a pod, or in a cluster the claim of one: its volume in a pod that mounts it
    #[arg(long, value_name = "NS/POD/VOL|NS/PVC")]
    to: Target,
    /// Restore only this entry and what is below it
    #[arg(
        long,
        value_name = "PATH",
        default_value = "",
        hide_default_value = true
    )]
    path: OsString,
    /// What to do with what the volume holds: refuse it (empty), replace entries of the same name and keep others
    /// (overwrite), make the volume exactly as it was (exact), or leave it alone and restore into a directory in the volume
    /// that has the restore's name (new-dir)
    #[arg(long, default_value_t = RestoreMode::Overwrite)]
    mode: RestoreMode,
    /// Name of the restore; made from the time if left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Location of the snapshot; the one that has it, if left out
    #[arg(long, default_value = "", hide_default_value = true)]
    location: String,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// A volume as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Volume(VolumeRef),
    Claim(ClaimRef),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [namespace, claim] if !namespace.is_empty() && !claim.is_empty() => {
                Ok(Self::Claim(ClaimRef {
                    namespace: namespace.to_owned(),
                    claim: claim.to_owned(),
                }))
            }
            [_, _, _] => text
                .parse()
                .map(Self::Volume)
                .map_err(|error: orlop_core::ParseVolumeError| error.to_string()),
            _ => Err(format!(
                "{text:?} names no volume: write NAMESPACE/POD/VOLUME, or NAMESPACE/CLAIM"
            )),
        }
    }
}

impl Target {
    fn to_wire(&self) -> (Option<v1::VolumeRef>, Option<v1::ClaimRef>) {
        match self {
            Self::Volume(volume) => (Some(to_wire(volume.clone())), None),
            Self::Claim(claim) => {
                let claim = v1::ClaimRef {
                    namespace: claim.namespace.clone(),
                    claim: claim.claim.clone(),
                };
                (None, Some(claim))
            }
        }
    }
}

impl VolumeCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        match self {
            Self::Restore(args) => args.run(&cancel).await,
        }
    }
}

impl RestoreArgs {
    async fn run(self, cancel: &CancellationToken) -> Result<Outcome> {
        let name = self.name.unwrap_or_else(|| made_up_name(None));
        let (target, claim) = self.to.to_wire();
        let volume = v1::RestoreVolume {
            snapshot: self.from,
            target,
            claim,
        };
        let request = v1::CreateRestoreRequest {
            name: name.clone(),
            volumes: vec![volume],
            mode: mode_to_wire(self.mode),
            path: manifest_path(&self.path).into(),
            location: self.location,
            ..Default::default()
        };
        let client = self.client.connect().await?;
        if !self.run.quiet {
            match self.mode {
                RestoreMode::NewDir => {
                    eprintln!("restoring into the new directory {name} in the volume's root");
                }
                _ => eprintln!(
                    "warning: a pod that runs sees its files change: what it has open or keeps in memory may not be what it \
                     finds then; restart it afterwards"
                ),
            }
        }
        submit(&client, request, &self.run, cancel).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_are_a_claim_and_three_a_volume() {
        let claim = ClaimRef {
            namespace: "ns".to_owned(),
            claim: "data".to_owned(),
        };
        assert_eq!("ns/data".parse(), Ok(Target::Claim(claim)));
        let volume = VolumeRef::new("ns", "pod", "data");
        assert_eq!("ns/pod/data".parse(), Ok(Target::Volume(volume)));
        for bad in ["", "data", "/data", "ns/", "ns//data", "a/b/c/d"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }
}
