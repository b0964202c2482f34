//! Objects in this process's memory: for tests and trials.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{Durability, ObjectInfo, ObjectStore, Put, check_name, check_prefix};
use crate::error::{Error, Result};

/// A store that is gone with its process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces an object's bytes, as no user of the trait can: to test what damage does.
    #[cfg(feature = "testing")]
    pub fn overwrite(&self, name: &str, bytes: Bytes) {
        self.lock().insert(name.to_owned(), bytes);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, name: &str) -> Error {
        Error::NotFound {
            name: name.to_owned(),
            store: self.description(),
        }
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>, _durability: Durability) -> Result<Put> {
        check_name(name)?;
        let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        for part in &parts {
            whole.extend_from_slice(part);
        }
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Ok(Put::Exists);
        }
        objects.insert(name.to_owned(), whole.freeze());
        Ok(Put::Created)
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        check_name(name)?;
        self.lock()
            .get(name)
            .cloned()
            .ok_or_else(|| self.missing(name))
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        let whole = self.get(name).await?;
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= whole.len() as u64);
        let Some(end) = end else {
            return Err(Error::damaged(
                name,
                format!(
                    "it has {} bytes, {len} at {offset} were wanted",
                    whole.len()
                ),
            ));
        };
        Ok(whole.slice(offset as usize..end as usize))
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        let whole = self.get(name).await?;
        let start = offset.min(whole.len() as u64);
        let end = start.saturating_add(max_len).min(whole.len() as u64);
        Ok(whole.slice(start as usize..end as usize))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        check_prefix(prefix)?;
        let objects = self.lock();
        let found = objects
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix));
        Ok(found
            .map(|(name, bytes)| ObjectInfo {
                name: name.clone(),
                size: bytes.len() as u64,
            })
            .collect())
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        check_name(name)?;
        let size = self.lock().get(name).map(Bytes::len);
        Ok(size.map(|size| ObjectInfo {
            name: name.to_owned(),
            size: size as u64,
        }))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.lock().remove(name);
        Ok(())
    }

    async fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn description(&self) -> String {
        "memory".to_owned()
    }
}
