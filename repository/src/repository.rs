//! A repository that is open with its keys.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use orlop_core::{Lineage, SnapshotId, VolumeRef};
use tokio::sync::Mutex;

use crate::{
    config::{self, ChunkProfile, Config},
    error::{Error, Result},
    index::Index,
    keys::{KeyRing, Unlock, WrappedKey},
    log::{self, BeginBody, Body, CommitBody, LogState, futures_join},
    pack,
    secret::{ChunkId, Key, hex, random_bytes},
    session::{
        BeginWrite, CommitRequest, Committer, Location, Parent, ReadGrant, SessionId, WriteGrant,
    },
    snapshot::{self, OpenedSnapshot, SnapshotInfo, SnapshotState},
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
            Config::verify(&bytes, &keys.mac())?;
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
        Err(Error::WrongKey {
            what: unlock.what(),
            keys: objects.len(),
            store: place,
        })
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
            let objects = futures_join(batch.iter().map(|name| self.store.get(name))).await;
            for (name, object) in batch.iter().zip(objects) {
                let bytes = match object {
                    Err(e) if e.is_not_found() => {
                        return Err(Error::damaged(
                            name,
                            "the log names it but it does not exist",
                        ));
                    }
                    other => other?,
                };
                let (_, session) = pack::parse_name(name)?;
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                index.index.add(name, &bytes, &self.keys.session(session))?;
                index.loaded += 1;
            }
        }
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

    /// All snapshots, oldest first, partial ones included.
    ///
    /// # Errors
    /// The log or a snapshot cannot be read.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.refresh().await?;
        let names: Vec<String> = self
            .state
            .lock()
            .await
            .snapshots
            .iter()
            .map(|c| c.snapshot.clone())
            .collect();
        let mut found = Vec::with_capacity(names.len());
        for batch in names.chunks(32) {
            for opened in futures_join(batch.iter().map(|name| self.open_snapshot(name))).await {
                found.push(opened?.info);
            }
        }
        found.sort_by_key(|info| (info.time_ms, info.id));
        Ok(found)
    }

    /// The snapshot that `text` names: an id, its unique beginning, `latest` or `latest:NS/POD/VOL`.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] with near misses, or the snapshots cannot be read.
    pub async fn resolve(&self, text: &str) -> Result<SnapshotInfo> {
        let mut all = self.snapshots().await?;
        let fail = |hint: String| Error::NoSnapshot {
            wanted: text.to_owned(),
            store: self.store.description(),
            hint,
        };
        if all.is_empty() {
            return Err(fail(
                "; the repository holds no snapshots yet: make one with `orlop repo backup`"
                    .to_owned(),
            ));
        }
        if let Some(rest) = text.strip_prefix("latest") {
            all.retain(|info| info.state != SnapshotState::Partial);
            let volume: Option<VolumeRef> = match rest.strip_prefix(':') {
                Some(volume) => Some(
                    volume
                        .parse()
                        .map_err(|e: orlop_core::ParseVolumeError| Error::Invalid(e.to_string()))?,
                ),
                None if rest.is_empty() => None,
                None => {
                    return Err(fail(
                        "; write latest or latest:NAMESPACE/POD/VOLUME".to_owned(),
                    ));
                }
            };
            let newest = all
                .iter()
                .rev()
                .find(|info| volume.as_ref().is_none_or(|v| info.volume == *v));
            return newest.cloned().ok_or_else(|| {
                let mut known: Vec<String> =
                    all.iter().map(|info| info.volume.to_string()).collect();
                known.sort();
                known.dedup();
                known.truncate(5);
                fail(format!("; there are snapshots of {}", known.join(", ")))
            });
        }
        let mut matching = all
            .into_iter()
            .filter(|info| text.len() >= 4 && info.id.to_string().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(info), None) => Ok(info),
            (Some(_), Some(_)) => Err(fail(
                "; more than one begins so: give more characters".to_owned(),
            )),
            (None, _) => Err(fail("; list them with `orlop repo snapshots`".to_owned())),
        }
    }

    /// The newest snapshot of a lineage that a backup can build upon.
    async fn newest(&self, volume: &str) -> Result<Option<Parent>> {
        let prefix = format!("s/{volume}/");
        let name = {
            let state = self.state.lock().await;
            state
                .snapshots
                .iter()
                .rev()
                .find(|c| c.snapshot.starts_with(&prefix))
                .map(|c| c.snapshot.clone())
        };
        let Some(name) = name else { return Ok(None) };
        match self.open_snapshot(&name).await {
            Ok(opened) => Ok(Some(Parent {
                snapshot: opened.info.id,
                capsule: opened.capsule,
            })),
            Err(Error::Damaged { name, reason }) => {
                tracing::warn!(
                    name,
                    reason,
                    "the last snapshot cannot be built upon: everything is read again"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
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

#[async_trait]
impl Committer for Repository {
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant> {
        let volume = self.pseudonyms(&request.volume, &request.lineage);
        let session = {
            let mut state = self.state.lock().await;
            let begin = Body::Begin(BeginBody {
                volume: volume.clone(),
                nonce: random_bytes::<16>()?.to_vec(),
            });
            let session = self.append(&mut state, |_| Ok(Some(begin.clone()))).await?;
            self.load_segments(&state).await?;
            session.ok_or(Error::Cancelled)?
        };
        let parent = self.newest(&volume).await?;
        Ok(WriteGrant {
            session,
            domain_key: self.keys.domain(&request.volume.namespace),
            volume_key: self.keys.volume(&request.lineage),
            refs_key: self.keys.refs(&request.lineage),
            session_key: self.keys.session(session),
            read_public_key: *self.keys.read_public(),
            chunks: self.config.chunks(),
            pack_bytes: self.config.pack_bytes,
            parent,
        })
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        self.refresh().await?;
        let suffix = format!("/{snapshot}");
        let name = self
            .state
            .lock()
            .await
            .snapshots
            .iter()
            .find(|c| c.snapshot.ends_with(&suffix))
            .map(|c| c.snapshot.clone());
        let name = name.ok_or_else(|| Error::NoSnapshot {
            wanted: snapshot.to_string(),
            store: self.store.description(),
            hint: String::new(),
        })?;
        let opened = self.open_snapshot(&name).await?;
        Ok(ReadGrant {
            session: READ_SESSION | u64::from_le_bytes(random_bytes()?),
            snapshot,
            root: opened.root,
            domain_key: self.keys.domain(&opened.info.volume.namespace),
            stats: opened.info.stats,
        })
    }

    async fn locate(&self, _session: SessionId, ids: &[ChunkId]) -> Result<Vec<Option<Location>>> {
        Ok(self.with_index(|index| ids.iter().map(|id| index.find(&id.prefix())).collect()))
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        let volume = self.pseudonyms(&request.volume, &request.lineage);
        let mut state = self.state.lock().await;
        log::replay(&*self.store, &self.keys.mac(), &mut state).await?;
        if let Some(snapshot) = already(&state, session)? {
            return Ok(snapshot);
        }
        if state
            .open
            .get(&session)
            .is_some_and(|begun| *begun != volume)
        {
            return Err(Error::Invalid(format!(
                "session {session} was begun for another volume"
            )));
        }
        // A commit must not name what is not there.
        for segment in &request.segments {
            if pack::parse_name(segment)?.1 != session || self.store.stat(segment).await?.is_none()
            {
                return Err(Error::damaged(
                    segment,
                    "it is not a stored segment of this session",
                ));
            }
        }
        let id = SnapshotId::new(now_ms().unsigned_abs(), random_bytes()?);
        let (root_name, refset_name) = (format!("s/{volume}/{id}"), format!("r/{volume}/{id}"));
        let refset = snapshot::encode_refset(
            &self.keys,
            &refset_name,
            &request.lineage,
            &request.refs_root,
        )?;
        self.store
            .put(&refset_name, vec![refset.into()], Durability::Now)
            .await?;
        let root = snapshot::encode(&self.keys, &root_name, session, &request)?;
        self.store
            .put(&root_name, vec![root.into()], Durability::Now)
            .await?;
        let body = CommitBody {
            session,
            snapshot: root_name,
            refset: refset_name,
            segments: request.segments,
        };
        let appended = self
            .append(&mut state, |state| match already(state, session)? {
                Some(_) => Ok(None),
                None => Ok(Some(Body::Commit(body.clone()))),
            })
            .await?;
        self.load_segments(&state).await?;
        match appended {
            Some(_) => Ok(id),
            None => already(&state, session)?.ok_or(Error::NoSession { session }),
        }
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        if session & READ_SESSION != 0 {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        self.append(&mut state, |state| {
            Ok(state
                .open
                .contains_key(&session)
                .then_some(Body::End(session)))
        })
        .await?;
        Ok(())
    }
}

/// The snapshot that a session has committed; an error if the session is not open either.
fn already(state: &LogState, session: SessionId) -> Result<Option<SnapshotId>> {
    match state.committed.get(&session) {
        Some(name) => {
            let id = name.rsplit('/').next().and_then(|leaf| leaf.parse().ok());
            id.map(Some)
                .ok_or_else(|| Error::damaged(name, "its name is no snapshot id"))
        }
        None if state.open.contains_key(&session) => Ok(None),
        None => Err(Error::NoSession { session }),
    }
}
