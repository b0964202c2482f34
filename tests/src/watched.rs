//! A store that remembers what was read of it, and how much of that is still held.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_repository::{
    ObjectStore, Result,
    store::{Durability, ObjectInfo, Put},
};

/// One read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The object.
    pub name: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// A decorator that watches reads.
pub struct WatchedStore {
    inner: Arc<dyn ObjectStore>,
    reads: Mutex<Vec<Read>>,
    held: Arc<AtomicU64>,
    /// What was held when reads were taken.
    before: AtomicU64,
    most: AtomicU64,
}

/// Bytes that were read, until the last copy is dropped.
struct Held {
    bytes: Bytes,
    held: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let len = self.bytes.len() as u64;
        self.held.fetch_sub(len, Ordering::SeqCst);
    }
}

impl WatchedStore {
    /// Watches `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            reads: Mutex::default(),
            held: Arc::default(),
            before: AtomicU64::new(0),
            most: AtomicU64::new(0),
        }
    }

    /// What was read since the last call, of objects whose names begin with `prefix`.
    pub fn take_reads(&self, prefix: &str) -> Vec<Read> {
        let held = self.held.load(Ordering::SeqCst);
        self.before.store(held, Ordering::SeqCst);
        self.most.store(0, Ordering::SeqCst);
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reads = std::mem::take(&mut *reads);
        reads.retain(|read| read.name.starts_with(prefix));
        reads
    }

    /// Most bytes that were held at a time, beside what was held when reads were taken.
    pub fn most_held(&self) -> u64 {
        self.most.load(Ordering::SeqCst)
    }

    fn note(&self, name: &str, offset: u64, bytes: Bytes) -> Bytes {
        let len = bytes.len() as u64;
        let held = self.held.fetch_add(len, Ordering::SeqCst) + len;
        let before = self.before.load(Ordering::SeqCst);
        self.most
            .fetch_max(held.saturating_sub(before), Ordering::SeqCst);
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.push(Read {
            name: name.to_owned(),
            offset,
            len,
        });
        Bytes::from_owner(Held {
            bytes,
            held: Arc::clone(&self.held),
        })
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        self.inner.put(name, parts, durability).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let bytes = self.inner.get(name).await?;
        Ok(self.note(name, 0, bytes))
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        let bytes = self.inner.get_range(name, offset, len).await?;
        Ok(self.note(name, offset, bytes))
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        let bytes = self.inner.get_up_to(name, offset, max_len).await?;
        Ok(self.note(name, offset, bytes))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix).await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.inner.stat(name).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }

    async fn barrier(&self) -> Result<()> {
        self.inner.barrier().await
    }

    fn description(&self) -> String {
        self.inner.description()
    }
}
