//! Blocks of large files in memory: read once, shared by all chunks that lie in them, bounded in number.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use orlop_repository::{WARM, Writer};

/// Blocks that whoever reads a large file may always have: what is not cut yet lies in two at most.
pub(super) const RESERVED: usize = 2;
/// Buffers that are kept for later.
const KEPT: usize = 8;

/// The blocks of one backup.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bytes of a file that a block holds, at most.
    pub(super) block_bytes: usize,
    /// Blocks that may be read ahead, by all readers together.
    extra: AtomicUsize,
    free: Mutex<Vec<Vec<u8>>>,
}

/// The right to one block.
#[derive(Debug)]
pub(super) struct Permit {
    blocks: Arc<Blocks>,
    /// Blocks of the same reader.
    held: Arc<AtomicUsize>,
    extra: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.held.fetch_sub(1, SeqCst);
        if self.extra {
            self.blocks.extra.fetch_add(1, SeqCst);
        }
    }
}

/// Bytes of a file.
#[derive(Debug)]
pub(super) struct Block {
    /// What precedes the block, and the block from [`WARM`] on.
    buffer: Vec<u8>,
    len: usize,
    permit: Permit,
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = self.permit.blocks.lock();
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl Blocks {
    /// Blocks for chunks of up to `chunk_max` bytes, of which `ahead` may be read ahead.
    pub(super) fn new(chunk_max: usize, ahead: usize) -> Arc<Self> {
        Arc::new(Self {
            block_bytes: chunk_max.max(4 << 20),
            extra: ahead.into(),
            free: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to one more block for the reader that holds `held`; `None` if it has those that it may
    /// always have, and nothing is left of what is for all.
    pub(super) fn permit(self: &Arc<Self>, held: &Arc<AtomicUsize>) -> Option<Permit> {
        // Only the reader itself adds, so there are no more than were counted.
        let extra = held.load(SeqCst) >= RESERVED;
        if extra {
            let less = |left: usize| left.checked_sub(1);
            self.extra.fetch_update(SeqCst, SeqCst, less).ok()?;
        }
        held.fetch_add(1, SeqCst);
        Some(Permit {
            blocks: Arc::clone(self),
            held: Arc::clone(held),
            extra,
        })
    }
}

impl Permit {
    /// A block whose bytes `read` fetches: it fills what it is given as far as it can and returns how much
    /// that was. `warm` bytes of it precede the block.
    pub(super) fn fill<E>(
        self,
        warm: usize,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Block, E> {
        let mut buffer = self.blocks.lock().pop().unwrap_or_default();
        buffer.resize(WARM + self.blocks.block_bytes, 0);
        let done = read(&mut buffer[WARM - warm..WARM + len])?;
        Ok(Block {
            buffer,
            len: done.saturating_sub(warm),
            permit: self,
        })
    }
}

impl Block {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[WARM..WARM + self.len]
    }

    /// The `warm` bytes that precede it.
    pub(super) fn before(&self, warm: usize) -> &[u8] {
        &self.buffer[WARM - warm..WARM]
    }
}

/// A chunk that lies in one block, or in several one after the other.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    parts: Vec<(Arc<Block>, usize, usize)>,
}

impl Chunk {
    pub(super) fn add(&mut self, block: &Arc<Block>, from: usize, to: usize) {
        self.parts.push((Arc::clone(block), from, to));
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|(_, from, to)| to - from).sum()
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.parts
            .iter()
            .map(|(block, from, to)| &block.bytes()[*from..*to])
    }

    /// Whether it holds zeros only.
    pub(super) fn is_zero(&self) -> bool {
        self.slices().all(is_zero)
    }

    /// Stores it; only one that lies in several blocks is copied, to `scratch`.
    pub(super) fn store(
        &self,
        writer: &mut Writer<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<orlop_repository::Stored, orlop_repository::Error> {
        if let [(block, from, to)] = self.parts.as_slice() {
            return writer.store(&block.bytes()[*from..*to]);
        }
        scratch.clear();
        self.slices()
            .for_each(|slice| scratch.extend_from_slice(slice));
        writer.store(scratch)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    bytes.first().is_none_or(|byte| *byte == 0)
        && bytes.last().is_none_or(|byte| *byte == 0)
        && words.iter().all(|word| *word == [0; 64])
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(permit: Permit, byte: u8) -> Arc<Block> {
        let filled = permit.fill(0, 100, |buffer| {
            buffer.fill(byte);
            Ok::<_, ()>(buffer.len())
        });
        Arc::new(filled.unwrap())
    }

    #[test]
    fn blocks_are_bounded_for_one_reader_and_for_all() {
        let blocks = Blocks::new(1 << 20, 1);
        let readers: [Arc<AtomicUsize>; 2] = Default::default();
        let mine: Vec<Permit> = std::iter::from_fn(|| blocks.permit(&readers[0])).collect();
        assert_eq!(mine.len(), RESERVED + 1);
        let others: Vec<Permit> = std::iter::from_fn(|| blocks.permit(&readers[1])).collect();
        assert_eq!(others.len(), RESERVED);
        drop(mine);
        assert!(blocks.permit(&readers[1]).is_some());
        assert_eq!(readers[0].load(SeqCst), 0);
    }

    #[test]
    fn a_block_is_there_until_the_last_chunk_of_it_is_gone() {
        let blocks = Blocks::new(1 << 20, 0);
        let held = Arc::default();
        let (first, second) = (
            block(blocks.permit(&held).unwrap(), 0),
            block(blocks.permit(&held).unwrap(), 0),
        );
        let mut chunk = Chunk::default();
        chunk.add(&first, 90, 100);
        chunk.add(&second, 0, 20);
        drop((first, second));
        assert!(blocks.permit(&held).is_none());
        assert!(chunk.is_zero());
        assert_eq!(chunk.len(), 30);
        drop(chunk);
        assert_eq!(held.load(SeqCst), 0);
        let other = block(blocks.permit(&held).unwrap(), 7);
        let mut chunk = Chunk::default();
        chunk.add(&other, 0, 1);
        assert!(!chunk.is_zero());
    }

    #[test]
    fn zeros_are_told_from_nearly_zeros() {
        for len in [1, 63, 64, 65, 4096] {
            assert!(is_zero(&vec![0; len]));
            for at in [0, len / 2, len - 1] {
                let mut bytes = vec![0; len];
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{len} {at}");
            }
        }
    }
}
