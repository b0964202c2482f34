//! Looking whether locations answer; those that were never open are opened.

use std::{sync::Arc, time::Duration};

use orlop_repository::{Error as RepositoryError, ObjectStore, Repository};
use rand::Rng as _;
use tokio::time::timeout;

use super::{
    Entry, Locations,
    known::Trouble,
    open::{self, Opening},
    unknown,
};
use crate::runs::Refusal;

/// A store that does not answer for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(45);

/// How a location is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// Whether the store answers.
    pub(crate) available: bool,
    /// Why it does not; empty if it does.
    pub(crate) message: String,
    /// Whether only a person can mend that.
    pub(crate) permanent: bool,
    /// Whether opening its repository takes longer than a look, and goes on.
    pub(crate) opening: bool,
    /// Snapshots in the repository.
    pub(crate) snapshots: u64,
    /// When it was looked at last, milliseconds since 1970; 0 if never.
    pub(crate) checked_ms: i64,
    /// Since when it is as it is.
    pub(crate) since_ms: i64,
}

/// What a look has found.
pub(crate) struct Checked {
    /// The repository, if it is open.
    pub(crate) repository: Option<Arc<Repository>>,
    /// How the location is now.
    pub(crate) health: Health,
}

/// A look at a repository that succeeded.
struct Seen {
    repository: Arc<Repository>,
    artifacts: Option<Arc<dyn ObjectStore>>,
    snapshots: u64,
}

impl Locations {
    /// Looks whether a location answers. With `write` also whether its store takes an object.
    ///
    /// # Errors
    /// There is no such location; that it does not answer is no error.
    pub(crate) async fn check(&self, name: &str, write: bool) -> Result<Checked, Refusal> {
        let name = self.name_of(name)?;
        let looking = {
            let table = self.lock();
            let entry = table.get(&name).ok_or_else(|| unknown(&name, &table))?;
            Arc::clone(&entry.looking)
        };
        let mut opening = looking.lock().await;
        let (spec, version, known, artifacts) = {
            let table = self.lock();
            let entry = table.get(&name).ok_or_else(|| unknown(&name, &table))?;
            let Entry {
                record,
                repository,
                artifacts,
                ..
            } = entry;
            (
                record.spec.clone(),
                record.version,
                repository.clone(),
                artifacts.clone(),
            )
        };
        let look = async || -> Result<Seen, Trouble> {
            let repository = if let Some(repository) = known {
                self.opener.order(&repository).await?;
                repository
            } else {
                let place = (&spec, version);
                Opening::wait(&mut opening, &self.opener, place).await?
            };
            // A disk that is not mounted any more looks like an empty place.
            if !Repository::exists(&**repository.store()).await? {
                return Err(gone(&spec.url));
            }
            repository.refresh().await?;
            let snapshots = repository.snapshots().await?.len() as u64;
            if write && !spec.read_only {
                try_write(&**repository.store()).await?;
            }
            let artifacts = match artifacts {
                None => open::artifacts(&spec, &repository)?,
                known => known,
            };
            Ok(Seen {
                repository,
                artifacts,
                snapshots,
            })
        };
        let seen = timeout(PATIENCE, look()).await;
        let goes_on = seen.is_err() && opening.is_some();
        let seen = seen.unwrap_or_else(|_| Err(silent(goes_on)));
        if seen.is_ok() {
            *opening = None;
        }
        Ok(self.note(&name, version, seen, goes_on))
    }

    fn note(
        &self,
        name: &str,
        version: u64,
        seen: Result<Seen, Trouble>,
        opening: bool,
    ) -> Checked {
        let now_ms = self.clock.now_ms();
        let mut health = Health {
            checked_ms: now_ms,
            since_ms: now_ms,
            opening,
            ..Health::default()
        };
        let (mut repository, mut artifacts) = (None, None);
        match seen {
            Ok(seen) => {
                health.available = true;
                health.snapshots = seen.snapshots;
                repository = Some(seen.repository);
                artifacts = seen.artifacts;
            }
            Err(trouble) => {
                health.permanent = trouble.permanent;
                health.message = trouble.message;
            }
        }
        let mut table = self.lock();
        let Some(entry) = table.get_mut(name).filter(|e| e.record.version == version) else {
            // It was changed or forgotten meanwhile.
            return Checked {
                repository: None,
                health,
            };
        };
        let before = &entry.health;
        if !health.available {
            health.snapshots = before.snapshots;
        }
        if before.checked_ms > 0 && before.available == health.available {
            health.since_ms = before.since_ms;
        } else if health.available {
            tracing::info!(location = name, "the location is available");
        } else {
            tracing::warn!(
                location = name,
                reason = health.message,
                "the location is unavailable"
            );
        }
        entry.health = health.clone();
        if repository.is_some() {
            entry.repository.clone_from(&repository);
            entry.artifacts = artifacts;
        }
        Checked {
            repository: entry.repository.clone(),
            health,
        }
    }
}

/// The look took too long.
fn silent(is_opening: bool) -> Trouble {
    let seconds = PATIENCE.as_secs();
    let goes_on = if is_opening {
        ", or its index is large: opening it goes on"
    } else {
        ""
    };
    Trouble {
        permanent: false,
        message: format!("the store has not answered within {seconds} s{goes_on}"),
    }
}

fn gone(url: &str) -> Trouble {
    Trouble {
        permanent: false,
        message: format!(
            "{url} holds no repository any more: is it the right bucket, and is the disk mounted? \
             Backups wait until it is there again"
        ),
    }
}

/// Puts a small object where `init` puts its own trials, and removes it.
async fn try_write(store: &dyn ObjectStore) -> Result<(), RepositoryError> {
    let name = format!("probe/{:016x}", rand::rng().random::<u64>());
    let bytes = vec![bytes::Bytes::from_static(b"a trial: may be removed")];
    let put = store
        .put(&name, bytes, orlop_repository::store::Durability::Now)
        .await;
    let removed = store.delete(&name).await;
    put.map(drop).and(removed)
}
