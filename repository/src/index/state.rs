//! The index of a repository and what it was made of.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Index,
    directory::TableDirectory,
    layout::Links,
    memory::Memory,
    merge::{Done, Dropped, Flush, Work},
    record::{digest_of, digests},
    segment::Segment,
    table::Table,
};
use crate::{
    error::Result,
    protocol::{LogState, Standing},
};

/// The index and what it was made of.
pub(crate) struct IndexState {
    index: Index,
    directory: Arc<TableDirectory>,
    /// Tells what is in memory from what was there before, or is elsewhere.
    memory: Arc<()>,
    /// Segments that are in the index, with the digests of the packs that they name.
    loaded: HashMap<String, Arc<[u64]>>,
    /// Those that were added since the last table was made.
    recent: Vec<String>,
    /// Records that were added since then, also those of packs that were known.
    read: usize,
    /// How many records make the next table, and how many tables must be there before some are merged: more
    /// than usual when there was no place for one.
    flush_at: usize,
    merge_at: usize,
    /// A segment that was lost and made again from what packs could be read.
    pub(crate) guessed: Option<String>,
    /// The entry of the log that the packs' standing was last told from; `None` if there are packs that
    /// were never told.
    judged: Option<u64>,
}

impl IndexState {
    /// What the tables of a directory hold.
    pub(crate) fn begin(directory: Arc<TableDirectory>) -> Self {
        let tables = directory.open();
        Self::of(directory, tables)
    }

    fn of(directory: Arc<TableDirectory>, tables: Vec<Arc<Table>>) -> Self {
        let mut state = Self {
            index: Index {
                tables,
                ..Index::default()
            },
            flush_at: directory.shared.limits.memory_records,
            directory,
            memory: Arc::default(),
            loaded: HashMap::new(),
            recent: Vec::new(),
            read: 0,
            merge_at: 0,
            guessed: None,
            judged: None,
        };
        for table in &state.index.tables {
            state.loaded.extend(table.segments.iter().cloned());
        }
        state
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn directory(&self) -> &Arc<TableDirectory> {
        &self.directory
    }

    /// Learns which packs are not in the store.
    pub(crate) fn miss<'p>(&mut self, packs: impl Iterator<Item = &'p str>) {
        self.index.miss(packs);
    }

    /// Whether a segment is in the index.
    pub(crate) fn has(&self, segment: &str) -> bool {
        self.loaded.contains_key(segment)
    }

    /// How many segments are in the index.
    pub(crate) fn segments(&self) -> usize {
        self.loaded.len()
    }

    /// Whether some segment names a pack; two names in 2⁶⁴ are taken for the same.
    pub(crate) fn names_pack(&self, pack: &str) -> bool {
        let digest = digest_of(pack);
        let mut all = self.loaded.values();
        all.any(|digests| digests.binary_search(&digest).is_ok())
    }

    /// Whether some segment names a pack that is not deleted; as in [`Self::names_pack`].
    pub(crate) fn has_pack(&self, pack: &str) -> bool {
        self.index.standing(pack) != Standing::Dead && self.names_pack(pack)
    }

