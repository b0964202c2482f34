//! A store that fails on command: for tests of what a crash or a broken store leaves behind.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Capabilities, Durability, ListPage, ObjectInfo, ObjectStore, Put};
use crate::error::{Error, Result};

/// Which calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Every put from the `n`th on (counted from 0) fails without effect.
    PutsFrom(u64),
    /// The `n`th put happens, and its answer is lost; all later calls fail.
    LoseAnswerOf(u64),
    /// Every put answers that the store is full, from the `n`th on.
    FullFrom(u64),
    /// Every put and deletion from the `n`th on fails without effect.
    ChangesFrom(u64),
    /// The `n`th put or deletion happens, and its answer is lost; all later ones fail.
    LoseAnswerOfChange(u64),
    /// The first read of that object finds nothing, as if it were put a moment later.
    HidesOnce(&'static str),
    /// Nothing fails.
    Never,
}

/// A decorator that makes another store fail.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Plan,
    puts: AtomicU64,
    changes: AtomicU64,
    hidden: AtomicBool,
}

impl FaultyStore {
    /// `inner`, failing as `plan` says.
    pub fn new(inner: Arc<dyn ObjectStore>, plan: Plan) -> Self {
        Self {
            inner,
            plan,
            puts: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            hidden: AtomicBool::new(false),
        }
    }

    /// How many puts were tried.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::SeqCst)
    }

    /// How many puts and deletions were tried.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn failure(&self, name: &str) -> Error {
        Error::Store {
            action: "write",
            name: name.to_owned(),
            store: self.description(),
            source: std::io::Error::other("injected failure"),
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        let n = self.puts.fetch_add(1, Ordering::SeqCst);
        let change = self.changes.fetch_add(1, Ordering::SeqCst);
        match self.plan {
            Plan::ChangesFrom(from) if change >= from => Err(self.failure(name)),
            Plan::LoseAnswerOfChange(lost) if change == lost => {
                self.inner.put(name, parts, durability).await?;
                Err(self.failure(name))
            }
            Plan::LoseAnswerOfChange(lost) if change > lost => Err(self.failure(name)),
            Plan::PutsFrom(from) if n >= from => Err(self.failure(name)),
            Plan::FullFrom(from) if n >= from => Err(Error::Full {
                name: name.to_owned(),
                store: self.description(),
            }),
            Plan::LoseAnswerOf(lost) if n == lost => {
                self.inner.put(name, parts, durability).await?;
                Err(self.failure(name))
            }
            Plan::LoseAnswerOf(lost) if n > lost => Err(self.failure(name)),
            _ => self.inner.put(name, parts, durability).await,
        }
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let hides = matches!(self.plan, Plan::HidesOnce(hidden) if hidden == name);
        if hides && !self.hidden.swap(true, Ordering::SeqCst) {
            return Err(Error::NotFound {
                name: name.to_owned(),
                store: self.description(),
            });
        }
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        self.inner.get_range(name, offset, len).await
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        self.inner.get_up_to(name, offset, max_len).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix).await
    }

    async fn list_page(&self, prefix: &str, cursor: Option<String>) -> Result<ListPage> {
        self.inner.list_page(prefix, cursor).await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.inner.stat(name).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let change = self.changes.fetch_add(1, Ordering::SeqCst);
        match self.plan {
            Plan::ChangesFrom(from) if change >= from => Err(self.failure(name)),
            Plan::LoseAnswerOfChange(lost) if change == lost => {
                self.inner.delete(name).await?;
                Err(self.failure(name))
            }
            Plan::LoseAnswerOfChange(lost) if change > lost => Err(self.failure(name)),
            _ => self.inner.delete(name).await,
        }
    }

    async fn barrier(&self) -> Result<()> {
        self.inner.barrier().await
    }

    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await
    }

    fn description(&self) -> String {
        self.inner.description()
    }

    async fn probe(&self) -> Result<Option<Capabilities>> {
        self.inner.probe().await
    }

    fn set_capabilities(&self, capabilities: Capabilities) {
        self.inner.set_capabilities(capabilities);
    }
}
