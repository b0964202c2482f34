//! An object's parts as the pieces in which they are sent.

use std::slice::Iter;

use bytes::{Bytes, BytesMut};
use orlop_proto::store::DATA_BYTES;

/// All bytes of some parts, in order, in pieces of [`DATA_BYTES`] but the last.
pub(super) struct Pieces<'a> {
    parts: Iter<'a, Bytes>,
    rest: Bytes,
}

impl<'a> Pieces<'a> {
    /// The pieces of `parts`.
    pub(super) fn of(parts: &'a [Bytes]) -> Self {
        Self {
            parts: parts.iter(),
            rest: Bytes::new(),
        }
    }

    /// Makes the next part that is not empty the rest. False if there is none.
    fn refill(&mut self) -> bool {
        while self.rest.is_empty() {
            let Some(part) = self.parts.next() else {
                return false;
            };
            self.rest = part.clone();
        }
        true
    }
}

impl Iterator for Pieces<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if !self.refill() {
            return None;
        }
        // What is long enough is not copied.
        if self.rest.len() >= DATA_BYTES {
            return Some(self.rest.split_to(DATA_BYTES));
        }
        let mut piece = BytesMut::with_capacity(DATA_BYTES);
        while piece.len() < DATA_BYTES && self.refill() {
            let len = self.rest.len().min(DATA_BYTES - piece.len());
            piece.extend_from_slice(&self.rest.split_to(len));
        }
        Some(piece.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn pieces_are_the_parts_again(lens in proptest::collection::vec(
            prop_oneof![Just(0usize), 1usize..200, Just(DATA_BYTES), 1usize..(2 * DATA_BYTES)], 0..12)) {
            let part = |(i, len): (usize, &usize)| Bytes::from(vec![i as u8; *len]);
            let parts: Vec<Bytes> = lens.iter().enumerate().map(part).collect();
            let pieces: Vec<Bytes> = Pieces::of(&parts).collect();
            prop_assert_eq!(pieces.concat(), parts.concat());
            if let Some((last, others)) = pieces.split_last() {
                prop_assert!(others.iter().all(|piece| piece.len() == DATA_BYTES));
                prop_assert!((1..=DATA_BYTES).contains(&last.len()));
            }
        }
    }
}
