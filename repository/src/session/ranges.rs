//! Which bytes to ask of packs: few requests, each byte at most once, no more than a bound at a time.
//!
//! Frames that are wanted wait in a [`Pool`] until their pack's turn comes, so that whatever asks for
//! the same pack meanwhile is served by the same requests. Packs come in the order of first need;
//! those of which little is wanted wait until last, as more of them may yet be wanted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Bytes between two frames that are read through: what a request costs in latency would pay for them.
const GAP: u32 = 1 << 20;
/// From this share on, all from the first to the last frame is read in one piece.
const WHOLE_PERCENT: u64 = 60;
/// A pack of which less is wanted waits for more.
const LITTLE: u64 = 8 << 20;

/// A frame that is wanted, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Place in its pack, in bytes.
    pub(super) offset: u32,
    /// Length in bytes.
    pub(super) len: u32,
    /// Number of the batch that wants it.
    pub(super) batch: u64,
    /// Position in the batch.
    pub(super) index: u32,
    /// It was looked up again, as it was not where it had been.
    pub(super) again: bool,
}

impl Frame {
    fn end(self) -> u32 {
        self.offset.saturating_add(self.len)
    }
}

/// Bytes of a pack that are read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) begin: u32,
    pub(super) end: u32,
    /// By offset; all within the range.
    pub(super) frames: Vec<Frame>,
}

impl Range {
    pub(super) fn len(&self) -> u32 {
        self.end - self.begin
    }
}

/// The ranges that cover frames of one pack, by offset. None is longer than `max` bytes unless a
/// single frame is.
pub(super) fn plan(mut frames: Vec<Frame>, max: u32) -> Vec<Range> {
    frames.sort_unstable_by_key(|frame| (frame.offset, frame.len));
    let (needed, span) = extent(&frames);
    let whole = needed * 100 > span * WHOLE_PERCENT;
    let mut ranges: Vec<Range> = Vec::new();
    for frame in frames {
        if let Some(last) = ranges.last_mut() {
            let end = last.end.max(frame.end());
            let near = whole || frame.offset <= last.end.saturating_add(GAP);
            if end == last.end || (near && end - last.begin <= max) {
                last.end = end;
                last.frames.push(frame);
                continue;
            }
        }
        ranges.push(Range {
            begin: frame.offset,
            end: frame.end(),
            frames: vec![frame],
        });
    }
    ranges
}

/// Bytes that sorted frames cover, each counted once, and bytes from the first to the last.
fn extent(frames: &[Frame]) -> (u64, u64) {
    let begin = frames.first().map_or(0, |frame| frame.offset);
    let (mut needed, mut end) = (0, begin);
    for frame in frames {
        needed += u64::from(frame.end().saturating_sub(frame.offset.max(end)));
        end = end.max(frame.end());
    }
    (needed, u64::from(end - begin))
}

/// Whose turn it is: the oldest batch first, in it packs of which much is wanted, in order of need.
type Turn = (u64, bool, u32);

struct Wanting {
    frames: Vec<Frame>,
    bytes: u64,
    turn: Turn,
}

/// Frames that were not asked for yet, by pack.
#[derive(Default)]
pub(super) struct Pool {
    packs: HashMap<Arc<str>, Wanting>,
    turns: BTreeMap<Turn, Arc<str>>,
}

impl Pool {
    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Adds a frame. A batch must not use one index for two frames.
    pub(super) fn add(&mut self, pack: &str, frame: Frame) {
        if !self.packs.contains_key(pack) {
            let (name, turn) = (Arc::from(pack), (frame.batch, true, frame.index));
            self.turns.insert(turn, Arc::clone(&name));
            let (frames, bytes) = (Vec::new(), 0);
            let wanting = Wanting {
                frames,
                bytes,
                turn,
            };
            self.packs.insert(name, wanting);
        }
        let Some(wanting) = self.packs.get_mut(pack) else {
            return;
        };
        wanting.frames.push(frame);
        wanting.bytes += u64::from(frame.len);
        let (batch, _, first) = wanting.turn;
        let (batch, first) = (batch, first).min((frame.batch, frame.index));
        let turn = (batch, wanting.bytes < LITTLE, first);
        if turn != wanting.turn
            && let Some(name) = self.turns.remove(&wanting.turn)
        {
            wanting.turn = turn;
            self.turns.insert(turn, name);
        }
    }

