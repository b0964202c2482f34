//! What one thread stores with: chunk → secret → known? → frame → pack.

use std::sync::atomic::Ordering;

use super::write::WriteSession;
use crate::{
    error::Result,
    frame::{Encoder, FrameKind, Level},
    manifest::{Content, Extent, ExtentList, PageSink},
    secret::Secret,
};

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its secret.
    pub secret: Secret,
    /// Whether it was not in the repository.
    pub new: bool,
}

/// Stores chunks for one thread.
pub struct Writer<'s> {
    pub(super) session: &'s WriteSession,
    encoder: Encoder,
    /// Bytes that this writer put into packs.
    pub(super) packed: u64,
}

impl<'s> Writer<'s> {
    pub(super) fn new(session: &'s WriteSession) -> Result<Self> {
        Ok(Self {
            session,
            encoder: Encoder::new()?,
            packed: 0,
        })
    }

    /// Stores a chunk of a file, or a bundle, unless the repository has it.
    ///
    /// # Errors
    /// The store or the committer failed, or the work was cancelled.
    pub fn store(&mut self, plain: &[u8]) -> Result<Stored> {
        let stored = self.put(FrameKind::Data, plain)?;
        if stored.new {
            self.session.chunks_new.fetch_add(1, Ordering::Relaxed);
            self.session
                .new_bytes
                .fetch_add(plain.len() as u64, Ordering::Relaxed);
        } else {
            self.session.chunks_reused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(stored)
    }

    /// Appends an extent to a file's list.
    ///
    /// # Errors
    /// As [`Self::store`]: a long list is stored in pages.
    pub fn push_extent(&mut self, list: &mut ExtentList, extent: Extent) -> Result<()> {
        list.push(extent, self)
    }

    /// The content that a list makes.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn finish_extents(&mut self, list: ExtentList) -> Result<Content> {
        list.finish(self)
    }

    fn put(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Stored> {
        let session = self.session;
        session.packer.check()?;
        let secret = Secret::of(session.keys.of(kind), plain);
        let id = secret.id();
        if session.known.has(&session.pages, kind, id)? {
            return Ok(Stored { secret, new: false });
        }
        let level = match kind {
            FrameKind::Data => session.packer.level(),
            _ => Level::default(),
        };
        let frame = self.encoder.encode(kind, &secret, plain, level)?;
        let bytes = frame.bytes.len() as u64;
        let new = session.packer.push(frame, || session.known.claim(id))?;
        self.packed += if new { bytes } else { 0 };
        Ok(Stored { secret, new })
    }
}

impl PageSink for Writer<'_> {
    fn store_page(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Secret> {
        self.put(kind, plain).map(|stored| stored.secret)
    }
}
