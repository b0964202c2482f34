//! Pages and other single chunks of metadata, in few requests: pages that were written together lie
//! together, and whoever reads a node says which pages come next.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{Committer, Location, SessionId};
use crate::{
    error::{Error, Result},
    frame::{Decoder, FrameKind, MAX_FRAME},
    secret::{ChunkId, Key, Secret},
    store::ObjectStore,
};

/// What is read of a pack at once where nothing is known of what comes next, in bytes …
const WINDOW_MIN: u64 = 1 << 20;
/// … and at most.
const WINDOW_MAX: u64 = 8 << 20;
/// Bytes between two pages that are read through.
const GAP: u64 = 1 << 20;
/// Bytes of packs that are kept.
const KEPT: u64 = 16 << 20;
/// Pages that are known to come: ids that are kept, and how many are looked up together.
const EXPECTED_MAX: usize = 4096;
const TOGETHER: usize = 1024;

/// A run of a pack's bytes.
struct Window {
    pack: String,
    offset: u64,
    bytes: Bytes,
}

impl Window {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// What is known of packs and of the pages that will be asked for.
#[derive(Default)]
struct Known {
    /// The one used last comes first.
    windows: VecDeque<Window>,
    /// In the order in which they are expected; those looked up are in `places`.
    expected: VecDeque<ChunkId>,
    places: HashMap<ChunkId, Location>,
}

/// Reads pages and other single chunks. Calls block; not for runtime threads.
pub(crate) struct PageReader {
    committer: Arc<dyn Committer>,
    store: Arc<dyn ObjectStore>,
    session: SessionId,
    handle: Handle,
    known: Mutex<Known>,
    decoder: Mutex<Decoder>,
}

impl PageReader {
    pub(crate) fn new(
        committer: Arc<dyn Committer>,
        store: Arc<dyn ObjectStore>,
        session: SessionId,
        handle: Handle,
    ) -> Result<Self> {
        let decoder = Mutex::new(Decoder::new()?);
        Ok(Self {
            committer,
            store,
            session,
            handle,
            known: Mutex::default(),
            decoder,
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where chunks are.
    pub(crate) fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<Location>>> {
        self.handle
            .block_on(self.committer.locate(self.session, ids, false))
    }

    /// Where chunks are now that they are not where they were.
    pub(crate) fn locate_again(&self, ids: &[ChunkId]) -> Result<Vec<Option<Location>>> {
        self.handle
            .block_on(self.committer.locate(self.session, ids, true))
    }

    /// Size of a pack, `None` if it does not exist.
    pub(crate) fn size(&self, pack: &str) -> Result<Option<u64>> {
        let info = self.handle.block_on(self.store.stat(pack))?;
        Ok(info.map(|info| info.size))
    }

    /// Says that these pages will be read next, in this order, before all that were announced so far.
    /// A hint: it may be wrong.
    pub(crate) fn expect(&self, pages: impl DoubleEndedIterator<Item = ChunkId>) {
        let mut known = self.known();
        for id in pages.rev() {
            known.expected.push_front(id);
        }
        while known.expected.len() > EXPECTED_MAX {
            let id = known.expected.pop_back();
            id.and_then(|id| known.places.remove(&id));
        }
    }

    /// The plaintext of a chunk, verified.
    pub(crate) fn read(&self, kind: FrameKind, secret: &Secret, keys: &[Key]) -> Result<Vec<u8>> {
        self.read_with(kind, secret, keys, 0)
    }

    /// As [`PageReader::read`]; if the page is not at hand, up to `before` bytes in front of it are
    /// fetched with it: what a tree's root refers to was written before it.
    pub(crate) fn read_with(
        &self,
        kind: FrameKind,
        secret: &Secret,
        keys: &[Key],
        before: u64,
    ) -> Result<Vec<u8>> {
        let id = secret.id();
        let read = |location: &Location, before| {
            let frame = self
                .frame(location, before)
                .map_err(|error| told(location, id, error))?;
            let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
            decoder.decode(&|| location.pack.clone(), kind, secret, keys, &frame)
        };
        let location = self.place(id)?;
        match read(&location, before) {
            // Collection may have moved it, or there is another copy: a look-up afresh tells, once.
            Err(error @ Error::Damaged { .. }) => {
                let now = self.locate_again(&[id])?.pop().flatten();
                let is_new =
                    |now: &Location| (&now.pack, now.offset) != (&location.pack, location.offset);
                match now.filter(is_new) {
                    Some(now) => read(&now, 0),
                    None => Err(error),
                }
            }
            result => result,
        }
    }

    /// Where the page is, looked up with those that come after it.
    fn place(&self, id: ChunkId) -> Result<Location> {
        let mut known = self.known();
        let at = known.expected.iter().position(|next| *next == id);
        if let Some(location) = known.places.remove(&id) {
            if let Some(at) = at {
                known.expected.remove(at);
            }
            return Ok(location);
        }
        let mut ids = vec![id];
        if let Some(at) = at {
            known.expected.remove(at);
            let next = known.expected.iter().skip(at);
            ids.extend(
                next.filter(|id| !known.places.contains_key(*id))
                    .take(TOGETHER),
            );
        }
        let mut found = self.locate(&ids)?;
        for (id, location) in ids.iter().zip(&mut found).skip(1) {
            if let Some(location) = location.take() {
                known.places.insert(*id, location);
            }
        }
        let found = found.into_iter().next().flatten();
        found
            .filter(|at| at.len as usize <= MAX_FRAME)
            .ok_or_else(|| Error::MissingChunk { id: id.to_string() })
    }

    fn frame(&self, location: &Location, before: u64) -> Result<Bytes> {
        let (begin, len) = (u64::from(location.offset), u64::from(location.len));
        let mut known = self.known();
        let hit = known
            .windows
            .iter()
            .position(|w| w.pack == location.pack && w.offset <= begin && begin + len <= w.end());
        if let Some(at) = hit
            && let Some(window) = known.windows.remove(at)
        {
            let from = (begin - window.offset) as usize;
            let frame = window.bytes.slice(from..from + len as usize);
            known.windows.push_front(window);
            return Ok(frame);
        }
        let offset = begin.saturating_sub(before);
        let bytes = self.fetch(&known, location, offset)?;
        let from = (begin - offset) as usize;
        let frame = bytes.slice(from..from + len as usize);
        known.windows.push_front(Window {
            pack: location.pack.clone(),
            offset,
            bytes,
        });
        let mut kept = 0;
        known.windows.retain(|window| {
            kept += window.bytes.len() as u64;
            kept <= KEPT
        });
        Ok(frame)
    }

    /// Bytes of the pack from `offset` to the end of the page at least: as far as pages are expected
    /// there, and where somebody reads on, more each time.
    fn fetch(&self, known: &Known, location: &Location, offset: u64) -> Result<Bytes> {
        let pack = &location.pack;
        let end = u64::from(location.offset) + u64::from(location.len);
        let limit = end.max(offset + WINDOW_MAX);
        let mut places: Vec<(u64, u64)> = known
            .expected
            .iter()
            .filter_map(|id| known.places.get(id))
            .filter(|next| next.pack == *pack && next.offset >= location.offset)
            .map(|next| (u64::from(next.offset), u64::from(next.len)))
            .collect();
        places.sort_unstable();
        let mut expected = end;
        for (begin, len) in places {
            if begin > expected + GAP || begin + len > limit {
                break;
            }
            expected = expected.max(begin + len);
        }
        let read_on = known.windows.iter().find(|window| {
            window.pack == *pack && (window.end()..=window.end() + GAP).contains(&offset)
        });
        let guess = read_on.map_or(WINDOW_MIN, |last| 4 * last.bytes.len() as u64);
        let wanted = limit.min(expected.max(offset + guess.max(WINDOW_MIN)));
        let get = self.store.get_up_to(pack, offset, wanted - offset);
        let bytes = self.handle.block_on(get)?;
        let has = offset + bytes.len() as u64;
        if has < end {
            let reason = format!("it has {has} bytes, {end} were wanted");
            return Err(Error::damaged(pack, reason));
        }
        Ok(bytes)
    }
}

/// The error with the chunk that was wanted.
fn told(location: &Location, id: ChunkId, error: Error) -> Error {
    match error {
        Error::NotFound { store, .. } => {
            let reason = format!("chunk {id}: it does not exist in {store}");
            Error::damaged(&location.pack, reason)
        }
        Error::Damaged { name, reason } => Error::damaged(name, format!("chunk {id}: {reason}")),
        error => error,
    }
}
