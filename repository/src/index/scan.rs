//! Goes through all records of a table in their order.

use std::sync::Arc;

use super::{
    layout::CODE,
    record::{RECORD, Record},
    table::Table,
};
use crate::error::Result;

/// Bytes that a scan reads at once.
const SCAN_BYTES: usize = 256 << 10;

/// The records of a table.
pub(super) struct Scan {
    table: Arc<Table>,
    part: usize,
    /// The next block to be read.
    block: usize,
    read: Vec<Record>,
    at: usize,
}

impl Scan {
    pub(super) fn new(table: &Arc<Table>) -> Self {
        Self {
            table: Arc::clone(table),
            part: 0,
            block: 0,
            read: Vec::new(),
            at: 0,
        }
    }

    fn read_on(&mut self) -> Result<bool> {
        let map = &self.table.map;
        while self.part < map.parts.len() && self.block >= map.blocks(self.part).end {
            self.part += 1;
        }
        if self.part >= map.parts.len() {
            return Ok(false);
        }
        let many = (SCAN_BYTES / map.block_bytes as usize).max(1);
        let end = map.blocks(self.part).end.min(self.block + many);
        let (begin, _) = self.table.block_place(self.part, self.block);
        let (last, len) = self.table.block_place(self.part, end - 1);
        let bytes = self
            .table
            .read(begin, (last - begin) as usize + len + CODE)?;
        self.read.clear();
        self.at = 0;
        for block in self.block..end {
            let (offset, len) = self.table.block_place(self.part, block);
            let at = (offset - begin) as usize;
            let piece = self.table.prove(offset, &bytes[at..at + len + CODE])?;
            let records = piece.chunks_exact(RECORD).take(self.table.records(piece));
            self.read.extend(records.filter_map(Record::decode));
        }
        self.block = end;
        Ok(true)
    }
}

impl Iterator for Scan {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at >= self.read.len() {
            match self.read_on() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    // Nothing comes behind it.
                    self.part = usize::MAX;
                    return Some(Err(error));
                }
            }
        }
        self.at += 1;
        Some(Ok(self.read[self.at - 1]))
    }
}
