//! Tries again what a store failed to do, if trying again may help.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::Rng as _;
use tokio::time::Instant;

use super::{Capabilities, Durability, ListPage, ObjectInfo, ObjectStore, Put};
use crate::error::{AccessError, Error, Result};

/// How often and for how long is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one request, the first included; more of them while `patience` lasts.
    pub tries: u32,
    /// How long a store is borne that has answered before and fails now, in a way that may pass.
    pub patience: Duration,
    /// Tries while the store has never answered: a mistake in its URL is told soon.
    pub tries_unanswered: u32,
    /// The longest that is waited after the first try; it doubles with each. What is really waited is
    /// random, from nothing to that, so that many clients do not come again together.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// How long a request may take, besides the time for its bytes.
    pub answer_within: Duration,
    /// How many bytes a second must be sent or received.
    pub bytes_per_second_min: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 10,
            // An outage of a minute is waited out, however the pauses fall.
            patience: Duration::from_secs(90),
            tries_unanswered: 4,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            answer_within: Duration::from_secs(30),
            bytes_per_second_min: 1 << 20,
        }
    }
}

/// Tries of a store that takes connections and never says a word.
const TRIES_MUTE: u32 = 3;
/// One request is tried for no longer, however slow the store is.
const LONGEST: Duration = Duration::from_hours(1);
/// What is assumed of an object whose size nobody knows.
const UNKNOWN_BYTES: u64 = 64 << 20;
/// How often the time limit may double: up to 32 times.
const DOUBLINGS_MAX: u32 = 5;
/// What is compared at once.
const COMPARE_BYTES: u64 = 8 << 20;

/// A decorator that asks another store again. Dropping a call ends its tries.
pub struct RetryStore {
    inner: Arc<dyn ObjectStore>,
    policy: RetryPolicy,
    /// Whether the store has answered once.
    answered: AtomicBool,
    /// How often requests were too slow: each doubles the limits of all later ones, so that slow
    /// networks, or many requests that share one, do not fail for ever.
    doublings: AtomicU32,
}

