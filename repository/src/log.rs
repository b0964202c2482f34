//! The repository's log: the one place where writers meet.
//!
//! Entry `n` is the object `log/<n, 16 digits>`, created only if it does not exist; so all writers
//! agree on one order without a lock (the technique of table logs such as Delta Lake's, VLDB 2020).
//! Each entry names the hash of the one before it and is authenticated under the maintenance key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::future::join_all;
use prost::{Message, Oneof};

use crate::{
    error::{Error, Result},
    secret::Key,
    store::{Durability, ObjectStore, Put},
};

const MAGIC: &[u8; 8] = b"ORLOPLG0";
const MAX_ENTRY: usize = 16 << 20;
/// Lost races after which an append gives up: only a store that contradicts itself makes so many.
const MAX_RACES: usize = 10_000;

/// One entry.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogEntry {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    /// BLAKE3 of the entry before; empty in the first.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) previous: Vec<u8>,
    /// For people; no rule reads it.
    #[prost(int64, tag = "3")]
    pub(crate) time_ms: i64,
    #[prost(oneof = "Body", tags = "4, 5, 6")]
    pub(crate) body: Option<Body>,
    // 7..=15: leader, fence, adopt, forget, index head, condemn, rescue, deleting, done; 16: signature
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Body {
    /// A writer begins; the entry's number is its session.
    #[prost(message, tag = "4")]
    Begin(BeginBody),
    /// A session's snapshot and segments become part of the repository.
    #[prost(message, tag = "5")]
    Commit(CommitBody),
    /// A session ended without a snapshot.
    #[prost(uint64, tag = "6")]
    End(u64),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BeginBody {
    /// Pseudonyms of domain and lineage, joined by a slash.
    #[prost(string, tag = "1")]
    pub(crate) volume: String,
    /// 16 random bytes: without them two writers who begin in the same millisecond would write the
    /// same entry, and each take it for its own.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) nonce: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommitBody {
    #[prost(uint64, tag = "1")]
    pub(crate) session: u64,
    /// Object names, each once.
    #[prost(string, tag = "2")]
    pub(crate) snapshot: String,
    #[prost(string, tag = "3")]
    pub(crate) refset: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) segments: Vec<String>,
}

/// What the entries up to a point add up to.
#[derive(Debug, Default, Clone)]
pub(crate) struct LogState {
    /// Number of the next entry; the first is 1.
    pub(crate) next: u64,
    last_hash: Vec<u8>,
    /// Sessions that have neither ended nor committed, with their volumes.
    pub(crate) open: BTreeMap<u64, String>,
    /// What committed sessions committed: session → snapshot.
    pub(crate) committed: BTreeMap<u64, String>,
    /// Snapshots in order of commit.
    pub(crate) snapshots: Vec<CommitBody>,
    /// Index segments in order of commit.
    pub(crate) segments: Vec<String>,
    seen_segments: BTreeSet<String>,
}

impl LogState {
    pub(crate) fn new() -> Self {
        Self {
            next: 1,
            ..Self::default()
        }
    }

    fn apply(&mut self, entry: LogEntry, bytes: &[u8]) -> Result<()> {
        let name = object_name(self.next);
        if entry.seq != self.next || entry.previous != self.last_hash {
            return Err(Error::damaged(
                name,
                "it does not follow the entry before it: the log was forked or rolled back",
            ));
        }
        match entry.body {
            Some(Body::Begin(body)) => {
                self.open.insert(entry.seq, body.volume);
            }
            Some(Body::Commit(body)) => {
                if self.open.remove(&body.session).is_none() {
                    return Err(Error::damaged(
                        name,
                        "it commits a session that is not open",
                    ));
                }
                self.committed.insert(body.session, body.snapshot.clone());
                for segment in &body.segments {
                    if self.seen_segments.insert(segment.clone()) {
                        self.segments.push(segment.clone());
                    }
                }
                self.snapshots.push(body);
            }
            Some(Body::End(session)) => {
                self.open.remove(&session);
            }
            None => {
                return Err(Error::damaged(
                    name,
                    "its kind is unknown: a newer orlop wrote it",
                ));
            }
        }
        self.next += 1;
        self.last_hash = blake3::hash(bytes).as_bytes().to_vec();
        Ok(())
    }
}

pub(crate) fn object_name(seq: u64) -> String {
    format!("log/{seq:016}")
}

fn encode(entry: &LogEntry, mac_key: &Key) -> Vec<u8> {
    let body = entry.encode_to_vec();
    let mut out = Vec::with_capacity(body.len() + 40);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&body);
    let mac = blake3::keyed_hash(mac_key.as_bytes(), &out);
    out.extend_from_slice(mac.as_bytes());
    out
}

