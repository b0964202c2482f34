//! Opening the repository of a location.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use orlop_core::{LocationSpec, RepositorySecret};
use orlop_repository::{
    Error, FileHead, InitOptions, ObjectStore, Order, Repository, Result, StoreOptions, Unlock,
    open_store_with, store::S3Credentials, url_below,
};
use tokio::sync::Mutex;

use super::known::{Known, Trouble};

/// Opens repositories.
pub(super) struct Opener {
    /// What opens a repository that has no secret of its own.
    unlock: Option<Unlock>,
    /// Which repository each place held when it was last open.
    known: Known,
    /// Directory of the heads of logs whose stores cannot make an order.
    heads_dir: PathBuf,
    /// Heads that are in use; of one log there is one in a process.
    heads: Mutex<HashMap<String, Weak<FileHead>>>,
}

impl Opener {
    /// Opens with `unlock` what says nothing of its own.
    pub(super) fn new(unlock: Option<Unlock>, directory: &Path) -> Self {
        Self {
            unlock,
            known: Known::new(directory.join("repositories.json")),
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
        let repository = match Repository::open(Arc::clone(&store), &unlock).await {
            Err(Error::NoRepository { .. }) if known.is_some() => {
                return Err(self.known.changed(&url, "holds none"));
            }
            Err(Error::NoRepository { .. }) if !spec.read_only => {
                match Repository::init(Arc::clone(&store), &unlock, InitOptions::default()).await {
                    // Another coordinator was faster.
                    Err(Error::RepositoryExists { .. }) => Repository::open(store, &unlock).await?,
                    made => made?,
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
