//! A set of ids of chunks that takes little memory, however many there are: what no longer fits lies sorted in
//! files of this machine.
//!
//! Ids are collected in a table of 2^20 places. A full one is written as a *run*, in order, and sixteen runs of one
//! level are merged to one of the next (a log-structured merge tree: O'Neil and others, Acta Informatica 33, 1996). Of a run the
//! first id of each block is in memory, and a hash of the block, which proves it when it is read: an id that a disk lost
//! would be a chunk that nobody needs. That is 24 bytes for 4 KiB. The files have no names and go with the process.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    fs::File,
    io::{self, BufWriter, Write as _},
    os::unix::fs::FileExt as _,
};

use crate::{
    error::{Error, Result},
    secret::Prefix,
};

/// Ids in memory: those of a table of 2^20 places, 18 MB.
const FRESH: usize = (1 << 20) / 8 * 7;
/// Runs of one level that are merged.
const RUNS: usize = 16;
/// Ids in a block.
const BLOCK: usize = 256;
const LEN: usize = size_of::<Prefix>();
/// Blocks that who reads all asks for at once.
const AHEAD: usize = 16;

/// Ids of chunks.
pub(crate) struct IdSet {
    fresh: HashSet<Prefix>,
    /// Ids in memory from which on they are written, and those of which that failed come on top.
    limit: usize,
    step: usize,
    /// The lowest level last.
    runs: Vec<Run>,
}

impl Default for IdSet {
    fn default() -> Self {
        Self::with_limit(FRESH)
    }
}

/// Ids in order on disk.
struct Run {
    level: u32,
    file: File,
    count: usize,
    /// The first id of each block.
    first: Vec<Prefix>,
    /// What proves each block.
    codes: Vec<u64>,
}

fn code_of(block: &[u8]) -> u64 {
    let hash = blake3::hash(block);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System { action, source }
}

impl IdSet {
    /// One that holds so many ids in memory, one at least.
    fn with_limit(limit: usize) -> Self {
        Self {
            fresh: HashSet::new(),
            limit,
            step: limit,
            runs: Vec::new(),
        }
    }

    /// Adds an id. While no file can be written all of them stay in memory, and warnings say so.
    pub(crate) fn insert(&mut self, id: Prefix) {
        self.fresh.insert(id);
        if self.fresh.len() < self.limit {
            return;
        }
        if let Err(error) = self.spill() {
            tracing::warn!(%error, "which chunks are needed stays in memory: make room in TMPDIR");
            self.limit += self.step;
        }
    }

    /// Adds an id; whether it is new.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn add(&mut self, id: Prefix) -> Result<bool> {
        let is_new = !self.contains(&id)?;
        if is_new {
            self.insert(id);
        }
        Ok(is_new)
    }

    /// Whether the id was added.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn contains(&self, id: &Prefix) -> Result<bool> {
        if self.fresh.contains(id) {
            return Ok(true);
        }
        for run in self.runs.iter().rev() {
            if run.contains(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All ids once, in order. What is in memory is copied for that.
    pub(crate) fn in_order(&self) -> InOrder<'_> {
        self.with_memory(&self.runs)
    }

    fn spill(&mut self) -> Result<()> {
        let run = Run::write(0, self.with_memory(&[]))?;
        self.fresh.clear();
        self.limit = self.step;
        self.runs.push(run);
        while let Some(level) = self.runs.last().map(|run| run.level) {
            let from = self.runs.partition_point(|run| run.level > level);
            if self.runs.len() - from < RUNS {
                break;
            }
            let merged = Run::write(level + 1, InOrder::of(&self.runs[from..], Vec::new()))?;
            self.runs.truncate(from);
            self.runs.push(merged);
        }
        Ok(())
    }

    /// What is in these runs and in memory.
    fn with_memory<'a>(&self, runs: &'a [Run]) -> InOrder<'a> {
        let mut fresh: Vec<Prefix> = self.fresh.iter().copied().collect();
        fresh.sort_unstable_by(|a, b| b.cmp(a));
        InOrder::of(runs, fresh)
    }
}

impl Run {
    fn write(level: u32, ids: impl Iterator<Item = Result<Prefix>>) -> Result<Self> {
        let failed = failed("write which chunks are needed below TMPDIR");
        let file = tempfile::tempfile().map_err(&failed)?;
        let mut out = BufWriter::with_capacity(AHEAD * BLOCK * LEN, &file);
        let (mut count, mut first, mut codes) = (0, Vec::new(), Vec::new());
        let mut block = Vec::with_capacity(BLOCK * LEN);
        for id in ids {
            let id = id?;
            if block.is_empty() {
                first.push(id);
            }
            block.extend_from_slice(&id);
            count += 1;
            if block.len() == BLOCK * LEN {
                codes.push(code_of(&block));
                out.write_all(&block).map_err(&failed)?;
                block.clear();
            }
        }
        if !block.is_empty() {
            codes.push(code_of(&block));
        }
        out.write_all(&block).map_err(&failed)?;
        out.flush().map_err(&failed)?;
        drop(out);
        Ok(Self {
            level,
            file,
            count,
            first,
            codes,
        })
    }

