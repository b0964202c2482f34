//! Single pages from the store, with the neighbourhood kept: pages that were written together lie
//! together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{Committer, Location, SessionId};
use crate::{
    error::{Error, Result},
    frame::{Decoder, FrameKind},
    secret::{ChunkId, Key, Secret},
    store::ObjectStore,
};

/// What is read of a pack at once, in bytes, and how many such windows are kept.
const WINDOW: u64 = 1 << 20;
const WINDOWS: usize = 6;

struct Window {
    pack: String,
    offset: u64,
    bytes: Bytes,
}

/// Reads pages and other single chunks. Calls block; not for runtime threads.
pub(crate) struct PageReader {
    committer: Arc<dyn Committer>,
    store: Arc<dyn ObjectStore>,
    session: SessionId,
    handle: Handle,
    windows: Mutex<VecDeque<Window>>,
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
            windows: Mutex::default(),
            decoder,
        })
    }

    /// Where chunks are.
    pub(crate) fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<Location>>> {
        self.handle
            .block_on(self.committer.locate(self.session, ids, false))
    }

    /// Where a chunk is that is not where it was.
    pub(super) fn relocate(&self, id: ChunkId) -> Result<Option<Location>> {
        let ids = [id];
        let found = self.committer.locate(self.session, &ids, true);
        Ok(self.handle.block_on(found)?.pop().flatten())
    }

    /// Size of a pack, `None` if it does not exist.
    pub(crate) fn size(&self, pack: &str) -> Result<Option<u64>> {
        let info = self.handle.block_on(self.store.stat(pack))?;
        Ok(info.map(|info| info.size))
    }

    /// The plaintext of a chunk, verified.
    pub(crate) fn read(
        &self,
        kind: FrameKind,
        secret: &Secret,
        key: Option<&Key>,
    ) -> Result<Vec<u8>> {
        let id = secret.id();
        let missing = || Error::MissingChunk { id: id.to_string() };
        let mut location = self.locate(&[id])?.pop().flatten().ok_or_else(missing)?;
        let frame = match self.frame(&location) {
            // Collection may have moved it.
            Err(error) if error.is_not_found() => {
                location = self.relocate(id)?.ok_or(error)?;
                self.frame(&location)?
            }
            other => other?,
        };
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        decoder.decode(&|| location.pack.clone(), kind, secret, key, &frame)
    }

    fn frame(&self, location: &Location) -> Result<Bytes> {
        let (begin, len) = (u64::from(location.offset), u64::from(location.len));
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = windows.iter().position(|w| {
            w.pack == location.pack
                && w.offset <= begin
                && begin + len <= w.offset + w.bytes.len() as u64
        });
        if let Some(at) = hit {
            let window = windows.remove(at).expect("the position is in range");
            let from = (begin - window.offset) as usize;
            let frame = window.bytes.slice(from..from + len as usize);
            windows.push_front(window);
            return Ok(frame);
        }
        let bytes = self.fetch(&location.pack, begin, len)?;
        let frame = bytes.slice(..len as usize);
        windows.push_front(Window {
            pack: location.pack.clone(),
            offset: begin,
            bytes,
        });
        windows.truncate(WINDOWS);
        Ok(frame)
    }

    /// At least `len` bytes at `begin`, a window if the pack has so many.
    fn fetch(&self, pack: &str, begin: u64, len: u64) -> Result<Bytes> {
        self.handle.block_on(async {
            if len < WINDOW {
                let size = self.store.stat(pack).await?.map_or(0, |info| info.size);
                let wanted = WINDOW.min(size.saturating_sub(begin));
                if wanted > len {
                    return self.store.get_range(pack, begin, wanted).await;
                }
            }
            self.store.get_range(pack, begin, len).await
        })
    }
}