fn decode(seq: u64, bytes: &[u8], mac_key: &Key) -> Result<LogEntry> {
    let fail = |reason: &str| Error::damaged(object_name(seq), reason);
    if bytes.len() < 40 || bytes.len() > MAX_ENTRY || &bytes[..8] != MAGIC {
        return Err(fail("it is no log entry"));
    }
    let (signed, mac) = bytes.split_at(bytes.len() - 32);
    let mac: [u8; 32] = mac.try_into().map_err(|_| fail("it is too short"))?;
    if blake3::keyed_hash(mac_key.as_bytes(), signed) != blake3::Hash::from(mac) {
        return Err(fail("its authentication code is wrong"));
    }
    LogEntry::decode(&signed[8..]).map_err(|e| fail(&e.to_string()))
}

/// Reads the entries that `state` has not seen yet.
pub(crate) async fn replay(
    store: &dyn ObjectStore,
    mac_key: &Key,
    state: &mut LogState,
) -> Result<()> {
    let mut batch = 1;
    loop {
        let gets = (0..batch).map(|i| {
            let name = object_name(state.next + i);
            async move { store.get(&name).await }
        });
        let results: Vec<Result<Bytes>> = join_all(gets).await;
        for result in results {
            match result {
                Ok(bytes) => {
                    let entry = decode(state.next, &bytes, mac_key)?;
                    state.apply(entry, &bytes)?;
                }
                Err(e) if e.is_not_found() => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        batch = (batch * 2).min(64);
    }
}

/// Appends the entry that `make` gives for the newest state; `None` from `make` appends nothing.
///
/// Another writer's entry in the way is replayed and `make` is asked again. A put whose answer was
/// lost is recognised by its bytes.
pub(crate) async fn append(
    store: &dyn ObjectStore,
    mac_key: &Key,
    state: &mut LogState,
    now_ms: i64,
    mut make: impl FnMut(&LogState) -> Result<Option<Body>>,
) -> Result<Option<u64>> {
    for _ in 0..MAX_RACES {
        replay(store, mac_key, state).await?;
        let Some(body) = make(state)? else {
            return Ok(None);
        };
        let seq = state.next;
        let entry = LogEntry {
            seq,
            previous: state.last_hash.clone(),
            time_ms: now_ms,
            body: Some(body),
        };
        let bytes = encode(&entry, mac_key);
        let name = object_name(seq);
        if bytes.len() > MAX_ENTRY {
            return Err(Error::Invalid(format!(
                "{name} would have {} bytes, more than a reader takes",
                bytes.len()
            )));
        }
        let ours = match store
            .put(&name, vec![Bytes::from(bytes.clone())], Durability::Now)
            .await
        {
            Ok(Put::Created) => true,
            Ok(Put::Exists) => store.get(&name).await? == bytes,
            // The answer may be lost, or the entry be there and not durable: putting it again settles
            // both, as an existing object is made durable before it is told.
            Err(error) => match store.get(&name).await {
                Ok(stored) if stored == bytes => {
                    let again = vec![Bytes::from(bytes.clone())];
                    store.put(&name, again, Durability::Now).await?;
                    true
                }
                _ => return Err(error),
            },
        };
        if ours {
            state.apply(entry, &bytes)?;
            return Ok(Some(seq));
        }
    }
    Err(Error::Store {
        action: "append to",
        name: object_name(state.next),
        store: store.description(),
        source: std::io::Error::other(
            "other writers were always faster, or the store hides what it has",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn begin() -> Body {
        Body::Begin(BeginBody {
            volume: "d/v".to_owned(),
            nonce: Vec::new(),
        })
    }

    #[tokio::test]
    async fn racing_writers_agree_on_one_order() {
        let (store, key) = (MemoryStore::new(), Key::from_bytes([1; 32]));
        let mut states = vec![LogState::new(); 4];
        for round in 0..20 {
            let state = &mut states[round % 4];
            append(&store, &key, state, 0, |_| Ok(Some(begin())))
                .await
                .unwrap();
        }
        let mut fresh = LogState::new();
        replay(&store, &key, &mut fresh).await.unwrap();
        assert_eq!((fresh.next, fresh.open.len()), (21, 20));
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn a_changed_entry_is_refused_by_name() {
        let (store, key) = (MemoryStore::new(), Key::from_bytes([1; 32]));
        let mut state = LogState::new();
        for _ in 0..3 {
            append(&store, &key, &mut state, 0, |_| Ok(Some(begin())))
                .await
                .unwrap();
        }
        let name = object_name(2);
        let bytes = store.get(&name).await.unwrap();
        for at in 0..bytes.len() {
            let mut copy = bytes.to_vec();
            copy[at] ^= 1;
            store.overwrite(&name, Bytes::from(copy));
            let error = replay(&store, &key, &mut LogState::new())
                .await
                .unwrap_err();
            assert!(error.to_string().contains(&name), "{error}");
        }
    }
}
