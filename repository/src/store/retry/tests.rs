//! What is tried again, how often, and what a put answers whose first try only seemed to fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::VecDeque, sync::Mutex};

use super::*;
use crate::store::{MemoryStore, contract};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// It fails without effect, in a way that passes.
    Busy,
    /// Nobody answers at all.
    Refused,
    /// It fails for good.
    Denied,
    /// It happens, and the answer is lost.
    Lost,
    /// It never ends.
    Hangs,
}

/// A store whose calls meet their fates in order; then all is fine.
struct Fated {
    inner: MemoryStore,
    fates: Mutex<VecDeque<Fate>>,
    calls: AtomicU32,
    /// Until when nobody answers.
    away: Mutex<Option<Instant>>,
}

impl Fated {
    fn new(fates: &[Fate]) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            fates: Mutex::new(fates.iter().copied().collect()),
            calls: AtomicU32::new(0),
            away: Mutex::default(),
        })
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn meet<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fate = self.fates.lock().unwrap().pop_front();
        let fail = |source| {
            Err(Error::Access {
                action: "do",
                name: "it".to_owned(),
                store: "memory".to_owned(),
                source: Box::new(source),
            })
        };
        let endpoint = "there".to_owned();
        let is_away = self
            .away
            .lock()
            .unwrap()
            .is_some_and(|until| Instant::now() < until);
        let then = if is_away { Fate::Refused } else { Fate::Fine };
        match fate.unwrap_or(then) {
            Fate::Fine => work.await,
            Fate::Busy => fail(AccessError::Busy {
                code: "SlowDown".to_owned(),
            }),
            Fate::Refused => fail(AccessError::Refused { endpoint }),
            Fate::Denied => fail(AccessError::WrongSecret),
            Fate::Lost => {
                work.await?;
                fail(AccessError::Short {
                    got: 0,
                    promised: 1,
                })
            }
            Fate::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for Fated {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        self.meet(self.inner.put(name, parts, durability)).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.meet(self.inner.get(name)).await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        self.meet(self.inner.get_range(name, offset, len)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.meet(self.inner.list(prefix)).await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.meet(self.inner.stat(name)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.meet(self.inner.delete(name)).await
    }

    async fn barrier(&self) -> Result<()> {
        self.inner.barrier().await
    }

    fn description(&self) -> String {
        "memory".to_owned()
    }
}

fn text(text: &'static str) -> Vec<Bytes> {
    text.as_bytes().chunks(2).map(Bytes::from_static).collect()
}

/// As patient as usual, but with next to no pauses.
fn quick(inner: Arc<Fated>) -> RetryStore {
    let policy = RetryPolicy {
        first_pause: Duration::from_micros(1),
        longest_pause: Duration::from_micros(10),
        patience: Duration::ZERO,
        ..RetryPolicy::default()
    };
    RetryStore::with_policy(inner, policy)
}

async fn put(store: &RetryStore, name: &str, body: &'static str) -> Result<Put> {
    store.put(name, text(body), Durability::Now).await
}

#[tokio::test]
async fn the_contract_is_kept() {
    let store = RetryStore::new(Arc::new(MemoryStore::new()));
    contract::check(Arc::new(store)).await;
}

#[tokio::test]
async fn what_passes_is_tried_ten_times() {
    let inner = Fated::new(&[Fate::Busy; 9]);
    let store = quick(inner.clone());
    assert_eq!(put(&store, "a", "text").await.unwrap(), Put::Created);
    assert_eq!(inner.calls(), 10);
    let inner = Fated::new(&[Fate::Busy; 20]);
    let store = quick(inner.clone());
    let error = put(&store, "a", "text").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(inner.calls(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_minute_is_waited_for_and_one_that_stays_away_is_not() {
    let inner = Fated::new(&[]);
    let store = RetryStore::new(inner.clone());
    put(&store, "a", "text").await.unwrap();
    for _ in 0..20 {
        let begun = Instant::now();
        *inner.away.lock().unwrap() = Some(begun + Duration::from_mins(1));
        assert_eq!(store.get("a").await.unwrap(), "text");
        assert!(
            begun.elapsed() < Duration::from_secs(75),
            "{:?}",
            begun.elapsed()
        );
    }
    let begun = Instant::now();
    *inner.away.lock().unwrap() = Some(begun + Duration::from_hours(1));
    let error = store.get("a").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let took = begun.elapsed();
    assert!(
        took > Duration::from_mins(1) && took < Duration::from_mins(2),
        "{took:?}"
    );
}

#[tokio::test]
async fn what_does_not_pass_is_tried_once() {
    let inner = Fated::new(&[Fate::Denied]);
    let store = quick(inner.clone());
    let error = put(&store, "a", "text").await.unwrap_err();
    assert!(error.is_permanent());
    assert!(store.get("none").await.unwrap_err().is_not_found());
    assert_eq!(inner.calls(), 2);
}

#[tokio::test]
async fn a_store_that_never_answered_is_given_up_sooner() {
    let inner = Fated::new(&[Fate::Refused; 20]);
    let store = quick(inner.clone());
    store.stat("a").await.unwrap_err();
    assert_eq!(inner.calls(), RetryPolicy::default().tries_unanswered);
    let mut fates = vec![Fate::Fine];
    fates.extend([Fate::Refused; 9]);
    let inner = Fated::new(&fates);
    let store = quick(inner.clone());
    for _ in 0..2 {
        store.stat("a").await.unwrap();
    }
    assert_eq!(inner.calls(), 11);
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_has_created_the_object() {
    for fates in [
        &[Fate::Lost][..],
        &[Fate::Lost, Fate::Lost],
        &[Fate::Busy, Fate::Lost, Fate::Busy],
        // What looks whether it is ours fails as well.
        &[Fate::Lost, Fate::Fine, Fate::Busy, Fate::Fine, Fate::Lost],
    ] {
        let store = quick(Fated::new(fates));
        assert_eq!(put(&store, "a", "text").await.unwrap(), Put::Created);
        assert_eq!(put(&store, "a", "text").await.unwrap(), Put::Exists);
        assert_eq!(store.get("a").await.unwrap(), "text");
    }
}

#[tokio::test]
async fn anothers_object_is_not_taken_for_ones_own() {
    for other in ["tex", "texd", "texts", ""] {
        let inner = Fated::new(&[Fate::Fine, Fate::Busy]);
        let store = quick(inner);
        put(&store, "a", other).await.unwrap();
        assert_eq!(put(&store, "a", "text").await.unwrap(), Put::Exists);
        assert_eq!(store.get("a").await.unwrap(), other);
    }
}

#[tokio::test]
async fn an_object_of_the_same_bytes_is_anothers_if_nothing_failed() {
    let store = RetryStore::new(Fated::new(&[]));
    put(&store, "a", "text").await.unwrap();
    assert_eq!(put(&store, "a", "text").await.unwrap(), Put::Exists);
}

#[tokio::test]
async fn time_limits_grow_with_the_bytes_and_with_slowness() {
    let store = RetryStore::new(Fated::new(&[]));
    assert_eq!(store.limit(0), Duration::from_secs(30));
    assert_eq!(store.limit(16 << 20), Duration::from_secs(31));
    put(&store, "a", "text").await.unwrap();
    assert_eq!(store.limit(16 << 20), Duration::from_secs(46));
    let impatient = |fates: &[Fate]| {
        let policy = RetryPolicy {
            first_pause: Duration::from_micros(1),
            longest_pause: Duration::from_micros(1),
            patience: Duration::ZERO,
            answer_within: Duration::from_millis(5),
            ..RetryPolicy::default()
        };
        RetryStore::with_policy(Fated::new(fates), policy)
    };
    let store = impatient(&[Fate::Hangs, Fate::Hangs]);
    assert_eq!(put(&store, "a", "text").await.unwrap(), Put::Created);
    assert!(store.limit(0) >= Duration::from_millis(20));
    let mut fates = vec![Fate::Fine];
    fates.extend([Fate::Hangs; 10]);
    let hanging = impatient(&fates);
    hanging.stat("a").await.unwrap();
    let error = hanging.stat("a").await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("no answer within 0 s"), "{cause}");
    assert_eq!(hanging.limit(0), Duration::from_millis(160));
    let mute = impatient(&[Fate::Hangs; 10]);
    mute.stat("a").await.unwrap_err();
    assert_eq!(
        mute.limit(0),
        Duration::from_millis(40),
        "after three tries"
    );
}

#[test]
fn pauses_double_up_to_a_limit_and_are_random() {
    let store = RetryStore::new(Fated::new(&[]));
    let most = |tries| (0..200).map(|_| store.pause(tries)).max().unwrap();
    for (tries, limit) in [(1, 100), (2, 200), (5, 1600), (8, 10_000), (100, 10_000)] {
        let limit = Duration::from_millis(limit);
        assert!(most(tries) <= limit && most(tries) > limit / 2, "{tries}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_asks_no_more() {
    let inner = Fated::new(&[Fate::Busy; 20]);
    let store = RetryStore::new(inner.clone());
    let call = tokio::time::timeout(Duration::from_millis(1), store.get("a"));
    assert!(call.await.is_err());
    assert!(inner.calls() < 10);
    assert_eq!(Arc::strong_count(&inner), 2, "nobody else holds it");
}
