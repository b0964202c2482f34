//! Objects as files of a directory: local disk or NFS.
//!
//! A put writes `tmp/<random>`, makes its data durable, and renames it to its name without replacing
//! (a hard link where the file system cannot do that). Directories are made durable at once for
//! [`Durability::Now`], else by the next barrier.

mod files;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use files::{make_dir, publish, sync_dir, write_file};

use super::{Durability, ObjectInfo, ObjectStore, Put, buffers::Buffers, check_name, check_prefix};
use crate::{
    error::{Error, Result},
    secret::{hex, random_bytes},
};

const TMP: &str = "tmp";
/// A file in there that nobody has written to for so long is of a writer that was killed.
const ABANDONED: Duration = Duration::from_hours(24);

/// A directory that holds objects. It is created by the first put.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Directories with renames that are not durable yet.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    /// Directories whose names this process has made durable.
    made: Mutex<BTreeSet<PathBuf>>,
    barrier: Mutex<()>,
    buffers: Arc<Buffers>,
}

/// Which bytes of an object.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    All,
    /// So many at an offset.
    Range(u64, u64),
    /// At an offset as many as there are, at most so many.
    UpTo(u64, u64),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DirectoryStore {
    /// The store in `root`, which need not exist yet.
    pub fn new(root: PathBuf) -> Self {
        Self {
            inner: Arc::new(Inner {
                root,
                unsynced: Mutex::default(),
                made: Mutex::default(),
                barrier: Mutex::default(),
                buffers: Arc::default(),
            }),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| Error::System {
                action: "run a file operation",
                source: io::Error::other(e),
            })?
    }
}

impl Inner {
    fn store(&self) -> String {
        self.root.display().to_string()
    }

