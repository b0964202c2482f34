//! A table: sorted records in a local file that never changes.
//!
//! What is read from it is proven by its code. A piece that does not fit makes the table broken: it is then left,
//! and its segments are read from the store again.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    blocks::Blocks,
    filter::IdFilter,
    layout::{
        CODE, Map, PACKS_PER_BLOCK, Rest, TRAILER, code_of, head_of, records_per_block, tail_of,
    },
    limits::Limits,
    record::{PackEntry, RECORD, Record},
};
use crate::{
    error::{Error, Result},
    secret::{Key, Prefix},
};

/// Memory that all tables of an index share.
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) key: Key,
    blocks: Blocks,
    /// Bytes of the filters that are in memory.
    filters: AtomicUsize,
}

impl Shared {
    pub(super) fn new(limits: Limits, key: Key) -> Self {
        Self {
            limits,
            key,
            blocks: Blocks::new(limits.block_cache),
            filters: AtomicUsize::new(0),
        }
    }

    /// Bytes of the filters that are in memory.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn filter_bytes(&self) -> usize {
        self.filters.load(Ordering::Relaxed)
    }
}

/// A table that is open. It is read also after its file was removed.
pub(super) struct Table {
    file: File,
    /// Where it is; `None` if it has no name.
    pub(super) path: Option<PathBuf>,
    shared: Arc<Shared>,
    id: [u8; 16],
    /// Tells its blocks from those of other tables of this process.
    number: u64,
    pub(super) map: Map,
    /// For each part, once it was asked for; `None` if there is no room.
    filters: Vec<OnceLock<Option<IdFilter>>>,
    /// Segments and the digests of their packs.
    pub(super) segments: Vec<(String, Arc<[u64]>)>,
    broken: AtomicBool,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn failed(source: io::Error) -> Error {
    Error::System {
        action: "read a local table of the index",
        source,
    }
}

fn misfit() -> Error {
    failed(io::Error::new(
        io::ErrorKind::InvalidData,
        "it is damaged; it is made again from the repository",
    ))
}

impl Table {
    /// A table of this key.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub(super) fn open(file: File, path: Option<PathBuf>, shared: Arc<Shared>) -> Result<Self> {
        let size = file.metadata().map_err(failed)?.len();
        let at = size.checked_sub(TRAILER as u64).ok_or_else(misfit)?;
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, at).map_err(failed)?;
        let (fields, code) = trailer.split_at(TRAILER - CODE);
        let mut rest = Rest(fields);
        let id: [u8; 16] = rest
            .take(16)
            .expect("16 bytes")
            .try_into()
            .expect("16 bytes");
        let (offset, len) = (rest.u64().expect("8 bytes"), rest.u64().expect("8 bytes"));
        if code_of(&shared.key, &id, at, fields) != *code {
            return Err(misfit());
        }
        let mut table = Self {
            file,
            path,
            shared,
            id,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            map: Map::new(
                super::layout::Links {
                    chain: 0,
                    first: 0,
                    last: 0,
                    level: 0,
                },
                0,
            ),
            filters: Vec::new(),
            segments: Vec::new(),
            broken: AtomicBool::new(false),
        };
        let map = table.piece(offset, len as usize)?;
        table.map = Map::decode(&map).ok_or_else(misfit)?;
        table
            .filters
            .resize_with(table.map.parts.len(), OnceLock::new);
        for segment in &table.map.segments {
            let piece = table.piece(segment.offset, segment.packs as usize * 8)?;
            let digests = Rest(&piece)
                .u64s(segment.packs as usize)
                .ok_or_else(misfit)?;
            table.segments.push((segment.name.clone(), digests.into()));
        }
        Ok(table)
    }

    /// Whether something in it was not what was written.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn breaks(&self) -> Error {
        self.broken.store(true, Ordering::Relaxed);
        misfit()
    }

    /// `len` bytes and the code behind them.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| {
                self.broken.store(true, Ordering::Relaxed);
                failed(error)
            })?;
        Ok(bytes)
    }

    /// Proves a piece that begins at `offset`; the answer is without its code.
    pub(super) fn prove<'b>(&self, offset: u64, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let (piece, code) = bytes.split_at(bytes.len() - CODE);
        if code_of(&self.shared.key, &self.id, offset, piece) == *code {
            Ok(piece)
        } else {
            Err(self.breaks())
        }
    }

    fn piece(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = self.read(offset, len + CODE)?;
        self.prove(offset, &bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// A piece that is kept in memory for a while.
    fn kept_piece(&self, offset: u64, len: usize) -> Result<Arc<[u8]>> {
        if let Some(bytes) = self.shared.blocks.get(self.number, offset) {
            return Ok(bytes);
        }
        let bytes: Arc<[u8]> = self.piece(offset, len)?.into();
        self.shared.blocks.put(self.number, offset, &bytes);
        Ok(bytes)
    }

    /// Offset of a block of a part, and its bytes without the code.
    pub(super) fn block_place(&self, part: usize, block: usize) -> (u64, usize) {
        let (begin, size) = (&self.map.parts[part], u64::from(self.map.block_bytes));
        let offset = begin.offset + (block - begin.block as usize) as u64 * size;
        let end = begin.filter.min(offset + size);
        (offset, (end - offset) as usize - CODE)
    }

    /// How many records are in a block.
    pub(super) fn records(&self, block: &[u8]) -> usize {
        (block.len() / RECORD).min(records_per_block(self.map.block_bytes as usize))
    }

    /// Whether the filter of a part lets an id pass.
    fn passes(&self, part: usize, prefix: &Prefix) -> Result<bool> {
        let slot = &self.filters[part];
        if slot.get().is_none() {
            let filter = self.load_filter(part)?;
            let bytes = filter.as_ref().map_or(0, |filter| filter.bytes().len());
            if slot.set(filter).is_err() {
                self.shared.filters.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        let filter = slot.get().expect("it was set");
        Ok(filter
            .as_ref()
            .is_none_or(|filter| filter.may_hold(tail_of(prefix))))
    }

    fn load_filter(&self, part: usize) -> Result<Option<IdFilter>> {
        let place = &self.map.parts[part];
        let (bytes, filters) = (place.filter_bytes as usize, &self.shared.filters);
        if filters.fetch_add(bytes, Ordering::Relaxed) + bytes > self.shared.limits.filters {
            filters.fetch_sub(bytes, Ordering::Relaxed);
            return Ok(None);
        }
        let filter = self.piece(place.filter, bytes);
        match filter.map(IdFilter::from_bytes) {
            Ok(Some(filter)) => Ok(Some(filter)),
            other => {
                filters.fetch_sub(bytes, Ordering::Relaxed);
                Err(other.err().unwrap_or_else(|| self.breaks()))
            }
        }
    }

    /// All records of an id.
    pub(super) fn find(&self, prefix: &Prefix) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        let behind = self.map.parts.partition_point(|part| part.first <= *prefix);
        let Some(part) = behind.checked_sub(1) else {
            return Ok(found);
        };
        if !self.passes(part, prefix)? {
            return Ok(found);
        }
        let (blocks, head) = (self.map.blocks(part), head_of(prefix));
        let heads = &self.map.heads[blocks.clone()];
        let begin = heads
            .partition_point(|first| *first < head)
            .saturating_sub(1);
        for (at, _) in heads
            .iter()
            .enumerate()
            .skip(begin)
            .take_while(|(_, first)| **first <= head)
        {
            let (offset, len) = self.block_place(part, blocks.start + at);
            let block = self.kept_piece(offset, len)?;
            let records = block.chunks_exact(RECORD).take(self.records(&block));
            let first = lower_bound(&block, self.records(&block), prefix);
            for record in records.skip(first) {
                if record[..16] != prefix[..] {
                    return Ok(found);
                }
                found.push(Record::decode(record).ok_or_else(|| self.breaks())?);
            }
        }
        Ok(found)
    }

    /// The pack of an ordinal.
    pub(super) fn pack(&self, ordinal: u32) -> Result<PackEntry> {
        let (block, at) = (
            ordinal as usize / PACKS_PER_BLOCK,
            ordinal as usize % PACKS_PER_BLOCK,
        );
        let (offset, len) = self.pack_block(block).ok_or_else(|| self.breaks())?;
        let bytes = self.kept_piece(offset, len)?;
        let mut rest = Rest(&bytes);
        for _ in 0..at {
            let len = rest.take(1).map_or(0, |len| usize::from(len[0]));
            rest.take(len + 8);
        }
        read_pack(&mut rest).ok_or_else(|| self.breaks())
    }

    /// Where a block of packs is, without its code.
    fn pack_block(&self, block: usize) -> Option<(u64, usize)> {
        let [begin, end] = self.map.pack_blocks.get(block..block + 2)? else {
            return None;
        };
        Some((
            *begin,
            (end.checked_sub(*begin)? as usize).checked_sub(CODE)?,
        ))
    }

    /// Shows every pack in the order of ordinals.
    pub(super) fn each_pack(
        &self,
        mut visit: impl FnMut(u32, PackEntry) -> Result<()>,
    ) -> Result<()> {
        for block in 0..self.map.packs.div_ceil(PACKS_PER_BLOCK as u32) {
            let (offset, len) = self
                .pack_block(block as usize)
                .ok_or_else(|| self.breaks())?;
            let bytes = self.piece(offset, len)?;
            let (mut rest, first) = (Rest(&bytes), block * PACKS_PER_BLOCK as u32);
            for ordinal in first..self.map.packs.min(first + PACKS_PER_BLOCK as u32) {
                visit(ordinal, read_pack(&mut rest).ok_or_else(|| self.breaks())?)?;
            }
        }
        Ok(())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let loaded = self
            .filters
            .iter()
            .filter_map(|filter| filter.get()?.as_ref());
        let bytes = loaded.map(|filter| filter.bytes().len()).sum();
        self.shared.filters.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How many of the sorted records in a block come before `prefix`.
fn lower_bound(block: &[u8], records: usize, prefix: &Prefix) -> usize {
    let (mut low, mut high) = (0, records);
    while low < high {
        let middle = low.midpoint(high);
        if block[middle * RECORD..middle * RECORD + 16] < prefix[..] {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn read_pack(rest: &mut Rest<'_>) -> Option<PackEntry> {
    let len = usize::from(rest.take(1)?[0]);
    let name = std::str::from_utf8(rest.take(len)?).ok()?.into();
    let plain_data = rest.u64()?;
    Some(PackEntry { name, plain_data })
}