impl RetryStore {
    /// `inner` with the usual patience.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self::with_policy(inner, RetryPolicy::default())
    }

    /// `inner` with another policy.
    pub fn with_policy(inner: Arc<dyn ObjectStore>, policy: RetryPolicy) -> Self {
        Self {
            inner,
            policy,
            answered: AtomicBool::new(false),
            doublings: AtomicU32::new(0),
        }
    }

    /// How long a request for so many bytes may take.
    fn limit(&self, bytes: u64) -> Duration {
        let rate = self.policy.bytes_per_second_min.max(1);
        // What is asked of a store first is small.
        let bytes = if self.answered.load(Ordering::Relaxed) {
            bytes
        } else {
            bytes.min(1 << 20)
        };
        let transfer = Duration::from_millis(bytes.saturating_mul(1000) / rate);
        (self.policy.answer_within + transfer) * (1 << self.doublings.load(Ordering::Relaxed))
    }

    fn pause(&self, tries: u32) -> Duration {
        let longest = self
            .policy
            .first_pause
            .saturating_mul(1 << (tries - 1).min(20))
            .min(self.policy.longest_pause);
        longest.mul_f64(rand::rng().random_range(0.0..=1.0))
    }

    /// Asks until there is an answer, or an error that will not pass, or the tries are used up.
    async fn again<'a, T: Send>(
        &'a self,
        action: &'static str,
        name: &str,
        bytes: u64,
        mut ask: impl FnMut() -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let mut tries = 0;
        let since = Instant::now();
        loop {
            tries += 1;
            let doublings = self.doublings.load(Ordering::Relaxed);
            let limit = self.limit(bytes);
            let result = tokio::time::timeout(limit, ask()).await;
            let error = match result {
                Ok(Ok(value)) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(value);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    // Of requests that were too slow together only the first one counts.
                    let more = (doublings + 1).min(DOUBLINGS_MAX);
                    self.doublings.fetch_max(more, Ordering::Relaxed);
                    Error::Access {
                        action,
                        name: name.to_owned(),
                        store: self.description(),
                        source: Box::new(AccessError::TooSlow {
                            seconds: limit.as_secs(),
                        }),
                    }
                }
            };
            let unreachable =
                matches!(&error, Error::Access { source, .. } if source.is_unreachable());
            let silent = matches!(&error, Error::Access { source, .. } if matches!(**source, AccessError::TooSlow { .. }));
            if !unreachable && !silent {
                self.answered.store(true, Ordering::Relaxed);
            }
            let waited = since.elapsed();
            let is_over = if self.answered.load(Ordering::Relaxed) {
                let borne = tries >= self.policy.tries && waited >= self.policy.patience;
                borne || waited >= LONGEST
            } else {
                let mute = tries >= TRIES_MUTE && waited >= self.policy.patience;
                tries >= self.policy.tries_unanswered || mute && silent
            };
            if !error.is_transient() || is_over {
                return Err(error);
            }
            let pause = self.pause(tries);
            // One that passes at once is daily life; one that stays is worth a line.
            if tries < 3 {
                tracing::debug!(%error, cause = cause(&error), tries, "the store failed: trying again");
            } else {
                tracing::warn!(%error, cause = cause(&error), tries, "the store keeps failing: trying again");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether the object's content is these parts.
    async fn holds(&self, name: &str, parts: &[Bytes]) -> Result<bool> {
        let size: u64 = parts.iter().map(|part| part.len() as u64).sum();
        match self.stat(name).await? {
            Some(found) if found.size == size => {}
            _ => return Ok(false),
        }
        let mut offset = 0;
        for part in parts {
            for wanted in part.chunks(COMPARE_BYTES as usize) {
                let len = wanted.len() as u64;
                match self.get_range(name, offset, len).await {
                    Ok(found) if found == wanted => offset += len,
                    Err(error) if !error.is_permanent() => return Err(error),
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

#[async_trait]
impl ObjectStore for RetryStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        let size = parts.iter().map(|part| part.len() as u64).sum();
        let mut tries = 0;
        let put = self
            .again("write", name, size, || {
                tries += 1;
                self.inner.put(name, parts.clone(), durability)
            })
            .await?;
        // A try that seemed to fail may have created it.
        if put == Put::Exists && tries > 1 && self.holds(name, &parts).await? {
            return Ok(Put::Created);
        }
        Ok(put)
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.again("read", name, UNKNOWN_BYTES, || self.inner.get(name))
            .await
    }

    async fn get_fresh(&self, name: &str) -> Result<Bytes> {
        self.again("read", name, UNKNOWN_BYTES, || self.inner.get_fresh(name))
            .await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        self.again("read", name, len, || {
            self.inner.get_range(name, offset, len)
        })
        .await
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        self.again("read", name, max_len.min(UNKNOWN_BYTES), || {
            self.inner.get_up_to(name, offset, max_len)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            // A page at a time: a failure on the last of a thousand pages is not one of them all.
            let page = self.list_page(prefix, cursor).await?;
            found.extend(page.objects);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        found.sort();
        Ok(found)
    }

    async fn list_page(&self, prefix: &str, cursor: Option<String>) -> Result<ListPage> {
        self.again("list", prefix, 0, || {
            self.inner.list_page(prefix, cursor.clone())
        })
        .await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.again("look up", name, 0, || self.inner.stat(name))
            .await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.again("delete", name, 0, || self.inner.delete(name))
            .await
    }

    async fn barrier(&self) -> Result<()> {
        self.again("make durable", "objects", 0, || self.inner.barrier())
            .await
    }

    async fn settle(&self, names: &[String]) -> Result<()> {
        self.again("make durable", "objects", 0, || self.inner.settle(names))
            .await
    }

    async fn sweep(&self) -> Result<u64> {
        self.again("sweep", "objects", 0, || self.inner.sweep())
            .await
    }

    fn description(&self) -> String {
        self.inner.description()
    }

    async fn probe(&self) -> Result<Option<Capabilities>> {
        // All of it again: an answer that was lost would be taken for a store that cannot do it.
        self.again("probe", "objects", UNKNOWN_BYTES, || self.inner.probe())
            .await
    }

    fn set_capabilities(&self, capabilities: Capabilities) {
        self.inner.set_capabilities(capabilities);
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
