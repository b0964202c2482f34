//! Writes a table from sorted records, with no more memory than one part needs.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    sync::Arc,
};

use super::{
    filter::IdFilter,
    layout::{
        CODE, Links, Map, Named, PACKS_PER_BLOCK, Part, code_of, head_of, records_per_block,
        tail_of,
    },
    record::{PackEntry, Record},
    table::Shared,
};
use crate::{
    error::{Error, Result},
    secret::{Prefix, random_bytes},
};

/// A table that is being written: records first, then packs, then segments.
pub(super) struct TableWriter {
    out: BufWriter<File>,
    /// Bytes written so far.
    at: u64,
    id: [u8; 16],
    shared: Arc<Shared>,
    map: Map,
    /// Records that do not fill a block yet.
    block: Vec<u8>,
    /// What the filter of the open part will hold.
    keys: Vec<u64>,
    last: Option<Prefix>,
    /// Packs that do not fill a block yet.
    names: Vec<u8>,
}

fn failed(source: io::Error) -> Error {
    Error::System {
        action: "write a local table of the index",
        source,
    }
}

impl TableWriter {
    pub(super) fn new(file: File, links: Links, shared: Arc<Shared>) -> Result<Self> {
        Ok(Self {
            out: BufWriter::with_capacity(256 << 10, file),
            at: 0,
            id: random_bytes()?,
            map: Map::new(links, shared.limits.block_bytes),
            shared,
            block: Vec::new(),
            keys: Vec::new(),
            last: None,
            names: Vec::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(failed)
    }

    /// Writes a piece with its code; the answer is where it begins.
    fn write_piece(&mut self, piece: &[u8]) -> Result<u64> {
        let offset = self.at;
        let code = code_of(&self.shared.key, &self.id, offset, piece);
        self.write(piece)?;
        self.write(&code)?;
        Ok(offset)
    }

    /// The next record; none comes before one that was given.
    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        let limits = self.shared.limits;
        if self.last != Some(record.prefix) {
            // An id is never in two parts.
            if self.keys.len() >= limits.part_keys {
                self.end_part()?;
            }
            if self.keys.is_empty() {
                self.begin_part(record.prefix)?;
            }
            self.keys.push(tail_of(&record.prefix));
            self.last = Some(record.prefix);
        }
        if self.block.is_empty() {
            self.map.heads.push(head_of(&record.prefix));
        }
        record.encode(&mut self.block);
        self.map.records += 1;
        if self.block.len() >= records_per_block(limits.block_bytes) * super::record::RECORD {
            let mut block = std::mem::take(&mut self.block);
            block.resize(limits.block_bytes - CODE, 0);
            self.write_piece(&block)?;
            block.clear();
            self.block = block;
        }
        Ok(())
    }

    fn begin_part(&mut self, first: Prefix) -> Result<()> {
        let beyond = (self.at % self.shared.limits.block_bytes as u64) as usize;
        if beyond > 0 {
            self.write(&vec![0; self.shared.limits.block_bytes - beyond])?;
        }
        self.map.parts.push(Part {
            first,
            block: self.map.heads.len() as u32,
            offset: self.at,
            filter: 0,
            filter_bytes: 0,
        });
        Ok(())
    }

    fn end_part(&mut self) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        if !self.block.is_empty() {
            let block = std::mem::take(&mut self.block);
            self.write_piece(&block)?;
        }
        let filter = IdFilter::build(&mut self.keys)?;
        self.keys.clear();
        let offset = self.write_piece(filter.bytes())?;
        let part = self.map.parts.last_mut().expect("a part was begun");
        part.filter = offset;
        part.filter_bytes = filter.bytes().len() as u32;
        Ok(())
    }

    /// The next pack, behind all records.
    pub(super) fn pack(&mut self, pack: &PackEntry) -> Result<()> {
        self.end_part()?;
        self.names.push(pack.name.len() as u8);
        self.names.extend_from_slice(pack.name.as_bytes());
        self.names.extend_from_slice(&pack.plain_data.to_le_bytes());
        self.map.packs += 1;
        if (self.map.packs as usize).is_multiple_of(PACKS_PER_BLOCK) {
            self.end_names()?;
        }
        Ok(())
    }

    fn end_names(&mut self) -> Result<()> {
        if !self.names.is_empty() {
            let names = std::mem::take(&mut self.names);
            let offset = self.write_piece(&names)?;
            self.map.pack_blocks.push(offset);
        }
        Ok(())
    }

    /// The next segment, behind all packs.
    pub(super) fn segment(&mut self, name: &str, digests: &[u64]) -> Result<()> {
        self.end_packs()?;
        let bytes: Vec<u8> = digests
            .iter()
            .flat_map(|digest| digest.to_le_bytes())
            .collect();
        let offset = self.write_piece(&bytes)?;
        self.map.segments.push(Named {
            name: name.to_owned(),
            offset,
            packs: digests.len() as u32,
        });
        Ok(())
    }

    /// Once only: the end of the last block of packs.
    fn end_packs(&mut self) -> Result<()> {
        if self.map.segments.is_empty() {
            self.end_part()?;
            self.end_names()?;
            self.map.pack_blocks.push(self.at);
        }
        Ok(())
    }

    /// Writes what is left; the file is whole then.
    pub(super) fn finish(mut self) -> Result<File> {
        self.end_packs()?;
        let map = self.map.encode();
        let offset = self.write_piece(&map)?;
        let mut trailer = self.id.to_vec();
        trailer.extend_from_slice(&offset.to_le_bytes());
        trailer.extend_from_slice(&(map.len() as u64).to_le_bytes());
        self.write_piece(&trailer)?;
        let file = self
            .out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        Ok(file)
    }
}
