//! Reads single frames of packs for who goes through whole trees, without a session.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    frame::{Decoder, FrameKind},
    repository::Repository,
    secret::{Key, Secret},
    session::Location,
};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is read of a pack at once, in bytes, and how many such windows are kept.
const WINDOW: u64 = 1 << 20;
const WINDOWS: usize = 16;

/// A part of a pack: its name, the offset in it, the bytes.
type Window = (String, u64, Bytes);

/// Reads pages and chunks.
pub(crate) struct FrameReader<'r> {
    pub(crate) repository: &'r Repository,
    windows: Mutex<VecDeque<Window>>,
    decoder: Mutex<Decoder>,
}

impl<'r> FrameReader<'r> {
    pub(crate) fn new(repository: &'r Repository) -> Result<Self> {
        Ok(Self {
            repository,
            windows: Mutex::default(),
            decoder: Mutex::new(Decoder::new()?),
        })
    }

    /// The plaintext of a page or chunk, verified, which one of `keys` opens. One that collection has moved is looked up afresh.
    pub(crate) async fn read(
        &self,
        kind: FrameKind,
        secret: &Secret,
        keys: &[Key],
    ) -> Result<Vec<u8>> {
        match self.read_once(kind, secret, keys).await {
            Err(error) if error.is_not_found() => {
                self.repository.refresh().await?;
                self.read_once(kind, secret, keys).await
            }
            other => other,
        }
    }

    async fn read_once(&self, kind: FrameKind, secret: &Secret, keys: &[Key]) -> Result<Vec<u8>> {
        let id = secret.id();
        let find = self.repository.look_up(|index| index.find(&id.prefix()));
        let place = find.await?;
        let place = place.ok_or_else(|| Error::MissingChunk { id: id.to_string() })?;
        let frame = self.frame(&place).await?;
        let what = || place.pack.clone();
        lock(&self.decoder).decode(&what, kind, secret, keys, &frame)
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
