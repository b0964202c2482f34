//! Which packs were read when, how deep, and what was found: the record by which successive samples cover
//! everything and a check that was cut short goes on.
//!
//! Records are objects `v/<id>`, each written once. They add up: of each pack and each way of looking at it the
//! newest time counts, so that any number of checks may write at once, and any set of records can be replaced by
//! one that holds the sum.

mod records;

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use prost::Message;

use crate::{
    error::{Error, Result},
    keys::KeyRing,
    pack, seal,
    secret::unhex,
};

pub(crate) use records::Loaded;

const MAGIC: &[u8; 8] = b"ORLOPVR0";
const AAD: &[u8] = b"orlop 2026 v0 verification record";
/// Bytes of one pack in a record.
const PACK: usize = 48;
/// Packs in one record at most.
const MAX_PACKS: usize = 1 << 20;
/// Longest record in bytes.
const MAX_RECORD: usize = 64 << 20;
/// Runs that are remembered.
const RUNS: usize = 8;
/// Longest text that says what a run reads.
const MAX_WHAT: usize = 64;

/// The first half of the hash in a pack's name.
pub(crate) type PackKey = [u8; 16];

/// The key of the pack of that name.
pub(crate) fn pack_key(name: &str) -> Option<PackKey> {
    let (hash, _) = pack::parse_name(name).ok()?;
    unhex(&hash)?.first_chunk().copied()
}

/// When a pack was looked at, in milliseconds since 1970; 0 for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its bytes were those that its name promises.
    pub(crate) scrubbed: u64,
    /// The chunks that snapshots need of it were decrypted and right.
    pub(crate) verified: u64,
    /// Its bytes were others, or it was not there.
    pub(crate) bad_bytes: u64,
    /// A chunk could not be decrypted.
    pub(crate) bad_chunks: u64,
}

impl Seen {
    /// Whether damage was found and nothing better since.
    pub(crate) fn is_damaged(&self) -> bool {
        self.bad_bytes > self.scrubbed || self.bad_chunks > self.verified
    }

    fn add(&mut self, other: &Self) {
        self.scrubbed = self.scrubbed.max(other.scrubbed);
        self.verified = self.verified.max(other.verified);
        self.bad_bytes = self.bad_bytes.max(other.bad_bytes);
        self.bad_chunks = self.bad_chunks.max(other.bad_chunks);
    }

    fn encode(&self, key: &PackKey, out: &mut Vec<u8>) {
        out.extend_from_slice(key);
        for time in [
            self.scrubbed,
            self.verified,
            self.bad_bytes,
            self.bad_chunks,
        ] {
            out.extend_from_slice(&time.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8; PACK]) -> (PackKey, Self) {
        let (key, rest) = bytes.split_first_chunk::<16>().expect("48 bytes");
        let (times, _) = rest.as_chunks::<8>();
        let time = |i: usize| u64::from_le_bytes(times[i]);
        let seen = Self {
            scrubbed: time(0),
            verified: time(1),
            bad_bytes: time(2),
            bad_chunks: time(3),
        };
        (*key, seen)
    }
}

/// A check that reads data, from its beginning to its end.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Run {
    /// 16 random bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    /// When it began, milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub(crate) begun: u64,
    /// What it reads, such as `data 10%`.
    #[prost(string, tag = "3")]
    pub(crate) what: String,
    /// When it had read all of it; 0 if it has not.
    #[prost(uint64, tag = "4")]
    pub(crate) ended: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RecordMessage {
    #[prost(bytes = "vec", tag = "1")]
    packs: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    runs: Vec<Run>,
}

/// What records add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    packs: HashMap<PackKey, Seen>,
    runs: BTreeMap<Vec<u8>, Run>,
}

impl Coverage {
    /// When the pack was looked at.
    pub(crate) fn get(&self, key: &PackKey) -> Seen {
        self.packs.get(key).copied().unwrap_or_default()
    }

    /// Notes what came of looking at a pack.
    pub(crate) fn note(&mut self, key: PackKey, seen: &Seen) {
        self.packs.entry(key).or_default().add(seen);
    }

