//! The second stage: from places at which a cut could be to the cuts.

use std::collections::VecDeque;

use super::{
    Chunker,
    scan::{Candidates, Place, WARM},
};

/// Where the bytes of what is chunked can be had.
pub trait Window {
    /// Fills `into` with the bytes from `from` on, counted from the beginning of what is chunked. They are
    /// bytes that were scanned and that no cut has passed.
    fn copy(&self, from: u64, into: &mut [u8]);
}

/// Cuts what is given to it block by block, just as [`Chunker::cut`] does chunk by chunk.
pub struct Cutter<'c> {
    chunker: &'c Chunker,
    /// Where the next chunk begins.
    start: u64,
    /// Up to where blocks were given.
    known: u64,
    ended: bool,
    /// Each with the beginning of its block.
    places: VecDeque<(u64, Place)>,
    /// Ranges that must be cut by looking at their bytes.
    dense: VecDeque<(u64, u64)>,
    buffer: Vec<u8>,
}

impl<'c> Cutter<'c> {
    /// A cutter at the beginning of something.
    pub fn new(chunker: &'c Chunker) -> Self {
        Self {
            chunker,
            start: 0,
            known: 0,
            ended: false,
            places: VecDeque::new(),
            dense: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    /// Gives the next block.
    pub fn push(&mut self, block: &Candidates) {
        let begin = self.known;
        self.known += block.len as u64;
        if block.dense {
            self.dense.push_back((begin, self.known));
        }
        self.places
            .extend(block.places.iter().map(|place| (begin, *place)));
    }

    /// No block follows.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Where the next chunk begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Length of the next chunk, which begins at [`Self::start`] and is passed with this call; `None` if
    /// further blocks are needed, or nothing is left.
    pub fn next_cut(&mut self, bytes: &impl Window) -> Option<usize> {
        let max = self.chunker.max() as u64;
        let have = self.known - self.start;
        if have == 0 || (have < max && !self.ended) {
            return None;
        }
        let length = self.cut(have.min(max) as usize, bytes);
        self.start += length as u64;
        let start = self.start;
        let is_passed = |(begin, place): &(u64, Place)| begin + u64::from(place.at) < start;
        while self.places.front().is_some_and(is_passed) {
            self.places.pop_front();
        }
        while self.dense.front().is_some_and(|(_, end)| *end <= start) {
            self.dense.pop_front();
        }
        Some(length)
    }

    /// The cut within the next `remaining` bytes, which are the longest possible chunk or all that is left.
    fn cut(&mut self, remaining: usize, bytes: &impl Window) -> usize {
        let (min, avg) = (
            self.chunker.sizes.min as usize,
            self.chunker.sizes.avg as usize,
        );
        if remaining <= min {
            return remaining;
        }
        let end = self.start + remaining as u64;
        if self.dense.front().is_some_and(|(begin, _)| *begin < end) {
            self.buffer.resize(remaining, 0);
            bytes.copy(self.start, &mut self.buffer);
            return self.chunker.cut(&self.buffer);
        }
        // The crate looks at pairs of bytes: of an odd number the last is not looked at.
        let (aim, last) = (avg.min(remaining) & !1, remaining & !1);
        let is_cut =
            |at: usize, small: bool, large: bool| if at < aim { small } else { at < last && large };
        // Its hash begins with nothing at `min`, and is that of a scan only after 63 bytes.
        let cold = WARM.min(last - min);
        let mut first = [0; WARM];
        bytes.copy(self.start + min as u64, &mut first[..cold]);
        let mut hash = 0_u64;
        for (n, byte) in first[..cold].iter().enumerate() {
            hash = (hash << 1).wrapping_add(self.chunker.gear[usize::from(*byte)]);
            let small = hash & self.chunker.mask_small == 0;
            if is_cut(min + n, small, hash & self.chunker.mask_large == 0) {
                return min + n;
            }
        }
        for (begin, place) in &self.places {
            let at = (begin + u64::from(place.at) - self.start) as usize;
            if at >= last {
                break;
            }
            if at >= min + WARM && is_cut(at, place.small, place.large) {
                return at;
            }
        }
        remaining
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        chunker::tests::{lengths, noise},
        config::ChunkProfile,
        secret::Key,
    };

    struct Whole<'a>(&'a [u8]);

    impl Window for Whole<'_> {
        fn copy(&self, from: u64, into: &mut [u8]) {
            let from = from as usize;
            into.copy_from_slice(&self.0[from..from + into.len()]);
        }
    }

