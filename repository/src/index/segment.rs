//! Index segments as the store has them.
//!
//! A segment is `magic 8 ‖ session 8 ‖ sealed(packs, records)`; a record has 28 bytes: id prefix 16, pack
//! ordinal 4, offset 4, frame length and kind 4.

use std::sync::Arc;

use super::record::{LEN_BITS, PackEntry, RECORD, Record};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    pack::{self, TableEntry},
    seal,
    secret::{Key, hex},
};

const MAGIC: &[u8; 8] = b"ORLOPIX0";
const AAD: &[u8] = b"orlop 2026 v0 index segment";
const MAX_SEGMENT: usize = 256 << 20;

/// Collects the records of finished packs and makes segments of them.
#[derive(Default)]
pub(crate) struct SegmentBuilder {
    packs: Vec<PackEntry>,
    records: Vec<Record>,
}

impl SegmentBuilder {
    pub(crate) fn push(&mut self, pack: String, table: &[TableEntry]) {
        let ordinal = self.packs.len() as u32;
        let data = table.iter().filter(|entry| entry.kind == FrameKind::Data);
        self.packs.push(PackEntry {
            name: pack.into(),
            plain_data: data.map(|entry| u64::from(entry.plain_len)).sum(),
        });
        self.records.extend(table.iter().map(|entry| Record {
            prefix: entry.id.prefix(),
            pack: ordinal,
            offset: entry.offset,
            len_kind: entry.len | (entry.kind as u32) << LEN_BITS,
        }));
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Names of the packs that it speaks of.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.packs.iter().map(|pack| &pack.name)
    }

    /// Adds what another one has.
    pub(crate) fn append(&mut self, other: Self) {
        let first = self.packs.len() as u32;
        self.packs.extend(other.packs);
        let moved = |record: Record| Record {
            pack: record.pack + first,
            ..record
        };
        self.records.extend(other.records.into_iter().map(moved));
    }

    /// The segment as a reader would have it.
    pub(crate) fn into_segment(mut self) -> Segment {
        self.records.sort_unstable();
        Segment {
            packs: self.packs,
            records: self.records,
        }
    }

    /// Name and bytes of the segment, for level 0 (as writers make them) or 1 (as collectors join them);
    /// the builder is empty afterwards.
    pub(crate) fn finish(
        &mut self,
        level: u8,
        session: u64,
        session_key: &Key,
    ) -> Result<(String, Vec<u8>)> {
        self.records.sort_unstable();
        let mut body = Vec::with_capacity(self.records.len() * RECORD + self.packs.len() * 90 + 8);
        body.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        for pack in &self.packs {
            body.push(pack.name.len() as u8);
            body.extend_from_slice(pack.name.as_bytes());
            body.extend_from_slice(&pack.plain_data.to_le_bytes());
        }
        body.extend_from_slice(&(self.records.len() as u32).to_le_bytes());
        self.records
            .iter()
            .for_each(|record| record.encode(&mut body));
        let mut bytes = Vec::with_capacity(body.len() + 64);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&session.to_le_bytes());
        seal::seal_into(session_key, AAD, &body, &mut bytes)?;
        *self = Self::default();
        let hash = hex(blake3::hash(&bytes).as_bytes());
        Ok((format!("i/{level}/{hash}.{session}"), bytes))
    }
}

/// A segment as read.
pub(crate) struct Segment {
    pub(super) packs: Vec<PackEntry>,
    pub(super) records: Vec<Record>,
}

impl Segment {
    /// Names of the packs that it speaks of.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.packs.iter().map(|pack| &pack.name)
    }

    /// How many places it tells of.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The segment without the packs for which `keep` is false, as a builder for another one.
    pub(crate) fn filtered(self, keep: impl Fn(&str) -> bool) -> SegmentBuilder {
        let kept: Vec<bool> = self.packs.iter().map(|pack| keep(&pack.name)).collect();
        self.kept(&kept)
    }

    /// The segment with those packs only for which `kept` is true.
    pub(super) fn kept(self, kept: &[bool]) -> SegmentBuilder {
        let mut builder = SegmentBuilder::default();
        let mut ordinals: Vec<Option<u32>> = Vec::with_capacity(kept.len());
        for (pack, kept) in self.packs.into_iter().zip(kept) {
            let ordinal = builder.packs.len() as u32;
            ordinals.push(kept.then_some(ordinal));
            builder.packs.extend(kept.then_some(pack));
        }
        let mut records = self.records;
        records.retain_mut(|record| match ordinals[record.pack as usize] {
            Some(pack) => {
                record.pack = pack;
                true
            }
            None => false,
        });
        builder.records = records;
        builder
    }

    /// One record of each pack that has any.
    pub(super) fn samples(&self) -> Vec<Option<Record>> {
        let mut samples = vec![None; self.packs.len()];
        for record in &self.records {
            samples[record.pack as usize].get_or_insert(*record);
        }
        samples
    }

    /// Reads a segment.
    pub(crate) fn decode(name: &str, bytes: &[u8], session_key: &Key) -> Result<Self> {
        let fail = |reason: &str| Error::damaged(name, reason);
        if bytes.len() < 16 || bytes.len() > MAX_SEGMENT || &bytes[..8] != MAGIC {
            return Err(fail("it does not begin as an index segment does"));
        }
        pack::scrub(name, bytes)?;
        let mut sealed = bytes[16..].to_vec();
        let body =
            seal::open(session_key, AAD, &mut sealed).ok_or_else(|| fail("it cannot be opened"))?;
        Self::parse(body).ok_or_else(|| fail("it makes no sense"))
    }

    /// The opened body of a segment; `None` if it breaks the format.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let word =
            |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?) as usize);
        let mut at = 4;
        let mut packs = Vec::new();
        for _ in 0..word(0)? {
            let len = usize::from(*body.get(at)?);
            at += 1 + len;
            let text = std::str::from_utf8(body.get(at - len..at)?).ok()?;
            let plain_data = u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?);
            at += 8;
            packs.push(PackEntry {
                name: text.into(),
                plain_data,
            });
        }
        let count = word(at)?;
        let rest = body.get(at + 4..)?;
        if rest.len() != count.checked_mul(RECORD)? {
            return None;
        }
        let records: Vec<Record> = rest
            .chunks_exact(RECORD)
            .map(Record::decode)
            .collect::<Option<_>>()?;
        let sane = records.is_sorted() && records.iter().all(|r| (r.pack as usize) < packs.len());
        sane.then_some(Self { packs, records })
    }
}
