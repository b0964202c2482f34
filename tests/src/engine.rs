//! Repository, backup and restore in this process, without servers.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::Path,
    sync::Arc,
};

use orlop_agent::{
    backup::{self, BackupError, BackupJob, BackupReport, Budget, CheckpointEvery, Limits},
    restore::{self, RestoreJob, RestoreReport, RestoreTarget},
};
use orlop_core::{Chunking, Lineage, Monitor, NoMonitor, RestoreMode, SnapshotId, VolumeRef};
use orlop_repository::{
    CheckOptions, CheckReport, Committer, EntryKind, Error, InitOptions, ObjectStore, ReadSession,
    Repository, Result, Unlock,
    store::{Durability, MemoryStore},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::Record;

/// The bytes of the key file that opens every repository of the tests.
pub const KEY: [u8; 32] = *b"orlop's tests: a key of 32 bytes";

/// [`KEY`] as what opens a repository.
pub fn key_file() -> Unlock {
    Unlock::KeyFile(KEY.to_vec())
}

/// An open repository and the threads that serve it.
pub struct Engine {
    runtime: Runtime,
    repository: Arc<Repository>,
    committer: Arc<dyn Committer>,
    store: Arc<dyn ObjectStore>,
    checkpoint_every: CheckpointEvery,
    monitor: Arc<dyn Monitor>,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Copies all objects of a store into a new one in memory.
pub fn copy_store(store: &dyn ObjectStore) -> Arc<MemoryStore> {
    let copy = Arc::new(MemoryStore::new());
    runtime().block_on(async {
        for object in store.list("").await.unwrap() {
            let bytes = store.get(&object.name).await.unwrap();
            copy.put(&object.name, vec![bytes], Durability::Now)
                .await
                .unwrap();
        }
    });
    copy
}

impl Engine {
    /// Makes a repository in `store`, of small packs so that a small volume has several.
    ///
    /// # Errors
    /// As for [`Repository::init`].
    pub fn init(store: Arc<dyn ObjectStore>) -> Result<Self> {
        Self::init_with_packs(store, 1 << 20)
    }

    /// Makes a repository in `store` whose packs are closed at `pack_bytes`.
    ///
    /// # Errors
    /// As for [`Repository::init`].
    pub fn init_with_packs(store: Arc<dyn ObjectStore>, pack_bytes: u32) -> Result<Self> {
        let options = InitOptions {
            pack_bytes,
            ..InitOptions::default()
        };
        Self::init_as(store, &key_file(), options)
    }

    /// Makes a repository in `store`.
    ///
    /// # Errors
    /// As for [`Repository::init`].
    pub fn init_as(
        store: Arc<dyn ObjectStore>,
        unlock: &Unlock,
        options: InitOptions,
    ) -> Result<Self> {
        let runtime = runtime();
        let repository = runtime.block_on(Repository::init(store, unlock, options))?;
        Ok(Self::over(runtime, repository))
    }

    /// A new repository in memory.
    pub fn in_memory() -> Self {
        Self::init(Arc::new(MemoryStore::new())).unwrap()
    }

    /// Opens the repository in `store`.
    ///
    /// # Errors
    /// As for [`Repository::open`].
    pub fn open(store: Arc<dyn ObjectStore>) -> Result<Self> {
        Self::open_as(store, &key_file())
    }

    /// Opens the repository in `store` with something else than [`KEY`].
    ///
    /// # Errors
    /// As for [`Repository::open`].
    pub fn open_as(store: Arc<dyn ObjectStore>, unlock: &Unlock) -> Result<Self> {
        let runtime = runtime();
        let repository = runtime.block_on(Repository::open(store, unlock))?;
        Ok(Self::over(runtime, repository))
    }

    fn over(runtime: Runtime, repository: Arc<Repository>) -> Self {
        let (store, committer) = (Arc::clone(repository.store()), Arc::clone(&repository) as _);
        Self {
            runtime,
            repository,
            committer,
            store,
            checkpoint_every: CheckpointEvery::default(),
            monitor: Arc::new(NoMonitor),
        }
    }

    /// The same with another committer for sessions.
    #[must_use]
    pub fn with_committer(mut self, committer: Arc<dyn Committer>) -> Self {
        self.committer = committer;
        self
    }

    /// The same with backups that make a checkpoint after so many bytes.
    #[must_use]
    pub fn with_checkpoints(mut self, bytes: u64) -> Self {
        self.checkpoint_every.bytes = bytes;
        self
    }

    /// The same with somebody who hears of backups.
    #[must_use]
    pub fn with_monitor(mut self, monitor: Arc<dyn Monitor>) -> Self {
        self.monitor = monitor;
        self
    }

    /// The open repository.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The store it is in.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Runs a future to its end.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Backs up a directory as the volume `ns/pod/data`.
    ///
    /// # Errors
    /// As for [`backup::run`].
    pub fn try_backup(&self, directory: &Path) -> Result<BackupReport, BackupError> {
        self.try_backup_as(directory, &VolumeRef::new("ns", "pod", "data"))
    }

    /// Backs up a directory as a volume.
    ///
    /// # Errors
    /// As for [`backup::run`].
    pub fn try_backup_as(
        &self,
        directory: &Path,
        volume: &VolumeRef,
    ) -> Result<BackupReport, BackupError> {
        let job = BackupJob {
            root: File::open(directory)
                .expect("the volume's root can be opened")
                .into(),
            volume: volume.clone(),
            lineage: Lineage(format!("lineage of {volume}")),
            node: "node-of-the-tests".to_owned(),
            backup: "backup-of-the-tests".to_owned(),
            tags: vec!["tag-of-the-tests".to_owned()],
            exclude: Vec::new(),
            force_full: false,
            checkpoint_every: self.checkpoint_every,
            budget: Budget::default(),
            limits: Limits::default(),
            chunking: Chunking::default(),
        };
        backup::run(
            job,
            Arc::clone(&self.committer),
            Arc::clone(&self.store),
            self.runtime.handle().clone(),
            Arc::clone(&self.monitor),
            &CancellationToken::new(),
        )
    }

    /// Backs up a directory; nothing may be amiss.
    ///
    /// # Panics
    /// Something is.
    pub fn backup(&self, directory: &Path) -> BackupReport {
        let report = self.try_backup(directory).unwrap();
        assert_eq!(report.issues, Vec::new(), "the backup met issues");
        report
    }

    /// Begins a session on a snapshot.
    ///
    /// # Errors
    /// As for [`ReadSession::open`].
    pub fn read(&self, snapshot: SnapshotId) -> Result<ReadSession> {
        ReadSession::open(
            Arc::clone(&self.committer),
            Arc::clone(&self.store),
            snapshot,
            self.runtime.handle().clone(),
            CancellationToken::new(),
        )
    }

    /// Restores a snapshot into an empty or missing directory.
    ///
    /// # Errors
    /// As for [`restore::run`], or the snapshot cannot be opened.
    ///
    /// # Panics
    /// The restore ends as a whole for another reason than its repository.
    pub fn try_restore(&self, snapshot: SnapshotId, target: &Path) -> Result<RestoreReport> {
        let session = self.read(snapshot)?;
        let job = RestoreJob {
            mode: RestoreMode::Empty,
            ..RestoreJob::new(RestoreTarget::Path(target.to_owned()))
        };
        let result = restore::run(job, &session, Arc::new(NoMonitor), CancellationToken::new());
        session.end();
        result.map_err(|error| {
            let mut text = String::new();
            let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                if let Some(Error::Damaged { name, reason }) = cause.downcast_ref() {
                    return Error::Damaged {
                        name: name.clone(),
                        reason: reason.clone(),
                    };
                }
                source = cause.source();
            }
            Error::Invalid(text)
        })
    }

    /// Restores a snapshot and asserts that it is what was recorded.
    ///
    /// # Panics
    /// It is not.
    pub fn assert_restores(&self, snapshot: SnapshotId, expected: &Record) {
        self.assert_restores_in(&crate::quick_dir(), snapshot, expected);
    }

    /// As [`Engine::assert_restores`], in this directory.
    ///
    /// # Panics
    /// As for [`Engine::assert_restores`].
    pub fn assert_restores_in(&self, parent: &TempDir, snapshot: SnapshotId, expected: &Record) {
        let target = parent.path().join("restored");
        let report = self.try_restore(snapshot, &target).unwrap();
        assert_eq!(report.issues, Vec::new(), "the restore met issues");
        crate::assert_identical(expected, &target);
    }

    /// The regular files that a snapshot holds, with their sizes.
    ///
    /// # Panics
    /// It cannot be read.
    pub fn files(&self, snapshot: SnapshotId) -> BTreeMap<Vec<u8>, u64> {
        let session = ReadSession::open(
            Arc::clone(&self.repository) as _,
            Arc::clone(&self.store),
            snapshot,
            self.runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap();
        let entries = session.entries().map(Result::unwrap);
        let files = entries.filter(|entry| entry.kind == EntryKind::File);
        let files = files.map(|entry| (entry.path, entry.size)).collect();
        session.end();
        files
    }

    /// Asserts that no chunk or page lies in the store twice, whatever the index says.
    ///
    /// # Panics
    /// One does.
    pub fn assert_stored_once(&self) {
        let mut seen = HashMap::new();
        for (pack, id) in self.wait(self.repository.frames()).unwrap() {
            if let Some(other) = seen.insert(id, pack.clone()) {
                panic!("{id} is in {other} and in {pack}");
            }
        }
    }

    /// Checks everything with all data read.
    ///
    /// # Errors
    /// As for [`Repository::check`].
    pub fn try_check(&self) -> Result<CheckReport> {
        let check = self.repository.check(
            CheckOptions::data(),
            Arc::new(NoMonitor),
            CancellationToken::new(),
        );
        self.runtime.block_on(check)
    }

    /// Asserts that nothing is damaged, with all data read.
    ///
    /// # Panics
    /// Something is.
    pub fn assert_sound(&self) {
        let report = self.try_check().unwrap();
        assert!(report.ok && report.damage.is_empty(), "{report:#?}");
    }
}
