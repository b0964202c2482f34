//! A repository that is open with its keys.

mod adopt;
mod artifact;
mod browser;
mod committer;
mod forget;
mod key_objects;
mod lookup;
mod open;
mod rotate;
mod segments;
mod tables;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, OnceLock, RwLock, atomic::AtomicBool},
};

use bytes::Bytes;
use orlop_core::{Lineage, SnapshotId, VolumeRef};
use tokio::sync::{Mutex, MutexGuard};

pub use key_objects::KeyInfo;
pub use open::InitOptions;
pub use rotate::{RotateOptions, RotateReport};

use adopt::Adoption;
use key_objects::OpenedBy;
use tables::Making;

use crate::{
    clock::now_ms,
    config::{self, Config, Feature},
    error::{Error, Result},
    index::IndexState,
    keys::KeyRing,
    log::{self, Appender, LogSeen},
    order::Order,
    protocol::{Body, CommitBody, LogState},
    secret::hex,
    session::SessionId,
    snapshot::{self, OpenedSnapshot},
    store::{Capabilities, ObjectStore},
};

/// An open repository. Any number of processes may have it open, and write to it, at once.
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    config: Config,
    pub(crate) keys: KeyRing,
    state: Mutex<LogState>,
    log_seen: LogSeen,
    index: RwLock<IndexState>,
    /// The index that takes its place once it knows all that the log names; written while the log is locked.
    next_index: RwLock<Option<IndexState>>,
    /// A table of the index that is being made.
    making: Mutex<Option<Making>>,
    /// Whether tables are merged beside what it is used for.
    stays_open: AtomicBool,
    order: OnceLock<Order>,
    /// What open sessions have taken over from earlier ones.
    adopted: StdMutex<HashMap<SessionId, Arc<Adoption>>>,
    /// What it was opened with, so that it can be opened again after a rotation by somebody else.
    opened_by: StdMutex<Option<OpenedBy>>,
}

/// The bit that marks sessions of readers that are not in the log.
pub(crate) const UNLOGGED: u64 = 1 << 63;

impl Repository {
    pub(crate) fn assemble(
        store: Arc<dyn ObjectStore>,
        config: Config,
        keys: KeyRing,
    ) -> Arc<Self> {
        let index = segments::begin_index(&keys, None);
        Arc::new(Self {
            store,
            config,
            keys,
            state: Mutex::new(LogState::new()),
            log_seen: LogSeen::default(),
            index: RwLock::new(index),
            next_index: RwLock::new(None),
            making: Mutex::new(None),
            stays_open: AtomicBool::new(false),
            order: OnceLock::new(),
            adopted: StdMutex::default(),
            opened_by: StdMutex::default(),
        })
    }

    /// Says how what this process writes comes into one order with what others write. It counts from the
    /// first call on; without one the store must make the order.
    pub fn set_order(&self, order: Order) {
        if self.order.set(order).is_err() {
            tracing::debug!("the order of the log is set already");
        }
    }

    /// Reads what other writers have added.
    ///
    /// # Errors
    /// The log or a segment cannot be read.
    pub async fn refresh(&self) -> Result<()> {
        self.newest_state().await.map(drop)
    }

