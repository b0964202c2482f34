//! One chunk's place and one pack, as segments and tables hold them.

use std::sync::Arc;

use crate::{frame::FrameKind, secret::Prefix};

/// Bytes of a record.
pub(super) const RECORD: usize = 28;
/// A frame's length must fit in 28 bits beside the kind's 4.
pub(super) const LEN_BITS: u32 = 28;

/// One chunk's place, with the pack as an ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) prefix: Prefix,
    pub(super) pack: u32,
    pub(super) offset: u32,
    pub(super) len_kind: u32,
}

impl Record {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        for word in [self.pack, self.offset, self.len_kind] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            prefix: bytes.get(..16)?.try_into().ok()?,
            pack: word(16)?,
            offset: word(20)?,
            len_kind: word(24)?,
        })
    }

    /// Bytes of the frame.
    pub(super) fn len(&self) -> u32 {
        self.len_kind & ((1 << LEN_BITS) - 1)
    }

    pub(super) fn kind(&self) -> Option<FrameKind> {
        FrameKind::from_u8((self.len_kind >> LEN_BITS) as u8)
    }
}

/// A pack as a segment knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) name: Arc<str>,
    /// Bytes of files' chunks in it, before compression.
    pub(crate) plain_data: u64,
}

/// Stands for a pack's name where names would take too much room. Two names may have the same one.
pub(crate) fn digest_of(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
}

/// The digests of packs, sorted.
pub(crate) fn digests<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Arc<[u64]> {
    let mut all: Vec<u64> = names.map(|name| digest_of(name)).collect();
    all.sort_unstable();
    all.into()
}
