//! Which chunk is in which pack.
//!
//! Immutable sorted *segments* in the store say it. Those that were read last are merged in memory; beyond a number
//! of records they go to *tables*, sorted files of this machine, which are merged in their turn. A look-up asks
//! memory and each table, the newest first.

mod blocks;
mod directory;
mod filter;
mod layout;
mod limits;
mod memory;
mod merge;
mod record;
mod scan;
mod segment;
mod state;
mod table;
mod tally;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

pub(crate) use directory::{Head, TableDirectory};
pub(crate) use limits::Limits;
pub(crate) use merge::Done;
pub(crate) use record::{PackEntry, digest_of, digests};
pub(crate) use segment::{Segment, SegmentBuilder};
pub(crate) use state::IndexState;
pub(crate) use tally::Tally;

use memory::Memory;
use record::Record;
use scan::Scan;
use table::Table;

use crate::{
    error::Result,
    frame::FrameKind,
    protocol::{LogState, Standing},
    secret::Prefix,
    session::Location,
};

/// One place of a chunk.
pub(crate) struct Place {
    pub(crate) prefix: Prefix,
    /// Ordinal of the pack, good until the index changes.
    pub(crate) pack: u32,
    pub(crate) offset: u32,
    /// Bytes of the frame.
    pub(crate) len: u32,
    pub(crate) kind: Option<FrameKind>,
}

/// A record with what it needs to be told.
struct Copy<'i> {
    record: Record,
    /// Where its pack is, and the ordinal of the first pack there.
    home: Home<'i>,
    first: u32,
    standing: Standing,
}

#[derive(Clone, Copy)]
enum Home<'i> {
    Memory(&'i Memory),
    Table(&'i Arc<Table>),
}

impl Copy<'_> {
    /// Ordinal of its pack in the whole index.
    fn pack(&self) -> u32 {
        self.first + self.record.pack
    }

    fn name(&self) -> Result<Arc<str>> {
        match self.home {
            Home::Memory(memory) => Ok(memory.packs[self.record.pack as usize].name.clone()),
            Home::Table(table) => Ok(table.pack(self.record.pack)?.name),
        }
    }
}

/// All segments of a repository.
#[derive(Default)]
pub(crate) struct Index {
    memory: Memory,
    /// The oldest first.
    tables: Vec<Arc<Table>>,
    /// What may be done with packs that are not live.
    doomed: HashMap<Arc<str>, Standing>,
    /// Packs in tables that no segment names any more, by the digests of their names.
    gone: HashSet<u64>,
    /// Packs that were looked for and are not in the store, though the log says so, by the digests of their names.
    missing: HashSet<u64>,
}

impl Index {
    /// Adds a segment. Its packs are taken for live until [`Self::judge`] is called.
    pub(crate) fn add(&mut self, segment: Segment) {
        self.memory.add(segment);
    }

    /// Learns from the log what may be done with each pack.
    pub(crate) fn judge(&mut self, state: &LogState) {
        // What was dead stays dead, even when the log has forgotten it.
        let in_tables = !self.tables.is_empty();
        self.doomed.retain(|pack, standing| {
            in_tables && *standing == Standing::Dead && !self.gone.contains(&digest_of(pack))
        });
        let condemned = state.epoch.iter().flat_map(|epoch| &epoch.packs);
        for pack in condemned.chain(&state.dead) {
            let known = self.doomed.entry(pack.as_str().into()).or_default();
            *known = state.standing(pack).max(*known);
        }
        self.memory.judge(|pack| state.standing(pack));
    }

    /// What may be done with a pack of a table.
    fn standing(&self, pack: &str) -> Standing {
        if !self.gone.is_empty() && self.gone.contains(&digest_of(pack)) {
            return Standing::Dead;
        }
        self.doomed.get(pack).copied().unwrap_or_default()
    }

    /// Whether every pack of a table is live.
    fn all_live(&self) -> bool {
        self.doomed.is_empty() && self.gone.is_empty()
    }

    /// How many packs are in tables: the ordinal of the first one in memory.
    fn table_packs(&self) -> u32 {
        self.tables.iter().map(|table| table.map.packs).sum()
    }