    /// The state of the log, locked, as far as it was read; it is read if it never was.
    pub(crate) async fn known_state(&self) -> Result<MutexGuard<'_, LogState>> {
        let state = self.state.lock().await;
        if state.next > 1 {
            return Ok(state);
        }
        drop(state);
        self.newest_state().await
    }

    /// The state of the log, locked, after it was read to its end and the index with it.
    pub(crate) async fn newest_state(&self) -> Result<MutexGuard<'_, LogState>> {
        let mut state = self.state.lock().await;
        let known = state.next;
        log::replay(&*self.store, &self.keys.mac(), &mut state).await?;
        if state.next > known {
            self.log_seen.now();
        }
        self.catch_up(&mut state).await?;
        Ok(state)
    }

    /// Brings keys and index up to the log.
    async fn catch_up(&self, state: &mut LogState) -> Result<()> {
        self.follow_keys(state).await?;
        self.load_segments(state).await
    }

    pub(crate) async fn log_state(&self) -> LogState {
        self.state.lock().await.clone()
    }

    /// Whether `store` holds a repository.
    ///
    /// # Errors
    /// The store failed.
    pub async fn exists(store: &dyn ObjectStore) -> Result<bool> {
        Ok(store.stat(config::NAME).await?.is_some())
    }

    /// The random id of the repository in hexadecimal.
    pub fn id(&self) -> String {
        hex(&self.config.id)
    }

    /// The same as bytes.
    pub(crate) fn id_bytes(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&self.config.id);
        id
    }

    /// The format of the repository.
    pub fn format(&self) -> u32 {
        self.config.format
    }

    /// Size at which a pack is closed, in bytes.
    pub(crate) fn pack_bytes(&self) -> usize {
        self.config.pack_bytes as usize
    }

    /// What the store was seen to do when the repository was made.
    pub fn capabilities(&self) -> Capabilities {
        self.config.capabilities()
    }

    /// Whether of several that create one object at once exactly one wins. Without that, only one
    /// process at a time may write.
    pub fn conditional_create(&self) -> bool {
        self.capabilities().conditional_create
    }

    /// The store it is in.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// An object that the log names.
    pub(crate) async fn named_by_log(&self, name: &str) -> Result<Bytes> {
        match self.store.get(name).await {
            Err(e) if e.is_not_found() => Err(Error::damaged(
                name,
                "the log names it but it does not exist",
            )),
            other => other,
        }
    }

    /// As [`Self::named_by_log`], from the store itself also where there is a copy.
    pub(crate) async fn proven_by_log(&self, name: &str) -> Result<Bytes> {
        match self.store.get_fresh(name).await {
            Err(e) if e.is_not_found() => Err(Error::damaged(
                name,
                "the log names it but it does not exist",
            )),
            other => other,
        }
    }

    pub(crate) async fn open_snapshot(&self, name: &str) -> Result<OpenedSnapshot> {
        match self.named_by_log(name).await {
            Ok(bytes) => snapshot::decode(&self.keys, name, &bytes),
            // Another object may have taken its place, and a collection may have removed it.
            Err(error @ Error::Damaged { .. }) => {
                let now = {
                    let state = self.newest_state().await?;
                    let mut needed = state.needed();
                    let same = |commit: &&CommitBody| {
                        commit.snapshot != name
                            && snapshot::id_of(&commit.snapshot) == snapshot::id_of(name)
                    };
                    needed.find(same).map(|commit| commit.snapshot.clone())
                };
                let now = now.ok_or(error)?;
                let bytes = self.named_by_log(&now).await?;
                snapshot::decode(&self.keys, &now, &bytes)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn open_by_id(&self, id: SnapshotId) -> Result<OpenedSnapshot> {
        let name = {
            let state = self.newest_state().await?;
            self.named(&state, id)?
        };
        self.open_snapshot(&name).await
    }

    /// Domain and lineage as they appear in object names.
    fn pseudonyms(&self, volume: &VolumeRef, lineage: &Lineage) -> String {
        let domain = self.keys.pseudonym("domain", &volume.namespace);
        format!("{domain}/{}", self.keys.pseudonym("lineage", &lineage.0))
    }

    /// Proves that this program has the features that the repository asks for.
    ///
    /// # Errors
    /// [`Error::UnknownFeature`].
    pub(crate) fn prove_feature(&self, feature: Feature) -> Result<()> {
        feature.prove(&self.config, &self.store.description())
    }

    /// Appends an entry to the log, see [`Appender::append`].
    pub(crate) async fn append(
        &self,
        state: &mut LogState,
        make: impl FnMut(&LogState) -> Result<Option<Body>> + Send,
    ) -> Result<Option<u64>> {
        self.prove_feature(Feature::Write)?;
        let appender = Appender {
            store: &*self.store,
            mac_key: &self.keys.mac(),
            order: self.order.get().unwrap_or(&Order::Store),
            conditional: self.conditional_create(),
            stale: self.log_seen.is_stale(),
        };
        let appended = appender.append(state, now_ms(), make).await?;
        self.log_seen.now();
        Ok(appended)
    }
}

/// Runs what takes long without waiting, such as stretching a passphrase.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    // A simulation has no threads but its own.
    #[cfg(test)]
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::System {
            action: "run a blocking step",
            source: std::io::Error::other(e),
        })?
}
