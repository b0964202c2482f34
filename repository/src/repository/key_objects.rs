//! The objects `keys/<id>`: what opens the repository, and how that changes.

use std::sync::PoisonError;

use futures_util::future::try_join_all;

use super::{Repository, blocking};
use crate::{
    clock::now_ms,
    error::{Error, Result},
    keys::{KeyKind, Unlock, WrappedKey},
    protocol::LogState,
    secret::Key,
    store::{Durability, ObjectStore},
};

/// What a repository was opened with.
#[derive(Clone)]
pub(super) struct OpenedBy {
    /// Name of the key object.
    pub(super) object: String,
    pub(super) unlock: Unlock,
}

/// A passphrase or key file that opens the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Id of the object, 32 hexadecimal digits.
    pub id: String,
    /// What opens it; `None` if the object is damaged.
    pub kind: Option<KeyKind>,
    /// What people call it; empty for nothing. Who can write to the store may have changed it.
    pub label: String,
    /// When it was added, milliseconds since 1970; 0 if unknown.
    pub created_ms: i64,
    /// Whether this process has opened the repository with it.
    pub in_use: bool,
    /// Whether a rotation left it behind: it does not open the repository any more.
    pub left_behind: bool,
}

/// A key object.
pub(super) struct KeyObject {
    pub(super) name: String,
    pub(super) wrapped: Result<WrappedKey>,
}

impl KeyObject {
    /// The root keys; `None` if they are wrapped for someone else.
    ///
    /// # Errors
    /// The object is damaged.
    pub(super) async fn unwrap(&self, unlock: &Unlock) -> Result<Option<Vec<Key>>> {
        let (name, unlock) = (self.name.clone(), unlock.clone());
        let wrapped = match &self.wrapped {
            Ok(wrapped) => wrapped.clone(),
            Err(error) => return Err(Error::damaged(&name, error.to_string())),
        };
        blocking(move || wrapped.unwrap(&name, &unlock)).await
    }

    /// Epochs whose root keys it holds.
    pub(super) fn epochs(&self) -> usize {
        self.wrapped.as_ref().map_or(0, WrappedKey::epochs)
    }

    pub(super) fn id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// All key objects, those of the newest epoch first, of these the newest.
pub(super) async fn read(store: &dyn ObjectStore) -> Result<Vec<KeyObject>> {
    let listed = store.list("keys/").await?;
    let read = listed.into_iter().map(|object| async move {
        match store.get(&object.name).await {
            Ok(bytes) => Ok(Some(KeyObject {
                wrapped: WrappedKey::decode_named(&object.name, &bytes),
                name: object.name,
            })),
            // Removed in this moment.
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    });
    let mut objects: Vec<KeyObject> = try_join_all(read).await?.into_iter().flatten().collect();
    objects.sort_by_key(|object| {
        let created = object.wrapped.as_ref().map_or(0, |w| w.created_ms);
        std::cmp::Reverse((object.epochs(), created))
    });
    Ok(objects)
}

impl Repository {
    pub(super) fn note_opened(&self, object: &str, unlock: &Unlock) {
        let mut opened = self
            .opened_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *opened = Some(OpenedBy {
            object: object.to_owned(),
            unlock: unlock.clone(),
        });
    }

    /// What the repository was opened with.
    pub(super) fn opened_by(&self) -> Option<OpenedBy> {
        let opened = self.opened_by.lock();
        opened.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the keys of epochs that the log tells of; where somebody else has rotated them, they are read from
    /// the new key objects with what opened the repository.
    ///
    /// # Errors
    /// [`Error::LeftBehind`]; or the key objects cannot be read.
    pub(super) async fn follow_keys(&self, state: &LogState) -> Result<()> {
        if state.read_keys.len() == self.keys.current() || self.keys.follow(&state.read_keys) {
            return Ok(());
        }
        let opened = self.opened_by();
        if let Some(opened) = &opened {
            for object in read(&*self.store).await? {
                if object.epochs() <= state.read_keys.len() {
                    break;
                }
                match object.unwrap(&opened.unlock).await {
                    Ok(Some(roots)) => self.keys.learn(roots),
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "a key cannot be used");
                        continue;
                    }
                }
                if self.keys.follow(&state.read_keys) {
                    self.note_opened(&object.name, &opened.unlock);
                    return Ok(());
                }
            }
        }
        Err(Error::LeftBehind {
            what: opened.map_or("key", |opened| opened.unlock.what()),
            store: self.store.description(),
        })
    }

    /// What opens the repository, the oldest first.
    ///
    /// # Errors
    /// The store or the log cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>> {
        self.refresh().await?;
        let mut found = Vec::new();
        for object in read(&*self.store).await? {
            found.push(self.describe(&object));
        }
        found.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(found)
    }

