//! Which chunk is in which pack: immutable sorted segments in the store, merged runs in memory.
//!
//! A segment is `magic 8 ‖ session 8 ‖ sealed(packs, records)`; a record has 28 bytes: id prefix 16, pack
//! ordinal 4, offset 4, frame length and kind 4.

use std::{collections::HashSet, sync::Arc};

use crate::{
    error::{Error, Result},
    frame::FrameKind,
    pack::{self, TableEntry},
    protocol::{LogState, Standing},
    seal,
    secret::{Key, Prefix, hex},
    session::Location,
};

const MAGIC: &[u8; 8] = b"ORLOPIX0";
const AAD: &[u8] = b"orlop 2026 v0 index segment";
const RECORD: usize = 28;
/// A frame's length must fit in 28 bits beside the kind's 4.
const LEN_BITS: u32 = 28;
const MAX_SEGMENT: usize = 256 << 20;

/// One chunk's place, with the pack as an ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    prefix: Prefix,
    pack: u32,
    offset: u32,
    len_kind: u32,
}

impl Record {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        for word in [self.pack, self.offset, self.len_kind] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            prefix: bytes.get(..16)?.try_into().ok()?,
            pack: word(16)?,
            offset: word(20)?,
            len_kind: word(24)?,
        })
    }
}

/// Collects the records of finished packs and makes segments of them.
#[derive(Default)]
pub(crate) struct SegmentBuilder {
    packs: Vec<PackEntry>,
    records: Vec<Record>,
}

/// A pack as a segment knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PackEntry {
    name: Arc<str>,
    /// Bytes of files' chunks in it, before compression.
    plain_data: u64,
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
    pub(crate) fn packs(&self) -> Vec<Arc<str>> {
        self.packs.iter().map(|pack| pack.name.clone()).collect()
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
    packs: Vec<PackEntry>,
    records: Vec<Record>,
}

