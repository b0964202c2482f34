//! A local copy of what was read or written: metadata that the next backup or listing needs again, so that
//! a far store is asked for little.
//!
//! Objects never change, so a copy is never stale; it may be of an object that was deleted since, which
//! only a reader that was too late sees. What a file holds is proven by the hash behind it. The cache may be
//! deleted at any time.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{Capabilities, Durability, ListPage, ObjectInfo, ObjectStore, Put};
use crate::{
    error::Result,
    secret::{hex, random_bytes},
};

/// Bytes of all copies above which the oldest go.
const QUOTA: u64 = 1 << 30;
/// Objects larger than this are not copied.
const MAX_OBJECT: u64 = 64 << 20;
const HASH: u64 = 32;
/// Where the index keeps its tables beside the copies: no object has such a name, and the quota is not for them.
pub(crate) const TABLES: &str = "tables";

/// A store with a local copy of its metadata.
pub struct CachedStore {
    inner: Arc<dyn ObjectStore>,
    cache: Arc<Cache>,
}

struct Cache {
    directory: PathBuf,
    /// Files whose hash was compared by this process.
    proven: Mutex<HashSet<PathBuf>>,
}

/// Whether objects of that name are copied: those that are read again and again.
fn is_kept(name: &str) -> bool {
    ["keys/", "log/", "i/", "s/", "r/", "m/"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

impl CachedStore {
    /// `inner` with copies below `directory`, which belongs to this repository alone. Copies that are too
    /// many are removed now, the oldest first.
    pub fn new(inner: Arc<dyn ObjectStore>, directory: PathBuf) -> Self {
        let cache = Cache {
            directory,
            proven: Mutex::default(),
        };
        cache.shrink(QUOTA);
        Self {
            inner,
            cache: Arc::new(cache),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let cache = Arc::clone(&self.cache);
        tokio::task::spawn_blocking(move || work(&cache))
            .await
            .ok()?
    }

    /// A part of the copy of an object; the range is cut at its end.
    async fn copy(&self, name: &str, offset: u64, len: u64) -> Option<Bytes> {
        if !is_kept(name) {
            return None;
        }
        let name = name.to_owned();
        self.blocking(move |cache| cache.read(&name, offset, len))
            .await
    }

    async fn keep(&self, name: &str, parts: Vec<Bytes>) {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if !is_kept(name) || len > MAX_OBJECT {
            return;
        }
        let name = name.to_owned();
        self.blocking(move |cache| cache.write(&name, &parts).ok())
            .await;
    }
}

impl Cache {
    fn path(&self, name: &str) -> Option<PathBuf> {
        super::check_name(name).ok()?;
        Some(self.directory.join(name))
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> Option<Bytes> {
        let path = self.path(name)?;
        let file = fs::File::open(&path).ok()?;
        let size = file.metadata().ok()?.len().checked_sub(HASH)?;
        let proven = |set: &Mutex<HashSet<PathBuf>>| {
            let set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.contains(&path)
        };
        if !proven(&self.proven) {
            if !is_whole(&file, size) {
                let _ = fs::remove_file(&path);
                return None;
            }
            let mut set = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
            set.insert(path.clone());
        }
        let len = len.min(size.checked_sub(offset)?);
        let mut bytes = BytesMut::zeroed(len as usize);
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes.freeze())
    }

    /// Writes a copy. It need not survive a crash: what is not whole is not used.
    fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<()> {
        let path = self.path(name).ok_or(io::ErrorKind::InvalidInput)?;
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
        let random = random_bytes::<8>().map_err(io::Error::other)?;
        let temporary = self.directory.join(format!("tmp-{}", hex(&random)));
        let result = (|| {
            let file = fs::File::create_new(&temporary)?;
            let (mut at, mut hasher) = (0, blake3::Hasher::new());
            for part in parts {
                hasher.update(part);
                file.write_all_at(part, at)?;
                at += part.len() as u64;
            }
            file.write_all_at(hasher.finalize().as_bytes(), at)?;
            fs::rename(&temporary, &path)
        })();
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn remove(&self, name: &str) {
        if let Some(path) = self.path(name) {
            let _ = fs::remove_file(path);
        }
    }

    /// Removes the oldest copies until `quota` bytes are left.
    fn shrink(&self, quota: u64) {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        collect_files(&self.directory, &mut files);
        let tables = self.directory.join(TABLES);
        files.retain(|(_, _, path)| !path.starts_with(&tables));
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        files.sort();
        for (_, size, path) in files {
            if total <= quota {
                return;
            }
            if fs::remove_file(path).is_ok() {
                total -= size;
            }
        }
    }
}

fn is_whole(file: &fs::File, size: u64) -> bool {
    let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    while at < size {
        let len = (size - at).min(buffer.len() as u64) as usize;
        if file.read_exact_at(&mut buffer[..len], at).is_err() {
            return false;
        }
        hasher.update(&buffer[..len]);
        at += len as u64;
    }
    let mut hash = [0; HASH as usize];
    file.read_exact_at(&mut hash, size).is_ok() && hasher.finalize() == blake3::Hash::from(hash)
}

fn collect_files(directory: &Path, found: &mut Vec<(SystemTime, u64, PathBuf)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        if meta.is_dir() {
            collect_files(&entry.path(), found);
        } else if let Ok(time) = meta.modified() {
            found.push((time, meta.len(), entry.path()));
        }
    }
}

#[async_trait]
impl ObjectStore for CachedStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        let put = self.inner.put(name, parts.clone(), durability).await?;
        // What exists may hold other bytes.
        if put == Put::Created {
            self.keep(name, parts).await;
        }
        Ok(put)
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        if let Some(bytes) = self.copy(name, 0, u64::MAX).await {
            return Ok(bytes);
        }
        let bytes = self.inner.get(name).await?;
        self.keep(name, vec![bytes.clone()]).await;
        Ok(bytes)
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        match self.copy(name, offset, len).await {
            Some(bytes) if bytes.len() as u64 == len => Ok(bytes),
            _ => self.inner.get_range(name, offset, len).await,
        }
    }

    async fn get_fresh(&self, name: &str) -> Result<Bytes> {
        self.inner.get_fresh(name).await
    }

    async fn get_copy(&self, name: &str) -> Option<Bytes> {
        self.copy(name, 0, u64::MAX).await
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        match self.copy(name, offset, max_len).await {
            Some(bytes) => Ok(bytes),
            None => self.inner.get_up_to(name, offset, max_len).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix).await
    }

    async fn list_page(&self, prefix: &str, cursor: Option<String>) -> Result<ListPage> {
        self.inner.list_page(prefix, cursor).await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.inner.stat(name).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let copy = name.to_owned();
        self.blocking(move |cache| {
            cache.remove(&copy);
            Some(())
        })
        .await;
        self.inner.delete(name).await
    }

    async fn barrier(&self) -> Result<()> {
        self.inner.barrier().await
    }

    async fn settle(&self, names: &[String]) -> Result<()> {
        self.inner.settle(names).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await
    }

    fn description(&self) -> String {
        self.inner.description()
    }

    async fn probe(&self) -> Result<Option<Capabilities>> {
        self.inner.probe().await
    }

    fn set_capabilities(&self, capabilities: Capabilities) {
        self.inner.set_capabilities(capabilities);
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_cached_store_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let store = CachedStore::new(Arc::new(MemoryStore::new()), directory.path().into());
        crate::store::contract::check(Arc::new(store)).await;
    }

    #[tokio::test]
    async fn a_copy_is_used_while_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let inner = Arc::new(MemoryStore::new());
        let store = CachedStore::new(inner.clone(), directory.path().into());
        for name in ["m/aa/x", "p/aa/x"] {
            store
                .put(name, vec!["some".into(), " bytes".into()], Durability::Now)
                .await
                .unwrap();
            inner.overwrite(name, "other bytes".into());
        }
        assert_eq!(store.get("m/aa/x").await.unwrap(), "some bytes");
        assert_eq!(store.get_range("m/aa/x", 5, 3).await.unwrap(), "byt");
        assert_eq!(store.get_copy("m/aa/x").await.unwrap(), "some bytes");
        assert_eq!(store.get_copy("p/aa/x").await, None);
        assert_eq!(
            store.get("p/aa/x").await.unwrap(),
            "other bytes",
            "data is not copied"
        );

        let again = CachedStore::new(inner.clone(), directory.path().into());
        assert_eq!(again.get("m/aa/x").await.unwrap(), "some bytes");
        for damage in [0, 4, 20] {
            let store = CachedStore::new(inner.clone(), directory.path().into());
            store.get("m/aa/x").await.unwrap();
            let path = directory.path().join("m/aa/x");
            let mut bytes = fs::read(&path).unwrap();
            bytes[damage] ^= 1;
            fs::write(&path, bytes).unwrap();
            let again = CachedStore::new(inner.clone(), directory.path().into());
            assert_eq!(again.get("m/aa/x").await.unwrap(), "other bytes");
        }
    }

    #[tokio::test]
    async fn the_oldest_copies_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = CachedStore::new(Arc::new(MemoryStore::new()), directory.path().into());
        for n in 0..10 {
            let body = vec![vec![n; 1000].into()];
            store
                .put(&format!("s/{n}"), body, Durability::Now)
                .await
                .unwrap();
            let file = fs::File::options()
                .write(true)
                .open(directory.path().join(format!("s/{n}")))
                .unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(n));
            file.set_modified(time).unwrap();
        }
        let tables = directory.path().join(TABLES);
        fs::create_dir(&tables).unwrap();
        fs::write(tables.join("1"), [0; 9000]).unwrap();
        store.cache.shrink(3500);
        assert!(tables.join("1").exists(), "the quota is not for tables");
        let left: Vec<bool> = (0..10)
            .map(|n| directory.path().join(format!("s/{n}")).exists())
            .collect();
        assert_eq!(left, [vec![false; 7], vec![true; 3]].concat());
    }
}
