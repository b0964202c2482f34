//! Makes one table of what is in memory, or of several tables, record by record in their order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, binary_heap::PeekMut},
    sync::Arc,
};

use super::{
    directory::{Head, TableDirectory},
    layout::Links,
    record::{PackEntry, Record, digest_of},
    scan::Scan,
    table::Table,
    writer::TableWriter,
};
use crate::{
    error::{Error, Result},
    protocol::Standing,
};

/// A segment's name and the digests of its packs.
pub(super) type Named = (String, Arc<[u64]>);

/// What is in memory, as it goes to a table.
pub(super) struct Flush {
    /// Tells this memory from any other.
    pub(super) memory: Arc<()>,
    pub(super) packs: Vec<PackEntry>,
    pub(super) standing: Vec<Standing>,
    pub(super) runs: Vec<Arc<Vec<Record>>>,
    pub(super) segments: Vec<Named>,
}

/// Which packs of tables do not go on.
#[derive(Default)]
pub(super) struct Dropped {
    pub(super) dead: HashSet<Arc<str>>,
    pub(super) gone: HashSet<u64>,
}

impl Dropped {
    fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.gone.is_empty()
    }

    fn has(&self, pack: &str) -> bool {
        self.dead.contains(pack) || (!self.gone.is_empty() && self.gone.contains(&digest_of(pack)))
    }
}

/// A table that is to be made. That takes a while and needs nothing of the index.
pub(crate) struct Work {
    pub(super) directory: Arc<TableDirectory>,
    pub(super) flush: Option<Flush>,
    /// Tables that are merged, and the place of the first one.
    pub(super) tables: Vec<Arc<Table>>,
    pub(super) begin: usize,
    pub(super) dropped: Dropped,
    /// Segments that are still there, if all tables are merged: then what the others named is dropped.
    pub(super) current: Option<HashSet<String>>,
    pub(super) links: Links,
    /// The end of the log that is known.
    pub(super) head: Option<Head>,
}

/// A table that takes the place of what it was made of.
pub(crate) struct Done {
    pub(super) table: Arc<Table>,
    pub(super) begin: usize,
    /// The tables, and the memory.
    pub(super) replaced: Vec<Arc<Table>>,
    pub(super) flushed: Option<Arc<()>>,
    pub(super) whole: bool,
}

/// How the ordinals of a source's packs become those of the new table.
struct Ordinals {
    first: u32,
    /// For each pack, if some are dropped.
    kept: Option<Vec<u32>>,
}

const DROPPED: u32 = u32::MAX;

impl Ordinals {
    /// Of packs of which those go on for which `keeps` is true.
    fn new(first: u32, keeps: impl Iterator<Item = bool>) -> Self {
        let mut next = first;
        let kept = keeps.map(|keeps| {
            let ordinal = next;
            next += u32::from(keeps);
            if keeps { ordinal } else { DROPPED }
        });
        let kept = Some(kept.collect());
        Self { first, kept }
    }

    fn of(&self, pack: u32) -> Option<u32> {
        match &self.kept {
            Some(kept) => Some(kept[pack as usize]).filter(|ordinal| *ordinal != DROPPED),
            None => Some(self.first + pack),
        }
    }

    /// How many of `packs` go on.
    fn count(&self, packs: u32) -> u32 {
        match &self.kept {
            Some(kept) => kept.iter().filter(|ordinal| **ordinal != DROPPED).count() as u32,
            None => packs,
        }
    }
}

type Records = Box<dyn Iterator<Item = Result<Record>>>;

impl Work {
    /// What it is made of is what the log up to `head` names.
    pub(crate) fn at(mut self, head: Head) -> Self {
        self.head = Some(head);
        self
    }

    /// Whether it takes what is in memory.
    pub(crate) fn takes_memory(&self) -> bool {
        self.flush.is_some()
    }

