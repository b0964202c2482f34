//! A repository that is open with its keys.

mod adopt;
mod artifact;
mod browser;
mod committer;
mod forget;
mod key_objects;
mod lookup;
mod rotate;
mod segments;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex as StdMutex, OnceLock, RwLock},
};

use bytes::Bytes;
use orlop_core::{Lineage, SnapshotId, VolumeRef};
use tokio::sync::{Mutex, MutexGuard};

pub use key_objects::KeyInfo;
pub use rotate::{RotateOptions, RotateReport};

use adopt::Adoption;
use key_objects::OpenedBy;
use segments::IndexState;

use crate::{
    clock::now_ms,
    config::{self, ChunkProfile, Config, Feature},
    error::{Error, Result},
    keys::{KeyRing, Unlock, WrappedKey},
    log::{self, Appender},
    order::Order,
    protocol::{Body, CommitBody, LogState},
    secret::{Key, hex, random_bytes},
    session::SessionId,
    snapshot::{self, OpenedSnapshot},
    store::{CachedStore, Capabilities, Durability, ObjectStore, Put},
};

/// How a new repository is laid out.
#[derive(Debug, Clone, Copy)]
pub struct InitOptions {
    /// Sizes of chunks.
    pub chunks: ChunkProfile,
    /// Size at which a pack is closed, in bytes.
    pub pack_bytes: u32,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            chunks: ChunkProfile::GENERAL,
            pack_bytes: 16 << 20,
        }
    }
}

/// An open repository. Any number of processes may have it open, and write to it, at once.
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    config: Config,
    pub(crate) keys: KeyRing,
    state: Mutex<LogState>,
    index: RwLock<IndexState>,
    order: OnceLock<Order>,
    /// What open sessions have taken over from earlier ones.
    adopted: StdMutex<HashMap<SessionId, Arc<Adoption>>>,
    /// What it was opened with, so that it can be opened again after a rotation by somebody else.
    opened_by: StdMutex<Option<OpenedBy>>,
}

/// The bit that marks sessions of readers that are not in the log.
const UNLOGGED: u64 = 1 << 63;

impl Repository {
    /// Makes a repository in an empty store and opens it.
    ///
    /// # Errors
    /// There is one already, the store holds other things, or it failed.
    pub async fn init(
        store: Arc<dyn ObjectStore>,
        unlock: &Unlock,
        options: InitOptions,
    ) -> Result<Arc<Self>> {
        let place = store.description();
        if store.stat(config::NAME).await?.is_some() {
            return Err(Error::RepositoryExists { store: place });
        }
        if store.list("").await?.iter().any(|object| {
            !["keys/", "probe/"]
                .iter()
                .any(|p| object.name.starts_with(p))
        }) {
            return Err(Error::NotEmpty { store: place });
        }
        let capabilities = store.probe().await?;
        if let Some(found) = capabilities {
            store.set_capabilities(found);
        }
        let chunks = options.chunks.validate()?;
        let root = Key::random()?;
        let keys = KeyRing::new(root.clone());
        let config = Config {
            format: config::FORMAT,
            id: random_bytes::<16>()?.to_vec(),
            created_ms: now_ms(),
            read_public_key: keys.first_public().to_vec(),
            suite: 1,
            chunk_min: chunks.min,
            chunk_avg: chunks.avg,
            chunk_max: chunks.max,
            pack_bytes: options.pack_bytes,
            capabilities: capabilities.map(Into::into),
            ..Config::default()
        };
        let given = unlock.clone();
        let wrap = move || WrappedKey::wrap(&[root], &given, "", now_ms());
        let (name, wrapped) = blocking(wrap).await?;
        // The key first: a configuration without a key would be a repository that nobody can open.
        store
            .put(&name, vec![wrapped.into()], Durability::Now)
            .await?;
        let signed = config.encode_signed(&keys.mac());
        match store
            .put(config::NAME, vec![signed.into()], Durability::Now)
            .await?
        {
            Put::Created => {
                let repository = Self::assemble(store, config, keys);
                repository.note_opened(&name, unlock);
                Ok(repository)
            }
            Put::Exists => {
                store.delete(&name).await?;
                Err(Error::RepositoryExists { store: place })
            }
        }
    }

