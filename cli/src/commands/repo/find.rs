//! `orlop repo find`.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use anyhow::Result;
use clap::Args;
use orlop_agent::scan::Pattern;
use orlop_core::{SnapshotId, VolumeRef};
use orlop_repository::{
    Entry, EntryKind, Error, Finder, ReadSession, Repository, Scope, SnapshotInfo, SnapshotState,
};
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, on_thread};
use crate::{
    exit::{self, Outcome},
    output::OutputArgs,
    shapes::FoundShape,
};

/// What to look for, and where.
#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Patterns of paths as for `ls --include`: * and ? within a name, ** across directories, a leading / for
    /// the volume's root; an entry that one of them means is found
    #[arg(required = true)]
    patterns: Vec<Pattern>,
    /// Only in snapshots of this volume, NS/POD/VOL; may be given several times
    #[arg(short = 'n', long = "volume", value_name = "NS/POD/VOL")]
    volumes: Vec<VolumeRef>,
    /// Only in this snapshot: an id, the beginning of one, latest, or latest:NS/POD/VOL; may be given several
    /// times
    #[arg(long = "snapshot", value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Only in the newest snapshot of each volume
    #[arg(long)]
    newest: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl FindArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let snapshots = self.chosen(&repository).await?;
        if snapshots.is_empty() {
            return Err(exit::not_found(
                "there is no such snapshot: list them with `orlop repo snapshots`",
            ));
        }
        let handle = tokio::runtime::Handle::current();
        // Nothing is collected that is still to be read.
        let reading = repository.begin_read_all().await?;
        let reader = Arc::clone(&repository);
        let (patterns, output) = (self.patterns, self.output);
        let found = on_thread(move || {
            let directories = patterns.iter().map(Pattern::directory);
            let scope =
                directories.fold(Scope::default(), |scope, directory| scope.tree(&directory));
            let wants = |entry: &Entry| {
                let is_directory = entry.kind == EntryKind::Directory;
                !entry.path.is_empty()
                    && patterns
                        .iter()
                        .any(|pattern| pattern.matches(&entry.path, is_directory))
            };
            let mut finder = Finder::new(scope, wants);
            let mut printer = output.printer();
            let mut search = |info: &SnapshotInfo| -> Result<()> {
                let session = ReadSession::open(
                    reader.browser(),
                    Arc::clone(reader.store()),
                    info.id,
                    handle.clone(),
                    cancel.clone(),
                )?;
                let first = RefCell::new(true);
                finder.search(&session, &mut |found| -> Result<()> {
                    let shape = FoundShape::new(info, found);
                    printer.item(&shape, |shape| shape.lines(first.replace(false)))
                })?;
                session.end();
                Ok(())
            };
            let mut failed = false;
            for info in &snapshots {
                match search(info) {
                    // What one snapshot has lost hides nothing of the others.
                    Err(error) if error.downcast_ref().is_some_and(Error::is_loss) => {
                        eprintln!("error: cannot search snapshot {}: {error}", info.id);
                        failed = true;
                    }
                    result => result?,
                }
            }
            printer.finish()?;
            Ok(failed)
        })
        .await;
        let ended = repository.end_read_all(reading).await;
        let failed = found?;
        ended?;
        Ok(Outcome::with_errors(failed))
    }

    /// The snapshots to look in, by volume and the oldest first.
    async fn chosen(&self, repository: &Repository) -> Result<Vec<SnapshotInfo>> {
        let mut chosen = Vec::new();
        if self.snapshots.is_empty() {
            chosen = repository.snapshots().await?;
            chosen.retain(|info| info.state != SnapshotState::Partial);
        }
        for text in &self.snapshots {
            let info = repository.resolve(text).await?;
            if !chosen
                .iter()
                .any(|other: &SnapshotInfo| other.id == info.id)
            {
                chosen.push(info);
            }
        }
        if !self.volumes.is_empty() {
            chosen.retain(|info| self.volumes.contains(&info.volume));
        }
        if self.newest {
            chosen.sort_by_key(|info| (info.time_ms, info.id));
            let newest: HashMap<String, SnapshotId> = chosen
                .iter()
                .map(|info| (info.volume.to_string(), info.id))
                .collect();
            chosen.retain(|info| newest.get(&info.volume.to_string()) == Some(&info.id));
        }
        chosen.sort_by_key(|info| (info.volume.to_string(), info.time_ms, info.id));
        Ok(chosen)
    }
}
