//! Where the entries and chunks of a restore come from.

use std::sync::Arc;

use orlop_repository::{Batch, Entry, Error, Extent, FetchLimits, ReadSession, Scope, Secret};

/// Batches of chunks, as they come to be wanted.
pub type Batches<'i, 'b> = &'i mut (dyn Iterator<Item = Arc<dyn Batch + 'b>> + Send + 'i);

/// One snapshot, opened for reading.
pub trait Source: Sync {
    /// Entries and logical bytes in the snapshot; 0 if unknown.
    fn totals(&self) -> (u64, u64);

    /// Entries of the volume that could not be read when the snapshot was made.
    fn errors(&self) -> u64;

    /// Whether it is a checkpoint: later entries of the volume are not in it.
    fn is_partial(&self) -> bool;

    /// The entries of a scope, in listing order.
    fn entries<'a>(
        &'a self,
        scope: Scope,
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + Send + 'a>;

    /// What somebody may have meant by a path that is not there, for an error.
    ///
    /// # Errors
    /// The snapshot cannot be read.
    fn near(&self, path: &[u8]) -> Result<String, Error>;

    /// Whether `plain` is the chunk of that secret.
    fn is_chunk(&self, secret: &Secret, plain: &[u8]) -> bool;

    /// Whether a small file's content has the digest by which it is known again.
    fn has_digest(&self, content: &[u8], digest: &[u8; 16]) -> bool;

    /// The extents of a regular file, in order.
    fn extents<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> Box<dyn Iterator<Item = Result<Extent, Error>> + Send + 'a>;

    /// Serves batches as they come, as [`ReadSession::fetch_batches`] does.
    ///
    /// # Errors
    /// It was cancelled.
    fn fetch(
        &self,
        batches: Batches<'_, '_>,
        limits: FetchLimits,
        finished: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error>;
}

impl Source for ReadSession {
    fn totals(&self) -> (u64, u64) {
        let stats = &self.grant().stats;
        (stats.files + stats.dirs + stats.others, stats.logical_bytes)
    }

    fn errors(&self) -> u64 {
        self.grant().stats.errors
    }

    fn is_partial(&self) -> bool {
        self.grant().partial
    }

    fn entries<'a>(
        &'a self,
        scope: Scope,
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + Send + 'a> {
        Box::new(self.entries_in(scope))
    }

    fn near(&self, path: &[u8]) -> Result<String, Error> {
        ReadSession::near(self, path)
    }

    fn is_chunk(&self, secret: &Secret, plain: &[u8]) -> bool {
        ReadSession::is_chunk(self, secret, plain)
    }

    fn has_digest(&self, content: &[u8], digest: &[u8; 16]) -> bool {
        ReadSession::has_digest(self, content, digest)
    }

    fn extents<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> Box<dyn Iterator<Item = Result<Extent, Error>> + Send + 'a> {
        Box::new(ReadSession::extents(self, entry))
    }

    fn fetch(
        &self,
        batches: Batches<'_, '_>,
        limits: FetchLimits,
        finished: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        self.fetch_batches(batches, limits, finished)
    }
}
