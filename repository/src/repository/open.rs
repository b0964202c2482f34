//! Makes a repository, opens one, and proves that its log is whole.

use std::{path::Path, sync::Arc};

use super::{Repository, blocking, key_objects};
use crate::{
    clock::now_ms,
    config::{self, ChunkProfile, Config},
    error::{Error, Result},
    keys::{KeyRing, Unlock, WrappedKey},
    log,
    secret::{Key, hex, random_bytes},
    store::{CachedStore, Durability, ObjectStore, Put, TABLES},
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

    /// Opens a repository whose index may be large, and keeps the tables of the index below `tables`, which may be
    /// shared by repositories. What was read of the index stays there even if this future is dropped.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_indexed(
        store: Arc<dyn ObjectStore>,
        unlock: &Unlock,
        tables: &Path,
    ) -> Result<Arc<Self>> {
        let repository = Self::open_local(store, unlock, None, Some(tables)).await?;
        repository.stay_open();
        Ok(repository)
    }

    /// Keeps the tables of the index below `tables` from now on, as [`Self::open_indexed`] does.
    ///
    /// # Errors
    /// The log or a segment cannot be read.
    pub async fn keep_tables(&self, tables: &Path) -> Result<()> {
        self.stay_open();
        self.use_tables(tables.join(self.id())).await?;
        self.refresh().await
    }

    /// Opens a repository with copies of its metadata below `cache`, which may be shared by repositories.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::RolledBack`].
    pub async fn open_cached(
        store: Arc<dyn ObjectStore>,
        unlock: &Unlock,
        cache: Option<&Path>,
    ) -> Result<Arc<Self>> {
        Self::open_local(store, unlock, cache, None).await
    }

    /// With copies of metadata below `cache`, and tables of the index there or below `tables`.
    async fn open_local(
        mut store: Arc<dyn ObjectStore>,
        unlock: &Unlock,
        cache: Option<&Path>,
        tables: Option<&Path>,
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
        let tables = match &cache {
            Some(directory) => Some(directory.join(TABLES)),
            None => tables.map(|root| root.join(hex(&config.id))),
        };
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
            if let Some(tables) = &tables {
                repository.use_tables(tables.clone()).await?;
            }
            match repository.refresh().await {
                // A key of before a rotation, or of one that came too late: there may be a newer one.
                Err(error @ Error::LeftBehind { .. }) => {
                    failed = Some(error);
                    continue;
                }
                other => other?,
            }
            let proven = async {
                match &cache {
                    Some(cache) => repository.prove_cache(cache).await,
                    None => Ok(()),
                }
            };
            let (proven, whole) = futures_util::join!(proven, repository.prove_no_gap());
            proven?;
            whole?;
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
        if self.log_has(&name, &state.last_hash).await? {
            Ok(())
        } else {
            Err(Error::RolledBack {
                name,
                store: self.store.description(),
                cache: cache.display().to_string(),
            })
        }
    }

    /// Whether the log in the store, not a copy of it, has this entry.
    pub(super) async fn log_has(&self, name: &str, hash: &[u8]) -> Result<bool> {
        match self.store.get_fresh(name).await {
            Ok(bytes) => Ok(blake3::hash(&bytes).as_bytes().as_slice() == hash),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
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
}
