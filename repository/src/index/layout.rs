//! How a table lies in its file.
//!
//! ```text
//! parts     blocks of records, then the filter of their ids; each part begins at a multiple of a block
//! packs     blocks of names, in the order of their ordinals
//! segments  digests of the packs that each segment names
//! map       where all that is
//! trailer   id 16, offset of the map 8, its length 8, code 16
//! ```
//!
//! Behind every piece stands a code that only who has the repository's key can make. It is of the piece, its
//! place, and the table's id. What does not fit its code is not used.

use super::record::RECORD;
use crate::secret::{Key, Prefix};

/// Bytes of a code.
pub(super) const CODE: usize = 16;
/// Bytes of the trailer.
pub(super) const TRAILER: usize = 16 + 8 + 8 + CODE;
/// Packs whose names lie in one block.
pub(super) const PACKS_PER_BLOCK: usize = 32;
const MAGIC: &[u8; 8] = b"ORLOPTB1";

/// The code of a piece at `offset` of the table `id`.
pub(super) fn code_of(key: &Key, id: &[u8; 16], offset: u64, piece: &[u8]) -> [u8; CODE] {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher
        .update(piece)
        .update(id)
        .update(&offset.to_le_bytes());
    let mut code = [0; CODE];
    code.copy_from_slice(&hasher.finalize().as_bytes()[..CODE]);
    code
}

/// Records in a full block.
pub(super) fn records_per_block(block_bytes: usize) -> usize {
    (block_bytes - CODE) / RECORD
}

/// The first eight bytes of an id, by which blocks are found.
pub(super) fn head_of(prefix: &Prefix) -> u64 {
    u64::from_be_bytes(prefix[..8].try_into().expect("eight bytes"))
}

/// The other eight bytes, which filters hold.
pub(super) fn tail_of(prefix: &Prefix) -> u64 {
    u64::from_le_bytes(prefix[8..].try_into().expect("eight bytes"))
}

/// Some blocks in a row with their filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The first id in it. No id is in two parts.
    pub(super) first: Prefix,
    /// Number of its first block.
    pub(super) block: u32,
    /// Where that begins.
    pub(super) offset: u64,
    /// Where the last block ends and the filter begins.
    pub(super) filter: u64,
    /// Bytes of the filter.
    pub(super) filter_bytes: u32,
}

/// A segment whose packs are in this table or in one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    /// Where the digests of its packs begin.
    pub(super) offset: u64,
    pub(super) packs: u32,
}

/// Which tables these are: those of one chain follow one another without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) chain: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) level: u8,
}

/// Where everything is in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) links: Links,
    pub(super) block_bytes: u32,
    pub(super) records: u64,
    pub(super) packs: u32,
    pub(super) parts: Vec<Part>,
    /// The first id in each block, by its head.
    pub(super) heads: Vec<u64>,
    /// Where each block of packs begins, and where the last one ends.
    pub(super) pack_blocks: Vec<u64>,
    pub(super) segments: Vec<Named>,
}

impl Map {
    pub(super) fn new(links: Links, block_bytes: usize) -> Self {
        Self {
            links,
            block_bytes: block_bytes as u32,
            records: 0,
            packs: 0,
            parts: Vec::new(),
            heads: Vec::new(),
            pack_blocks: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// Numbers of the blocks of a part.
    pub(super) fn blocks(&self, part: usize) -> std::ops::Range<usize> {
        let end = self.parts.get(part + 1);
        self.parts[part].block as usize..end.map_or(self.heads.len(), |next| next.block as usize)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let Links {
            chain,
            first,
            last,
            level,
        } = self.links;
        for n in [chain, first, last, self.records] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.push(level);
        let counts = [
            self.parts.len(),
            self.heads.len(),
            self.pack_blocks.len(),
            self.segments.len(),
        ];
        let counts = counts.map(|n| n as u32);
        for n in [self.block_bytes, self.packs].into_iter().chain(counts) {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for part in &self.parts {
            out.extend_from_slice(&part.first);
            out.extend_from_slice(&part.block.to_le_bytes());
            out.extend_from_slice(&part.offset.to_le_bytes());
            out.extend_from_slice(&part.filter.to_le_bytes());
            out.extend_from_slice(&part.filter_bytes.to_le_bytes());
        }
        for n in self.heads.iter().chain(&self.pack_blocks) {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for segment in &self.segments {
            out.extend_from_slice(&(segment.name.len() as u32).to_le_bytes());
            out.extend_from_slice(segment.name.as_bytes());
            out.extend_from_slice(&segment.offset.to_le_bytes());
            out.extend_from_slice(&segment.packs.to_le_bytes());
        }
        out
    }

    /// `None` if it is not what [`Self::encode`] makes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes.strip_prefix(MAGIC)?);
        let [chain, first, last, records] = [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
        let level = rest.take(1)?[0];
        let (block_bytes, packs) = (rest.u32()?, rest.u32()?);
        let [parts, heads, blocks, segments] = [rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?];
        let links = Links {
            chain,
            first,
            last,
            level,
        };
        let mut map = Self::new(links, block_bytes as usize);
        (map.records, map.packs) = (records, packs);
        for _ in 0..parts {
            map.parts.push(Part {
                first: rest.take(16)?.try_into().ok()?,
                block: rest.u32()?,
                offset: rest.u64()?,
                filter: rest.u64()?,
                filter_bytes: rest.u32()?,
            });
        }
        map.heads = rest.u64s(heads as usize)?;
        map.pack_blocks = rest.u64s(blocks as usize)?;
        for _ in 0..segments {
            let len = rest.u32()? as usize;
            let name = String::from_utf8(rest.take(len)?.to_vec()).ok()?;
            let (offset, packs) = (rest.u64()?, rest.u32()?);
            map.segments.push(Named {
                name,
                offset,
                packs,
            });
        }
        rest.0.is_empty().then_some(map)
    }
}

/// What of some bytes was not read yet.
pub(super) struct Rest<'b>(pub(super) &'b [u8]);

impl<'b> Rest<'b> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn u64s(&mut self, count: usize) -> Option<Vec<u64>> {
        let bytes = self.take(count.checked_mul(8)?)?;
        let words = bytes.chunks_exact(8);
        Some(
            words
                .map(|w| u64::from_le_bytes(w.try_into().expect("eight bytes")))
                .collect(),
        )
    }
}
