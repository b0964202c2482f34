//! How many bytes of each pack are needed, counted while the index goes on changing.

use std::{collections::HashMap, sync::Arc};

use super::{Home, Index, table::Table};
use crate::{error::Result, secret::Prefix};

/// Bytes of frames by the pack that they are read from.
#[derive(Default)]
pub(crate) struct Tally {
    /// By the ordinal of the pack in its table; the table stays what it is even when another takes its place.
    tables: Vec<(Arc<Table>, Vec<u64>)>,
    memory: HashMap<Arc<str>, u64>,
}

impl Index {
    /// Adds the frame by which a chunk is read; nothing if there is none.
    pub(crate) fn count(&self, prefix: &Prefix, tally: &mut Tally) -> Result<()> {
        let Some(copy) = self.best(prefix)? else {
            return Ok(());
        };
        let (pack, len) = (copy.record.pack as usize, u64::from(copy.record.len()));
        match copy.home {
            Home::Memory(memory) => {
                let name = &memory.packs[pack].name;
                match tally.memory.get_mut(name) {
                    Some(bytes) => *bytes += len,
                    None => {
                        tally.memory.insert(name.clone(), len);
                    }
                }
            }
            Home::Table(table) => tally.of_table(table)[pack] += len,
        }
        Ok(())
    }
}

impl Tally {
    fn of_table(&mut self, table: &Arc<Table>) -> &mut Vec<u64> {
        let known = self.tables.iter().position(|(t, _)| Arc::ptr_eq(t, table));
        let at = known.unwrap_or_else(|| {
            let none = vec![0; table.map.packs as usize];
            self.tables.push((Arc::clone(table), none));
            self.tables.len() - 1
        });
        &mut self.tables[at].1
    }

    /// Bytes by the names of packs.
    ///
    /// # Errors
    /// A table cannot be read.
    pub(crate) fn finish(self) -> Result<HashMap<Arc<str>, u64>> {
        let mut all = self.memory;
        for (table, bytes) in self.tables {
            table.each_pack(|ordinal, pack| {
                let bytes = bytes[ordinal as usize];
                if bytes > 0 {
                    *all.entry(pack.name).or_default() += bytes;
                }
                Ok(())
            })?;
        }
        Ok(all)
    }
}
