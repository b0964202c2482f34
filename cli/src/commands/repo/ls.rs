//! `orlop repo ls`.

use std::ffi::OsString;

use anyhow::{Error, Result};
use clap::Args;
use orlop_repository::{Entry, EntryKind, ReadSession};
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
    #[command(flatten)]
    output: OutputArgs,
}

impl LsArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let repository = self.repo.open().await?;
        let snapshot = repository.resolve(&self.snapshot).await?.id;
        let path = self.path.as_deref().map(manifest_path).unwrap_or_default();
        with_session(repository, snapshot, cancel, move |session| {
            let entries = listed(session, &path, self.recursive)?;
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
) -> Result<Box<dyn Iterator<Item = Result<Entry>> + 'a>> {
    let mut entries = session.entries_below(path);
    let Some(first) = entries.next().transpose()? else {
        // Words the error as every other verb does.
        return Ok(Box::new(std::iter::once(
            session.entry(path).map_err(Error::from),
        )));
    };
    let is_directory = first.kind == EntryKind::Directory;
    let own = (!is_directory).then_some(Ok(first));
    // A directory's own entries come before anything deeper.
    let below = entries
        .take_while(move |entry| {
            is_directory
                && (recursive || entry.as_ref().map_or(true, |entry| entry.parent() == path))
        })
        .map(|entry| entry.map_err(Error::from));
    Ok(Box::new(own.into_iter().chain(below)))
}
