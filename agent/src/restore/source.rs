//! Where the entries and chunks of a restore come from.

use orlop_repository::{Entry, Error, Extent, ReadSession, Wanted};

/// Receives chunks: the index of the wanted chunk and its verified bytes.
pub type Sink<'a> = &'a (dyn Fn(usize, Result<&[u8], Error>) + Sync);

/// One snapshot, opened for reading.
pub trait Source: Sync {
    /// Entries and logical bytes in the snapshot; 0 if unknown.
    fn totals(&self) -> (u64, u64);

    /// Entries of the volume that could not be read when the snapshot was made.
    fn errors(&self) -> u64;

    /// The entry `below` and everything below it (all for the empty path), in manifest order.
    fn entries<'a>(
        &'a self,
        below: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + Send + 'a>;

    /// The extents of a regular file, in order.
    fn extents<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> Box<dyn Iterator<Item = Result<Extent, Error>> + Send + 'a>;

    /// Fetches distinct chunks and gives each, or why it cannot be had, to the sink once, from
    /// several threads.
    ///
    /// # Errors
    /// It was cancelled.
    fn fetch(&self, wanted: &[Wanted], workers: usize, sink: Sink<'_>) -> Result<(), Error>;
}

impl Source for ReadSession {
    fn totals(&self) -> (u64, u64) {
        let stats = &self.grant().stats;
        (stats.files + stats.dirs + stats.others, stats.logical_bytes)
    }

    fn errors(&self) -> u64 {
        self.grant().stats.errors
    }

    fn entries<'a>(
        &'a self,
        below: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + Send + 'a> {
        if below.is_empty() {
            Box::new(ReadSession::entries(self))
        } else {
            Box::new(self.entries_below(below))
        }
    }

    fn extents<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> Box<dyn Iterator<Item = Result<Extent, Error>> + Send + 'a> {
        Box::new(ReadSession::extents(self, entry))
    }

    fn fetch(&self, wanted: &[Wanted], workers: usize, sink: Sink<'_>) -> Result<(), Error> {
        ReadSession::fetch(self, wanted, workers, sink)
    }
}