    fn fail(&self, action: &'static str, name: &str) -> impl FnOnce(io::Error) -> Error {
        let (name, store) = (name.to_owned(), self.store());
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { name, store },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::Full { name, store }
            }
            _ => Error::Store {
                action,
                name,
                store,
                source,
            },
        }
    }

    fn put(&self, name: &str, parts: &[Bytes], durability: Durability) -> Result<Put> {
        check_name(name)?;
        let path = self.root.join(name);
        let directory = path
            .parent()
            .expect("an object's name has a directory")
            .to_owned();
        if path.symlink_metadata().is_ok() {
            self.settle(directory, name, durability)?;
            return Ok(Put::Exists);
        }
        self.make_dir(&self.root.join(TMP))
            .map_err(self.fail("make the directory of", name))?;
        self.make_dir(&directory)
            .map_err(self.fail("make the directory of", name))?;
        let temporary = self.root.join(TMP).join(hex(&random_bytes::<12>()?));
        let result = write_file(&temporary, parts)
            .and_then(|()| publish(&temporary, &path))
            .map_err(self.fail("write", name));
        if !matches!(result, Ok(Put::Created)) {
            // Gone already, or garbage that [`Inner::sweep`] removes.
            let _ = fs::remove_file(&temporary);
        }
        let put = result?;
        self.settle(directory, name, durability)?;
        Ok(put)
    }

    /// Makes the name of an object durable, now or at the next barrier. One that exists may have been
    /// put by a call that failed just there, so it is settled too.
    fn settle(&self, directory: PathBuf, name: &str, durability: Durability) -> Result<()> {
        match durability {
            Durability::Now => sync_dir(&directory).map_err(self.fail("make durable", name)),
            Durability::Barrier => {
                lock(&self.unsynced).insert(directory);
                Ok(())
            }
        }
    }

    /// Makes a directory, and its name durable: once in this process, as another may have made it and
    /// not come to that.
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        if lock(&self.made).contains(path) {
            return Ok(());
        }
        make_dir(path)?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        lock(&self.made).insert(path.to_owned());
        Ok(())
    }

    fn get(&self, name: &str, wanted: Wanted) -> Result<Bytes> {
        check_name(name)?;
        let file = File::open(self.root.join(name)).map_err(self.fail("open", name))?;
        let size = file.metadata().map_err(self.fail("stat", name))?.len();
        let (offset, len) = match wanted {
            Wanted::All => (0, size),
            Wanted::Range(offset, len) => (offset, len),
            Wanted::UpTo(offset, max_len) => {
                let offset = offset.min(size);
                (offset, max_len.min(size - offset))
            }
        };
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(Error::damaged(
                name,
                format!("it has {size} bytes, {len} at {offset} were wanted"),
            ));
        }
        self.buffers
            .filled(len as usize, |bytes| file.read_exact_at(bytes, offset))
            .map_err(self.fail("read", name))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        check_prefix(prefix)?;
        let mut found = Vec::new();
        let mut todo = vec![prefix.trim_end_matches('/').to_owned()];
        while let Some(directory) = todo.pop() {
            let entries = match fs::read_dir(self.root.join(&directory)) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(self.fail("list", &directory)(e)),
            };
            for entry in entries {
                let entry = entry.map_err(self.fail("list", &directory))?;
                let Ok(leaf) = entry.file_name().into_string() else {
                    continue;
                };
                let name = if directory.is_empty() {
                    leaf
                } else {
                    format!("{directory}/{leaf}")
                };
                if check_name(&name).is_err() {
                    continue;
                }
                let kind = entry.file_type().map_err(self.fail("stat", &name))?;
                if kind.is_dir() {
                    todo.push(name);
                } else if kind.is_file() {
                    match entry.metadata() {
                        Ok(meta) => found.push(ObjectInfo {
                            name,
                            size: meta.len(),
                        }),
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(self.fail("stat", &name)(e)),
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn sweep(&self) -> Result<u64> {
        let entries = match fs::read_dir(self.root.join(TMP)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(self.fail("list", TMP)(e)),
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(self.fail("list", TMP))?;
            // One that is gone was another writer's.
            let Ok(meta) = entry.metadata() else { continue };
            let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
            if meta.is_file()
                && age.is_some_and(|age| age > ABANDONED)
                && fs::remove_file(entry.path()).is_ok()
            {
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn barrier(&self) -> Result<()> {
        // One at a time: who comes second must not return before what the first took is durable.
        let _turn = lock(&self.barrier);
        let directories = std::mem::take(&mut *lock(&self.unsynced));
        for directory in &directories {
            if let Err(e) = sync_dir(directory) {
                let error = self.fail("make durable", &directory.display().to_string())(e);
                lock(&self.unsynced).extend(directories);
                return Err(error);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        let name = name.to_owned();
        self.blocking(move |inner| inner.put(&name, &parts, durability))
            .await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let name = name.to_owned();
        self.blocking(move |inner| inner.get(&name, Wanted::All))
            .await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        let name = name.to_owned();
        self.blocking(move |inner| inner.get(&name, Wanted::Range(offset, len)))
            .await
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        let name = name.to_owned();
        self.blocking(move |inner| inner.get(&name, Wanted::UpTo(offset, max_len)))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let prefix = prefix.to_owned();
        self.blocking(move |inner| inner.list(&prefix)).await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        let name = name.to_owned();
        self.blocking(move |inner| {
            check_name(&name)?;
            match fs::symlink_metadata(inner.root.join(&name)) {
                Ok(meta) => Ok(Some(ObjectInfo {
                    name,
                    size: meta.len(),
                })),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(inner.fail("stat", &name)(e)),
            }
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.blocking(move |inner| {
            check_name(&name)?;
            match fs::remove_file(inner.root.join(&name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    Err(inner.fail("delete", &name)(e))
                }
                _ => Ok(()),
            }
        })
        .await
    }

    async fn barrier(&self) -> Result<()> {
        self.blocking(Inner::barrier).await
    }

    async fn settle(&self, names: &[String]) -> Result<()> {
        for name in names {
            check_name(name)?;
            let path = self.inner.root.join(name);
            let directory = path.parent().expect("an object's name has a directory");
            let directory = directory.to_owned();
            self.inner.settle(directory, name, Durability::Barrier)?;
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<u64> {
        self.blocking(Inner::sweep).await
    }

    fn description(&self) -> String {
        self.inner.store()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(DirectoryStore::new(directory.path().join("a/b")));
        crate::store::contract::check(store).await;
    }

    #[tokio::test]
    async fn no_temporary_file_stays_behind() {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(directory.path().to_owned());
        for _ in 0..2 {
            store
                .put("log/1", vec![Bytes::from_static(b"x")], Durability::Now)
                .await
                .unwrap();
        }
        assert_eq!(fs::read_dir(directory.path().join(TMP)).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_killed_writers_left_is_removed_and_what_is_young_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(directory.path().to_owned());
        assert_eq!(store.sweep().await.unwrap(), 0);
        fs::create_dir(directory.path().join(TMP)).unwrap();
        for (name, hours) in [("old", 30), ("young", 1)] {
            let file = File::create(directory.path().join(TMP).join(name)).unwrap();
            let then = std::time::SystemTime::now() - Duration::from_hours(hours);
            file.set_modified(then).unwrap();
        }
        assert_eq!(store.sweep().await.unwrap(), 1);
        assert!(!directory.path().join("tmp/old").exists());
        assert!(directory.path().join("tmp/young").exists());
    }
}
