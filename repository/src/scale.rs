//! An index of any size with made-up chunks, as a bench measures it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::Result,
    frame::FrameKind,
    index::{IndexState, Limits, SegmentBuilder, TableDirectory},
    pack::TableEntry,
    secret::{ChunkId, Key, hex},
};

/// Chunks in a pack: 16 MiB of chunks of 1 MiB that are half as long when they are compressed.
const PACK_CHUNKS: u64 = 32;
/// Records of a segment, as writers make them.
const SEGMENT_RECORDS: u64 = 256 << 10;

/// The index of a repository that does not exist.
pub struct MadeUpIndex {
    state: IndexState,
    directory: PathBuf,
    key: Key,
    chunks: u64,
    segments: u64,
}

/// Mixes a number so that each gives another one.
fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The id of chunk `n`.
fn id_of(n: u64) -> ChunkId {
    let mut id = [0; 32];
    for (i, word) in id.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&mixed(n.wrapping_mul(4) + i as u64 + 1).to_le_bytes());
    }
    ChunkId::from_bytes(id)
}

impl MadeUpIndex {
    /// With tables below `directory`, those included that are there.
    pub fn open(directory: &Path) -> Self {
        let key = Key::from_bytes([7; 32]);
        Self {
            state: Self::begin(directory, &key),
            directory: directory.to_owned(),
            key,
            chunks: 0,
            segments: 0,
        }
    }

    fn begin(directory: &Path, key: &Key) -> IndexState {
        let directory = TableDirectory::new(Some(directory.into()), key.clone(), Limits::chosen());
        IndexState::begin(Arc::new(directory))
    }

    /// Adds segments until there are `chunks`, as they come from a store: made, sealed, opened, added.
    ///
    /// # Errors
    /// A table cannot be written.
    pub fn grow(&mut self, chunks: u64) -> Result<()> {
        while self.chunks < chunks {
            let (name, bytes) = self.segment(chunks)?;
            let segment = crate::index::Segment::decode(&name, &bytes, &self.key)?;
            drop(bytes);
            self.state.add(name, segment)?;
            while let Some(work) = self.state.work() {
                self.state.install(work.run()?);
            }
        }
        Ok(())
    }

    fn segment(&mut self, chunks: u64) -> Result<(String, Vec<u8>)> {
        let mut builder = SegmentBuilder::default();
        let end = chunks.min(self.chunks + SEGMENT_RECORDS);
        while self.chunks < end {
            let last = end.min(self.chunks + PACK_CHUNKS);
            let entry = |n: u64| TableEntry {
                id: id_of(n),
                offset: (n % PACK_CHUNKS) as u32 * (512 << 10),
                len: 512 << 10,
                plain_len: 1 << 20,
                kind: FrameKind::Data,
                codec: 1,
            };
            let table: Vec<TableEntry> = (self.chunks..last).map(entry).collect();
            builder.push(self.pack(self.chunks), &table);
            self.chunks = last;
        }
        self.segments += 1;
        builder.finish(0, self.segments, &self.key)
    }

    /// The name of the pack of chunk `n`.
    fn pack(&self, n: u64) -> String {
        let hash = hex(blake3::hash(&(n / PACK_CHUNKS).to_le_bytes()).as_bytes());
        format!("p/{}/{hash}.{}", &hash[..2], self.segments + 1)
    }

    /// Reads the tables again, as the next process does.
    pub fn reopen(&mut self) {
        // The old one must leave the directory to the new one first.
        let nowhere = TableDirectory::new(None, self.key.clone(), Limits::chosen());
        self.state = IndexState::begin(Arc::new(nowhere));
        self.state = Self::begin(&self.directory, &self.key);
    }

    /// Whether chunk `n` is found, in the pack where it must be.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn finds(&self, n: u64) -> Result<bool> {
        let Some(place) = self.state.index().find(&id_of(n).prefix())? else {
            return Ok(false);
        };
        let hash = hex(blake3::hash(&(n / PACK_CHUNKS).to_le_bytes()).as_bytes());
        Ok(place.pack.contains(&hash))
    }

    /// How many places are indexed.
    pub fn len(&self) -> u64 {
        self.state.index().len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tables there are, and bytes of filters in memory.
    pub fn tables(&self) -> (usize, usize) {
        self.state.tables()
    }
}