    fn describe(&self, object: &KeyObject) -> KeyInfo {
        let wrapped = object.wrapped.as_ref().ok();
        let opened = self.opened_by();
        KeyInfo {
            id: object.id().to_owned(),
            kind: wrapped.map(WrappedKey::opened_by),
            label: wrapped.map(|w| w.label.clone()).unwrap_or_default(),
            created_ms: wrapped.map_or(0, |w| w.created_ms),
            in_use: opened.is_some_and(|opened| opened.object == object.name),
            left_behind: wrapped.is_some() && object.epochs() <= self.keys.current(),
        }
    }

    /// Lets another passphrase or key file open the repository.
    ///
    /// # Errors
    /// It opens the repository already, it is no good (see the message), or the store failed.
    pub async fn add_key(&self, unlock: &Unlock, label: &str) -> Result<KeyInfo> {
        self.refresh().await?;
        for object in read(&*self.store).await? {
            if object.epochs() <= self.keys.current() {
                continue;
            }
            if let Ok(Some(_)) = object.unwrap(unlock).await {
                return Err(Error::Invalid(format!(
                    "this {} opens the repository already, as key {}",
                    unlock.what(),
                    object.id()
                )));
            }
        }
        let name = self.wrap_for(unlock, label, self.keys.roots()).await?;
        let objects = read(&*self.store).await?;
        let made = objects.iter().find(|object| object.name == name);
        made.map(|object| self.describe(object))
            .ok_or_else(|| Error::damaged(name, "it was removed as soon as it was stored"))
    }

    /// Stores a new key object; its name.
    pub(super) async fn wrap_for(
        &self,
        unlock: &Unlock,
        label: &str,
        roots: Vec<Key>,
    ) -> Result<String> {
        let (unlock, label) = (unlock.clone(), label.to_owned());
        let wrap = move || WrappedKey::wrap(&roots, &unlock, &label, now_ms());
        let (name, bytes) = blocking(wrap).await?;
        self.store
            .put(&name, vec![bytes.into()], Durability::Now)
            .await?;
        Ok(name)
    }

    /// Takes a key away, named by the beginning of its id. It opens the repository no more; but who has both
    /// it and a copy of its object still has the root keys of its epoch: [`Self::rotate`] makes those
    /// worthless for what is new.
    ///
    /// # Errors
    /// There is no such key, or several; it is the last one that opens the repository; it is the one in use,
    /// and `own` is not set; or the store failed.
    pub async fn remove_key(&self, id: &str, own: bool) -> Result<KeyInfo> {
        let keys = self.keys().await?;
        let mut named = keys.iter().filter(|key| key.id.starts_with(id));
        let key = match (named.next(), named.next()) {
            (Some(key), None) if id.len() >= 4 => key.clone(),
            (Some(_), _) => {
                return Err(Error::Invalid(format!(
                    "{id:?} does not name one key: give more characters of its id"
                )));
            }
            (None, _) => {
                return Err(Error::NotFound {
                    name: format!("keys/{id}"),
                    store: self.store.description(),
                });
            }
        };
        if key.in_use && !own {
            return Err(Error::Invalid(format!(
                "key {} is the one that this command uses: use another one, or say --own",
                key.id
            )));
        }
        let name = format!("keys/{}", key.id);
        let opens = |other: &&KeyInfo| other.kind.is_some() && !other.left_behind;
        let last = || {
            Error::Invalid(format!(
                "key {} is the last one that opens the repository: add another one first",
                key.id
            ))
        };
        if opens(&&key) && keys.iter().filter(opens).count() < 2 {
            return Err(last());
        }
        let bytes = match self.store.get(&name).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(key),
            Err(error) => return Err(error),
        };
        self.store.delete(&name).await?;
        // Somebody else may have removed the others at the same time.
        let left = self.keys().await?;
        if opens(&&key) && left.iter().filter(opens).count() == 0 {
            self.store.put(&name, vec![bytes], Durability::Now).await?;
            return Err(last());
        }
        Ok(key)
    }
}
