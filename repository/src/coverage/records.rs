//! Verification records in the store.

use std::collections::HashSet;

use futures_util::future::join_all;
use orlop_core::SnapshotId;

use super::{Coverage, PackKey, open_record, pack_key, seal_record};
use crate::{
    clock::now_ms,
    error::{Error, Result},
    repository::Repository,
    secret::random_bytes,
    store::Durability,
};

/// Records that are read or removed at once.
const AT_ONCE: usize = 16;

/// All records of a repository.
#[derive(Default)]
pub(crate) struct Loaded {
    /// What they add up to.
    pub(crate) coverage: Coverage,
    /// Names of those that were read.
    pub(crate) names: Vec<String>,
    /// Those that cannot be read: they count for nothing.
    pub(crate) damaged: Vec<Error>,
}

impl Repository {
    /// Reads all records. One that is gone by the time was replaced by another that may not have been listed;
    /// then all are listed again.
    pub(crate) async fn load_coverage(&self) -> Result<Loaded> {
        for _ in 0..3 {
            if let Some(loaded) = self.try_load_coverage().await? {
                return Ok(loaded);
            }
        }
        // Others replace them all the time: what is missed is read again some day, no more.
        Ok(Loaded::default())
    }

    async fn try_load_coverage(&self) -> Result<Option<Loaded>> {
        let objects = self.store().list("v/").await?;
        let mut loaded = Loaded::default();
        for batch in objects.chunks(AT_ONCE) {
            let gets = batch
                .iter()
                .map(|object| self.store().get_fresh(&object.name));
            for (object, bytes) in batch.iter().zip(join_all(gets).await) {
                let record = match bytes {
                    Ok(bytes) => open_record(&self.keys, &object.name, &bytes),
                    Err(Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                };
                match record {
                    Ok(record) => {
                        loaded.coverage.add(&record);
                        loaded.names.push(object.name.clone());
                    }
                    Err(error) => loaded.damaged.push(error),
                }
            }
        }
        Ok(Some(loaded))
    }

    /// Writes records of what `coverage` holds; their names.
    pub(crate) async fn save_coverage(&self, coverage: &Coverage) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for content in coverage.encode() {
            let id = SnapshotId::new(now_ms().unsigned_abs(), random_bytes()?);
            let name = format!("v/{id}");
            let bytes = seal_record(&self.keys, &name, &content)?;
            let put = self.store().put(&name, vec![bytes.into()], Durability::Now);
            put.await?;
            names.push(name);
        }
        Ok(names)
    }

    /// Puts one record in the place of all, without packs that are gone, if there are more than `most`, or, with
    /// `clean`, if some pack is gone or a record cannot be read; such records are then removed. What others write
    /// meanwhile stays.
    ///
    /// Cut short it leaves records that say the same twice.
    pub(crate) async fn tidy_coverage(&self, most: usize, clean: bool) -> Result<()> {
        let Loaded {
            mut coverage,
            names,
            damaged,
        } = self.load_coverage().await?;
        let there: HashSet<PackKey> = self.with_index(|index| {
            let mut there = HashSet::new();
            index.each_pack(|_, pack, _| there.extend(pack_key(&pack.name)))?;
            Ok::<_, Error>(there)
        })?;
        let stale = coverage.retain(|key| there.contains(key));
        let untidy = clean && (stale || !damaged.is_empty());
        if names.len() <= most && !untidy {
            return Ok(());
        }
        if !coverage.is_empty() {
            self.save_coverage(&coverage).await?;
        }
        let damaged = damaged.into_iter().filter(|_| clean);
        let damaged = damaged.filter_map(|error| match error {
            Error::Damaged { name, .. } => Some(name),
            _ => None,
        });
        let old: Vec<String> = names.into_iter().chain(damaged).collect();
        for batch in old.chunks(AT_ONCE) {
            let removed = join_all(batch.iter().map(|name| self.store().delete(name))).await;
            removed.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }
}
