//! A store whose puts of packs can be held up, fail now and then, or find no room.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_repository::{
    Error, ObjectStore, Result,
    store::{Durability, ObjectInfo, Put},
};
use tokio::sync::watch;

pub(crate) struct Double {
    inner: Arc<dyn ObjectStore>,
    held: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
    /// Of so many puts of packs one fails; 0: none.
    fails: u32,
    puts: AtomicU32,
    full: AtomicBool,
}

impl Double {
    pub(crate) fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            held: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            fails: 0,
            puts: AtomicU32::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// Every `n`th put of a pack fails once, as a store does that has a bad moment.
    pub(crate) fn failing(inner: Arc<dyn ObjectStore>, n: u32) -> Self {
        Self {
            fails: n,
            ..Self::over(inner)
        }
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Lets packs find no room, or room again.
    pub(crate) fn fill(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Waits until so many puts wait.
    pub(crate) async fn until_waiting(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        waiting.wait_for(|now| *now >= count).await.unwrap();
    }
}

/// One who waits.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl ObjectStore for Double {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        if name.starts_with("p/") {
            let mut held = self.held.subscribe();
            let waiting = Waiting::new(&self.waiting);
            held.wait_for(|held| !held).await.unwrap();
            drop(waiting);
            if self.full.load(Ordering::SeqCst) {
                return Err(Error::Full {
                    name: name.to_owned(),
                    store: self.description(),
                });
            }
            let n = self.puts.fetch_add(1, Ordering::SeqCst);
            if self.fails > 0 && n.is_multiple_of(self.fails) {
                return Err(Error::Store {
                    action: "write",
                    name: name.to_owned(),
                    store: self.description(),
                    source: std::io::Error::other("a bad moment"),
                });
            }
        }
        self.inner.put(name, parts, durability).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        self.inner.get_range(name, offset, len).await
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