impl Segment {
    /// Names of the packs that it speaks of.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.packs.iter().map(|pack| &pack.name)
    }

    /// The segment without the packs for which `keep` is false, as a builder for another one.
    pub(crate) fn filtered(self, keep: impl Fn(&str) -> bool) -> SegmentBuilder {
        let mut builder = SegmentBuilder::default();
        let ordinals: Vec<Option<u32>> = self
            .packs
            .into_iter()
            .map(|pack| {
                let kept = keep(&pack.name).then_some(builder.packs.len() as u32);
                builder.packs.extend(kept.map(|_| pack));
                kept
            })
            .collect();
        let records = self.records.into_iter().filter_map(|record| {
            let pack = ordinals.get(record.pack as usize).copied().flatten()?;
            Some(Record { pack, ..record })
        });
        builder.records = records.collect();
        builder
    }

    /// Reads a segment.
    pub(crate) fn decode(name: &str, bytes: &[u8], session_key: &Key) -> Result<Self> {
        let fail = |reason: &str| Error::damaged(name, reason);
        if bytes.len() < 16 || bytes.len() > MAX_SEGMENT || &bytes[..8] != MAGIC {
            return Err(fail("it does not begin as an index segment does"));
        }
        pack::scrub(name, bytes)?;
        let body = seal::open_vec(session_key, AAD, &bytes[16..])
            .ok_or_else(|| fail("it cannot be opened"))?;
        Self::parse(&body).ok_or_else(|| fail("it makes no sense"))
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

/// All segments of a repository, merged so that a look-up searches few runs.
#[derive(Default)]
pub(crate) struct Index {
    packs: Vec<PackEntry>,
    /// What may be done with each pack.
    standing: Vec<Standing>,
    runs: Vec<Vec<Record>>,
}

impl Index {
    /// Adds a segment. Its packs are taken for live until [`Self::judge`] is called.
    pub(crate) fn add(&mut self, mut segment: Segment) {
        let first = self.packs.len() as u32;
        self.packs.append(&mut segment.packs);
        self.standing.resize(self.packs.len(), Standing::Live);
        segment
            .records
            .iter_mut()
            .for_each(|record| record.pack += first);
        self.runs.push(segment.records);
        // Merge runs of like size: a logarithmic number of them stays.
        while let [.., a, b] = self.runs.as_slice() {
            if a.len() > 2 * b.len() {
                break;
            }
            let mut merged = self.runs.pop().expect("two runs");
            merged.extend(self.runs.pop().expect("two runs"));
            merged.sort_unstable();
            self.runs.push(merged);
        }
    }

    /// Learns from the log what may be done with each pack.
    pub(crate) fn judge(&mut self, state: &LogState) {
        for (pack, standing) in self.packs.iter().zip(&mut self.standing) {
            // What was dead stays dead, even when the log has forgotten it.
            if *standing != Standing::Dead {
                *standing = state.standing(&pack.name);
            }
        }
    }

    /// All places of a chunk that can be read, in the order of packs.
    fn copies(&self, prefix: &Prefix) -> impl Iterator<Item = (&Record, Standing)> + Clone {
        let prefix = *prefix;
        self.runs.iter().flat_map(move |run| {
            let begin = run.partition_point(|record| record.prefix < prefix);
            let same = run[begin..].iter();
            same.take_while(move |record| record.prefix == prefix)
                .map(|record| (record, self.standing[record.pack as usize]))
                .filter(|(_, standing)| *standing != Standing::Dead)
        })
    }

    /// The packs that hold a chunk and are not deleted, with what may be done with them.
    pub(crate) fn holders(
        &self,
        prefix: &Prefix,
    ) -> impl Iterator<Item = (&str, Standing)> + Clone {
        self.copies(prefix)
            .map(|(record, standing)| (&*self.packs[record.pack as usize].name, standing))
    }

    /// The record by which a chunk is read: in a pack that stays if there is one; the pack that was
    /// indexed last wins.
    fn best(&self, prefix: &Prefix) -> Option<(&Record, Standing)> {
        self.copies(prefix)
            .min_by_key(|(record, standing)| (*standing, std::cmp::Reverse(record.pack)))
    }

    /// Where a chunk is.
    pub(crate) fn find(&self, prefix: &Prefix) -> Option<Location> {
        let (record, standing) = self.best(prefix)?;
        Some(Location {
            pack: self.packs[record.pack as usize].name.to_string(),
            offset: record.offset,
            len: record.len_kind & ((1 << LEN_BITS) - 1),
            condemned: standing == Standing::Condemned,
        })
    }

    /// Ordinal of the pack by which a chunk is read, and the length of its frame there.
    pub(crate) fn find_pack(&self, prefix: &Prefix) -> Option<(u32, u32)> {
        let (record, _) = self.best(prefix)?;
        Some((record.pack, record.len_kind & ((1 << LEN_BITS) - 1)))
    }

    /// How many places are indexed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// Bytes of files' chunks before compression, as their writers counted them.
    pub(crate) fn plain_data_bytes(&self) -> u64 {
        let mut seen = HashSet::new();
        let live = self.packs.iter().zip(&self.standing);
        live.filter(|(pack, standing)| **standing != Standing::Dead && seen.insert(&pack.name))
            .map(|(pack, _)| pack.plain_data)
            .sum()
    }

    /// Forgets the packs for which `keep` is false, and gives back the memory of what is deleted.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Arc<str>) -> bool) {
        for (pack, standing) in self.packs.iter().zip(&mut self.standing) {
            if !keep(&pack.name) {
                *standing = Standing::Dead;
            }
        }
        let standing = &self.standing;
        for run in &mut self.runs {
            run.retain(|record| standing[record.pack as usize] != Standing::Dead);
            run.shrink_to_fit();
        }
        self.runs.retain(|run| !run.is_empty());
    }

    /// Whether exactly this place of the chunk is indexed.
    pub(crate) fn holds(&self, prefix: &Prefix, place: &Location) -> bool {
        self.copies(prefix).any(|(record, _)| {
            record.offset == place.offset
                && record.len_kind & ((1 << LEN_BITS) - 1) == place.len
                && *self.packs[record.pack as usize].name == *place.pack
        })
    }

    /// All packs that are not deleted: ordinal, name and standing. One that several segments name comes
    /// several times.
    pub(crate) fn packs(&self) -> impl Iterator<Item = (u32, &Arc<str>, Standing)> {
        let all = self.packs.iter().zip(&self.standing).enumerate();
        all.filter(|(_, (_, standing))| **standing != Standing::Dead)
            .map(|(i, (pack, standing))| (i as u32, &pack.name, *standing))
    }

    /// Every place that is not deleted: id prefix, pack ordinal, offset and length of the frame.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Prefix, u32, u32, u32)> {
        let records = self.runs.iter().flatten();
        let there = |r: &&Record| self.standing[r.pack as usize] != Standing::Dead;
        records.filter(there).map(|record| {
            let len = record.len_kind & ((1 << LEN_BITS) - 1);
            (record.prefix, record.pack, record.offset, len)
        })
    }

    /// Every place that is not deleted: id prefix, pack ordinal, frame length, kind.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Prefix, u32, u32, Option<FrameKind>)> {
        let records = self.runs.iter().flatten();
        let there = |r: &&Record| self.standing[r.pack as usize] != Standing::Dead;
        records.filter(there).map(|record| {
            let len = record.len_kind & ((1 << LEN_BITS) - 1);
            (
                record.prefix,
                record.pack,
                len,
                FrameKind::from_u8((record.len_kind >> LEN_BITS) as u8),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ChunkId;

    fn entry(n: u32) -> TableEntry {
        let id = ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes());
        TableEntry {
            id,
            offset: n,
            len: n + 50,
            plain_len: n,
            kind: FrameKind::Data,
            codec: 0,
        }
    }

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let key = Key::from_bytes([9; 32]);
        let mut index = Index::default();
        for round in 0..20u32 {
            let mut builder = SegmentBuilder::default();
            let table: Vec<TableEntry> = (round * 100..round * 100 + 100).map(entry).collect();
            builder.push(format!("p/{round}"), &table);
            let (name, bytes) = builder.finish(0, 3, &key).unwrap();
            index.add(Segment::decode(&name, &bytes, &key).unwrap());
        }
        assert_eq!(index.len(), 2000);
        assert!(index.runs.len() < 8);
        for n in 0..2000 {
            let found = index.find(&entry(n).id.prefix()).unwrap();
            assert_eq!(
                found,
                Location {
                    pack: format!("p/{}", n / 100),
                    offset: n,
                    len: n + 50,
                    condemned: false,
                }
            );
        }
        assert_eq!(index.find(&entry(2000).id.prefix()), None);
    }

    #[test]
    fn a_damaged_segment_is_refused_by_name() {
        let key = Key::from_bytes([9; 32]);
        let mut builder = SegmentBuilder::default();
        builder.push("p/1".to_owned(), &[entry(1), entry(2)]);
        let (name, bytes) = builder.finish(0, 3, &key).unwrap();
        for at in (0..8).chain(16..bytes.len()) {
            let mut copy = bytes.clone();
            copy[at] ^= 1;
            let error = Segment::decode(&name, &copy, &key).err().unwrap();
            assert!(error.to_string().contains(&name));
            assert!(Segment::decode(&name, &copy[..at], &key).is_err());
        }
    }
}