    /// Shows all places of a chunk that can be read, those in newer tables first, until `visit` is false.
    fn copies<'i>(
        &'i self,
        prefix: &Prefix,
        mut visit: impl FnMut(Copy<'i>) -> Result<bool>,
    ) -> Result<()> {
        let mut first = self.table_packs();
        let mut goes_on = true;
        for (record, standing) in self.memory.copies(prefix) {
            goes_on &= visit(Copy {
                record: *record,
                home: Home::Memory(&self.memory),
                first,
                standing,
            })?;
        }
        for table in self.tables.iter().rev() {
            if !goes_on {
                break;
            }
            first -= table.map.packs;
            for record in table.find(prefix)? {
                let mut copy = Copy {
                    record,
                    home: Home::Table(table),
                    first,
                    standing: Standing::Live,
                };
                if !self.all_live() {
                    copy.standing = self.standing(&copy.name()?);
                }
                if copy.standing != Standing::Dead {
                    goes_on &= visit(copy)?;
                }
            }
        }
        Ok(())
    }

    /// The packs that hold a chunk and are not deleted, with what may be done with them.
    ///
    /// # Errors
    /// A table cannot be read; so it is with all that looks something up.
    pub(crate) fn holders(&self, prefix: &Prefix) -> Result<Vec<(Arc<str>, Standing)>> {
        let mut holders = Vec::new();
        self.copies(prefix, |copy| {
            holders.push((copy.name()?, copy.standing));
            Ok(true)
        })?;
        Ok(holders)
    }

    /// The copy by which a chunk is read: in a pack that is there, and stays, if there is one; the pack that was
    /// indexed last wins.
    fn best(&self, prefix: &Prefix) -> Result<Option<Copy<'_>>> {
        let mut best: Option<(_, Copy<'_>)> = None;
        self.copies(prefix, |copy| {
            let missing = self.is_missing(&copy)?;
            let rank = (missing, copy.standing, Reverse(copy.pack()));
            if best.as_ref().is_none_or(|(best, _)| rank < *best) {
                best = Some((rank, copy));
            }
            // In older tables there is no better one than this.
            let is_good = matches!(best, Some(((false, Standing::Live, _), _)));
            Ok(!is_good)
        })?;
        Ok(best.map(|(_, copy)| copy))
    }

    fn is_missing(&self, copy: &Copy<'_>) -> Result<bool> {
        Ok(!self.missing.is_empty() && self.missing.contains(&digest_of(&copy.name()?)))
    }

