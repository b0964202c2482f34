//! The repository's log: the one place where writers meet.
//!
//! Entry `n` is the object `log/<n, 16 digits>`, created only if it does not exist; so all writers
//! agree on one order without a lock (the technique of table logs such as Delta Lake's, VLDB 2020).
//! Each entry names the hash of the one before it and is authenticated under the maintenance key.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message;

use crate::{
    error::{Error, Result},
    order::{Head, LogHead, Order},
    protocol::{Body, LogEntry, LogState},
    secret::Key,
    store::{Durability, ObjectStore, Put},
};

const MAGIC: &[u8; 8] = b"ORLOPLG0";
const MAX_ENTRY: usize = 16 << 20;
/// Lost races after which an append gives up: only a store that contradicts itself makes so many.
const MAX_RACES: usize = 10_000;

/// Takes an entry as the next one of `state`.
pub(crate) fn follow(state: &mut LogState, entry: LogEntry, bytes: &[u8]) -> Result<()> {
    let name = object_name(state.next);
    if entry.seq != state.next || entry.previous != state.last_hash {
        return Err(Error::damaged(
            name,
            "it does not follow the entry before it: the log was forked or rolled back, and nothing is written any more; keep one writer only, and see what is whole with `orlop repo check`",
        ));
    }
    let Some(body) = entry.body else {
        let reason = "its kind is unknown: a newer orlop wrote it";
        return Err(Error::damaged(name, reason));
    };
    state
        .apply(body, entry.time_ms)
        .map_err(|reason| Error::damaged(name, reason))?;
    state.last_hash = blake3::hash(bytes).as_bytes().to_vec();
    Ok(())
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

pub(crate) fn decode(seq: u64, bytes: &[u8], mac_key: &Key) -> Result<LogEntry> {
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

fn follow_bytes(state: &mut LogState, bytes: &[u8], mac_key: &Key) -> Result<()> {
    let entry = decode(state.next, bytes, mac_key)?;
    follow(state, entry, bytes)
}

/// Reads the entries that `state` has not seen yet.
pub(crate) async fn replay(
    store: &dyn ObjectStore,
    mac_key: &Key,
    state: &mut LogState,
) -> Result<()> {
    // What there are copies of costs no request. Their end is where others may have gone on.
    while let Some(bytes) = store.get_copy(&object_name(state.next)).await {
        follow_bytes(state, &bytes, mac_key)?;
    }
    // Two at first: where the log goes on behind a missing entry it is damaged, not short.
    let mut batch = if state.next == 1 { 2 } else { 1 };
    loop {
        let gets = (0..batch).map(|i| {
            let name = object_name(state.next + i);
            async move { store.get(&name).await }
        });
        let results: Vec<Result<Bytes>> = join_all(gets).await;
        let mut results = results.into_iter();
        while let Some(result) = results.next() {
            match result {
                Ok(bytes) => follow_bytes(state, &bytes, mac_key)?,
                Err(e) if e.is_not_found() => {
                    if !results.any(|later| later.is_ok()) {
                        return Ok(());
                    }
                    // Entries are created in their order: what was not there when it was asked for is
                    // there by now, or it is lost. The ones behind it are read again.
                    let name = object_name(state.next);
                    match store.get_fresh(&name).await {
                        Ok(bytes) => follow_bytes(state, &bytes, mac_key)?,
                        Err(e) if e.is_not_found() => {
                            let reason = "it is missing, and there are entries behind it";
                            return Err(Error::damaged(name, reason));
                        }
                        Err(e) => return Err(e),
                    }
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        batch = (batch * 2).min(64);
    }
}

/// When a program has last seen that the log in the store is the one that it knows.
pub(crate) struct LogSeen(Mutex<Instant>);

impl LogSeen {
    /// For longer than this nobody relies on it.
    const FRESH: Duration = Duration::from_mins(1);

    /// It was seen just now.
    pub(crate) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether that is long ago.
    pub(crate) fn is_stale(&self) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.elapsed() > Self::FRESH
    }
}

impl Default for LogSeen {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

/// Appends entries to a log.
#[derive(Clone, Copy)]
pub(crate) struct Appender<'l> {
    pub(crate) store: &'l dyn ObjectStore,
    pub(crate) mac_key: &'l Key,
    pub(crate) order: &'l Order,
    /// Whether the store creates an object only if it does not exist.
    pub(crate) conditional: bool,
    /// Whether it is long ago that the log was seen: it may be another one by now, in which a number may be free that is taken
    /// in this one.
    pub(crate) stale: bool,
}

impl Appender<'_> {
    /// Appends the entry that `make` gives for the newest state; `None` from `make` appends nothing.
    ///
    /// Another writer's entry in the way is replayed and `make` is asked again. A put whose answer was
    /// lost is recognised by its bytes. An entry that would break the protocol is not appended.
    pub(crate) async fn append(
        &self,
        state: &mut LogState,
        now_ms: i64,
        mut make: impl FnMut(&LogState) -> Result<Option<Body>>,
    ) -> Result<Option<u64>> {
        if matches!(self.order, Order::Store) && !self.conditional {
            return Err(Error::NeedsExclusive {
                store: self.store.description(),
            });
        }
        // What is known is mostly the newest: then the put succeeds, and nothing was read in vain. If not,
        // what `make` says of it counts for nothing.
        let mut newest = false;
        for _ in 0..MAX_RACES {
            let made = make(state);
            let body = match made {
                Ok(Some(body)) if state.check(&body).is_ok() => body,
                _ if !newest => {
                    replay(self.store, self.mac_key, state).await?;
                    newest = true;
                    continue;
                }
                Ok(Some(body)) => {
                    let reason = state.check(&body).err().unwrap_or_default();
                    return Err(Error::Protocol { reason });
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            };
            let seq = state.next;
            let entry = LogEntry {
                seq,
                previous: state.last_hash.clone(),
                time_ms: now_ms,
                body: Some(body),
            };
            let bytes = encode(&entry, self.mac_key);
            if bytes.len() > MAX_ENTRY {
                return Err(Error::Invalid(format!(
                    "{} would have {} bytes, more than a reader takes",
                    object_name(seq),
                    bytes.len()
                )));
            }
            if self.publish(state, &bytes).await? {
                follow(state, entry, &bytes)?;
                return Ok(Some(seq));
            }
            replay(self.store, self.mac_key, state).await?;
            newest = true;
        }
        Err(Error::Store {
            action: "append to",
            name: object_name(state.next),
            store: self.store.description(),
            source: std::io::Error::other(
                "other writers were always faster, or the store hides what it has",
            ),
        })
    }

    /// Makes `bytes` the entry behind `state`; false if another one is there.
    async fn publish(&self, state: &LogState, bytes: &[u8]) -> Result<bool> {
        match self.order {
            Order::Store => {
                if self.stale {
                    self.prove_last(state).await?;
                }
                self.create(state.next, bytes).await
            }
            Order::Exclusive => {
                self.prove_last(state).await?;
                self.put(state.next, bytes).await?;
                // The last word: had somebody else written at the same time, one of the two is lost.
                if self.store.get_fresh(&object_name(state.next)).await? == bytes {
                    Ok(true)
                } else {
                    Err(self.forked(state.next))
                }
            }
            Order::Head(head) => {
                let Some(expected) = self.agree(&**head, state).await? else {
                    return Ok(false);
                };
                self.prove_last(state).await?;
                let new = Head {
                    seq: state.next,
                    entry: bytes.to_vec(),
                };
                if !head.swap(expected, new).await? {
                    return Ok(false);
                }
                self.put(state.next, bytes).await?;
                Ok(true)
            }
        }
    }

    /// Creates entry `seq`, unless it exists.
    async fn create(&self, seq: u64, bytes: &[u8]) -> Result<bool> {
        let name = object_name(seq);
        match self.put(seq, bytes).await {
            Ok(Put::Created) => Ok(true),
            Ok(Put::Exists) => Ok(self.store.get_fresh(&name).await? == bytes),
            // The answer may be lost, or the entry be there and not durable: putting it again settles
            // both, as an existing object is made durable before it is told.
            Err(error) => match self.store.get_fresh(&name).await {
                Ok(stored) if stored == bytes => self.put(seq, bytes).await.map(|_| true),
                _ => Err(error),
            },
        }
    }

    async fn put(&self, seq: u64, bytes: &[u8]) -> Result<Put> {
        let parts = vec![Bytes::copy_from_slice(bytes)];
        self.store
            .put(&object_name(seq), parts, Durability::Now)
            .await
    }

    /// Number of the head that the next entry takes the place of; `None` if the log has to be read again.
    async fn agree(&self, head: &dyn LogHead, state: &LogState) -> Result<Option<Option<u64>>> {
        let Some(now) = head.read().await? else {
            return Ok(Some(None));
        };
        let last = state.next - 1;
        if now.seq > last {
            if now.seq != state.next {
                return Err(self.forked(now.seq));
            }
            // Whoever was to put it did not come to it.
            self.put(now.seq, &now.entry).await?;
            return Ok(None);
        }
        // The log may be ahead, as somebody wrote it alone; but it must be the same log.
        if self.store.get_fresh(&object_name(now.seq)).await? != now.entry {
            return Err(self.forked(now.seq));
        }
        Ok(Some(Some(now.seq)))
    }

    /// Proves that nobody has written another entry over the last one.
    async fn prove_last(&self, state: &LogState) -> Result<()> {
        let last = state.next - 1;
        if last == 0 {
            return Ok(());
        }
        let stored = match self.store.get_fresh(&object_name(last)).await {
            Err(error) if error.is_not_found() => {
                let reason = "it was there when this program saw it last: the repository was removed, or another one made in its place";
                return Err(Error::damaged(object_name(last), reason));
            }
            other => other?,
        };
        if blake3::hash(&stored).as_bytes().as_slice() == state.last_hash {
            Ok(())
        } else {
            Err(self.forked(last))
        }
    }

    fn forked(&self, seq: u64) -> Error {
        Error::Forked {
            name: object_name(seq),
            store: self.store.description(),
        }
    }
}

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::BeginBody, store::MemoryStore};

    fn appender<'l>(store: &'l dyn ObjectStore, mac_key: &'l Key) -> Appender<'l> {
        Appender {
            store,
            mac_key,
            order: &Order::Store,
            conditional: true,
            stale: false,
        }
    }

    #[tokio::test]
    async fn another_log_in_the_same_place_is_left_alone() {
        let (store, key) = (MemoryStore::new(), Key::from_bytes([1; 32]));
        let mut state = LogState::new();
        for nonce in 0..5 {
            let done = appender(&store, &key)
                .append(&mut state, 0, |_| Ok(Some(begin(nonce))))
                .await;
            assert_eq!(done.unwrap(), Some(u64::from(nonce) + 1));
        }
        for object in store.list("log/").await.unwrap() {
            store.delete(&object.name).await.unwrap();
        }
        let (mut other, other_key) = (LogState::new(), Key::from_bytes([2; 32]));
        let made = appender(&store, &other_key)
            .append(&mut other, 0, |_| Ok(Some(begin(9))))
            .await;
        assert_eq!(made.unwrap(), Some(1));
        let stale = Appender {
            stale: true,
            ..appender(&store, &key)
        };
        let refused = stale.append(&mut state, 0, |_| Ok(Some(begin(7)))).await;
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
        assert_eq!(store.list("log/").await.unwrap().len(), 1);
    }

    fn begin(nonce: u8) -> Body {
        Body::Begin(BeginBody {
            volume: "d/v".to_owned(),
            nonce: vec![nonce; 16],
            ..BeginBody::default()
        })
    }

    #[tokio::test]
    async fn racing_writers_agree_on_one_order() {
        let (store, key) = (MemoryStore::new(), Key::from_bytes([1; 32]));
        let mut states = vec![LogState::new(); 4];
        for round in 0..20 {
            let state = &mut states[round % 4];
            appender(&store, &key)
                .append(state, 0, |_| Ok(Some(begin(round as u8))))
                .await
                .unwrap();
        }
        let mut fresh = LogState::new();
        replay(&store, &key, &mut fresh).await.unwrap();
        assert_eq!((fresh.next, fresh.open.len()), (21, 20));
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn an_entry_that_appears_between_two_reads_is_no_gap() {
        use crate::store::{FaultyStore, Plan};

        let (store, key) = (
            std::sync::Arc::new(MemoryStore::new()),
            Key::from_bytes([1; 32]),
        );
        let mut state = LogState::new();
        for _ in 0..12 {
            appender(&*store, &key)
                .append(&mut state, 0, |_| Ok(Some(begin(0))))
                .await
                .unwrap();
        }
        for name in ["log/0000000000000001", "log/0000000000000004"] {
            let late = FaultyStore::new(store.clone(), Plan::HidesOnce(name));
            let mut seen = LogState::new();
            replay(&late, &key, &mut seen).await.unwrap();
            assert_eq!(seen.next, state.next);
        }
        store.delete("log/0000000000000004").await.unwrap();
        let error = replay(&*store, &key, &mut LogState::new())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("it is missing"), "{error}");
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn a_changed_entry_is_refused_by_name() {
        let (store, key) = (MemoryStore::new(), Key::from_bytes([1; 32]));
        let mut state = LogState::new();
        for _ in 0..3 {
            appender(&store, &key)
                .append(&mut state, 0, |_| Ok(Some(begin(0))))
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
