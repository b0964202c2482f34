//! Maps of sparse files (GNU format 1.0): what is no hole, in decimal lines before the bytes themselves.

use std::io::Write;

use orlop_repository::{Error, Extent};

use super::{failed, header::zeros_to_block};
use crate::restore::RestoreError;

/// What a sparse file's map is going to be; the map itself is made as it is written, however long it is.
pub(super) struct Map {
    size: u64,
    segments: u64,
    lines_bytes: u64,
    data_bytes: u64,
}

/// Runs of bytes that are no holes: offset and length. A file that ends with a hole ends with a run of no bytes.
struct Segments<I> {
    extents: I,
    at: u64,
    /// A run that may go on.
    run: Option<(u64, u64)>,
    size: u64,
    ended: bool,
}

impl<I: Iterator<Item = Result<Extent, Error>>> Segments<I> {
    fn new(extents: I, size: u64) -> Self {
        Self {
            extents,
            at: 0,
            run: None,
            size,
            ended: false,
        }
    }
}

impl<I: Iterator<Item = Result<Extent, Error>>> Iterator for Segments<I> {
    type Item = Result<(u64, u64), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.extents.next() {
                Some(Ok(Extent::Hole(len))) => {
                    self.at = self.at.saturating_add(len);
                    if let Some(run) = self.run.take() {
                        return Some(Ok(run));
                    }
                }
                Some(Ok(extent)) => {
                    let (from, len) = self.run.take().unwrap_or((self.at, 0));
                    self.run = Some((from, len.saturating_add(extent.len())));
                    self.at = self.at.saturating_add(extent.len());
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => {
                    self.ended = true;
                    return Some(Ok(self.run.take().unwrap_or((self.size, 0))));
                }
            }
        }
        None
    }
}

impl Map {
    /// The map of a file; `None` if it has no holes.
    pub(super) fn of(
        extents: impl Iterator<Item = Result<Extent, Error>>,
        size: u64,
    ) -> Result<Option<Self>, Error> {
        let mut map = Self {
            size,
            segments: 0,
            lines_bytes: 0,
            data_bytes: 0,
        };
        for segment in Segments::new(extents, size) {
            let (offset, len) = segment?;
            map.segments += 1;
            map.lines_bytes += line(offset).len() as u64 + line(len).len() as u64;
            map.data_bytes += len;
        }
        map.lines_bytes += line(map.segments).len() as u64;
        Ok((map.data_bytes < size).then_some(map))
    }

    /// Bytes of the map with its padding, and of the data.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.lines_bytes.next_multiple_of(512) + self.data_bytes
    }

    /// Writes the map and its padding.
    pub(super) fn write(
        &self,
        extents: impl Iterator<Item = Result<Extent, Error>>,
        out: &mut dyn Write,
    ) -> Result<(), RestoreError> {
        let mut put = |text: String| out.write_all(text.as_bytes()).map_err(failed);
        put(line(self.segments))?;
        for segment in Segments::new(extents, self.size) {
            let (offset, len) = segment?;
            put(line(offset) + &line(len))?;
        }
        out.write_all(zeros_to_block(self.lines_bytes))
            .map_err(failed)
    }
}

fn line(number: u64) -> String {
    format!("{number}\n")
}

#[cfg(test)]
mod tests {
    use orlop_repository::Secret;
    use proptest::prelude::*;

    use super::*;

    fn data(len: u32) -> Extent {
        Extent::Data {
            secret: Secret::from_bytes([1; 32]),
            len,
        }
    }

    fn extent() -> impl Strategy<Value = Extent> {
        prop_oneof![
            (1..100_u32).prop_map(data),
            (1..100_u64).prop_map(Extent::Hole),
            (1..100_u64).prop_map(Extent::Zero),
        ]
    }

    proptest! {
        #[test]
        fn a_map_tells_of_every_byte(list in prop::collection::vec(extent(), 0..60)) {
            let size: u64 = list.iter().map(Extent::len).sum();
            let each = || list.iter().cloned().map(Ok);
            let holes: u64 = list.iter().filter_map(|e| match e { Extent::Hole(n) => Some(*n), _ => None }).sum();
            let Some(map) = Map::of(each(), size).unwrap() else {
                prop_assert_eq!(holes, 0);
                return Ok(());
            };
            let mut out = Vec::new();
            map.write(each(), &mut out).unwrap();
            prop_assert_eq!(out.len() % 512, 0);
            prop_assert_eq!(map.stored_bytes(), out.len() as u64 + size - holes);
            let text = String::from_utf8(out).unwrap();
            let mut numbers = text.trim_end_matches('\0').lines().map(|n| n.parse::<u64>().unwrap());
            let count = numbers.next().unwrap();
            let numbers: Vec<u64> = numbers.collect();
            prop_assert_eq!(numbers.len() as u64, 2 * count);
            let mut is_data = vec![false; size as usize];
            for pair in numbers.chunks(2) {
                is_data[pair[0] as usize..(pair[0] + pair[1]) as usize].fill(true);
            }
            let expected: Vec<bool> = list
                .iter()
                .flat_map(|e| std::iter::repeat_n(!matches!(e, Extent::Hole(_)), e.len() as usize))
                .collect();
            prop_assert_eq!(is_data, expected);
            // GNU tar takes the size from the last line if the file ends with a hole.
            prop_assert_eq!(numbers[numbers.len() - 2] + numbers[numbers.len() - 1], size);
        }
    }
}
