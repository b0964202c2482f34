//! Opening the repository of a location.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use orlop_core::{LocationSpec, RepositorySecret};
use orlop_repository::{
    Error, FileHead, InitOptions, ObjectStore, Order, Repository, Result, StoreOptions, Unlock,
    open_store_with, store::S3Credentials, url_below,
};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    PLACES_FILE,
    known::{Known, Trouble},
};

/// One that takes longer is begun anew, with what of its index is on this machine by then.
const OPENING_MAX: Duration = Duration::from_hours(1);

/// Tables of a place that is not known are kept for so long.
const UNUSED_MAX: Duration = Duration::from_hours(7 * 24);

/// A repository that is being opened, however short the patience of who looks at it is.
pub(super) struct Opening {
    /// Of the location's record.
    version: u64,
    begun: Instant,
    task: AbortOnDropHandle<Result<Arc<Repository>, Trouble>>,
    /// What came of it, kept until a look has also found the rest in order.
    opened: Option<Arc<Repository>>,
}

impl Opening {
    /// The repository of a location whose record has this version; it stays in `slot`. If this future is dropped
    /// opening goes on there, and ends with the slot at the latest.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub(super) async fn wait(
        slot: &mut Option<Self>,
        opener: &Arc<Opener>,
        (spec, version): (&LocationSpec, u64),
    ) -> Result<Arc<Repository>, Trouble> {
        let goes_on = |one: &Self| one.opened.is_some() || one.begun.elapsed() < OPENING_MAX;
        let current = slot.take();
        let current = current.filter(|one| one.version == version && goes_on(one));
        let opening = slot.insert(current.unwrap_or_else(|| {
            let (opener, spec) = (Arc::clone(opener), spec.clone());
            let open = async move { opener.open(&spec).await };
            Self {
                version,
                begun: Instant::now(),
                task: AbortOnDropHandle::new(tokio::spawn(open)),
                opened: None,
            }
        }));
        if let Some(opened) = &opening.opened {
            return Ok(Arc::clone(opened));
        }
        let opened = (&mut opening.task).await.unwrap_or_else(|error| {
            Err(Trouble {
                message: format!("opening it ended early: {error}"),
                permanent: false,
            })
        });
        match &opened {
            Ok(repository) => opening.opened = Some(Arc::clone(repository)),
            Err(_) => *slot = None,
        }
        opened
    }
}

/// Opens repositories.
pub(super) struct Opener {
    /// What opens a repository that has no secret of its own.
    unlock: Option<Unlock>,
    /// Which repository each place held when it was last open.
    known: Known,
    /// Directory of the tables of large indexes, one directory for each place.
    tables_dir: PathBuf,
    /// Directory of the heads of logs whose stores cannot make an order.
    heads_dir: PathBuf,
    /// Heads that are in use; of one log there is one in a process.
    heads: Mutex<HashMap<String, Weak<FileHead>>>,
}

impl Opener {
    /// Opens with `unlock` what says nothing of its own.
    pub(super) fn new(unlock: Option<Unlock>, directory: &Path) -> Self {
        let known = Known::new(directory.join(PLACES_FILE));
        let tables_dir = directory.join("index");
        remove_unknown(&tables_dir, &known);
        Self {
            unlock,
            known,
            tables_dir,
            heads_dir: directory.join("heads"),
            heads: Mutex::default(),
        }
    }

    /// Forgets which repository a place held: another one may be made or found there.
    pub(super) fn forget(&self, spec: &LocationSpec) {
        self.known
            .forget(&url_below(&spec.url, &spec.repository_path));
    }

    /// The repository of a location; made if there is none and it may be written.
    ///
    /// # Errors
    /// There is nothing to open it with, it cannot be opened or made, the place held another repository before, or
    /// another coordinator on this machine writes to a store that cannot keep two apart.
    pub(super) async fn open(&self, spec: &LocationSpec) -> Result<Arc<Repository>, Trouble> {
        let url = url_below(&spec.url, &spec.repository_path);
        let store = open_store_with(&url, options(spec))?;
        let unlock = spec.unlock.as_ref().map(unlock).or(self.unlock.clone());
        let unlock = unlock.ok_or_else(|| {
            Error::Invalid(
                "nothing opens it: give the location a password or a key file, or start the coordinator with one".to_owned(),
            )
        })?;
        let known = self.known.of(&url);
        let tables = &self.tables_dir.join(place_name(&url));
        let repository = match Repository::open_indexed(Arc::clone(&store), &unlock, tables).await {
            Err(Error::NoRepository { .. }) if known.is_some() => {
                return Err(self.known.changed(&url, "holds none"));
            }
            Err(Error::NoRepository { .. }) if !spec.read_only => {
                match Repository::init(Arc::clone(&store), &unlock, InitOptions::default()).await {
                    // Another coordinator was faster.
                    Err(Error::RepositoryExists { .. }) => {
                        Repository::open_indexed(store, &unlock, tables).await?
                    }
                    made => {
                        let made = made?;
                        made.keep_tables(tables).await?;
                        made
                    }
                }
            }
            other => other?,
        };
        if known.is_some_and(|known| known != repository.id()) {
            return Err(self.known.changed(&url, "holds another one"));
        }
        if !spec.read_only {
            self.order(&repository).await?;
        }
        self.known.remember(&url, &repository.id());
        Ok(repository)
    }

