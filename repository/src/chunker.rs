//! Bytes → content-defined chunks: the cut points of `fastcdc::v2020::cut_gear` with a gear table of
//! the domain's own (FastCDC, Xia et al., USENIX ATC 2016 and IEEE TPDS 2020).
//!
//! There are two ways to the same cut points. [`Chunker::cut`] asks the crate, chunk by chunk. In the other one
//! [`Chunker::scan`] finds in any block of a file, alone, where a cut could be, and a [`Cutter`] goes
//! through these few places in order (as SS-CDC does: Ni and Jiang, SoCC 2019): blocks of one file can be
//! scanned by as many threads as there are.

mod cutter;
mod scan;

pub use cutter::{Cutter, Window};
pub use scan::{Candidates, WARM};

use fastcdc::v2020::{MASKS, cut_gear};

use crate::{config::ChunkProfile, secret::Key};

/// Finds cut points. Equal bytes under equal keys and sizes are always cut alike.
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    sizes: ChunkProfile,
    mask_small: u64,
    mask_large: u64,
    /// The bits of both masks.
    mask_both: u64,
}

impl Chunker {
    /// A chunker for a domain.
    pub fn new(domain_key: &Key, sizes: ChunkProfile) -> Self {
        let seed = domain_key.derive("gear", &[]);
        let mut bytes = [0u8; 2048];
        blake3::Hasher::new_keyed(seed.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        let mut gear = Box::new([0u64; 256]);
        for (slot, eight) in gear.iter_mut().zip(bytes.chunks_exact(8)) {
            *slot = u64::from_le_bytes(eight.try_into().expect("chunks of eight"));
        }
        Self::with_table(gear, sizes)
    }

    fn with_table(gear: Box<[u64; 256]>, sizes: ChunkProfile) -> Self {
        let gear_shifted = Box::new(gear.map(|g| g << 1));
        // Normalised chunking of level 2: two bits more before the aim, two fewer after it.
        let bits = sizes.avg.ilog2() as usize;
        let (mask_small, mask_large) = (MASKS[bits + 2], MASKS[bits - 2]);
        Self {
            gear,
            gear_shifted,
            sizes,
            mask_small,
            mask_large,
            mask_both: mask_small & mask_large,
        }
    }

    /// Length of the first chunk of `data`, which must hold [`Self::max`] bytes or all that is left
    /// of the file. Zero only for empty data.
    pub fn cut(&self, data: &[u8]) -> usize {
        let ChunkProfile { min, avg, max } = self.sizes;
        let (_, length) = cut_gear(
            data,
            min as usize,
            avg as usize,
            max as usize,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear[..],
            &self.gear_shifted[..],
        );
        length
    }

    /// Where in `block` a cut could be. `before` is what precedes it in the file, of which the last
    /// [`WARM`] bytes count; none at the beginning of what is chunked.
    pub fn scan(&self, before: &[u8], block: &[u8]) -> Candidates {
        scan::scan(self, before, block)
    }

    /// One that cuts into chunks of a quarter of the size, as far as there can be so small ones. It uses the same
    /// table.
    #[must_use]
    pub fn finer(&self) -> Self {
        let ChunkProfile { min, avg, max } = self.sizes;
        let quarter = ChunkProfile {
            min: min / 4,
            avg: avg / 4,
            max: max / 4,
        };
        Self::with_table(self.gear.clone(), quarter.validate().unwrap_or(self.sizes))
    }

    /// Smallest chunk in bytes, but for the last one.
    pub fn min(&self) -> usize {
        self.sizes.min as usize
    }

    /// Largest chunk in bytes.
    pub fn max(&self) -> usize {
        self.sizes.max as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn small() -> Chunker {
        Chunker::new(
            &Key::from_bytes([3; 32]),
            ChunkProfile {
                min: 64,
                avg: 256,
                max: 1024,
            },
        )
    }

    pub(super) fn lengths(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut out = Vec::new();
        while !data.is_empty() {
            let n = chunker.cut(data);
            out.push(n);
            data = &data[n..];
        }
        out
    }

    /// A fixed stream of bytes: xorshift64.
    pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut x = seed | 1;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x >> 24) as u8
            })
            .collect()
    }

    #[test]
    fn cut_points_are_pinned() {
        let chunker = Chunker::new(&Key::from_bytes([1; 32]), ChunkProfile::GENERAL);
        let found = lengths(&chunker, &noise(42, 12 << 20));
        let pinned: Vec<usize> = include_str!("../golden/chunker.txt")
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        assert_eq!(found, pinned);
    }

    #[test]
    fn a_finer_one_makes_quarters() {
        let chunker = Chunker::new(&Key::from_bytes([1; 32]), ChunkProfile::GENERAL);
        let finer = chunker.finer();
        assert_eq!((finer.min(), finer.max()), (64 << 10, 1 << 20));
        let found = lengths(&finer, &noise(42, 12 << 20));
        assert!((30..80).contains(&found.len()), "{}", found.len());
        // There are none of less than 64 bytes.
        assert_eq!(small().finer().min(), 64);
    }

    proptest! {
        #[test]
        fn any_bytes_chunk_and_rejoin(data in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let chunker = small();
            let found = lengths(&chunker, &data);
            prop_assert_eq!(found.iter().sum::<usize>(), data.len());
            for (i, n) in found.iter().enumerate() {
                prop_assert!(*n <= 1024);
                prop_assert!(*n >= 64 || i + 1 == found.len());
            }
        }

        #[test]
        fn an_insertion_changes_few_chunks(at in 0usize..40_000, seed: u64) {
            let chunker = small();
            let mut data = noise(seed, 40_000);
            let before: std::collections::HashSet<Vec<u8>> = split(&chunker, &data);
            data.insert(at, 7);
            let after = split(&chunker, &data);
            prop_assert!(after.difference(&before).count() <= 24);
        }
    }

    fn split(chunker: &Chunker, data: &[u8]) -> std::collections::HashSet<Vec<u8>> {
        let mut at = 0;
        lengths(chunker, data)
            .into_iter()
            .map(|n| {
                at += n;
                data[at - n..at].to_vec()
            })
            .collect()
    }
}
