//! A repository that is open with its keys.

mod committer;
mod lookup;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use orlop_core::{Lineage, VolumeRef};
use tokio::sync::Mutex;

use crate::{
    config::{self, ChunkProfile, Config},
    error::{Error, Result},
    index::{Index, Segment, SegmentBuilder},
    keys::{KeyRing, Unlock, WrappedKey},
    log::{self, Body, LogState},
    pack,
    secret::{Key, hex, random_bytes},
    snapshot::{self, OpenedSnapshot},
    store::{Durability, ObjectStore, Put},
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
}

#[derive(Default)]
struct IndexState {
    index: Index,
    /// Segments of the log that are in the index.
    loaded: usize,
}

/// The bit that tells sessions of readers, which are not in the log, from those of writers.
const READ_SESSION: u64 = 1 << 63;

pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

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
        if store
            .list("")
            .await?
            .iter()
            .any(|object| !object.name.starts_with("keys/"))
        {
            return Err(Error::NotEmpty { store: place });
        }
        let chunks = options.chunks.validate()?;
        let root = Key::random()?;
        let keys = KeyRing::new(root.clone());
        let config = Config {
            format: config::FORMAT,
            id: random_bytes::<16>()?.to_vec(),
            created_ms: now_ms(),
            read_public_key: keys.read_public().to_vec(),
            suite: 1,
            chunk_min: chunks.min,
            chunk_avg: chunks.avg,
            chunk_max: chunks.max,
            pack_bytes: options.pack_bytes,
            ..Config::default()
        };
        let unlock = unlock.clone();
        let (name, wrapped) = blocking(move || WrappedKey::wrap(&root, &unlock, now_ms())).await?;
        // The key first: a configuration without a key would be a repository that nobody can open.
        store
            .put(&name, vec![wrapped.into()], Durability::Now)
            .await?;
        let signed = config.encode_signed(&keys.mac());
        match store
            .put(config::NAME, vec![signed.into()], Durability::Now)
            .await?
        {
            Put::Created => Ok(Self::assemble(store, config, keys)),
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
        let place = store.description();
        let bytes = match store.get(config::NAME).await {
            Err(e) if e.is_not_found() => return Err(Error::NoRepository { store: place }),
            other => other?,
        };
        let config = Config::decode_unverified(&bytes, &place)?;
        let objects = store.list("keys/").await?;
        let mut opened_but_wrong = None;
        for object in &objects {
            let wrapped = store.get(&object.name).await?;
            let wrapped = WrappedKey::decode_named(&object.name, &wrapped);
            let (name, unlock) = (object.name.clone(), unlock.clone());
            let root = blocking(move || wrapped?.unwrap(&name, &unlock)).await;
            let root = match root {
                Ok(Some(root)) => root,
                Ok(None) => continue,
                // One damaged key must not hide another that opens.
                Err(error) if objects.len() > 1 => {
                    tracing::warn!(%error, "a key cannot be used");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let keys = KeyRing::new(root);
            // A key of an init that was cut short opens with the same password and fits nothing.
            if let Err(error) = Config::verify(&bytes, &keys.mac()) {
                opened_but_wrong.get_or_insert(error);
                continue;
            }
            if config.read_public_key != keys.read_public() {
                return Err(Error::damaged(
                    config::NAME,
                    "its public key belongs to another repository",
                ));
            }
            let repository = Self::assemble(store, config, keys);
            repository.refresh().await?;
            return Ok(repository);
        }
        Err(opened_but_wrong.unwrap_or(Error::WrongKey {
            what: unlock.what(),
            keys: objects.len(),
            store: place,
        }))
    }

    fn assemble(store: Arc<dyn ObjectStore>, config: Config, keys: KeyRing) -> Arc<Self> {
        Arc::new(Self {
            store,
            config,
            keys,
            state: Mutex::new(LogState::new()),
            index: RwLock::default(),
        })
    }

    /// Reads what other writers have added.
    ///
    /// # Errors
    /// The log or a segment cannot be read.
    pub async fn refresh(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        log::replay(&*self.store, &self.keys.mac(), &mut state).await?;
        self.load_segments(&state).await
    }

    async fn load_segments(&self, state: &LogState) -> Result<()> {
        loop {
            let loaded = self.read_index(|index| index.loaded);
            let Some(names) = state
                .segments
                .get(loaded..)
                .filter(|names| !names.is_empty())
            else {
                return Ok(());
            };
            let batch = &names[..names.len().min(16)];
            let segments = join_all(batch.iter().map(|name| self.read_segment(name))).await;
            for (name, segment) in batch.iter().zip(segments) {
                let packs = match segment {
                    Ok(segment) => {
                        self.write_index(|index| index.index.add(segment));
                        continue;
                    }
                    Err(Error::Damaged { name, reason }) => {
                        tracing::error!(
                            name,
                            reason,
                            "an index segment is lost: it is made again from its packs; run `orlop repo check`"
                        );
                        self.read_tables(pack::parse_name(&name)?.1).await?
                    }
                    Err(error) => return Err(error),
                };
                let mut again = SegmentBuilder::default();
                for (pack, table) in packs {
                    again.push(pack, &table);
                }
                tracing::info!(name, chunks = again.len(), "made the segment again");
                self.write_index(|index| index.index.add(again.into_segment()));
            }
        }
    }

    /// A segment that the log names.
    pub(crate) async fn read_segment(&self, name: &str) -> Result<Segment> {
        let bytes = match self.store.get(name).await {
            Err(e) if e.is_not_found() => {
                return Err(Error::damaged(
                    name,
                    "the log names it but it does not exist",
                ));
            }
            other => other?,
        };
        pack::scrub(name, &bytes)?;
        let (_, session) = pack::parse_name(name)?;
        Segment::decode(name, &bytes, &self.keys.session(session))
    }

    /// The frame tables of all packs that a session stored; packs that cannot be read are left out.
    async fn read_tables(&self, session: u64) -> Result<Vec<(String, Vec<pack::TableEntry>)>> {
        let mut tables = Vec::new();
        for class in ["m/", "p/"] {
            for object in self.store.list(class).await? {
                if !pack::parse_name(&object.name).is_ok_and(|(_, of)| of == session) {
                    continue;
                }
                let bytes = self.store.get(&object.name).await?;
                match pack::read_table(&object.name, &bytes, &self.keys.session(session)) {
                    Ok(table) => tables.push((object.name, table)),
                    Err(error) => tracing::error!(%error, "a pack is lost"),
                }
            }
        }
        Ok(tables)
    }

    fn write_index(&self, write: impl FnOnce(&mut IndexState)) {
        let mut state = self.index.write().unwrap_or_else(PoisonError::into_inner);
        write(&mut state);
        state.loaded += 1;
    }

    fn read_index<T>(&self, read: impl FnOnce(&IndexState) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        self.read_index(|state| read(&state.index))
    }

    pub(crate) async fn log_state(&self) -> LogState {
        self.state.lock().await.clone()
    }

    /// The random id of the repository in hexadecimal.
    pub fn id(&self) -> String {
        hex(&self.config.id)
    }

    /// The format of the repository.
    pub fn format(&self) -> u32 {
        self.config.format
    }

    /// The store it is in.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) async fn open_snapshot(&self, name: &str) -> Result<OpenedSnapshot> {
        let bytes = match self.store.get(name).await {
            Err(e) if e.is_not_found() => {
                return Err(Error::damaged(
                    name,
                    "the log names it but it does not exist",
                ));
            }
            other => other?,
        };
        snapshot::decode(&self.keys, name, &bytes)
    }

    /// Domain and lineage as they appear in object names.
    fn pseudonyms(&self, volume: &VolumeRef, lineage: &Lineage) -> String {
        let domain = self.keys.pseudonym("domain", &volume.namespace);
        format!("{domain}/{}", self.keys.pseudonym("lineage", &lineage.0))
    }
    async fn append(
        &self,
        state: &mut LogState,
        make: impl FnMut(&LogState) -> Result<Option<Body>> + Send,
    ) -> Result<Option<u64>> {
        log::append(&*self.store, &self.keys.mac(), state, now_ms(), make).await
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