    /// Opens a repository and reads its log and index.
    ///
    /// # Errors
    /// There is none, `unlock` does not open it, it is of a newer format, or it is damaged.
    pub async fn open(store: Arc<dyn ObjectStore>, unlock: &Unlock) -> Result<Arc<Self>> {
        Self::open_cached(store, unlock, None).await
    }

    /// Opens a repository with copies of its metadata below `cache`, which may be shared by repositories.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::RolledBack`].
    pub async fn open_cached(
        mut store: Arc<dyn ObjectStore>,
        unlock: &Unlock,
        cache: Option<&Path>,
    ) -> Result<Arc<Self>> {
        let place = store.description();
        let bytes = match store.get(config::NAME).await {
            Err(e) if e.is_not_found() => return Err(Error::NoRepository { store: place }),
            other => other?,
        };
        let config = Config::decode_unverified(&bytes, &place)?;
        let cache = cache.map(|root| root.join(hex(&config.id)));
        if let Some(directory) = &cache {
            store = Arc::new(CachedStore::new(store, directory.clone()));
        }
        let objects = key_objects::read(&*store).await?;
        let mut failed = None;
        for object in &objects {
            let roots = match object.unwrap(unlock).await {
                Ok(Some(roots)) => roots,
                Ok(None) => continue,
                // One damaged key must not hide another that opens.
                Err(error) if objects.len() > 1 => {
                    tracing::warn!(%error, "a key cannot be used");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let keys = KeyRing::with_roots(roots);
            // A key of an init that was cut short opens with the same password and fits nothing.
            if let Err(error) = Config::verify(&bytes, &keys.mac()) {
                failed.get_or_insert(error);
                continue;
            }
            if config.read_public_key != keys.first_public() {
                return Err(Error::damaged(
                    config::NAME,
                    "its public key belongs to another repository",
                ));
            }
            store.set_capabilities(config.capabilities());
            let repository = Self::assemble(Arc::clone(&store), config.clone(), keys);
            repository.note_opened(&object.name, unlock);
            match repository.refresh().await {
                // A key of before a rotation, or of one that came too late: there may be a newer one.
                Err(error @ Error::LeftBehind { .. }) => {
                    failed = Some(error);
                    continue;
                }
                other => other?,
            }
            match cache {
                Some(cache) => repository.prove_cache(&cache).await?,
                None => repository.prove_no_gap().await?,
            }
            return Ok(repository);
        }
        Err(failed.unwrap_or(Error::WrongKey {
            what: unlock.what(),
            keys: objects.len(),
            store: place,
        }))
    }

    /// Proves that the log in the store is the one of which copies were read, and no shorter.
    async fn prove_cache(&self, cache: &Path) -> Result<()> {
        let state = self.state.lock().await;
        if state.next == 1 {
            return Ok(());
        }
        let name = log::object_name(state.next - 1);
        let same = match self.store.get_fresh(&name).await {
            Ok(bytes) => blake3::hash(&bytes).as_bytes().as_slice() == state.last_hash,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error),
        };
        if same {
            Ok(())
        } else {
            Err(Error::RolledBack {
                name,
                store: self.store.description(),
                cache: cache.display().to_string(),
            })
        }
    }

    /// Proves that the log does not go on behind its end: an entry that is missing must not be written anew.
    async fn prove_no_gap(&self) -> Result<()> {
        let end = self.state.lock().await.next;
        match self.store.get(&log::object_name(end + 1)).await {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            // It may have been appended just now.
            Ok(_) => {
                self.refresh().await?;
                if self.state.lock().await.next > end {
                    return Ok(());
                }
                Err(Error::damaged(
                    log::object_name(end),
                    "it is missing, and there are entries behind it",
                ))
            }
        }
    }

    pub(crate) fn assemble(
        store: Arc<dyn ObjectStore>,
        config: Config,
        keys: KeyRing,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            config,
            keys,
            state: Mutex::new(LogState::new()),
            index: RwLock::default(),
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
        log::replay(&*self.store, &self.keys.mac(), &mut state).await?;
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
        };
        appender.append(state, now_ms(), make).await
    }
}

/// Runs what takes long without waiting, such as stretching a passphrase.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::System {
            action: "run a blocking step",
            source: std::io::Error::other(e),
        })?
}