    fn contains(&self, id: &Prefix) -> Result<bool> {
        let Some(block) = self
            .first
            .partition_point(|first| first <= id)
            .checked_sub(1)
        else {
            return Ok(false);
        };
        let mut bytes = [0; BLOCK * LEN];
        let bytes = self.read(block * BLOCK, &mut bytes)?;
        let (ids, _) = bytes.as_chunks::<LEN>();
        Ok(ids.binary_search(id).is_ok())
    }

    /// Fills the buffer, of whole blocks and as far as there are so many, with the ids from one on that begins a block.
    fn read<'b>(&self, from: usize, bytes: &'b mut [u8]) -> Result<&'b [u8]> {
        let len = bytes.len().min((self.count - from) * LEN);
        let bytes = &mut bytes[..len];
        let failed = failed("read which chunks are needed");
        self.file
            .read_exact_at(bytes, (from * LEN) as u64)
            .map_err(&failed)?;
        let codes = &self.codes[from / BLOCK..];
        let mut blocks = bytes.chunks(BLOCK * LEN).zip(codes);
        if blocks.any(|(block, code)| code_of(block) != *code) {
            return Err(failed(io::Error::other(
                "its file is not as it was written",
            )));
        }
        Ok(bytes)
    }
}

/// See [`IdSet::in_order`].
pub(crate) struct InOrder<'a> {
    cursors: Vec<Cursor<'a>>,
    /// The last first.
    fresh: Vec<Prefix>,
    /// The next id of each cursor, and of memory, which comes after them.
    next: BinaryHeap<Reverse<(Prefix, usize)>>,
    last: Option<Prefix>,
    failed: Option<Error>,
}

struct Cursor<'a> {
    run: &'a Run,
    /// Ids that were read.
    read: usize,
    /// Those that were not yet given, the last first.
    ids: Vec<Prefix>,
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<Option<Prefix>> {
        if self.ids.is_empty() && self.read < self.run.count {
            let mut bytes = vec![0; AHEAD * BLOCK * LEN];
            let bytes = self.run.read(self.read, &mut bytes)?;
            let (ids, _) = bytes.as_chunks::<LEN>();
            self.read += ids.len();
            self.ids.extend(ids.iter().rev());
        }
        Ok(self.ids.pop())
    }
}

impl<'a> InOrder<'a> {
    fn of(runs: &'a [Run], fresh: Vec<Prefix>) -> Self {
        let cursor = |run| Cursor {
            run,
            read: 0,
            ids: Vec::new(),
        };
        let mut all = Self {
            cursors: runs.iter().map(cursor).collect(),
            fresh,
            next: BinaryHeap::new(),
            last: None,
            failed: None,
        };
        for source in 0..=all.cursors.len() {
            all.advance(source);
        }
        all
    }

    /// Puts the next id of a source where the least is found.
    fn advance(&mut self, source: usize) {
        let next = match self.cursors.get_mut(source) {
            Some(cursor) => cursor.next(),
            None => Ok(self.fresh.pop()),
        };
        match next {
            Ok(Some(id)) => self.next.push(Reverse((id, source))),
            Ok(None) => {}
            Err(error) => self.failed = Some(error),
        }
    }
}

impl Iterator for InOrder<'_> {
    type Item = Result<Prefix>;

    fn next(&mut self) -> Option<Result<Prefix>> {
        loop {
            if let Some(error) = self.failed.take() {
                self.next.clear();
                return Some(Err(error));
            }
            let Reverse((id, source)) = self.next.pop()?;
            self.advance(source);
            if self.last != Some(id) {
                self.last = Some(id);
                return Some(Ok(id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> Prefix {
        // Many begin alike.
        let mut id = [7; LEN];
        id[8..12].copy_from_slice(&n.to_be_bytes());
        id
    }

    fn all(set: &IdSet) -> Vec<Prefix> {
        set.in_order().collect::<Result<_>>().unwrap()
    }

    proptest! {
        #[test]
        fn it_holds_what_was_added_however_little_memory_it_has(
            numbers in prop::collection::vec(0_u32..3000, 0..2000),
            limit in 1_usize..40,
        ) {
            let mut set = IdSet::with_limit(limit);
            let mut expected = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(set.add(id(number)).unwrap(), expected.insert(id(number)));
                set.insert(id(number));
            }
            prop_assert!(set.fresh.len() <= limit);
            prop_assert!(set.runs.len() < RUNS * 3);
            prop_assert_eq!(all(&set), expected.iter().copied().collect::<Vec<_>>());
            for number in 0..3000 {
                prop_assert_eq!(set.contains(&id(number)).unwrap(), expected.contains(&id(number)));
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_not_an_id_less() {
        let mut set = IdSet::with_limit(1000);
        for number in 0..10_000 {
            set.insert(id(number));
        }
        assert_eq!(all(&set).len(), 10_000);
        set.runs[3].file.set_len(100).unwrap();
        assert!(set.in_order().any(|id| id.is_err()));
        assert!(set.contains(&id(3900)).is_err());
        let bytes = [0; LEN];
        set.runs[5]
            .file
            .write_all_at(&bytes, 999 * LEN as u64)
            .unwrap();
        assert!(set.contains(&id(5998)).is_err());
        // What is found elsewhere is found.
        assert!(set.contains(&id(9900)).unwrap());
    }
}
