//! `orlop repo backup`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_agent::backup::{self, BackupJob, Budget, CheckpointEvery};
use orlop_core::{Chunking, Monitor, VolumeRef};
use orlop_repository::Committer;
use tokio_util::sync::CancellationToken;

use super::{super::limits::LimitArgs, WriteArgs, on_thread};
use crate::{
    exit::{self, Outcome},
    node,
    output::OutputArgs,
    progress::Display,
    shapes::BackupShape,
    text,
};

/// What to back up.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    repo: WriteArgs,
    /// The volume that the directory is: later backups of the same volume build on this one
    #[arg(long, value_name = "NS/POD/VOL")]
    volume: VolumeRef,
    /// The directory
    path: PathBuf,
    /// Leave out entries that match, with what is below them: * and ? within a name, ** across directories, a leading / for the
    /// volume's root (without it anywhere), a trailing / for directories only
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Label of the snapshot
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Read every file again instead of trusting the previous snapshot's times and sizes
    #[arg(long)]
    force_full: bool,
    /// Keep what was done whenever so much was stored, such as 64MiB, or so much time has passed, such as 30s: a
    /// backup that is killed goes on from there (default: as much as fills 64 packs, or 2m)
    #[arg(long, value_name = "SIZE|TIME", value_parser = parse_every)]
    checkpoint_every: Option<CheckpointEvery>,
    /// How large files are cut: auto as the snapshot before has them, and new ones by what they look like; page at
    /// fixed places, for databases; fine in small chunks, for images of disks; content by their content
    #[arg(long, value_name = "WAY", default_value_t)]
    chunking: Chunking,
    #[command(flatten)]
    limits: LimitArgs,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl BackupArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let root = open_root(&self.path)?;
        let repository = self.repo.open().await?;
        let (volume, lineage) = (self.volume.clone(), self.volume.default_lineage());
        let job = BackupJob {
            root: root.into(),
            volume: self.volume,
            lineage: lineage.clone(),
            node: node::name(),
            backup: String::new(),
            tags: self.tags,
            exclude: self.exclude,
            force_full: self.force_full,
            checkpoint_every: self.checkpoint_every.unwrap_or_default(),
            budget: Budget::default(),
            limits: self.limits.limits(),
            chunking: self.chunking,
        };
        let display = Arc::new(Display::new("backup", self.quiet));
        let monitor: Arc<dyn Monitor> = display.clone();
        let committer: Arc<dyn Committer> = repository.clone();
        let (store, runtime) = (
            repository.store().clone(),
            tokio::runtime::Handle::current(),
        );
        let stop = cancel.clone();
        let report =
            on_thread(move || Ok(backup::run(job, committer, store, runtime, monitor, &stop)?))
                .await;
        display.finish();
        if report.is_err() && cancel.is_cancelled() {
            return Err(exit::interrupted());
        }
        let report = report?;
        let shape = BackupShape::new(&volume, &lineage, &report);
        self.output.print(&shape, BackupShape::table)?;
        Ok(Outcome::with_errors(report.errors > 0))
    }
}

/// Reads a size or a time; the other stays as it is by default.
fn parse_every(text: &str) -> Result<CheckpointEvery, String> {
    let default = CheckpointEvery::default();
    let read = match (text::parse_duration(text), text::parse_bytes(text)) {
        (Ok(time), _) if !time.is_zero() => Some(CheckpointEvery { time, ..default }),
        (_, Ok(bytes)) if bytes > 0 => Some(CheckpointEvery { bytes, ..default }),
        _ => None,
    };
    read.ok_or_else(|| "write a size such as 64MiB, or a time such as 30s".to_owned())
}

/// The directory, opened for reading.
fn open_root(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            exit::not_found(format!("{} does not exist", path.display()))
        }
        _ => anyhow::Error::new(error).context(format!("cannot open {}", path.display())),
    })?;
    if !kind.is_dir() {
        return Err(exit::usage(format!(
            "{} is not a directory: give the volume's root directory",
            path.display()
        )));
    }
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn checkpoints_come_after_a_size_or_a_time() {
        let default = CheckpointEvery::default();
        let bytes = CheckpointEvery {
            bytes: 64 << 20,
            ..default
        };
        assert_eq!(parse_every("64MiB"), Ok(bytes));
        let time = CheckpointEvery {
            time: Duration::from_secs(30),
            ..default
        };
        assert_eq!(parse_every("30s"), Ok(time));
        for text in ["", "0", "0s", "often", "-1s"] {
            assert!(parse_every(text).is_err(), "{text:?}");
        }
    }
}