    /// Learns which packs are not in the store. Where a chunk is elsewhere, too, it is looked for there.
    fn miss<'p>(&mut self, packs: impl Iterator<Item = &'p str>) {
        self.missing.extend(packs.map(digest_of));
    }

    /// Where a chunk is.
    pub(crate) fn find(&self, prefix: &Prefix) -> Result<Option<Location>> {
        let Some(copy) = self.best(prefix)? else {
            return Ok(None);
        };
        Ok(Some(Location {
            pack: copy.name()?.to_string(),
            offset: copy.record.offset,
            len: copy.record.len(),
            condemned: copy.standing == Standing::Condemned,
        }))
    }

    /// Ordinal of the pack by which a chunk is read, and the length of its frame there.
    pub(crate) fn find_pack(&self, prefix: &Prefix) -> Result<Option<(u32, u32)>> {
        let best = self.best(prefix)?;
        Ok(best.map(|copy| (copy.pack(), copy.record.len())))
    }

    /// Whether exactly this place of the chunk is indexed.
    pub(crate) fn holds(&self, prefix: &Prefix, place: &Location) -> Result<bool> {
        let mut holds = false;
        self.copies(prefix, |copy| {
            holds |= copy.record.offset == place.offset
                && copy.record.len() == place.len
                && *copy.name()? == *place.pack;
            Ok(!holds)
        })?;
        Ok(holds)
    }

    /// Which packs of a segment are indexed, deleted or not. A pack is whole in every segment that names it, so
    /// one of its records tells.
    pub(super) fn known_packs(&self, segment: &Segment) -> Result<Vec<bool>> {
        let samples = segment.samples();
        let mut known = vec![false; segment.packs.len()];
        for ((pack, sample), known) in segment.packs.iter().zip(samples).zip(&mut known) {
            let Some(sample) = sample else { continue };
            for run in &self.memory.runs {
                let begin = run.partition_point(|record| record.prefix < sample.prefix);
                let mut same = run[begin..].iter();
                let mut same = same.by_ref().take_while(|r| r.prefix == sample.prefix);
                *known |= same.any(|r| self.memory.packs[r.pack as usize].name == pack.name);
            }
            for table in self.tables.iter().rev() {
                if *known {
                    break;
                }
                for record in table.find(&sample.prefix)? {
                    *known |= record.offset == sample.offset
                        && table.pack(record.pack)?.name == pack.name;
                }
            }
        }
        Ok(known)
    }

    /// Bytes of files' chunks before compression, as their writers counted them.
    pub(crate) fn plain_data_bytes(&self) -> Result<u64> {
        let (mut bytes, mut seen) = (0, HashSet::new());
        self.each_pack(|_, pack, _| {
            if seen.insert(digest_of(&pack.name)) {
                bytes += pack.plain_data;
            }
        })?;
        Ok(bytes)
    }

    /// Forgets packs by the digests of their names, and gives back the memory of what is deleted.
    fn forget(&mut self, gone: HashSet<u64>) {
        self.memory.forget(|pack| gone.contains(&digest_of(pack)));
        if !self.tables.is_empty() {
            self.gone.extend(gone);
        }
    }

    /// Shows all packs that are not deleted: ordinal, name and standing. One that several segments name may
    /// come several times.
    pub(crate) fn each_pack(&self, mut visit: impl FnMut(u32, &PackEntry, Standing)) -> Result<()> {
        let mut first = 0;
        for table in &self.tables {
            table.each_pack(|ordinal, pack| {
                let standing = self.standing(&pack.name);
                if standing != Standing::Dead {
                    visit(first + ordinal, &pack, standing);
                }
                Ok(())
            })?;
            first += table.map.packs;
        }
        for (i, pack) in self.memory.packs.iter().enumerate() {
            let standing = self.memory.standing[i];
            if standing != Standing::Dead {
                visit(first + i as u32, pack, standing);
            }
        }
        Ok(())
    }

    /// The names of all packs that are not deleted.
    pub(crate) fn pack_names(&self) -> Result<HashSet<Arc<str>>> {
        let mut names = HashSet::new();
        self.each_pack(|_, pack, _| {
            names.insert(pack.name.clone());
        })?;
        Ok(names)
    }

    /// Shows every place that is not deleted.
    pub(crate) fn each_place(&self, mut visit: impl FnMut(&Place) -> Result<()>) -> Result<()> {
        let mut show = |record: &Record, first: u32| {
            visit(&Place {
                prefix: record.prefix,
                pack: first + record.pack,
                offset: record.offset,
                len: record.len(),
                kind: record.kind(),
            })
        };
        let mut first = 0;
        for table in &self.tables {
            let dead = self.dead_packs(table)?;
            for record in Scan::new(table) {
                let record = record?;
                if !dead.contains(&record.pack) {
                    show(&record, first)?;
                }
            }
            first += table.map.packs;
        }
        self.memory
            .places()
            .try_for_each(|record| show(record, first))
    }

    /// Ordinals of a table's packs that are deleted.
    fn dead_packs(&self, table: &Table) -> Result<HashSet<u32>> {
        let mut dead = HashSet::new();
        if !self.all_live() {
            table.each_pack(|ordinal, pack| {
                if self.standing(&pack.name) == Standing::Dead {
                    dead.insert(ordinal);
                }
                Ok(())
            })?;
        }
        Ok(dead)
    }

    /// How many places are indexed, those in deleted packs too until they are given back.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> u64 {
        let tables = self.tables.iter().map(|table| table.map.records);
        tables.sum::<u64>() + self.memory.len() as u64
    }
}
