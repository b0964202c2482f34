//! What a session takes over from earlier ones of its volume that never committed: a backup that was
//! killed and begins again uploads nothing twice.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, PoisonError},
};

use futures_util::future::join_all;

use super::Repository;
use crate::{
    error::Result,
    index::{Index, SegmentBuilder},
    pack,
    secret::{ChunkId, Key},
    session::{Location, SessionId},
    store::Durability,
};

/// Tables that are read at once.
const AT_ONCE: usize = 16;

/// Packs of earlier sessions that no committed segment names.
#[derive(Default)]
pub(crate) struct Adoption {
    index: Index,
    /// The same as a segment.
    packs: Vec<(String, Vec<pack::TableEntry>)>,
}

impl Repository {
    /// Finds what the sessions `from` have stored, for `session` to build upon.
    ///
    /// Whatever is found was there before; so nothing of it is lost while `session` is open: collection
    /// spares the packs of adopted sessions. Packs that are `doomed` are left out, and those that cannot be read; if
    /// `strict`, only those that are damaged.
    pub(super) async fn adopt(
        &self,
        session: SessionId,
        from: &[SessionId],
        doomed: &BTreeSet<String>,
        strict: bool,
    ) -> Result<()> {
        let from: HashSet<SessionId> = from.iter().copied().collect();
        let is_theirs = |name: &str| pack::parse_name(name).is_ok_and(|(_, of)| from.contains(&of));
        let mut indexed: HashSet<Arc<str>> = HashSet::new();
        self.with_index(|index| {
            index.each_pack(|_, pack, _| {
                if is_theirs(&pack.name) {
                    indexed.insert(pack.name.clone());
                }
            })
        })?;
        let mut packs = Vec::new();
        for class in ["m/", "p/"] {
            let found = self.store.list(class).await?;
            let found: Vec<_> = found
                .into_iter()
                .filter(|object| {
                    is_theirs(&object.name)
                        && !indexed.contains(&*object.name)
                        && !doomed.contains(&object.name)
                })
                .collect();
            for batch in found.chunks(AT_ONCE) {
                let tables = batch.iter().map(|o| self.read_pack_table(&o.name, o.size));
                for (object, table) in batch.iter().zip(join_all(tables).await) {
                    match table {
                        Ok(table) => packs.push((object.name.clone(), table)),
                        Err(error) if strict && !error.is_loss() => return Err(error),
                        Err(error) => tracing::warn!(%error, "a pack cannot be taken over"),
                    }
                }
            }
        }
        if packs.is_empty() {
            return Ok(());
        }
        // Their writer may have died before it made them durable.
        let names: Vec<String> = packs.iter().map(|(name, _)| name.clone()).collect();
        self.store.settle(&names).await?;
        tracing::info!(session, packs = packs.len(), "takes over what was stored");
        let mut builder = SegmentBuilder::default();
        for (name, table) in &packs {
            builder.push(name.clone(), table);
        }
        let mut index = Index::default();
        index.add(builder.into_segment());
        let adoption = Arc::new(Adoption { index, packs });
        self.adopted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(session, adoption);
        Ok(())
    }

    /// What a session has taken over.
    fn adoption(&self, session: SessionId) -> Option<Arc<Adoption>> {
        let adopted = self.adopted.lock();
        let adopted = adopted.unwrap_or_else(PoisonError::into_inner);
        adopted.get(&session).cloned()
    }

    /// Where a session finds chunks among what it has taken over.
    pub(super) fn adopted_places(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        places: &mut [Option<Location>],
    ) -> Result<()> {
        let Some(adoption) = self.adoption(session) else {
            return Ok(());
        };
        for (id, place) in ids.iter().zip(places) {
            if place.as_ref().is_none_or(|place| place.condemned) {
                let own = adoption.index.find(&id.prefix())?;
                *place = own.or(place.take());
            }
        }
        Ok(())
    }

    /// Stores an index segment of what a session has taken over; its name, if there is anything.
    ///
    /// A coordinator that was started again has to find it again first.
    pub(super) async fn store_adopted(
        &self,
        session: SessionId,
        from: &[SessionId],
        doomed: &BTreeSet<String>,
    ) -> Result<Option<String>> {
        if from.is_empty() {
            return Ok(None);
        }
        if self.adoption(session).is_none() {
            // What it was told to be there must not be left out for a store that is away.
            self.adopt(session, from, doomed, true).await?;
        }
        let Some(adoption) = self.adoption(session).filter(|a| !a.packs.is_empty()) else {
            return Ok(None);
        };
        let key = self.keys.session(session);
        let (name, bytes) = segment(&adoption, session, &key)?;
        self.store.barrier().await?;
        self.store
            .put(&name, vec![bytes.into()], Durability::Now)
            .await?;
        Ok(Some(name))
    }

    /// A checkpoint has made what the session had taken over part of the index: its next commit must not name it
    /// again.
    pub(super) fn adoption_is_committed(&self, session: SessionId) {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(adoption) = adopted.get_mut(&session) {
            *adoption = Arc::default();
        }
    }

    /// Forgets what a session that is not open any more had taken over.
    pub(super) fn drop_adoption(&self, session: SessionId) {
        self.adopted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&session);
    }
}

fn segment(adoption: &Adoption, session: SessionId, key: &Key) -> Result<(String, Vec<u8>)> {
    let mut builder = SegmentBuilder::default();
    for (name, table) in &adoption.packs {
        builder.push(name.clone(), table);
    }
    builder.finish(0, session, key)
}
