//! Where objects are kept: a flat namespace of immutable objects, each created once and whole.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};

mod buffers;
mod cache;
mod capabilities;
#[cfg(feature = "testing")]
pub mod contract;
mod directory;
#[cfg(feature = "testing")]
mod faulty;
mod memory;
mod retry;
mod s3;

pub use cache::CachedStore;
pub(crate) use cache::TABLES;
pub use capabilities::{Capabilities, ChecksumMode};
pub use directory::DirectoryStore;
#[cfg(feature = "testing")]
pub use faulty::{FaultyStore, Plan};
pub use memory::MemoryStore;
pub use retry::{RetryPolicy, RetryStore};
pub use s3::{S3Credentials, S3Store, S3Url};

/// An object's name and size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Full name.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}

/// Some of the objects below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// By name, and after those of the page before.
    pub objects: Vec<ObjectInfo>,
    /// What to ask the next page with; `None` after the last.
    pub next: Option<String>,
}

/// When a put must be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When `put` returns.
    Now,
    /// When the next `barrier` returns: cheaper for many objects.
    Barrier,
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Created,
    /// An object of that name exists; it was not touched.
    Exists,
}

/// A store of objects. Names are relative paths of `[A-Za-z0-9._-]` components joined by `/`.
///
/// All calls may run at once. Dropping a call's future cancels it: a put may then have happened or
/// not, but never in part.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Creates an object from `parts`, in order, unless one of that name exists. Readers see all of
    /// it or nothing; of racing puts of one name exactly one answers [`Put::Created`].
    ///
    /// # Errors
    /// The name is malformed or the store failed; the object may then exist nevertheless.
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put>;

    /// A whole object.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store failed.
    async fn get(&self, name: &str) -> Result<Bytes>;

    /// As [`Self::get`], but from the store itself where there is a local copy.
    ///
    /// # Errors
    /// As [`Self::get`].
    async fn get_fresh(&self, name: &str) -> Result<Bytes> {
        self.get(name).await
    }

    /// A whole object if there is a local copy of it: asks nothing of the store itself.
    async fn get_copy(&self, name: &str) -> Option<Bytes> {
        let _ = name;
        None
    }

    /// `len` bytes at `offset`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`] if the object is shorter; or the store failed.
    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes>;

    /// The bytes from `offset` on, as many as there are, at most `max_len`: none at or beyond the
    /// object's end. For who does not know the size, in one request where the store can do that.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store failed.
    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        let Some(found) = self.stat(name).await? else {
            return Err(Error::NotFound {
                name: name.to_owned(),
                store: self.description(),
            });
        };
        let len = found.size.saturating_sub(offset).min(max_len);
        if len == 0 {
            return Ok(Bytes::new());
        }
        self.get_range(name, offset, len).await
    }

    /// All objects whose names begin with `prefix`, which is empty or ends with `/`, by name.
    ///
    /// # Errors
    /// The store failed.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// One page of [`list`](Self::list): the first without a cursor, the next ones with that of the page
    /// before. A store may give everything in one page.
    ///
    /// # Errors
    /// The store failed.
    async fn list_page(&self, prefix: &str, cursor: Option<String>) -> Result<ListPage> {
        let objects = match cursor {
            None => self.list(prefix).await?,
            Some(_) => Vec::new(),
        };
        Ok(ListPage {
            objects,
            next: None,
        })
    }

    /// Size of an object, `None` if there is none.
    ///
    /// # Errors
    /// The store failed.
    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>>;

    /// Removes an object; one that does not exist is no error.
    ///
    /// # Errors
    /// The store failed.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Makes every put that returned before durable.
    ///
    /// # Errors
    /// The store failed; what was put since the last barrier may be lost.
    async fn barrier(&self) -> Result<()>;

    /// Makes the next barrier cover objects that another process put, which may have died before its own.
    ///
    /// # Errors
    /// The store failed.
    async fn settle(&self, names: &[String]) -> Result<()> {
        let _ = names;
        Ok(())
    }

    /// Removes what writers that were killed have left and no name leads to; the number of such files. What may be of
    /// a writer that still runs stays.
    ///
    /// # Errors
    /// The store failed.
    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }

    /// The place, for messages; never holds credentials.
    fn description(&self) -> String;

    /// Finds out what the store can do by trying, on objects below `probe/` that it deletes again;
    /// `None` if the kind of store leaves no doubt.
    ///
    /// # Errors
    /// The store failed.
    async fn probe(&self) -> Result<Option<Capabilities>> {
        Ok(None)
    }

    /// Tells the store what it was seen to do when its repository was made.
    fn set_capabilities(&self, _capabilities: Capabilities) {}
}