    /// The segments that name one of `packs`, and perhaps some more.
    pub(crate) fn naming<'p>(&self, packs: impl Iterator<Item = &'p String>) -> HashSet<String> {
        let wanted: HashSet<u64> = packs.map(|pack| digest_of(pack)).collect();
        let named = self.loaded.iter();
        named
            .filter(|(_, digests)| digests.iter().any(|digest| wanted.contains(digest)))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Adds a segment. A pack that is known is left out: it came from a segment that this one replaces, or from a
    /// session that was adopted.
    ///
    /// # Errors
    /// A table cannot be read; then nothing was added.
    pub(crate) fn add(&mut self, name: String, segment: Segment) -> Result<()> {
        let records = segment.len();
        let named = digests(segment.packs());
        let known = self.index.known_packs(&segment)?;
        let segment = if known.contains(&true) {
            let new: Vec<bool> = known.iter().map(|known| !known).collect();
            segment.kept(&new).into_segment()
        } else {
            segment
        };
        self.judged = None;
        self.index.add(segment);
        self.read += records;
        self.note(name, named);
        Ok(())
    }

    /// Adds a segment in the place of one that is lost. Nothing of it is kept for another process.
    pub(crate) fn guess(&mut self, name: &str, segment: Segment) -> Result<()> {
        self.directory.keep_no_more();
        self.guessed.get_or_insert_with(|| name.to_owned());
        let before = self.loaded.remove(name);
        self.add(name.to_owned(), segment)?;
        if let (Some(before), Some(now)) = (before, self.loaded.get_mut(name)) {
            let mut all = [&before[..], now].concat();
            all.sort_unstable();
            *now = all.into();
        }
        Ok(())
    }

    fn note(&mut self, name: String, digests: Arc<[u64]>) {
        self.recent.push(name.clone());
        self.loaded.insert(name, digests);
    }

    /// Drops the segments for which `keep` is false, and the packs that no other one names: they were
    /// deleted, be it long ago.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let mut dropped = Vec::new();
        self.loaded.retain(|name, digests| {
            let keeps = keep(name);
            if !keeps {
                dropped.extend_from_slice(digests);
            }
            keeps
        });
        self.forget(dropped);
    }

    /// Forgets packs that no segment names any more.
    fn forget(&mut self, mut dropped: Vec<u64>) {
        dropped.sort_unstable();
        dropped.dedup();
        let mut gone: HashSet<u64> = dropped.into_iter().collect();
        for digests in self.loaded.values() {
            if gone.is_empty() {
                break;
            }
            for digest in digests.iter() {
                gone.remove(digest);
            }
        }
        self.index.forget(gone);
    }

    /// Learns that `added`, with the packs that they name, hold what `removed` held, so that nothing is read again,
    /// and gives back the memory of deleted packs.
    pub(crate) fn replaced(&mut self, removed: &[String], added: Vec<(String, Arc<[u64]>)>) {
        let mut dropped = Vec::new();
        for name in removed {
            let digests = self.loaded.remove(name);
            dropped.extend(digests.iter().flat_map(|digests| digests.iter()));
        }
        for (name, digests) in added {
            self.note(name, digests);
        }
        self.forget(dropped);
    }

    /// Learns from the log what may be done with packs, if it does not know.
    pub(crate) fn judge(&mut self, state: &LogState) {
        self.index.judge(state);
        self.judged = Some(state.judged);
    }

    /// Whether what it knows of packs is what the log says.
    pub(crate) fn is_judged(&self, state: &LogState) -> bool {
        self.judged == Some(state.judged)
    }

    /// Whether there is no more place in memory.
    pub(crate) fn is_full(&self) -> bool {
        self.read >= self.flush_at
    }

    /// What is to be done next so that memory stays small and tables stay few.
    pub(crate) fn work(&self) -> Option<Work> {
        let (index, fan) = (&self.index, self.directory.shared.limits.fan);
        let last = index.tables.last().map_or(0, |table| table.map.links.last);
        if self.is_full() {
            return Some(Work {
                flush: Some(self.flush()),
                ..self.merge_from(index.tables.len(), last + 1, last + 1, 0)
            });
        }
        if index.tables.len() < self.merge_at.max(1) {
            return None;
        }
        let level = index.tables.last()?.map.links.level;
        let same = index.tables.iter().rev();
        let same = same.take_while(|table| table.map.links.level == level);
        let same = same.count();
        if same >= fan {
            let begin = index.tables.len() - same;
            let first = index.tables[begin].map.links.first;
            return Some(self.merge_from(begin, first, last, level.saturating_add(1)));
        }
        // Memory goes with it: a segment that is in memory may name packs that are in tables.
        self.is_stale().then(|| {
            let levels = index.tables.iter().map(|table| table.map.links.level);
            let level = levels.max().unwrap_or_default();
            Work {
                flush: Some(self.flush()),
                current: Some(self.loaded.keys().cloned().collect()),
                ..self.merge_from(0, 1, last, level)
            }
        })
    }

    fn flush(&self) -> Flush {
        let segments = self.recent.iter();
        let segments = segments
            .filter_map(|name| Some((name.clone(), self.loaded.get(name)?.clone())))
            .collect();
        let memory = &self.index.memory;
        Flush {
            memory: Arc::clone(&self.memory),
            packs: memory.packs.clone(),
            standing: memory.standing.clone(),
            runs: memory.runs.clone(),
            segments,
        }
    }

    /// Merges the tables from `begin` on.
    fn merge_from(&self, begin: usize, first: u64, last: u64, level: u8) -> Work {
        let dead = self.index.doomed.iter();
        let dead = dead.filter(|(_, standing)| **standing == Standing::Dead);
        Work {
            directory: Arc::clone(&self.directory),
            flush: None,
            tables: self.index.tables[begin..].to_vec(),
            begin,
            dropped: Dropped {
                dead: dead.map(|(pack, _)| pack.clone()).collect(),
                gone: self.index.gone.clone(),
            },
            current: None,
            head: None,
            links: Links {
                chain: 0,
                first,
                last,
                level,
            },
        }
    }

    /// Whether much of what the tables hold is gone.
    fn is_stale(&self) -> bool {
        let count = |digests: &Arc<[u64]>| digests.len() as u64;
        let tables = self.index.tables.iter().flat_map(|table| &table.segments);
        let listed: u64 = tables.map(|(_, digests)| count(digests) + 1).sum();
        let needed: u64 = self.loaded.values().map(|digests| count(digests) + 1).sum();
        let gone = self.index.gone.len() as u64;
        let slack = self.directory.shared.limits.slack;
        gone * 4 > u64::from(self.index.table_packs()) + slack || listed > 2 * needed + slack
    }

    /// Puts what was made in the place of what it was made of, if that is still here.
    pub(crate) fn install(&mut self, done: Done) {
        let tables = &mut self.index.tables;
        let place = done.begin..done.begin + done.replaced.len();
        let same = |(a, b): (&Arc<Table>, &Arc<Table>)| Arc::ptr_eq(a, b);
        let here = tables
            .get(place.clone())
            .is_some_and(|tables| tables.iter().zip(&done.replaced).all(same));
        let memory = done.flushed.as_ref();
        // A new table for what is in memory comes last.
        let last = memory.is_none() || place.end == tables.len();
        if !here || !last || memory.is_some_and(|memory| !Arc::ptr_eq(memory, &self.memory)) {
            tracing::debug!("the index has changed: what was made of it is not used");
            if tables.iter().all(|table| table.path != done.table.path) {
                self.directory.remove(&[done.table]);
            }
            return;
        }
        let named = done.table.path.clone();
        let mut replaced: Vec<_> = tables.splice(place, [done.table]).collect();
        // What has no name must not take the place of what others find.
        if named.is_some() {
            // A table that was made of one alone has its name.
            replaced.retain(|table| table.path != named);
            self.directory.remove(&replaced);
        }
        self.merge_at = 0;
        if done.flushed.is_some() {
            self.index.memory = Memory::default();
            self.memory = Arc::default();
            self.recent.clear();
            self.read = 0;
            self.flush_at = self.directory.shared.limits.memory_records;
        }
        if done.whole {
            self.index.gone.clear();
        }
    }

    /// Nothing could be made: that is tried again later.
    pub(crate) fn postpone(&mut self) {
        self.flush_at = self.flush_at.max(self.read) * 2;
        self.merge_at = self.index.tables.len() + 1;
    }

    /// How many tables there are, and bytes of filters in memory.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn tables(&self) -> (usize, usize) {
        let filters = self.directory.shared.filter_bytes();
        (self.index.tables.len(), filters)
    }

    /// Whether a table turned out to be damaged.
    pub(crate) fn is_broken(&self) -> bool {
        self.index.tables.iter().any(|table| table.is_broken())
    }

    /// The same without a damaged table and all that builds upon it: what they held is to be read from the store
    /// again, and until then it knows less than it should.
    pub(crate) fn without_broken(&self) -> Self {
        let tables = &self.index.tables;
        let whole = tables.iter().take_while(|table| !table.is_broken()).count();
        self.directory.remove(&tables[whole..]);
        if whole == 0 {
            self.directory.begin_chain();
        }
        Self {
            guessed: self.guessed.clone(),
            ..Self::of(Arc::clone(&self.directory), tables[..whole].to_vec())
        }
    }
}
