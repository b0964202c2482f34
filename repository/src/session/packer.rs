//! Frames → packs → store, with a bound on what is in memory.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::WriteGrant;
use crate::{
    error::{Error, Result},
    frame::{Frame, FrameKind, Level},
    index::SegmentBuilder,
    pack::{FinishedPack, OpenPack, PackClass},
    secret::Key,
    store::{Durability, ObjectStore, Put},
    throttle::Throttle,
};

/// Records after which an index segment is stored.
const SEGMENT_RECORDS: usize = 256 << 10;
/// Index of the open pack that takes a kind of frame.
const SLOTS: usize = 4;

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    pub(crate) objects: u64,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    /// How fast may be sent.
    limit: Option<Arc<Throttle>>,
    session: u64,
    session_key: Key,
    bytes: AtomicU64,
    objects: AtomicU64,
    /// Of packs that are stored.
    records: Mutex<SegmentBuilder>,
    /// Segments that could not be stored yet; held by who stores segments.
    unsent: tokio::sync::Mutex<Vec<(String, Bytes)>>,
    /// Segments that are stored and that no commit has named.
    segments: Mutex<Vec<String>>,
    failure: Mutex<Option<Error>>,
}

/// Fills packs and uploads them.
pub(crate) struct Packer {
    shared: Arc<Shared>,
    handle: Handle,
    cancel: CancellationToken,
    pack_bytes: usize,
    permits: Arc<Semaphore>,
    uploads: u32,
    open: [Mutex<Option<OpenPack>>; SLOTS],
    next_data: AtomicU64,
    packed: AtomicU64,
    /// Shared by those who add a frame, from when others take its chunk for stored until it is in a pack.
    adding: RwLock<()>,
}

