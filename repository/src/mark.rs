//! Which chunks committed snapshots need: read from reference pages, without a key to any content.

use std::{collections::HashSet, sync::Arc};

use orlop_core::SnapshotId;
use tokio::runtime::Handle;

use crate::{
    error::{Error, Result},
    frame::FrameKind,
    log::CommitBody,
    manifest::RefsPage,
    repository::Repository,
    secret::{Prefix, Secret},
    session::PageReader,
    snapshot,
};

/// Chunks that snapshots need.
#[derive(Default)]
pub(crate) struct Marked {
    pub(crate) ids: HashSet<Prefix>,
    /// Reference pages that were read, so that shared ones are read once.
    pages: HashSet<Secret>,
}

/// What was wrong with a snapshot's references.
pub(crate) struct BrokenRefs {
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) error: Error,
}

/// The id of a committed snapshot.
pub(crate) fn snapshot_id(commit: &CommitBody) -> Option<SnapshotId> {
    commit.snapshot.rsplit('/').next()?.parse().ok()
}

/// A reader of pages for maintenance. Its session is not in the log.
pub(crate) fn page_reader(repository: &Arc<Repository>, handle: &Handle) -> Result<PageReader> {
    PageReader::new(
        Arc::clone(repository) as _,
        Arc::clone(repository.store()),
        u64::MAX,
        handle.clone(),
    )
}

/// Adds what the snapshots of `commits` need; a snapshot whose references cannot be read is reported
/// through `broken` and the others go on. Blocks.
pub(crate) fn mark(
    repository: &Arc<Repository>,
    handle: &Handle,
    commits: &[CommitBody],
    marked: &mut Marked,
    broken: &mut dyn FnMut(BrokenRefs),
) -> Result<()> {
    let pages = page_reader(repository, handle)?;
    for commit in commits {
        if let Err(error) = mark_one(repository, handle, &pages, commit, marked) {
            broken(BrokenRefs {
                snapshot: snapshot_id(commit),
                error,
            });
        }
    }
    Ok(())
}

fn mark_one(
    repository: &Repository,
    handle: &Handle,
    pages: &PageReader,
    commit: &CommitBody,
    marked: &mut Marked,
) -> Result<()> {
    let bytes = match handle.block_on(repository.store().get(&commit.refset)) {
        Err(e) if e.is_not_found() => {
            return Err(Error::damaged(
                &commit.refset,
                "the log names it but it does not exist",
            ));
        }
        other => other?,
    };
    let (key, root) = snapshot::decode_refset(&repository.keys, &commit.refset, &bytes)?;
    let mut todo = vec![root];
    while let Some(secret) = todo.pop() {
        if !marked.pages.insert(secret) {
            continue;
        }
        marked.ids.insert(secret.id().prefix());
        let bytes = pages.read(FrameKind::Refs, &secret, Some(&key))?;
        let page = RefsPage::decode(&bytes)
            .ok_or_else(|| Error::damaged(&commit.refset, "a reference page breaks the format"))?;
        marked.ids.extend(page.ids);
        todo.extend(page.children);
    }
    Ok(())
}
