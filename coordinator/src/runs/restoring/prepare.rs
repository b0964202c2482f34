//! What a restore of objects needs at hand: what is asked for, the backup, its objects and volumes.

use std::{fmt, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use orlop_core::run::{RestoreSpec, Run, RunSpec, TaskPhase};
use orlop_kubernetes::{
    files::BackupFile,
    velero::{Backup, Restore},
};
use orlop_repository::{Error, ObjectStore, Repository};

use super::{Restoring, accept::has_objects, own::with_uid};
use crate::{
    artifacts,
    cluster::{BackedVolume, ObjectsRequest},
    runs::{Refusal, RunKey, with_sources},
};

/// An archive in the clear is fetched in parts of this size.
const PART_BYTES: u64 = 4 << 20;
/// Enough of an artifact to see whether it is sealed.
const HEAD_BYTES: u64 = 64;

/// Why a restore cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may pass.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(reason) | Self::Lasting(reason) => f.write_str(reason),
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let passes = match &refusal {
            Refusal::Unavailable(_) => true,
            Refusal::Repository(error) => !error.is_permanent(),
            _ => false,
        };
        let reason = refusal.to_string();
        if passes {
            Self::Passing(reason)
        } else {
            Self::Lasting(reason)
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

/// What a restore works with.
pub(super) struct Prepared {
    /// What is asked for.
    pub(super) restore: Restore,
    /// Name of the backup.
    backup: String,
    /// Its repository.
    pub(super) repository: Arc<Repository>,
    /// Where its objects are kept.
    store: Arc<dyn ObjectStore>,
    /// Where they are put aside.
    archive: PathBuf,
    /// Its volumes that have snapshots.
    pub(super) volumes: Vec<BackedVolume>,
}

impl Prepared {
    /// The request to make objects.
    pub(super) fn request<'a>(&'a self, backup: &'a Backup) -> ObjectsRequest<'a> {
        ObjectsRequest {
            restore: &self.restore,
            backup,
            tarball: &self.archive,
            volumes: &self.volumes,
        }
    }

    fn key(&self, file: BackupFile) -> Result<String, Trouble> {
        let key = file.key(&self.backup);
        key.map_err(|error| Trouble::Lasting(with_sources(&error)))
    }

    /// What to say when a file of the backup cannot be read.
    fn missing(&self, key: &str, error: Error) -> Trouble {
        if error.is_not_found() {
            return Trouble::Lasting(format!(
                "backup {} lacks the file {key}: it was removed from the store; restore another backup, or the volumes \
                 alone",
                self.backup
            ));
        }
        error.into()
    }
}

impl Restoring<'_> {
    /// What was asked for.
    pub(super) fn spec(&self) -> Option<(RestoreSpec, Run)> {
        let table = self.runs.lock();
        let document = table.document(self.key)?;
        match &document.spec {
            RunSpec::Restore(spec) => Some((spec.clone(), document.run.clone())),
            RunSpec::Backup(_) => None,
        }
    }

    /// Looks everything up; nothing large is fetched yet.
    pub(super) async fn prepare(&self) -> Result<Prepared, Trouble> {
        let gone = || Trouble::Lasting("the restore is gone".to_owned());
        let (spec, run) = self.spec().ok_or_else(gone)?;
        let parts = &self.runs.parts;
        let restore = with_uid(parts.cluster.restore_object(&run.name, &spec)?, &run);
        // Before it was open its backups need not be known.
        let repository = parts.locations.repository(&run.location)?;
        let key = RunKey::backup(&spec.from_backup);
        if self.runs.get(&key).is_err() {
            self.runs.sync(&run.location, false).await?;
        }
        let backup = self.runs.get(&key)?.run;
        has_objects(&backup)?;
        let store = parts.locations.artifacts(&run.location).ok_or_else(|| {
            Trouble::Lasting(format!(
                "location {} keeps no Kubernetes objects beside its repository",
                run.location
            ))
        })?;
        Ok(Prepared {
            restore,
            volumes: backed_volumes(&backup),
            backup: backup.name,
            repository,
            store,
            archive: self.runs.spool.archive(&run.name),
        })
    }

    /// Puts the objects aside as a plain archive, unless they are there.
    pub(super) async fn fetch(&self, prepared: &Prepared) -> Result<(), Trouble> {
        if prepared.archive.exists() {
            return Ok(());
        }
        let spool = &self.runs.spool;
        spool
            .create()
            .map_err(|error| Trouble::Passing(with_sources(&error)))?;
        let key = prepared.key(BackupFile::Contents)?;
        let fetched = self.cancel.run_until_cancelled(fetch(prepared, &key)).await;
        fetched.unwrap_or_else(|| Err(Trouble::Passing("it was stopped".to_owned())))
    }

    /// The backup's own object.
    pub(super) async fn backup_object(&self, prepared: &Prepared) -> Result<Backup, Trouble> {
        let key = prepared.key(BackupFile::Metadata)?;
        let json = artifacts::read(&*prepared.store, &prepared.repository, &key).await;
        let json = json.map_err(|error| prepared.missing(&key, error))?;
        serde_json::from_slice(&json)
            .map_err(|error| Trouble::Lasting(format!("{key} is no backup: {error}")))
    }
}

/// The volumes of a backup that have snapshots.
fn backed_volumes(backup: &Run) -> Vec<BackedVolume> {
    let done = backup
        .tasks
        .iter()
        .filter(|task| task.phase == TaskPhase::Completed);
    let volumes = done.filter_map(|task| {
        let place = task.place.clone().unwrap_or_default();
        Some(BackedVolume {
            source: task.volume.clone(),
            snapshot: task.snapshot?,
            claim: place.claim,
            persistent_volume: place.persistent_volume,
        })
    });
    volumes.collect()
}

/// A sealed archive is opened whole, as it was sealed; one in the clear passes in parts.
async fn fetch(prepared: &Prepared, key: &str) -> Result<(), Trouble> {
    let store = &prepared.store;
    let missing = |error| prepared.missing(key, error);
    let head = store.get_up_to(key, 0, HEAD_BYTES).await.map_err(missing)?;
    let (archive, temporary) = (
        prepared.archive.clone(),
        prepared.archive.with_extension("part"),
    );
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let failed =
        |error: std::io::Error| Trouble::Passing(format!("put the objects aside: {error}"));
    let mut file = options.open(&temporary).map_err(failed)?;
    if Repository::is_sealed_artifact(&head) {
        let sealed = store.get(key).await.map_err(missing)?;
        let (repository, key) = (Arc::clone(&prepared.repository), key.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            let plain = repository.open_artifact(&key, &sealed)?;
            file.write_all(&plain).map_err(failed)?;
            Ok::<_, Trouble>(file)
        });
        file = written.await.map_err(|error| ended(&error))??;
    } else {
        let mut offset = 0;
        loop {
            let part: Bytes = store
                .get_up_to(key, offset, PART_BYTES)
                .await
                .map_err(missing)?;
            if part.is_empty() {
                break;
            }
            offset += part.len() as u64;
            let written = tokio::task::spawn_blocking(move || file.write_all(&part).map(|()| file));
            file = written
                .await
                .map_err(|error| ended(&error))?
                .map_err(failed)?;
        }
    }
    let kept = move || {
        file.sync_all()
            .and_then(|()| std::fs::rename(temporary, archive))
    };
    let kept = tokio::task::spawn_blocking(kept)
        .await
        .map_err(|error| ended(&error))?;
    kept.map_err(failed)
}

fn ended(error: &tokio::task::JoinError) -> Trouble {
    Trouble::Passing(format!("put the objects aside: {error}"))
}