/// Notes a failure when it is dropped armed.
struct Failing(Option<Arc<Shared>>);

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            lock(&shared.failure).get_or_insert_with(|| Error::System {
                action: "upload a pack",
                source: std::io::Error::other("the upload broke off"),
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Packer {
    /// A packer that has at most so many finished packs in memory, and sends no faster than that.
    pub(crate) fn new(
        grant: &WriteGrant,
        store: Arc<dyn ObjectStore>,
        handle: Handle,
        (uploads, limit): (u32, Option<Arc<Throttle>>),
        cancel: CancellationToken,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                limit,
                session: grant.session,
                session_key: grant.session_key.clone(),
                bytes: AtomicU64::new(0),
                objects: AtomicU64::new(0),
                records: Mutex::default(),
                unsent: tokio::sync::Mutex::default(),
                segments: Mutex::default(),
                failure: Mutex::default(),
            }),
            handle,
            cancel,
            pack_bytes: grant.pack_bytes as usize,
            permits: Arc::new(Semaphore::new(uploads as usize)),
            uploads,
            open: Default::default(),
            next_data: AtomicU64::new(0),
            packed: AtomicU64::new(0),
            adding: RwLock::default(),
        }
    }

    /// Adds a frame to an open pack, unless `claim` is false: then another thread was faster. Uploads the
    /// pack if that fills it. Blocks while too many packs are on their way.
    ///
    /// Who finds a chunk claimed may refer to it at once: [`Self::flush`] waits until it is in a pack.
    pub(crate) fn push(&self, frame: Frame, claim: impl FnOnce() -> bool) -> Result<bool> {
        self.check()?;
        let _adding = self.adding.read().unwrap_or_else(PoisonError::into_inner);
        if !claim() {
            return Ok(false);
        }
        self.packed
            .fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
        // Data goes to two packs in turn, so that a pack's frames do not show a file's chunk lengths
        // in order; the sidecar has packs of its own, so that the next incremental reads few ranges.
        let slot = match frame.kind {
            FrameKind::Data => (self.next_data.fetch_add(1, Ordering::Relaxed) % 2) as usize,
            FrameKind::Sidecar => 2,
            _ => 3,
        };
        let full = {
            let mut open = lock(&self.open[slot]);
            let class = PackClass::of(frame.kind);
            let pack = open.get_or_insert_with(|| OpenPack::new(class, self.shared.session));
            pack.push(frame);
            if pack.is_full(self.pack_bytes) {
                open.take()
            } else {
                None
            }
        };
        full.map_or(Ok(()), |pack| self.upload(pack)).map(|()| true)
    }

    /// The first failure of an upload, or the cancellation.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(error) = lock(&self.shared.failure).take() {
            self.cancel.cancel();
            return Err(error);
        }
        if self.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    fn upload(&self, pack: OpenPack) -> Result<()> {
        let permits = Arc::clone(&self.permits);
        let cancel = self.cancel.clone();
        let permit = self.handle.block_on(async move {
            tokio::select! {
                permit = permits.acquire_owned() => permit.map_err(|_| Error::Cancelled),
                () = cancel.cancelled() => Err(Error::Cancelled),
            }
        });
        let permit = match permit {
            Ok(permit) => permit,
            Err(error) => return Err(self.check().err().unwrap_or(error)),
        };
        let pack = pack.finish(&self.shared.session_key).inspect_err(|_| {
            // Its frames are lost: the session must not go on.
            self.cancel.cancel();
        })?;
        let (shared, cancel) = (Arc::clone(&self.shared), self.cancel.clone());
        self.handle.spawn(async move {
            // Should the upload panic, the session must not go on as if it had succeeded.
            let mut guard = Failing(Some(Arc::clone(&shared)));
            match shared.send(pack, &cancel).await {
                Ok(()) => guard.0 = None,
                Err(error) => {
                    guard.0 = None;
                    lock(&shared.failure).get_or_insert(error);
                }
            }
            drop(permit);
        });
        Ok(())
    }

    /// Uploads all that was added before and makes it durable, packs before index segments; returns the
    /// segments that no commit has named. Others may go on adding meanwhile.
    ///
    /// # Errors
    /// If an upload has failed the session is cancelled; after another error a later call does the rest.
    pub(crate) fn flush(&self) -> Result<Vec<String>> {
        // New packs may not be filled before there is room for them: memory stays what it was.
        let all = self.adding.write().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<OpenPack> = self.open.iter().filter_map(|o| lock(o).take()).collect();
        for pack in open.into_iter().filter(|pack| !pack.is_empty()) {
            self.upload(pack)?;
        }
        drop(all);
        self.join()?;
        self.check()?;
        let shared = Arc::clone(&self.shared);
        self.handle.block_on(async move {
            shared.flush_segments(1).await?;
            let segments = lock(&shared.segments).clone();
            shared.store.barrier().await?;
            Ok(segments)
        })
    }

    /// A commit has named these segments: the next one must not.
    pub(crate) fn committed(&self, segments: &[String]) {
        lock(&self.shared.segments).retain(|name| !segments.contains(name));
    }

    /// Whether an upload has failed, or the session was cancelled: nothing more can come of it.
    pub(crate) fn is_lost(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Bytes of the frames that were added.
    pub(crate) fn packed(&self) -> u64 {
        self.packed.load(Ordering::Relaxed)
    }

    /// Size at which a pack is closed, in bytes.
    pub(crate) fn pack_bytes(&self) -> u64 {
        self.pack_bytes as u64
    }

    /// How hard to compress: when packs wait for the store there is time for it.
    pub(crate) fn level(&self) -> Level {
        Level::of_queue(self.permits.available_permits())
    }

    /// Waits until no upload is on its way.
    pub(crate) fn join(&self) -> Result<()> {
        let (permits, uploads) = (Arc::clone(&self.permits), self.uploads);
        self.handle
            .block_on(async move { permits.acquire_many_owned(uploads).await.map(drop) })
            .map_err(|_| Error::Cancelled)
    }

    /// What was sent so far.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            objects: self.shared.objects.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    async fn send(&self, pack: FinishedPack, cancel: &CancellationToken) -> Result<()> {
        self.put(&pack.name, pack.parts, pack.len, cancel).await?;
        lock(&self.records).push(pack.name, &pack.table);
        if lock(&self.records).len() >= SEGMENT_RECORDS {
            self.flush_segments(SEGMENT_RECORDS).await?;
        }
        Ok(())
    }

    /// Stores a segment of what was recorded so far, if that is enough, and those that failed before.
    async fn flush_segments(&self, at_least: usize) -> Result<()> {
        let mut unsent = self.unsent.lock().await;
        {
            let mut records = lock(&self.records);
            if records.len() >= at_least {
                let (name, bytes) = records.finish(0, self.session, &self.session_key)?;
                unsent.push((name, bytes.into()));
            }
        }
        if unsent.is_empty() {
            return Ok(());
        }
        // A segment names packs, so they must be durable before it.
        self.store.barrier().await?;
        while let Some((name, bytes)) = unsent.last().cloned() {
            let len = bytes.len() as u64;
            self.put(&name, vec![bytes], len, &CancellationToken::new())
                .await?;
            lock(&self.segments).push(name);
            unsent.pop();
        }
        Ok(())
    }

    /// Stores an object, tries again on passing failures.
    async fn put(
        &self,
        name: &str,
        parts: Vec<Bytes>,
        len: u64,
        cancel: &CancellationToken,
    ) -> Result<()> {
        if let Some(limit) = &self.limit {
            limit.taken(len, cancel).await;
        }
        let mut tries = 0u32;
        loop {
            let attempt = tokio::select! {
                result = self.store.put(name, parts.clone(), Durability::Barrier) => result,
                () = cancel.cancelled() => return Err(Error::Cancelled),
            };
            match attempt {
                // Names hold the hash of their bytes: what exists is what was to be stored.
                Ok(Put::Created | Put::Exists) => {
                    self.bytes.fetch_add(len, Ordering::Relaxed);
                    self.objects.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) if error.is_permanent() || tries == 4 => return Err(error),
                Err(error) => {
                    tracing::warn!(name, attempt = tries, %error, "upload failed, trying again");
                    tokio::time::sleep(Duration::from_millis(50 << (2 * tries))).await;
                    tries += 1;
                }
            }
        }
    }
}
