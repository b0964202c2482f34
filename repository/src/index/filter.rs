//! A filter that tells of most ids that they are not in a part of a table: about nine bits an id, wrong for one in
//! 256 of the others.

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable as _, Filter as _, FilterRef as _};

use crate::error::{Error, Result};

const DESCRIPTOR: usize = BinaryFuse8::DESCRIPTOR_LEN;

/// A filter as its bytes.
pub(super) struct IdFilter(Vec<u8>);

impl IdFilter {
    /// The filter of the ids `keys`, which are sorted here.
    ///
    /// # Errors
    /// None can be made of them.
    pub(super) fn build(keys: &mut Vec<u64>) -> Result<Self> {
        keys.sort_unstable();
        keys.dedup();
        let filter = BinaryFuse8::try_from(keys.as_slice()).map_err(|reason| Error::System {
            action: "make a filter of ids",
            source: std::io::Error::other(reason),
        })?;
        let mut bytes = vec![0; DESCRIPTOR];
        filter.dma_copy_descriptor_to(&mut bytes);
        bytes.extend_from_slice(filter.dma_fingerprints());
        Ok(Self(bytes))
    }

    /// A filter of these bytes; `None` if they cannot be one.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (segment, mask, length) = (word(8)?, word(12)?, word(16)?);
        let needed = u64::from(length) + 2 * u64::from(segment);
        let sane = segment.is_power_of_two()
            && mask == segment - 1
            && length > 0
            && needed <= (bytes.len() - DESCRIPTOR) as u64;
        sane.then_some(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// False only for what is not in it.
    pub(super) fn may_hold(&self, key: u64) -> bool {
        let (descriptor, prints) = self.0.split_at(DESCRIPTOR);
        BinaryFuse8Ref::from_dma(descriptor, prints).contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_others_are_taken_for_those_in_it() {
        let hash = |n: u64| {
            u64::from_le_bytes(
                blake3::hash(&n.to_le_bytes()).as_bytes()[..8]
                    .try_into()
                    .unwrap(),
            )
        };
        let filter = IdFilter::build(&mut (0..50_000).map(hash).collect()).unwrap();
        let wrong = (50_000..250_000)
            .filter(|n| filter.may_hold(hash(*n)))
            .count();
        assert!(wrong < 200_000 / 200, "{wrong}");
        assert!(
            filter.bytes().len() * 8 < 50_000 * 10,
            "{}",
            filter.bytes().len()
        );
    }

    proptest! {
        #[test]
        fn what_is_in_it_is_always_found(mut keys in proptest::collection::vec(any::<u64>(), 1..400)) {
            let all = keys.clone();
            let filter = IdFilter::build(&mut keys).unwrap();
            let filter = IdFilter::from_bytes(filter.bytes().to_vec()).unwrap();
            prop_assert!(all.iter().all(|key| filter.may_hold(*key)));
        }

        #[test]
        fn any_bytes_are_a_filter_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), key: u64) {
            if let Some(filter) = IdFilter::from_bytes(bytes) {
                filter.may_hold(key);
            }
        }
    }
}
