//! Repository, backup and restore in this process, without servers.

use std::{fs::File, path::Path, sync::Arc};

use orlop_agent::{
    backup::{self, BackupError, BackupJob, BackupReport, Budget},
    restore::{self, RestoreJob, RestoreReport, RestoreTarget},
};
use orlop_core::{Lineage, NoMonitor, RestoreMode, SnapshotId, VolumeRef};
use orlop_repository::{
    CheckOptions, CheckReport, Committer, Error, InitOptions, ObjectStore, ReadSession, Repository,
    Result, Unlock,
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
        let options = InitOptions {
            pack_bytes: 1 << 20,
            ..InitOptions::default()
        };
        let runtime = runtime();
        let repository = runtime.block_on(Repository::init(store, &key_file(), options))?;
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
        let runtime = runtime();
        let repository = runtime.block_on(Repository::open(store, &key_file()))?;
        Ok(Self::over(runtime, repository))
    }

    fn over(runtime: Runtime, repository: Arc<Repository>) -> Self {
        let (store, committer) = (Arc::clone(repository.store()), Arc::clone(&repository) as _);
        Self {
            runtime,
            repository,
            committer,
            store,
        }
    }

    /// The same with another committer for backups.
    #[must_use]
    pub fn with_committer(mut self, committer: Arc<dyn Committer>) -> Self {
        self.committer = committer;
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
            budget: Budget::default(),
        };
        backup::run(
            job,
            Arc::clone(&self.committer),
            Arc::clone(&self.store),
            self.runtime.handle().clone(),
            Arc::new(NoMonitor),
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

    /// Restores a snapshot into an empty or missing directory.
    ///
    /// # Errors
    /// As for [`restore::run`], or the snapshot cannot be opened.
    ///
    /// # Panics
    /// The restore ends as a whole for another reason than its repository.
    pub fn try_restore(&self, snapshot: SnapshotId, target: &Path) -> Result<RestoreReport> {
        let session = ReadSession::open(
            Arc::clone(&self.repository) as _,
            Arc::clone(&self.store),
            snapshot,
            self.runtime.handle().clone(),
            CancellationToken::new(),
        )?;
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

    /// Checks everything with all data read.
    ///
    /// # Errors
    /// As for [`Repository::check`].
    pub fn try_check(&self) -> Result<CheckReport> {
        let check = self.repository.check(
            CheckOptions { read_data: true },
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