    /// Cuts by both stages, with blocks of these sizes again and again.
    fn two_stages(chunker: &Chunker, data: &[u8], blocks: &[usize]) -> Vec<usize> {
        let mut cutter = Cutter::new(chunker);
        let (mut at, mut out) = (0, Vec::new());
        let mut sizes = blocks.iter().cycle();
        while at < data.len() {
            let end = (at + sizes.next().unwrap()).min(data.len());
            cutter.push(&chunker.scan(&data[..at], &data[at..end]));
            at = end;
            if at == data.len() {
                cutter.end();
            }
            while let Some(length) = cutter.next_cut(&Whole(data)) {
                out.push(length);
            }
        }
        out
    }

    fn chunker(key: u8, min: u32, avg: u32, max: u32) -> Chunker {
        Chunker::new(
            &Key::from_bytes([key; 32]),
            ChunkProfile { min, avg, max }.validate().unwrap(),
        )
    }

    /// Data of the kinds that files hold: noise, text of few letters, and repetitions.
    fn data() -> impl Strategy<Value = Vec<u8>> {
        let piece = (0_u8..4, any::<u64>(), 0_usize..12_000).prop_map(|(kind, seed, len)| {
            let noise = noise(seed, len);
            match kind {
                0 | 1 => noise,
                2 => noise.iter().map(|byte| b'a' + byte % 3).collect(),
                _ => (0..len)
                    .map(|n| noise[n % (1 + seed as usize % 7).min(len)])
                    .collect(),
            }
        });
        proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn two_stages_cut_as_the_crate_does(
            data in data(),
            key in 0_u8..32,
            sizes in prop_oneof![
                Just((64, 64, 64)), Just((64, 256, 1024)), Just((66, 64 << 1, 500)), Just((256, 1024, 1030)),
                Just((1000, 2048, 9000)),
            ],
            blocks in proptest::collection::vec(1_usize..9000, 1..4),
        ) {
            let chunker = chunker(key, sizes.0, sizes.1, sizes.2);
            prop_assert_eq!(two_stages(&chunker, &data, &blocks), lengths(&chunker, &data));
        }
    }

    #[test]
    fn the_pinned_cut_points_are_found_in_two_stages_too() {
        let chunker = Chunker::new(&Key::from_bytes([1; 32]), ChunkProfile::GENERAL);
        let pinned: Vec<usize> = include_str!("../../golden/chunker.txt")
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let data = noise(42, 12 << 20);
        for block in [4 << 20, 1 << 20, (3 << 20) + 17] {
            assert_eq!(two_stages(&chunker, &data, &[block]), pinned, "{block}");
        }
    }

    #[test]
    fn bytes_with_a_place_at_every_step_are_cut_as_the_crate_does() {
        // Of some key a run of one byte has a hash that is a cut at every byte.
        let data = |byte: u8| vec![byte; 100_000];
        let found = (0..=255_u8).find_map(|key| {
            let chunker = chunker(key, 64, 64, 1024);
            let dense = (0..=255_u8).find(|byte| chunker.scan(&[], &data(*byte)).dense)?;
            Some((chunker, dense))
        });
        let (chunker, byte) = found.unwrap();
        let data = [noise(7, 5000), data(byte), noise(8, 5000)].concat();
        let expected = lengths(&chunker, &data);
        assert_eq!(two_stages(&chunker, &data, &[30_000]), expected);
    }
}
