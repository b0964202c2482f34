//! A store in memory behind a bad network: requests take their time, overtake each other, get lost, have
//! their answers lost, and come twice. What it answers is always true of some moment during the call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, oneshot};

use super::{chance::Chance, system::spawn, watch::Watch};
use crate::{
    clock::sleep,
    error::{Error, Result},
    store::{Durability, ObjectInfo, ObjectStore, Put},
};

/// How bad the network is, each as a share of 1000 requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// Lost on the way: no effect.
    pub(super) lost: u64,
    /// The answer is lost.
    pub(super) unanswered: u64,
    /// The caller's patience ends first, the request arrives later.
    pub(super) overtaken: u64,
    /// Below the caller it was sent twice at once, and the second answer is what the caller sees.
    pub(super) retried: u64,
    /// The request comes again, at any time later.
    pub(super) doubled: u64,
    /// Takes much longer than others.
    pub(super) slow: u64,
}

/// The longest that a request is on its way.
pub(super) const LONGEST: Duration = Duration::from_secs(20);

/// The objects, and who watches them.
pub(super) struct Objects {
    pub(super) map: BTreeMap<String, Bytes>,
    pub(super) watch: Watch,
    pub(super) weather: Weather,
    chance: Chance,
}

impl Objects {
    fn effect(&mut self, change: &Change) -> Outcome {
        match change {
            Change::Put(name, bytes) => {
                if self.map.contains_key(name) {
                    return Outcome::Exists;
                }
                self.map.insert(name.clone(), bytes.clone());
                self.watch.after_put(&self.map, name, bytes);
                Outcome::Created
            }
            Change::Delete(name) => {
                if self.map.remove(name).is_some() {
                    self.watch.after_delete(&self.map, name);
                }
                Outcome::Deleted
            }
        }
    }
}

/// All that is stored, shared by all processes.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Objects>>);