    /// Notes that a run has begun, or ended.
    pub(crate) fn note_run(&mut self, run: &Run) {
        let known = self
            .runs
            .entry(run.id.clone())
            .or_insert_with(|| run.clone());
        known.ended = known.ended.max(run.ended);
        while self.runs.len() > RUNS {
            let oldest = self.runs.iter().min_by_key(|(id, run)| (run.begun, *id));
            let Some((id, _)) = oldest.map(|(id, run)| (id.clone(), run.begun)) else {
                return;
            };
            self.runs.remove(&id);
        }
    }

    /// The newest run of that kind, if it was cut short.
    pub(crate) fn unfinished(&self, what: &str) -> Option<&Run> {
        self.newest(what).filter(|run| run.ended == 0)
    }

    /// When the newest run of that kind ended, if it did.
    pub(crate) fn ended(&self, what: &str) -> Option<u64> {
        self.newest(what).map(|run| run.ended).filter(|at| *at > 0)
    }

    fn newest(&self, what: &str) -> Option<&Run> {
        let of_kind = self.runs.values().filter(|run| run.what == what);
        of_kind.max_by_key(|run| (run.begun, &run.id))
    }

    /// Adds what another one holds.
    pub(crate) fn add(&mut self, other: &Self) {
        for (key, seen) in &other.packs {
            self.note(*key, seen);
        }
        other.runs.values().for_each(|run| self.note_run(run));
    }

    /// Forgets the packs for which `keep` is false; whether there were any.
    pub(crate) fn retain(&mut self, keep: impl Fn(&PackKey) -> bool) -> bool {
        let before = self.packs.len();
        self.packs.retain(|key, _| keep(key));
        self.packs.len() < before
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.runs.is_empty()
    }

    /// Contents of as few records as hold it.
    pub(crate) fn encode(&self) -> Vec<Vec<u8>> {
        let mut packs: Vec<(&PackKey, &Seen)> = self.packs.iter().collect();
        packs.sort_unstable_by_key(|(key, _)| **key);
        let mut runs: Vec<Run> = self.runs.values().cloned().collect();
        let parts = packs.chunks(MAX_PACKS);
        let mut records: Vec<Vec<u8>> = parts
            .map(|part| {
                let mut bytes = Vec::with_capacity(part.len() * PACK);
                for (key, seen) in part {
                    seen.encode(key, &mut bytes);
                }
                let runs = std::mem::take(&mut runs);
                RecordMessage { packs: bytes, runs }.encode_to_vec()
            })
            .collect();
        if records.is_empty() && !runs.is_empty() {
            let packs = Vec::new();
            records.push(RecordMessage { packs, runs }.encode_to_vec());
        }
        records
    }

    /// Reads the content of a record; `None` if it breaks a rule of the format.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let message = RecordMessage::decode(bytes).ok()?;
        let (packs, rest) = message.packs.as_chunks::<PACK>();
        if !rest.is_empty() || packs.len() > MAX_PACKS || message.runs.len() > RUNS {
            return None;
        }
        let mut coverage = Self::default();
        let mut last: Option<PackKey> = None;
        for (key, seen) in packs.iter().map(Seen::decode) {
            if last.is_some_and(|last| last >= key) {
                return None;
            }
            last = Some(key);
            coverage.packs.insert(key, seen);
        }
        for run in message.runs {
            let sane = run.id.len() == 16 && run.what.len() <= MAX_WHAT;
            match coverage.runs.entry(run.id.clone()) {
                Entry::Vacant(place) if sane => place.insert(run),
                _ => return None,
            };
        }
        Some(coverage)
    }
}

/// The bytes of the record `name`.
fn seal_record(keys: &KeyRing, name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    let aad = [AAD, name.as_bytes()].concat();
    seal::seal_into(&keys.records(), &aad, content, &mut bytes)?;
    Ok(bytes)
}

/// What the record `name` says.
fn open_record(keys: &KeyRing, name: &str, bytes: &[u8]) -> Result<Coverage> {
    let fail = |reason: &str| Error::damaged(name, reason);
    if bytes.len() > MAX_RECORD {
        return Err(fail("it is too long for a verification record"));
    }
    let sealed = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| fail("it does not begin as a verification record does"))?;
    let aad = [AAD, name.as_bytes()].concat();
    let content = seal::open_vec(&keys.records(), &aad, sealed)
        .ok_or_else(|| fail("it cannot be opened: some of its bytes were changed"))?;
    Coverage::decode(&content).ok_or_else(|| fail("it makes no sense"))
}

#[cfg(test)]
mod tests;