    /// Writes the table.
    ///
    /// # Errors
    /// A table cannot be read, or there is no place for the new one.
    pub(crate) fn run(self) -> Result<Done> {
        let new = self.directory.create()?;
        if let Some(head) = &self.head {
            self.directory.keep_head(head)?;
        }
        let links = Links {
            chain: self.directory.chain(),
            ..self.links
        };
        let file = new.file.try_clone().map_err(|source| Error::System {
            action: "make a local table of the index",
            source,
        })?;
        let mut writer = TableWriter::new(file, links, Arc::clone(&self.directory.shared))?;
        let ordinals = self.ordinals()?;
        self.write_records(&ordinals, &mut writer)?;
        self.write_packs(&ordinals, &mut writer)?;
        self.write_segments(&mut writer)?;
        let file = writer.finish()?;
        let table = Arc::new(self.directory.publish(new, file, links)?);
        tracing::debug!(
            records = table.map.records,
            level = links.level,
            "made a table of the index"
        );
        Ok(Done {
            table,
            begin: self.begin,
            replaced: self.tables,
            flushed: self.flush.map(|flush| flush.memory),
            whole: self.current.is_some(),
        })
    }

    /// Of each table in turn, then of what is in memory.
    fn ordinals(&self) -> Result<Vec<Ordinals>> {
        let (mut all, mut first) = (Vec::new(), 0);
        for table in &self.tables {
            let mut ordinals = Ordinals { first, kept: None };
            if !self.dropped.is_empty() {
                let mut keeps = Vec::with_capacity(table.map.packs as usize);
                table.each_pack(|_, pack| {
                    keeps.push(!self.dropped.has(&pack.name));
                    Ok(())
                })?;
                ordinals = Ordinals::new(first, keeps.into_iter());
            }
            first += ordinals.count(table.map.packs);
            all.push(ordinals);
        }
        if let Some(flush) = &self.flush {
            let keeps = flush.standing.iter().map(|s| *s != Standing::Dead);
            all.push(Ordinals::new(first, keeps));
        }
        Ok(all)
    }

    fn write_records(&self, ordinals: &[Ordinals], writer: &mut TableWriter) -> Result<()> {
        let mut sources: Vec<(Records, &Ordinals)> = Vec::new();
        for (table, ordinals) in self.tables.iter().zip(ordinals) {
            sources.push((Box::new(Scan::new(table)), ordinals));
        }
        if let (Some(flush), Some(ordinals)) = (&self.flush, ordinals.last()) {
            for run in &flush.runs {
                let run = Arc::clone(run);
                let records = (0..run.len()).map(move |i| Ok(run[i]));
                sources.push((Box::new(records), ordinals));
            }
        }
        let mut heap = BinaryHeap::with_capacity(sources.len());
        for (i, source) in sources.iter_mut().enumerate() {
            if let Some(record) = next_of(source)? {
                heap.push(Reverse((record, i)));
            }
        }
        while let Some(mut top) = heap.peek_mut() {
            let Reverse((record, i)) = *top;
            writer.record(&record)?;
            match next_of(&mut sources[i])? {
                Some(record) => *top = Reverse((record, i)),
                None => {
                    PeekMut::pop(top);
                }
            }
        }
        Ok(())
    }

    fn write_packs(&self, ordinals: &[Ordinals], writer: &mut TableWriter) -> Result<()> {
        for (table, ordinals) in self.tables.iter().zip(ordinals) {
            table.each_pack(|ordinal, pack| match ordinals.of(ordinal) {
                Some(_) => writer.pack(&pack),
                None => Ok(()),
            })?;
        }
        if let (Some(flush), Some(ordinals)) = (&self.flush, ordinals.last()) {
            for (i, pack) in flush.packs.iter().enumerate() {
                if ordinals.of(i as u32).is_some() {
                    writer.pack(pack)?;
                }
            }
        }
        Ok(())
    }

    fn write_segments(&self, writer: &mut TableWriter) -> Result<()> {
        let mut written: HashSet<&str> = HashSet::new();
        let tables = self.tables.iter().flat_map(|table| &table.segments);
        let flush = self.flush.iter().flat_map(|flush| &flush.segments);
        for (name, digests) in tables.chain(flush) {
            let there = self
                .current
                .as_ref()
                .is_none_or(|current| current.contains(name));
            if there && written.insert(name) {
                writer.segment(name, digests)?;
            }
        }
        Ok(())
    }
}

/// The next record of a source that goes on, with its new ordinal.
fn next_of((records, ordinals): &mut (Records, &Ordinals)) -> Result<Option<Record>> {
    for record in records {
        let record = record?;
        if let Some(pack) = ordinals.of(record.pack) {
            return Ok(Some(Record { pack, ..record }));
        }
    }
    Ok(None)
}