impl Shared {
    pub(super) fn new(watch: Watch, weather: Weather, chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(Objects {
            map: BTreeMap::new(),
            watch,
            weather,
            chance,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone)]
enum Change {
    Put(String, Bytes),
    Delete(String),
}

enum Outcome {
    Created,
    Exists,
    Deleted,
}

/// What becomes of a request.
struct Fate {
    before: Duration,
    after: Duration,
    kind: FateKind,
    /// When it comes again.
    again: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FateKind {
    Fine,
    Lost,
    Unanswered,
    Overtaken,
    Retried,
}

/// The store as one process sees it.
pub(super) struct SimStore {
    shared: Shared,
    /// Calls that the process still makes before it dies.
    left: Mutex<Option<u64>>,
    /// Told when the process dies.
    pub(super) death: Notify,
}

impl SimStore {
    /// For a new process.
    pub(super) fn new(shared: Shared) -> Arc<Self> {
        Arc::new(Self {
            shared,
            left: Mutex::new(None),
            death: Notify::new(),
        })
    }

    /// Lets the process die at the `calls`th call from now on, or not.
    pub(super) fn dies_after(&self, calls: Option<u64>) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = calls;
    }

    fn fate(&self) -> Fate {
        let mut objects = self.shared.lock();
        let weather = objects.weather;
        let chance = &mut objects.chance;
        let mut delay = || {
            let most = if chance.permille(weather.slow) {
                3000
            } else if chance.permille(100) {
                100
            } else {
                6
            };
            Duration::from_millis(chance.below(most))
        };
        let (before, after) = (delay(), delay());
        let draw = chance.below(1000);
        let fates = [
            (FateKind::Lost, weather.lost),
            (FateKind::Unanswered, weather.unanswered),
            (FateKind::Overtaken, weather.overtaken),
            (FateKind::Retried, weather.retried),
        ];
        let mut end = 0;
        let kind = fates.into_iter().find_map(|(kind, share)| {
            end += share;
            (draw < end).then_some(kind)
        });
        let kind = kind.unwrap_or(FateKind::Fine);
        let longest = LONGEST.as_millis() as u64;
        let again = chance
            .permille(weather.doubled)
            .then(|| Duration::from_millis(chance.below(longest)));
        Fate {
            before,
            after,
            kind,
            again,
        }
    }

    /// Counts a call. True if the process dies before its answer.
    fn dies(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *left {
            Some(0) => true,
            Some(n) => {
                *n -= 1;
                *n == 0
            }
            None => false,
        }
    }

    /// Never comes back: the process is dropped while it waits.
    async fn die(&self) {
        self.death.notify_one();
        std::future::pending::<()>().await;
    }

    fn failure(&self, action: &'static str, name: &str) -> Error {
        Error::Store {
            action,
            name: name.to_owned(),
            store: self.description(),
            source: std::io::Error::other("simulated failure"),
        }
    }

    /// A request that changes something: once sent it goes its way, whatever becomes of its sender.
    async fn change(&self, action: &'static str, name: &str, change: Change) -> Result<Outcome> {
        let fate = self.fate();
        let dies = self.dies();
        if let Some(again) = fate.again.filter(|_| fate.kind != FateKind::Lost) {
            let (shared, change) = (self.shared.clone(), change.clone());
            spawn(async move {
                sleep(fate.before + again).await;
                shared.lock().effect(&change);
            });
        }
        let late = match fate.kind {
            FateKind::Lost => None,
            FateKind::Overtaken => Some(fate.before + fate.after + Duration::from_millis(40)),
            FateKind::Fine | FateKind::Unanswered | FateKind::Retried => Some(fate.before),
        };
        let (sender, receiver) = oneshot::channel();
        if let Some(late) = late {
            let shared = self.shared.clone();
            spawn(async move {
                sleep(late).await;
                let outcome = shared.lock().effect(&change);
                // The sender may be gone.
                let _ = sender.send(outcome);
            });
        }
        if dies {
            self.die().await;
        }
        let outcome = match fate.kind {
            FateKind::Lost => {
                sleep(fate.before).await;
                None
            }
            FateKind::Overtaken => {
                sleep(fate.before + fate.after).await;
                None
            }
            FateKind::Fine => receiver.await.ok(),
            FateKind::Retried => receiver.await.ok().map(|outcome| match outcome {
                Outcome::Created => Outcome::Exists,
                other => other,
            }),
            FateKind::Unanswered => receiver.await.ok().and(None),
        };
        if outcome.is_some() {
            sleep(fate.after).await;
        }
        outcome.ok_or_else(|| self.failure(action, name))
    }

    /// A request that reads.
    async fn ask<T>(
        &self,
        action: &'static str,
        name: &str,
        look: impl FnOnce(&BTreeMap<String, Bytes>) -> T + Send,
    ) -> Result<T> {
        let fate = self.fate();
        if self.dies() {
            self.die().await;
        }
        sleep(fate.before).await;
        let found = look(&self.shared.lock().map);
        sleep(fate.after).await;
        if matches!(fate.kind, FateKind::Fine | FateKind::Retried) {
            Ok(found)
        } else {
            Err(self.failure(action, name))
        }
    }

    fn missing(&self, name: &str) -> Error {
        Error::NotFound {
            name: name.to_owned(),
            store: self.description(),
        }
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>, _durability: Durability) -> Result<Put> {
        let mut whole = BytesMut::new();
        for part in &parts {
            whole.extend_from_slice(part);
        }
        let change = Change::Put(name.to_owned(), whole.freeze());
        match self.change("write", name, change).await? {
            Outcome::Created => Ok(Put::Created),
            Outcome::Exists | Outcome::Deleted => Ok(Put::Exists),
        }
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let found = self.ask("read", name, |map| map.get(name).cloned()).await?;
        found.ok_or_else(|| self.missing(name))
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        let found = self.ask("read", name, |map| map.get(name).cloned()).await?;
        let whole = found.ok_or_else(|| self.missing(name))?;
        let (begin, end) = (offset as usize, (offset + len) as usize);
        if end > whole.len() {
            return Err(Error::damaged(name, "it is shorter than was wanted"));
        }
        Ok(whole.slice(begin..end))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.ask("list", prefix, |map| {
            let from = map.range(prefix.to_owned()..);
            let found = from.take_while(|(name, _)| name.starts_with(prefix));
            found
                .map(|(name, bytes)| ObjectInfo {
                    name: name.clone(),
                    size: bytes.len() as u64,
                })
                .collect()
        })
        .await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        let size = self
            .ask("stat", name, |map| map.get(name).map(Bytes::len))
            .await?;
        Ok(size.map(|size| ObjectInfo {
            name: name.to_owned(),
            size: size as u64,
        }))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let change = Change::Delete(name.to_owned());
        self.change("delete", name, change).await.map(drop)
    }

    async fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn description(&self) -> String {
        "simulation".to_owned()
    }
}
