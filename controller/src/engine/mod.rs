//! The loop of each kind: it watches the objects, and looks at each that has changed, fails, or is due.

mod known;
mod queue;

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use orlop_kubernetes::client::{
    Change, ClientError, Connection, ObjectKind, Objects, UnreadableObject,
};
use serde_json::Value;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub(crate) use known::Known;
use queue::{Ended, Queue};

use crate::{error::Trouble, names};

/// Every object is looked at so often, whatever happened to it.
const RESYNC: Duration = Duration::from_mins(1);
/// Objects of one kind that are looked at at the same time.
const WORKERS: usize = 4;

/// When to look at an object again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// When it changes, or at the next general look.
    Done,
    /// After this, if nothing happens before.
    After(Duration),
}

/// What looks after one kind of object. It may be stopped wherever it waits, and is called again then.
pub(crate) trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Object: ObjectKind;

    /// Whether a look at the object may find something to do.
    fn concerns(&self, object: &Self::Object) -> bool;

    /// Does what is to be done about the object of this name; `None` if it is gone.
    fn reconcile(
        &self,
        name: &str,
        object: Option<Self::Object>,
    ) -> impl Future<Output = Result<Next, Trouble>> + Send;

    /// Hears of a change at once, before anything is done about it.
    fn noticed(&self, _object: &Self::Object) {}

    /// What to write into an object that cannot be read.
    fn verdict(&self, _object: &UnreadableObject) -> Option<Value> {
        None
    }
}

/// The objects of one kind in our namespace: those that are known, the way to change them, and which are to be
/// looked at. Clones share it.
pub(crate) struct Kept<K> {
    objects: Objects<K>,
    known: Known<K>,
    queue: Arc<Mutex<Queue>>,
    asked: Arc<Notify>,
}

impl<K> Clone for Kept<K> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            known: self.known.clone(),
            queue: Arc::clone(&self.queue),
            asked: Arc::clone(&self.asked),
        }
    }
}

impl<K: ObjectKind> Kept<K> {
    /// The kind; each object is looked at no more often than once in a `gap`.
    pub(crate) fn new(connection: &Connection, gap: Duration) -> Self {
        Self {
            objects: Objects::of(connection, Some(connection.namespace())),
            known: Known::default(),
            queue: Arc::new(Mutex::new(Queue::new(gap))),
            asked: Arc::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a look at the object of this name.
    pub(crate) fn look_at(&self, name: &str) {
        self.queue().add(name, Instant::now());
        self.asked.notify_one();
    }

    /// All that are known; `None` as long as they were never listed.
    pub(crate) fn all(&self) -> Option<Vec<Arc<K>>> {
        self.known.all()
    }

    /// One, as it was last seen.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<K>> {
        self.known.get(name)
    }

    /// One, as it is now. What is no object's name names none.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<K>, ClientError> {
        if !names::is_name(name) {
            return Ok(None);
        }
        self.objects.get(name).await
    }

    /// Those whose labels match, as they are now.
    pub(crate) async fn list(&self, selector: &str) -> Result<Vec<K>, ClientError> {
        self.objects.list(selector).await
    }

    /// Makes one. False if there is one of that name already.
    pub(crate) async fn create(&self, object: &K) -> Result<bool, ClientError> {
        match self.objects.create(object).await {
            Ok(made) => {
                self.known.answered(made);
                Ok(true)
            }
            Err(ClientError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes one, and returns what became of it; `None` if it is gone.
    pub(crate) async fn patch(&self, name: &str, patch: &Value) -> Result<Option<K>, ClientError> {
        match self.objects.merge_patch(name, patch).await {
            Ok(changed) => {
                self.known.answered(changed.clone());
                Ok(Some(changed))
            }
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes one; with `uid`, only if it is still the same.
    pub(crate) async fn delete(&self, name: &str, uid: Option<&str>) -> Result<(), ClientError> {
        self.objects.delete(name, uid).await?;
        Ok(())
    }
}

/// Looks after one kind until `cancel`.
pub(crate) async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    kept: Kept<R::Object>,
    cancel: CancellationToken,
) {
    let mut changes = pin!(kept.objects.watch(""));
    let mut resync = interval(RESYNC);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = JoinSet::new();
    loop {
        while work.len() < WORKERS
            && let Some(name) = kept.take()
        {
            work.spawn(look(Arc::clone(&reconciler), kept.clone(), name));
        }
        let due = kept.queue().next().filter(|_| work.len() < WORKERS);
        tokio::select! {
            () = cancel.cancelled() => break,
            change = changes.next() => {
                if let Some(change) = change {
                    note(&*reconciler, &kept, change).await;
                }
            }
            Some(ended) = work.join_next() => {
                // A look that panics has found that the program is wrong.
                if let Err(error) = ended
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
            _ = resync.tick() => {
                for name in kept.known.names() {
                    kept.queue().add(&name, Instant::now());
                }
            }
            () = kept.asked.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
    work.shutdown().await;
}

impl<K: ObjectKind> Kept<K> {
    fn take(&self) -> Option<String> {
        self.queue().take(Instant::now())
    }
}

async fn note<R: Reconciler>(reconciler: &R, kept: &Kept<R::Object>, change: Change<R::Object>) {
    let now = Instant::now();
    match change {
        Change::Listed(objects) => {
            for name in kept.known.list(objects) {
                kept.queue().add(&name, now);
            }
        }
        Change::Applied(object) => {
            reconciler.noticed(&object);
            let name = known::name_of(&object);
            kept.known.put(object);
            kept.queue().add(&name, now);
        }
        Change::Deleted(object) => {
            reconciler.noticed(&object);
            let name = known::name_of(&object);
            kept.known.bury(&object);
            kept.queue().add(&name, now);
        }
        Change::Unreadable(object) => {
            kept.known.remove(&object.name);
            tracing::warn!(
                kind = kind::<R>(),
                name = object.name,
                reason = object.message,
                "an object cannot be read"
            );
            if let Some(verdict) = reconciler.verdict(&object) {
                // The answer cannot be read either.
                let _ = kept.objects.merge_patch(&object.name, &verdict).await;
            }
        }
        Change::Failed(error) => {
            tracing::warn!(kind = kind::<R>(), error = %error, "a watch waits");
        }
    }
}

async fn look<R: Reconciler>(reconciler: Arc<R>, kept: Kept<R::Object>, name: String) {
    let ended = match attempt(&*reconciler, &kept, &name).await {
        Ok(Next::Done) => Ended::Done,
        Ok(Next::After(wait)) => Ended::After(wait),
        Err(trouble) => {
            if trouble.is_ordinary() {
                tracing::info!(kind = kind::<R>(), name, reason = %trouble, "tried again later");
            } else {
                tracing::warn!(kind = kind::<R>(), name, reason = %trouble, "cannot be done now");
            }
            Ended::Failed {
                jitter: rand::random(),
            }
        }
    };
    kept.queue().finish(&name, ended, Instant::now());
}

async fn attempt<R: Reconciler>(
    reconciler: &R,
    kept: &Kept<R::Object>,
    name: &str,
) -> Result<Next, Trouble> {
    if kept
        .known(name)
        .is_some_and(|known| !reconciler.concerns(&known))
    {
        return Ok(Next::Done);
    }
    let object = kept.get(name).await?;
    reconciler.reconcile(name, object).await
}

fn kind<R: Reconciler>() -> String {
    kind_of::<R::Object>()
}

fn kind_of<K: ObjectKind>() -> String {
    K::kind(&()).into_owned()
}
