//! Which chunks committed snapshots need: read from reference pages, without a key to any content.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::future::join_all;
use orlop_core::SnapshotId;

use crate::{
    error::{Error, Result},
    frame::{Decoder, FrameKind},
    manifest::RefsPage,
    protocol::CommitBody,
    repository::Repository,
    secret::{Key, Prefix, Secret},
    session::Location,
    snapshot,
};

/// Chunks that snapshots need.
#[derive(Default)]
pub(crate) struct Marked {
    pub(crate) ids: HashSet<Prefix>,
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
    let reader = RefsReader::new(repository)?;
    let shared = Mutex::new(std::mem::take(marked));
    for batch in todo.chunks(AT_ONCE) {
        let results = join_all(batch.iter().map(|c| reader.mark(c, &shared))).await;
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is read of a pack at once, in bytes, and how many such windows are kept.
const WINDOW: u64 = 1 << 20;
const WINDOWS: usize = 16;

/// A part of a pack: its name, the offset in it, the bytes.
type Window = (String, u64, Bytes);

/// Reads reference pages.
struct RefsReader<'r> {
    repository: &'r Repository,
    windows: Mutex<VecDeque<Window>>,
    decoder: Mutex<Decoder>,
}

impl<'r> RefsReader<'r> {
    fn new(repository: &'r Repository) -> Result<Self> {
        Ok(Self {
            repository,
            windows: Mutex::default(),
            decoder: Mutex::new(Decoder::new()?),
        })
    }

    async fn mark(&self, commit: &CommitBody, marked: &Mutex<Marked>) -> Result<()> {
        let bytes = self.repository.named_by_log(&commit.refset).await?;
        let (key, root) = snapshot::decode_refset(&self.repository.keys, &commit.refset, &bytes)?;
        let mut todo = vec![root];
        let mut seen = Vec::new();
        while let Some(secret) = todo.pop() {
            if !lock(marked).pages.insert(secret) {
                continue;
            }
            seen.push(secret);
            match self.page(commit, &secret, &key).await {
                Ok(page) => {
                    let mut marked = lock(marked);
                    marked.ids.insert(secret.id().prefix());
                    marked.ids.extend(page.ids);
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

    async fn page(&self, commit: &CommitBody, secret: &Secret, key: &Key) -> Result<RefsPage> {
        let bytes = match self.read(secret, key).await {
            // Collection may have moved it.
            Err(error) if error.is_not_found() => {
                self.repository.refresh().await?;
                self.read(secret, key).await?
            }
            other => other?,
        };
        RefsPage::decode(&bytes)
            .ok_or_else(|| Error::damaged(&commit.refset, "a reference page breaks the format"))
    }

    async fn read(&self, secret: &Secret, key: &Key) -> Result<Vec<u8>> {
        let id = secret.id();
        let place = self.repository.with_index(|index| index.find(&id.prefix()));
        let place = place.ok_or_else(|| Error::MissingChunk { id: id.to_string() })?;
        let frame = self.frame(&place).await?;
        let what = || place.pack.clone();
        lock(&self.decoder).decode(
            &what,
            FrameKind::Refs,
            secret,
            std::slice::from_ref(key),
            &frame,
        )
    }

    async fn frame(&self, place: &Location) -> Result<Bytes> {
        let (begin, len) = (u64::from(place.offset), u64::from(place.len));
        let within = |(pack, offset, bytes): &Window| {
            let from = begin.checked_sub(*offset)?;
            let there = *pack == place.pack && from + len <= bytes.len() as u64;
            there.then(|| bytes.slice(from as usize..(from + len) as usize))
        };
        if let Some(frame) = lock(&self.windows).iter().find_map(within) {
            return Ok(frame);
        }
        let store = self.repository.store();
        let size = store.stat(&place.pack).await?.map_or(0, |info| info.size);
        let wanted = WINDOW.min(size.saturating_sub(begin)).max(len);
        let bytes = store.get_range(&place.pack, begin, wanted).await?;
        let frame = bytes.slice(..len as usize);
        let mut windows = lock(&self.windows);
        windows.push_front((place.pack.clone(), begin, bytes));
        windows.truncate(WINDOWS);
        Ok(frame)
    }
}
