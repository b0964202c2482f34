//! Which chunks committed snapshots need: read from reference pages, without a key to any content.

mod ids;

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use futures_util::future::join_all;
pub(crate) use ids::IdSet;
use orlop_core::SnapshotId;

use crate::{
    error::{Error, Result},
    frame::FrameKind,
    manifest::RefsPage,
    protocol::CommitBody,
    reader::{FrameReader, lock},
    repository::Repository,
    secret::{Key, Secret},
    snapshot,
};

/// Chunks that snapshots need.
#[derive(Default)]
pub(crate) struct Marked {
    pub(crate) ids: IdSet,
    /// Snapshot objects whose chunks are in `ids`.
    pub(crate) snapshots: HashSet<String>,
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
    snapshot::id_of(&commit.snapshot)
}

/// Snapshots that are read at once.
const AT_ONCE: usize = 8;

/// Adds what the snapshots of `commits` need, unless it is known; a snapshot whose references cannot be
/// read is reported through `broken` and the others go on. One that was forgotten meanwhile may be gone.
///
/// # Errors
/// No memory for a decompressor; or the log cannot be read.
pub(crate) async fn mark(
    repository: &Repository,
    commits: &[CommitBody],
    marked: &mut Marked,
    broken: &mut (dyn FnMut(BrokenRefs) + Send),
) -> Result<()> {
    let todo: Vec<&CommitBody> = commits
        .iter()
        .filter(|commit| !marked.snapshots.contains(&commit.snapshot))
        .collect();
    let reader = FrameReader::new(repository)?;
    let shared = Mutex::new(std::mem::take(marked));
    for batch in todo.chunks(AT_ONCE) {
        let results = join_all(batch.iter().map(|c| mark_one(&reader, c, &shared))).await;
        for (commit, result) in batch.iter().zip(results) {
            match result {
                Ok(()) => {
                    lock(&shared).snapshots.insert(commit.snapshot.clone());
                }
                Err(error) => {
                    if is_needed(repository, commit).await? {
                        broken(BrokenRefs {
                            snapshot: snapshot_id(commit),
                            error,
                        });
                    }
                }
            }
        }
    }
    *marked = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(())
}

/// Whether a snapshot is needed as far as the log goes by now.
async fn is_needed(repository: &Repository, commit: &CommitBody) -> Result<bool> {
    let state = repository.newest_state().await?;
    // The object of a snapshot may have been replaced; its refset never is.
    let needed = state.needed().any(|c| c.refset == commit.refset);
    Ok(needed)
}

async fn mark_one(
    reader: &FrameReader<'_>,
    commit: &CommitBody,
    marked: &Mutex<Marked>,
) -> Result<()> {
    let repository = reader.repository;
    // A repair may have put another refset in the place of the one of which there is a copy, and what that one names may
    // still be there for now.
    let (key, root) = repository.prove_refset(&commit.refset).await?;
    mark_pages(reader, commit, marked, &key, root).await
}

async fn mark_pages(
    reader: &FrameReader<'_>,
    commit: &CommitBody,
    marked: &Mutex<Marked>,
    key: &Key,
    root: Secret,
) -> Result<()> {
    let mut todo = vec![root];
    let mut seen = Vec::new();
    while let Some(secret) = todo.pop() {
        if !lock(marked).pages.insert(secret) {
            continue;
        }
        seen.push(secret);
        match refs_page(reader, &commit.refset, &secret, key).await {
            Ok(page) => {
                let mut marked = lock(marked);
                marked.ids.insert(secret.id().prefix());
                for id in page.ids {
                    marked.ids.insert(id);
                }
                todo.extend(page.children);
            }
            Err(error) => {
                // The pages above it are not known whole: whoever shares them must find out too.
                let mut marked = lock(marked);
                for page in &seen {
                    marked.pages.remove(page);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// A reference page of the refset `of`.
pub(crate) async fn refs_page(
    reader: &FrameReader<'_>,
    of: &str,
    secret: &Secret,
    key: &Key,
) -> Result<RefsPage> {
    let bytes = reader
        .read(FrameKind::Refs, secret, std::slice::from_ref(key))
        .await?;
    RefsPage::decode(&bytes).ok_or_else(|| Error::damaged(of, "a reference page breaks the format"))
}
