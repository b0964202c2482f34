//! What all reconcilers share: the objects of every kind, the coordinator, and what was done in this process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use orlop_kubernetes::{
    client::{ClientError, Connection},
    cluster_info::ServerVersion,
    velero::{
        Backup, BackupRepository, BackupStorageLocation, DeleteBackupRequest, DownloadRequest,
        PodVolumeBackup, PodVolumeRestore, Restore, Schedule, ServerStatusRequest,
        location::BackupStorageLocationSpec,
    },
};
use orlop_proto::v1;
use tokio::sync::Notify;

use crate::{Config, coordinator::Coordinator, engine::Kept, metrics::Refused};

/// How often the status of a backup or restore is written.
const STATUS_GAP: Duration = Duration::from_secs(1);

/// What all reconcilers share.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) connection: Connection,
    pub(crate) coordinator: Coordinator,
    pub(crate) backups: Kept<Backup>,
    pub(crate) volumes: Kept<PodVolumeBackup>,
    pub(crate) restores: Kept<Restore>,
    pub(crate) restored: Kept<PodVolumeRestore>,
    pub(crate) locations: Kept<BackupStorageLocation>,
    pub(crate) schedules: Kept<Schedule>,
    pub(crate) deletions: Kept<DeleteBackupRequest>,
    pub(crate) downloads: Kept<DownloadRequest>,
    pub(crate) statuses: Kept<ServerStatusRequest>,
    pub(crate) repositories: Kept<BackupRepository>,
    /// A repository's object has changed or is gone.
    pub(crate) repositories_changed: Arc<Notify>,
    /// Which Kubernetes runs here, once that is known.
    pub(crate) version: OnceLock<ServerVersion>,
    /// What monitoring is told.
    pub(crate) refused: Refused,
    told: Mutex<BTreeMap<String, Told>>,
}

/// What the coordinator was told of a location in this process.
#[derive(Default)]
struct Told {
    /// The spec that it was made of, once all of it was obeyed or refused.
    applied: Option<BackupStorageLocationSpec>,
    /// What was sent, with its secrets: whether they have changed cannot be asked.
    sent: Option<v1::LocationSpec>,
    /// What the location is now, and since when.
    seen: Option<(BackupStorageLocationSpec, Instant)>,
    /// What it was when directories were last taken away that it does not need.
    tidied: Option<BackupStorageLocationSpec>,
}

impl Parts {
    pub(crate) fn new(config: Config, connection: Connection, coordinator: Coordinator) -> Self {
        let none = Duration::ZERO;
        Self {
            backups: Kept::new(&connection, STATUS_GAP),
            volumes: Kept::new(&connection, none),
            restores: Kept::new(&connection, STATUS_GAP),
            restored: Kept::new(&connection, none),
            locations: Kept::new(&connection, none),
            schedules: Kept::new(&connection, none),
            deletions: Kept::new(&connection, none),
            downloads: Kept::new(&connection, none),
            statuses: Kept::new(&connection, none),
            repositories: Kept::new(&connection, none),
            repositories_changed: Arc::default(),
            version: OnceLock::new(),
            refused: Refused::default(),
            told: Mutex::default(),
            config,
            connection,
            coordinator,
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        self.connection.namespace()
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        // Whoever panicked has changed one entry or none.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the coordinator knows where this location is now.
    pub(crate) fn is_applied(&self, location: &BackupStorageLocation) -> bool {
        let name = location.metadata.name.as_deref().unwrap_or_default();
        let told = self.told();
        let applied = told.get(name).and_then(|told| told.applied.as_ref());
        applied == Some(&location.spec)
    }

    /// Whether the coordinator can be asked for what is in a location: it has been told of it, or there is none of that
    /// name to tell it of. One that has lost its state knows none at first.
    ///
    /// # Errors
    /// The API server does not answer.
    pub(crate) async fn is_settled(&self, location: &str) -> Result<bool, ClientError> {
        let location = self.locations.get(location).await?;
        Ok(location.is_none_or(|location| self.is_applied(&location)))
    }

    /// Notes that the coordinator knows where a location is, or that it cannot be.
    pub(crate) fn applied(&self, name: &str, spec: &BackupStorageLocationSpec) {
        let mut all = self.told();
        let applied = &mut all.entry(name.to_owned()).or_default().applied;
        if applied.as_ref() != Some(spec) {
            *applied = Some(spec.clone());
            // Its repositories can be shown now.
            self.repositories_changed.notify_one();
        }
    }

    /// Whether just this was sent before.
    pub(crate) fn was_sent(&self, name: &str, spec: &v1::LocationSpec) -> bool {
        self.told().get(name).and_then(|told| told.sent.as_ref()) == Some(spec)
    }

    /// Notes what was sent.
    pub(crate) fn sent(&self, name: &str, spec: v1::LocationSpec) {
        self.told().entry(name.to_owned()).or_default().sent = Some(spec);
    }

    /// How long a location has been what it is, as far as was looked.
    pub(crate) fn unchanged_for(&self, location: &BackupStorageLocation) -> Duration {
        let name = location.metadata.name.clone().unwrap_or_default();
        let mut all = self.told();
        let seen = &mut all.entry(name).or_default().seen;
        match seen {
            Some((spec, since)) if *spec == location.spec => since.elapsed(),
            _ => {
                *seen = Some((location.spec.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Whether directories that this location does not need have been taken away.
    pub(crate) fn is_tidy(&self, location: &BackupStorageLocation) -> bool {
        let name = location.metadata.name.as_deref().unwrap_or_default();
        let told = self.told();
        told.get(name).and_then(|told| told.tidied.as_ref()) == Some(&location.spec)
    }

    /// Notes that they have.
    pub(crate) fn tidied(&self, location: &BackupStorageLocation) {
        let name = location.metadata.name.clone().unwrap_or_default();
        self.told().entry(name).or_default().tidied = Some(location.spec.clone());
    }

    /// Forgets a location.
    pub(crate) fn forget(&self, name: &str) {
        self.told().remove(name);
    }
}
