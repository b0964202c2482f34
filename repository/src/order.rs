//! Who makes the order of the log where the store cannot: an object that is created only if it does not
//! exist is what writers agree by, and some stores overwrite it instead.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use rustix::fs::FlockOperation;

use crate::error::{Error, Result};

/// The newest entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub seq: u64,
    /// Its bytes: whoever finds it missing in the store puts it there.
    pub entry: Vec<u8>,
}

/// The head of a log, kept where it can be compared and swapped.
#[async_trait]
pub trait LogHead: Send + Sync {
    /// The head, `None` if there never was one.
    ///
    /// # Errors
    /// It cannot be read.
    async fn read(&self) -> Result<Option<Head>>;

    /// Puts `new` in the place of the head whose number is `expected` (`None`: of none). False if that is
    /// not the head; of racing calls with the same `expected` one at most answers true. It is durable
    /// when the call returns.
    ///
    /// # Errors
    /// It cannot be written; it may then be in place nevertheless.
    async fn swap(&self, expected: Option<u64>, new: Head) -> Result<bool>;
}

/// How the order of the log is made.
#[derive(Clone, Default)]
pub enum Order {
    /// By the store. Where it cannot, the repository is only read.
    #[default]
    Store,
    /// By a head kept elsewhere.
    Head(Arc<dyn LogHead>),
    /// By the caller's promise that nobody else writes. A broken promise is found out when it is too late
    /// for one of the writers, and stops all.
    Exclusive,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Store => "Store",
            Self::Head(_) => "Head",
            Self::Exclusive => "Exclusive",
        })
    }
}

/// A head in a file that one process holds locked.
#[derive(Debug)]
pub struct FileHead {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
    /// Taken while the head is compared and swapped.
    swapping: tokio::sync::Mutex<()>,
}

impl FileHead {
    /// Takes the head in `path`; `path` with `.lock` behind it is locked until this is dropped.
    ///
    /// # Errors
    /// Another process holds it, or the files cannot be opened.
    pub fn take(path: &Path) -> Result<Self> {
        let lock_path = path.with_added_extension("lock");
        let fail = |action| move |source| Error::System { action, source };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(fail("open the lock of the log's head"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
                swapping: tokio::sync::Mutex::default(),
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Invalid(format!(
                "another process writes this repository (it holds {}): end it first",
                lock_path.display()
            ))),
            Err(error) => Err(fail("lock the log's head")(error.into())),
        }
    }

    fn load(&self) -> io::Result<Option<Head>> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let (seq, entry) = bytes
            .split_first_chunk::<8>()
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(Head {
            seq: u64::from_le_bytes(*seq),
            entry: entry.to_vec(),
        }))
    }

    fn save(&self, head: &Head) -> io::Result<()> {
        let next = self.path.with_added_extension("new");
        let mut file = File::create(&next)?;
        file.write_all(&head.seq.to_le_bytes())?;
        file.write_all(&head.entry)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[async_trait]
impl LogHead for FileHead {
    async fn read(&self) -> Result<Option<Head>> {
        self.load().map_err(|source| Error::System {
            action: "read the log's head",
            source,
        })
    }

    async fn swap(&self, expected: Option<u64>, new: Head) -> Result<bool> {
        let fail = |source| Error::System {
            action: "write the log's head",
            source,
        };
        // No other process has it: the lock says so.
        let _swapping = self.swapping.lock().await;
        if self.load().map_err(fail)?.map(|head| head.seq) != expected {
            return Ok(false);
        }
        self.save(&new).map_err(fail)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_in_a_file_is_swapped_by_its_number_and_kept_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log-head");
        let head = FileHead::take(&path).unwrap();
        let entry = |seq: u64| Head {
            seq,
            entry: vec![seq as u8; 3],
        };
        assert_eq!(head.read().await.unwrap(), None);
        assert!(!head.swap(Some(1), entry(2)).await.unwrap());
        assert!(head.swap(None, entry(1)).await.unwrap());
        assert!(!head.swap(None, entry(1)).await.unwrap());
        assert!(head.swap(Some(1), entry(2)).await.unwrap());
        let error = FileHead::take(&path).unwrap_err().to_string();
        assert!(error.contains("log-head.lock"), "{error}");
        drop(head);
        let again = FileHead::take(&path).unwrap();
        assert_eq!(again.read().await.unwrap(), Some(entry(2)));
    }
}