/// What a store on the network is opened with besides its URL.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// Keys; `None` for those of the environment.
    pub credentials: Option<S3Credentials>,
    /// Certificates in PEM of the authorities to trust; empty for the URL's file or those of the system.
    pub ca_pem: String,
}

/// Opens the store that `url` names: a directory, `file:///directory`, or `s3://bucket/prefix`. Only the
/// first call of a store on the network connects.
///
/// # Errors
/// The URL is not understood.
pub fn open_store(url: &str) -> Result<Arc<dyn ObjectStore>> {
    open_store_with(url, StoreOptions::default())
}

/// What begins the names of stores in other programs, where a colon follows.
const KINDS: [&str; 9] = [
    "azure", "b2", "gs", "rclone", "rest", "s3", "sftp", "swift", "opendal",
];

/// As [`open_store`], with keys and authorities of its own. A directory needs none of them.
///
/// # Errors
/// The URL is not understood.
pub fn open_store_with(url: &str, options: StoreOptions) -> Result<Arc<dyn ObjectStore>> {
    let fail = |reason: &str| {
        Err(Error::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if let Some(path) = url.strip_prefix("file://") {
        if !path.starts_with('/') {
            return fail("file:// needs an absolute path, as in file:///srv/backup");
        }
        return Ok(Arc::new(DirectoryStore::new(PathBuf::from(path))));
    }
    if S3Url::is_meant(url) {
        let store = Arc::new(S3Store::new(S3Url::parse(url)?).with_options(options));
        return Ok(Arc::new(RetryStore::new(store)));
    }
    if let Some((scheme, _)) = url.split_once("://") {
        return fail(&format!("stores of kind {scheme:?} are not known"));
    }
    if url.is_empty() {
        return fail("it is empty");
    }
    if let Some((scheme, _)) = url.split_once(':')
        && KINDS.contains(&scheme)
    {
        return fail(
            "a bucket's URL is s3://BUCKET/PREFIX?…; a directory of that name is meant by ./ before it",
        );
    }
    Ok(Arc::new(DirectoryStore::new(PathBuf::from(url))))
}

/// The URL of what is at `path` below `url`; an empty path is the URL itself.
pub fn url_below(url: &str, path: &str) -> String {
    if path.is_empty() {
        return url.to_owned();
    }
    // A directory's name may have a question mark, a bucket's URL ends with its parameters.
    let (place, rest) = match url.split_once('?') {
        Some((place, _)) if S3Url::is_meant(url) => (place, &url[place.len()..]),
        _ => (url, ""),
    };
    format!("{}/{path}{rest}", place.trim_end_matches('/'))
}

/// Whether `name` may name an object.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let component = |part: &str| {
        !part.is_empty()
            && part.len() <= 200
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    if name.len() <= 900 && name.split('/').all(component) && name.split('/').next() != Some("tmp")
    {
        Ok(())
    } else {
        Err(Error::Invalid(format!("{name:?} cannot name an object")))
    }
}

/// Whether `prefix` may be listed.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    match prefix.strip_suffix('/') {
        Some(directory) => check_name(directory),
        None if prefix.is_empty() => Ok(()),
        None => Err(Error::Invalid(format!(
            "{prefix:?} is no prefix: it must end with a slash"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_between_the_place_and_its_parameters() {
        for (url, path, wanted) in [
            ("/srv/store", "", "/srv/store"),
            ("/srv/store/", "kopia/orlop", "/srv/store/kopia/orlop"),
            ("/srv/what?", "a", "/srv/what?/a"),
            ("s3://b", "a/b", "s3://b/a/b"),
            (
                "s3://b/p/?region=x&profile=y",
                "a",
                "s3://b/p/a?region=x&profile=y",
            ),
        ] {
            assert_eq!(url_below(url, path), wanted);
        }
    }
}
