//! `orlop repo ls`.

use std::ffi::OsString;

use anyhow::{Error, Result};
use clap::Args;
use orlop_agent::scan::Pattern;
use orlop_repository::{Entry, EntryKind, ReadSession, Scope};
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, manifest_path, with_session};
use crate::{exit::Outcome, output::OutputArgs, shapes::EntryShape};

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Id of the snapshot, the beginning of one, latest, or latest:NS/POD/VOL
    snapshot: String,
    /// A directory, whose entries are listed, or a file; the volume's root if left out
    path: Option<OsString>,
    /// List everything below, not only a directory's own entries
    #[arg(short = 'R', long)]
    recursive: bool,
    /// List only entries that match, at any depth; may be given several times. Patterns are those of
    /// --exclude: * and ? within a name, ** across directories, a leading / for the volume's root
    #[arg(long, value_name = "PATTERN")]
    include: Vec<Pattern>,
    #[command(flatten)]
    output: OutputArgs,
}

impl LsArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let snapshot = repository.resolve(&self.snapshot).await?.id;
        let path = self.path.as_deref().map(manifest_path).unwrap_or_default();
        with_session(repository, snapshot, cancel, move |session| {
            let entries = listed(session, &path, self.recursive, &self.include)?;
            self.output.print_each(
                entries.map(|entry| entry.map(|entry| EntryShape::from(&entry))),
                EntryShape::line,
            )
        })
        .await?;
        Ok(Outcome::Done)
    }
}

/// The entries of a directory, or the entry itself if it is none.
fn listed<'a>(
    session: &'a ReadSession,
    path: &'a [u8],
    recursive: bool,
    include: &'a [Pattern],
) -> Result<Box<dyn Iterator<Item = Result<Entry>> + 'a>> {
    let first = session.entry(path)?;
    if first.kind != EntryKind::Directory {
        return Ok(Box::new(std::iter::once(Ok(first))));
    }
    let scope = if !recursive && include.is_empty() {
        Scope::default().listing(path)
    } else if include.is_empty() || !path.is_empty() {
        Scope::default().tree(path)
    } else {
        // Pages that can hold no match are not read.
        let directories = include.iter().map(Pattern::directory);
        directories.fold(Scope::default(), |scope, directory| scope.tree(&directory))
    };
    let wanted = move |entry: &Entry| {
        let is_directory = entry.kind == EntryKind::Directory;
        let means = |pattern: &Pattern| pattern.matches(&entry.path, is_directory);
        entry.path != path && (include.is_empty() || include.iter().any(means))
    };
    let entries = session.entries_in(scope);
    let entries = entries.filter(move |entry| entry.as_ref().map_or(true, wanted));
    Ok(Box::new(entries.map(|entry| entry.map_err(Error::from))))
}
