//! Whether all that tells of packs can be read, and tells of packs that are there.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{Check, CheckDepth, DamageKind, object_of};
use crate::{
    error::{Error, Result},
    index::{Index, PackEntry, Segment},
    keys::WrappedKey,
    log,
    mark::snapshot_id,
    pack,
    protocol::LogState,
    repository::Repository,
    secret::{Key, Prefix, Secret, hex},
    snapshot::{self, OpenedSnapshot},
};

/// Objects that are read at once.
const AT_ONCE: usize = 16;

impl Check {
    /// Every entry of the log is the one that was written, and follows the one before it.
    pub(super) async fn check_log(&mut self, state: &LogState) -> Result<()> {
        let mut replayed = LogState::new();
        let mut whole = true;
        let last = state.next;
        for first in (1..last).step_by(AT_ONCE) {
            self.go_on()?;
            let numbers: Vec<u64> = (first..last.min(first + AT_ONCE as u64)).collect();
            let names: Vec<String> = numbers.iter().map(|n| log::object_name(*n)).collect();
            let gets = names
                .iter()
                .map(|name| self.repository.store().get_fresh(name));
            for ((number, name), bytes) in numbers.iter().zip(&names).zip(join_all(gets).await) {
                let mac = self.repository.keys.mac();
                let read = bytes.and_then(|bytes| {
                    let entry = log::decode(*number, &bytes, &mac)?;
                    // Behind an entry that is lost each can only be proven by itself.
                    if whole {
                        log::follow(&mut replayed, entry, &bytes)
                    } else {
                        Ok(())
                    }
                });
                match read {
                    Ok(()) => {}
                    Err(error) if error.is_loss() => {
                        whole = false;
                        self.found(name, DamageKind::DamagedLog, None, None);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if whole && replayed.last_hash != state.last_hash {
            let name = log::object_name(last - 1);
            self.found(&name, DamageKind::DamagedLog, None, None);
        }
        self.looked_at(last - 1);
        Ok(())
    }

    /// Counts objects where they are not listed.
    fn looked_at(&mut self, objects: u64) {
        if self.options.depth == CheckDepth::Structure {
            self.objects += objects;
        }
    }

    /// Every wrapped key is the one that was stored.
    pub(super) async fn check_keys(&mut self) -> Result<()> {
        let keys = self.repository.store().list("keys/").await?;
        for key in &keys {
            let bytes = self.repository.store().get_fresh(&key.name).await;
            let read = bytes.and_then(|bytes| WrappedKey::decode_named(&key.name, &bytes));
            match read {
                // One that is missing was removed in this moment.
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) if error.is_loss() => {
                    self.found(&key.name, DamageKind::DamagedKey, None, None);
                }
                Err(error) => return Err(error),
            }
        }
        self.looked_at(keys.len() as u64);
        Ok(())
    }

    pub(super) fn check_records(&mut self) {
        for error in &self.loaded.damaged {
            self.found(&object_of(error), DamageKind::DamagedRecord, None, None);
        }
        self.looked_at((self.loaded.names.len() + self.loaded.damaged.len()) as u64);
    }

    pub(super) async fn check_roots(&mut self) -> Result<()> {
        let repository = &self.repository;
        for batch in self.commits.chunks(AT_ONCE) {
            self.go_on()?;
            let read = batch.iter().map(|commit| async move {
                let root = repository.prove_snapshot(&commit.snapshot).await.map(drop);
                [
                    root,
                    repository.prove_refset(&commit.refset).await.map(drop),
                ]
            });
            for (commit, read) in batch.iter().zip(join_all(read).await) {
                for error in read.into_iter().filter_map(Result::err) {
                    if !error.is_loss() {
                        return Err(error);
                    }
                    let (object, id) = (object_of(&error), snapshot_id(commit));
                    self.found(&object, DamageKind::DamagedSnapshot, None, id);
                }
            }
        }
        self.looked_at(2 * self.commits.len() as u64);
        Ok(())
    }

    pub(super) async fn check_segments(&mut self, segments: &[String]) -> Result<()> {
        for batch in segments.chunks(AT_ONCE) {
            self.go_on()?;
            let read = batch.iter().map(|name| self.repository.prove_segment(name));
            for read in join_all(read).await {
                match read {
                    Ok(_) => {}
                    Err(error) if error.is_loss() => {
                        self.found(&object_of(&error), DamageKind::DamagedIndex, None, None);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.looked_at(segments.len() as u64);
        Ok(())
    }

    /// Every needed chunk is indexed and, where that is looked at, every pack is there and long enough.
    pub(super) async fn check_places(&self) -> Result<()> {
        // What the index names is there, needed or not: a backup may build upon it at any time.
        let mut ends: BTreeMap<String, u64> = BTreeMap::new();
        let shallow = self.options.depth == CheckDepth::Structure;
        let find = |index: &Index, prefix: &Prefix| {
            let Some(place) = index.find(prefix)? else {
                self.found(&hex(prefix), DamageKind::MissingChunk, Some(*prefix), None);
                return Ok(());
            };
            let end = u64::from(place.offset) + u64::from(place.len);
            let size = self.sizes.get(&place.pack).copied().unwrap_or_default();
            if !shallow && size < end {
                let known = ends.entry(place.pack).or_default();
                *known = (*known).max(end);
            }
            Ok(())
        };
        self.repository
            .look_up_each(self.marked.ids.in_order(), find)
            .await?;
        if !shallow {
            self.go_on()?;
            self.repository.with_index(|index| {
                index.each_pack(|_, PackEntry { name, .. }, _| {
                    if !self.sizes.contains_key(&**name) {
                        ends.entry(name.to_string()).or_default();
                    }
                })
            })?;
        }
        for (name, end) in ends {
            // It may be newer than the listing.
            let kind = match self.repository.store().stat(&name).await? {
                None => DamageKind::MissingPack,
                Some(info) if info.size < end => DamageKind::DamagedPack,
                Some(_) => continue,
            };
            self.found(&name, kind, None, None);
        }
        Ok(())
    }
}

/// What the log names, read from the store itself.
impl Repository {
    pub(crate) async fn prove_segment(&self, name: &str) -> Result<Segment> {
        let bytes = self.proven_by_log(name).await?;
        let (_, session) = pack::parse_name(name)?;
        Segment::decode(name, &bytes, &self.keys.session(session))
    }

    pub(crate) async fn prove_snapshot(&self, name: &str) -> Result<OpenedSnapshot> {
        let bytes = self.proven_by_log(name).await?;
        snapshot::decode(&self.keys, name, &bytes)
    }

    pub(crate) async fn prove_refset(&self, name: &str) -> Result<(Key, Secret)> {
        let bytes = self.proven_by_log(name).await?;
        snapshot::decode_refset(&self.keys, name, &bytes)
    }
}