    /// The pack whose turn it is, with all its frames.
    pub(super) fn next(&mut self) -> Option<(Arc<str>, Vec<Frame>)> {
        let (_, name) = self.turns.pop_first()?;
        let wanting = self.packs.remove(&name)?;
        Some((name, wanting.frames))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(offset: u32, len: u32, index: u32) -> Frame {
        Frame {
            offset,
            len,
            batch: 0,
            index,
            again: false,
        }
    }

    /// Frames of one pack one after the other, with gaps.
    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let gap = prop_oneof![
            3 => Just(0_u32),
            2 => 0..2 * GAP,
            1 => GAP..8 * GAP,
        ];
        prop::collection::vec((gap, 1..4_u32 << 20), 1..40).prop_map(|list| {
            let mut at = 32;
            let mut frames = Vec::new();
            for (index, (gap, len)) in list.into_iter().enumerate() {
                at += gap;
                frames.push(frame(at, len, index as u32));
                at += len;
            }
            frames
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

        #[test]
        fn each_frame_is_in_one_range_of_its_pack(frames in frames(), max in 1..64_u32 << 20, swaps in any::<u64>()) {
            let end = frames.iter().map(|frame| frame.end()).max().unwrap();
            let mut shuffled = frames.clone();
            let len = shuffled.len();
            for at in 0..len {
                shuffled.swap(at, (swaps as usize).wrapping_mul(at + 7) % len);
            }
            let ranges = plan(shuffled, max);
            let mut seen: Vec<u32> = ranges.iter().flat_map(|range| &range.frames).map(|frame| frame.index).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..frames.len() as u32).collect::<Vec<_>>());
            for range in &ranges {
                prop_assert!(range.begin >= frames[0].offset && range.end <= end);
                prop_assert!(range.len() <= max || range.frames.len() == 1);
                prop_assert_eq!(range.begin, range.frames[0].offset);
                prop_assert_eq!(range.end, range.frames.iter().map(|frame| frame.end()).max().unwrap());
                prop_assert!(range.frames.iter().all(|frame| frame.offset >= range.begin));
            }
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end <= pair[1].begin, "a byte is read twice");
            }
        }

        #[test]
        fn gaps_are_read_through_by_size_or_by_share(frames in frames()) {
            let needed: u64 = frames.iter().map(|frame| u64::from(frame.len)).sum();
            let span = u64::from(frames.last().unwrap().end() - frames[0].offset);
            let ranges = plan(frames.clone(), u32::MAX);
            if needed * 100 > span * 60 {
                prop_assert_eq!(ranges.len(), 1);
            } else {
                let wide = frames.windows(2).filter(|pair| pair[1].offset - pair[0].end() > GAP);
                prop_assert_eq!(ranges.len(), 1 + wide.count());
            }
        }

        #[test]
        fn a_pool_gives_each_pack_once_and_the_oldest_batch_first(
            list in prop::collection::vec((0..12_u32, 0..4_u64, 1..4_u32 << 20), 1..200),
        ) {
            let mut pool = Pool::default();
            for (index, (pack, batch, len)) in list.iter().enumerate() {
                let index = index as u32;
                pool.add(&format!("p/{pack}"), Frame { batch: *batch, len: *len, ..frame(index, 1, index) });
            }
            let (mut packs, mut turns, mut given) = (Vec::new(), Vec::new(), 0);
            while let Some((pack, frames)) = pool.next() {
                packs.push(pack);
                given += frames.len();
                turns.push(frames.iter().map(|frame| frame.batch).min().unwrap());
            }
            prop_assert!(pool.is_empty());
            prop_assert_eq!(given, list.len());
            prop_assert!(turns.is_sorted());
            let count = packs.len();
            packs.sort();
            packs.dedup();
            prop_assert_eq!(packs.len(), count);
        }
    }

    #[test]
    fn a_pack_of_which_little_is_wanted_waits() {
        let mut pool = Pool::default();
        pool.add("little", frame(0, 1000, 0));
        for index in 1..4 {
            pool.add("much", frame(index * 4_000_000, 4_000_000, index));
        }
        pool.add(
            "later",
            Frame {
                batch: 1,
                ..frame(0, 9 << 20, 0)
            },
        );
        let order: Vec<_> = std::iter::from_fn(|| pool.next())
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            order.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["much", "little", "later"]
        );
    }

    #[test]
    fn a_frame_that_several_want_is_read_once() {
        let ranges = plan(vec![frame(5, 10, 0), frame(5, 10, 1), frame(7, 2, 2)], 8);
        assert_eq!(ranges.len(), 1);
        assert_eq!((ranges[0].begin, ranges[0].end), (5, 15));
    }
}