    /// Makes the order of a log whose store cannot.
    pub(super) async fn order(&self, repository: &Repository) -> Result<()> {
        if repository.conditional_create() {
            return Ok(());
        }
        let id = repository.id();
        let mut heads = self.heads.lock().await;
        heads.retain(|_, head| head.strong_count() > 0);
        let known = heads.get(&id).and_then(Weak::upgrade);
        let head = match known {
            Some(head) => head,
            None => Arc::new(self.take(&id)?),
        };
        heads.insert(id, Arc::downgrade(&head));
        repository.set_order(Order::Head(head));
        Ok(())
    }

    fn take(&self, id: &str) -> Result<FileHead> {
        std::fs::create_dir_all(&self.heads_dir).map_err(|source| Error::System {
            action: "make the directory of log heads",
            source,
        })?;
        FileHead::take(&self.heads_dir.join(id))
    }
}

/// The directory of a place's tables: copies of one repository have the same id and may differ. Another Rust may
/// name it otherwise; then the tables are made again.
fn place_name(url: &str) -> String {
    let mut hasher = DefaultHasher::new();
    url.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Removes the tables of places that are not known any more and were not used for a while: of one that is being
/// opened for the first time it is not yet known what it holds. What cannot be removed stays.
fn remove_unknown(tables: &Path, known: &Known) {
    let names: Vec<String> = known.urls().iter().map(|url| place_name(url)).collect();
    for entry in std::fs::read_dir(tables).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNUSED_MAX));
        if is_old && !names.contains(&entry.file_name().to_string_lossy().into_owned()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Where the artifacts of a location are kept beside its repository, if they are.
pub(super) fn artifacts(
    spec: &LocationSpec,
    repository: &Repository,
) -> Result<Option<Arc<dyn ObjectStore>>> {
    if spec.repository_path.is_empty() {
        return Ok(None);
    }
    let store = open_store_with(&spec.url, options(spec))?;
    store.set_capabilities(repository.capabilities());
    Ok(Some(store))
}

/// What the store is opened with besides its URL.
fn options(spec: &LocationSpec) -> StoreOptions {
    StoreOptions {
        credentials: spec.keys.as_ref().map(S3Credentials::from),
        ca_pem: spec.ca_pem.clone(),
    }
}

fn unlock(secret: &RepositorySecret) -> Unlock {
    match secret {
        RepositorySecret::Passphrase(text) => Unlock::Passphrase(text.clone()),
        RepositorySecret::KeyFile(bytes) => Unlock::KeyFile(bytes.clone()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn opener(directory: &Path) -> Arc<Opener> {
        std::fs::create_dir_all(directory).unwrap();
        let unlock = Unlock::KeyFile(vec![7; 32]);
        Arc::new(Opener::new(Some(unlock), directory))
    }

    #[tokio::test]
    async fn opening_goes_on_when_nobody_waits_for_it() {
        let place = tempfile::tempdir().unwrap();
        let opener = opener(&place.path().join("state"));
        let spec = LocationSpec {
            url: place.path().join("repo").display().to_string(),
            ..LocationSpec::default()
        };
        let mut slot = None;
        let wait = Opening::wait(&mut slot, &opener, (&spec, 1));
        assert!(timeout(Duration::ZERO, wait).await.is_err());
        let begun = slot.as_ref().unwrap().begun;
        let wait = Opening::wait(&mut slot, &opener, (&spec, 1));
        assert!(timeout(Duration::ZERO, wait).await.is_err());
        assert_eq!(slot.as_ref().unwrap().begun, begun);
        // Another record may be of another place.
        let wait = Opening::wait(&mut slot, &opener, (&spec, 2));
        assert!(timeout(Duration::ZERO, wait).await.is_err());
        assert_ne!(slot.as_ref().unwrap().begun, begun);
        let opened = Opening::wait(&mut slot, &opener, (&spec, 2)).await.unwrap();
        let again = Opening::wait(&mut slot, &opener, (&spec, 2)).await.unwrap();
        assert!(Arc::ptr_eq(&opened, &again));
        let changed = Opening::wait(&mut slot, &opener, (&spec, 3)).await.unwrap();
        assert!(!Arc::ptr_eq(&opened, &changed) && opened.id() == changed.id());
        let nowhere = LocationSpec {
            url: "/proc/none".to_owned(),
            ..LocationSpec::default()
        };
        assert!(
            Opening::wait(&mut slot, &opener, (&nowhere, 4))
                .await
                .is_err()
        );
        assert!(slot.is_none());
    }

    #[tokio::test]
    async fn tables_of_places_that_are_gone_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        let url = place.path().join("repo").display().to_string();
        let spec = LocationSpec {
            url: url.clone(),
            ..LocationSpec::default()
        };
        let before = opener(&state);
        before.open(&spec).await.unwrap();
        let known = place_name(&url);
        for name in [&*known, "0011223344", "5566778899"] {
            let path = state.join("index").join(name);
            std::fs::create_dir_all(&path).unwrap();
            let ten_days = std::time::SystemTime::now() - Duration::from_hours(240);
            if name != "5566778899" {
                let directory = std::fs::File::open(&path).unwrap();
                directory.set_modified(ten_days).unwrap();
            }
        }
        let there = |name: &str| state.join("index").join(name).exists();
        let after = opener(&state);
        assert!(there(&known) && !there("0011223344") && there("5566778899"));
        after.forget(&spec);
        opener(&state);
        assert!(!there(&known));
    }
}
