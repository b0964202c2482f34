//! `orlop backup create`.

use anyhow::Result;
use clap::Args;
use orlop_core::VolumeRef;
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::get::print_one;
use crate::{
    client::{ClientArgs, refused},
    commands::run::{self, Kind},
    exit::{self, Outcome},
    output::OutputArgs,
};

/// What to back up; without -n, --pod and --volume every eligible volume.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the backup
    name: String,
    /// Only pods of this namespace
    #[arg(short = 'n', long = "namespace", value_name = "NS")]
    namespaces: Vec<String>,
    /// Only this pod
    #[arg(long = "pod", value_name = "NS/POD")]
    pods: Vec<String>,
    /// Exactly this volume, whatever the pod's annotations say
    #[arg(long = "volume", value_name = "NS/POD/VOL", conflicts_with_all = ["namespaces", "pods"])]
    volumes: Vec<VolumeRef>,
    /// Location of the repository
    #[arg(long, default_value = "", hide_default_value = true)]
    location: String,
    /// How long to keep it, such as 720h or 30d; for ever if left out
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// Leave out entries that match, with what is below them: * and ? within a name, ** across directories, a leading / for the
    /// volume's root (without it anywhere), a trailing / for directories only
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Label of the snapshots
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Read every file again
    #[arg(long)]
    force_full: bool,
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

impl CreateArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let client = self.client.connect().await?;
        let request = v1::CreateBackupRequest {
            name: self.name.clone(),
            namespaces: self.namespaces,
            pods: self.pods,
            volumes: self.volumes.into_iter().map(to_wire).collect(),
            location: self.location,
            ttl_seconds: self.ttl.unwrap_or(0),
            exclude: self.exclude,
            tags: self.tags,
            force_full: self.force_full,
            schedule: String::new(),
            velero_object: Vec::new().into(),
        };
        let answer = client
            .backups()
            .create(request)
            .await
            .map_err(refused)?
            .into_inner();
        if !self.wait {
            print_one(self.output, answer.backup.unwrap_or_default())?;
            return Ok(Outcome::Done);
        }
        let run = run::wait(&client, Kind::Backup, &self.name, self.quiet, &cancel).await?;
        let request = v1::GetBackupRequest { name: self.name };
        let answer = client
            .backups()
            .get(request)
            .await
            .map_err(refused)?
            .into_inner();
        print_one(self.output, answer.backup.unwrap_or_default())?;
        run::verdict(&run)
    }
}

/// A volume as the wire names it.
pub(crate) fn to_wire(volume: VolumeRef) -> v1::VolumeRef {
    v1::VolumeRef {
        namespace: volume.namespace,
        pod: volume.pod,
        volume: volume.volume,
    }
}

/// `90s`, `15m`, `720h` or `30d` in seconds.
pub(crate) fn seconds(text: &str) -> Result<u64> {
    let bad = || {
        exit::usage(format!(
            "{text:?} is not a time: write 90s, 15m, 720h or 30d"
        ))
    };
    let unit = text.chars().last().ok_or_else(bad)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    number
        .checked_mul(factor)
        .filter(|n| *n > 0)
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_has_a_unit() {
        assert_eq!(seconds("720h").unwrap(), 2_592_000);
        assert_eq!(seconds("30d").unwrap(), seconds("720h").unwrap());
        for bad in ["", "7", "0h", "-1h", "1w", "é"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
