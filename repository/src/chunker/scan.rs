//! The first stage: places of a block at which a cut could be, found in four lanes at once.
//!
//! The gear hash at a byte depends on the 64 bytes that end there and on nothing else, so a block can be
//! scanned in pieces, each of which is warmed up with the 63 bytes before it.

use super::Chunker;

/// Bytes before a block that the hash of its first byte depends on.
pub const WARM: usize = 63;
/// Blocks with more places than this are cut the slow way: only bytes of a short period have so many.
const DENSE: usize = 8192;
/// Below this size a lane is not worth its warming up, in bytes.
const LANE_MIN: usize = 1024;
const LANES: usize = 4;

/// A place at which a cut could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset in the block.
    pub(super) at: u32,
    /// It is a cut before the aim.
    pub(super) small: bool,
    /// It is a cut behind the aim.
    pub(super) large: bool,
}

/// Places of one block at which a cut could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    pub(super) len: usize,
    /// In ascending order.
    pub(super) places: Vec<Place>,
    /// There are too many to be listed.
    pub(super) dense: bool,
}

impl Candidates {
    /// Of a block that is not to be looked at: it is cut by the crate.
    pub(super) fn unknown(len: usize) -> Self {
        Self {
            len,
            places: Vec::new(),
            dense: true,
        }
    }
}

pub(super) fn scan(chunker: &Chunker, before: &[u8], block: &[u8]) -> Candidates {
    let len = block.len();
    if u32::try_from(len).is_err() {
        return Candidates::unknown(len);
    }
    let before = &before[before.len().saturating_sub(WARM)..];
    let mut places = Vec::new();
    let lane = len / LANES;
    if lane < LANE_MIN {
        one(chunker, warm(chunker, before), block, 0, &mut places);
    } else {
        four(chunker, before, block, lane, &mut places);
    }
    if places.len() > DENSE {
        return Candidates::unknown(len);
    }
    places.sort_unstable_by_key(|place| place.at);
    Candidates {
        len,
        places,
        dense: false,
    }
}

/// The hash after these bytes.
fn warm(chunker: &Chunker, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash << 1).wrapping_add(chunker.gear[usize::from(*byte)]);
    bytes.iter().fold(0, step)
}

/// Scans `bytes`, which lie at `base` in the block.
fn one(chunker: &Chunker, mut hash: u64, bytes: &[u8], base: usize, found: &mut Vec<Place>) {
    for (at, byte) in bytes.iter().enumerate() {
        hash = (hash << 1).wrapping_add(chunker.gear[usize::from(*byte)]);
        if hash & chunker.mask_both == 0 {
            note(chunker, hash, base + at, found);
        }
    }
}

/// Scans four quarters at once: each step of one waits for its step before, four keep the processor busy.
#[allow(
    clippy::needless_bitwise_bool,
    reason = "one branch for four lanes, hardly ever taken"
)]
fn four(chunker: &Chunker, before: &[u8], block: &[u8], lane: usize, found: &mut Vec<Place>) {
    let quarter = |n: usize| &block[n * lane..(n + 1) * lane];
    let warmed = |n: usize| warm(chunker, &block[n * lane - WARM..n * lane]);
    let (gear, mask) = (&chunker.gear, chunker.mask_both);
    let (mut h0, mut h1, mut h2, mut h3) = (warm(chunker, before), warmed(1), warmed(2), warmed(3));
    let firsts = quarter(0).iter().zip(quarter(1));
    let seconds = quarter(2).iter().zip(quarter(3));
    for (at, ((b0, b1), (b2, b3))) in firsts.zip(seconds).enumerate() {
        h0 = (h0 << 1).wrapping_add(gear[usize::from(*b0)]);
        h1 = (h1 << 1).wrapping_add(gear[usize::from(*b1)]);
        h2 = (h2 << 1).wrapping_add(gear[usize::from(*b2)]);
        h3 = (h3 << 1).wrapping_add(gear[usize::from(*b3)]);
        let hashes = [h0, h1, h2, h3];
        // One branch for all four.
        let hits = hashes
            .iter()
            .fold(0, |hits, hash| hits | u8::from(hash & mask == 0));
        if hits != 0 {
            for (n, hash) in hashes.into_iter().enumerate() {
                if hash & mask == 0 {
                    note(chunker, hash, n * lane + at, found);
                }
            }
        }
    }
    one(chunker, h3, &block[LANES * lane..], LANES * lane, found);
}

#[cold]
fn note(chunker: &Chunker, hash: u64, at: usize, found: &mut Vec<Place>) {
    let at = at as u32;
    let (small, large) = (
        hash & chunker.mask_small == 0,
        hash & chunker.mask_large == 0,
    );
    // What is beyond the limit says only that there are too many.
    if (small || large) && found.len() <= DENSE {
        found.push(Place { at, small, large });
    }
}
