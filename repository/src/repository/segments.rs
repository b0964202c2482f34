//! The index in memory, kept in step with the log.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
};

use futures_util::future::join_all;

use super::Repository;
use crate::{
    error::{Error, Result},
    index::{Index, Segment, SegmentBuilder},
    log, pack,
    protocol::LogState,
};

/// Segments that are read at once.
const AT_ONCE: usize = 16;

/// The index and what it was made of.
#[derive(Default)]
pub(super) struct IndexState {
    index: Index,
    /// Segments that are in the index, with the packs that they name.
    loaded: HashMap<String, Arc<[Arc<str>]>>,
    /// Packs that are in the index.
    packs: HashSet<Arc<str>>,
    /// A segment that was lost and made again from what packs could be read.
    guessed: Option<String>,
    /// The entry of the log that the packs' standing was last told from; `None` if there are packs that
    /// were never told.
    judged: Option<u64>,
}

impl IndexState {
    fn add(&mut self, name: String, segment: Segment) {
        // A pack is whole in every segment that names it. One that is known came from a segment that
        // this one replaces, or from a session that was adopted.
        let names: Arc<[Arc<str>]> = segment.packs().cloned().collect();
        let segment = if names.iter().any(|pack| self.packs.contains(pack)) {
            let packs = &self.packs;
            segment
                .filtered(|pack| !packs.contains(pack))
                .into_segment()
        } else {
            segment
        };
        self.packs.extend(names.iter().cloned());
        self.judged = None;
        self.index.add(segment);
        self.loaded.insert(name, names);
    }

    /// Drops the segments for which `keep` is false, and the packs that no other one names: they were
    /// deleted, be it long ago.
    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.loaded.retain(|name, _| keep(name));
        let named: HashSet<&Arc<str>> = self.loaded.values().flat_map(|p| p.iter()).collect();
        self.packs.retain(|pack| named.contains(pack));
        self.index.retain(|pack| named.contains(pack));
    }
}

impl Repository {
    /// Brings the index up to the log.
    pub(super) async fn load_segments(&self, state: &mut LogState) -> Result<()> {
        let mut lost: Vec<String> = Vec::new();
        loop {
            let missing: Vec<String> = self.read_index(|index| {
                let new = state.segments.iter();
                let new = new.filter(|name| !index.loaded.contains_key(*name));
                new.filter(|name| !lost.contains(*name))
                    .take(AT_ONCE)
                    .cloned()
                    .collect()
            });
            if missing.is_empty() {
                break;
            }
            let segments = join_all(missing.iter().map(|name| self.read_segment(name))).await;
            for (name, segment) in missing.into_iter().zip(segments) {
                let segment = match segment {
                    Ok(segment) => segment,
                    Err(Error::Damaged { reason, .. }) => {
                        // It may have been replaced since the log was read.
                        log::replay(&*self.store, &self.keys.mac(), state).await?;
                        if !state.segments.contains(&name) {
                            break;
                        }
                        tracing::error!(
                            name,
                            reason,
                            "an index segment is lost: it is made again from its packs; run `orlop repo repair`"
                        );
                        lost.push(name);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                self.write_index(|index| index.add(name, segment));
            }
        }
        lost.retain(|name| state.segments.contains(name));
        if let Some((first, others)) = lost.split_first() {
            let segment = self.segment_from_packs(state).await?;
            self.write_index(|index| {
                index.guessed = Some(first.clone());
                index.add(first.clone(), segment);
                for name in others {
                    index.add(name.clone(), SegmentBuilder::default().into_segment());
                }
            });
        }
        // What was replaced by others is not needed any more.
        if self.read_index(|index| index.loaded.len() > state.segments.len()) {
            let current: HashSet<&str> = state.segments.iter().map(String::as_str).collect();
            self.write_index(|index| index.retain(|name| current.contains(name)));
        }
        if self.read_index(|index| index.judged != Some(state.judged)) {
            self.write_index(|index| {
                index.index.judge(state);
                index.judged = Some(state.judged);
            });
        }
        Ok(())
    }

    /// A segment that the log names.
    pub(crate) async fn read_segment(&self, name: &str) -> Result<Segment> {
        let bytes = self.named_by_log(name).await?;
        pack::scrub(name, &bytes)?;
        let (_, session) = pack::parse_name(name)?;
        Segment::decode(name, &bytes, &self.keys.session(session))
    }

    /// What lost segments held, as far as the packs tell that no other segment names.
    async fn segment_from_packs(&self, state: &LogState) -> Result<Segment> {
        let mut again = SegmentBuilder::default();
        for class in ["m/", "p/"] {
            let unnamed: Vec<_> = {
                let objects = self.store.list(class).await?;
                let known = |name: &str| self.read_index(|index| index.packs.contains(name));
                let unnamed = objects.into_iter();
                unnamed
                    .filter(|o| !known(&o.name) && !state.dead.contains(&o.name))
                    .collect()
            };
            for batch in unnamed.chunks(AT_ONCE) {
                let tables = batch.iter().map(|o| self.read_pack_table(&o.name, o.size));
                for (object, table) in batch.iter().zip(join_all(tables).await) {
                    match table {
                        Ok(table) => again.push(object.name.clone(), &table),
                        Err(error) => tracing::error!(%error, "a pack is lost"),
                    }
                }
            }
        }
        tracing::info!(chunks = again.len(), "made lost segments again");
        Ok(again.into_segment())
    }

    /// Reads the whole index again.
    pub(crate) async fn reload_index(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        self.write_index(|index| *index = IndexState::default());
        self.load_segments(&mut state).await
    }

    /// The frame table of a pack of `size` bytes.
    pub(crate) async fn read_pack_table(
        &self,
        name: &str,
        size: u64,
    ) -> Result<Vec<pack::TableEntry>> {
        let key = self.keys.session(pack::parse_name(name)?.1);
        let end = pack::Ending::of(size);
        let bytes = self.store.get_range(name, end.offset, end.len).await?;
        let end = end.open(name, &bytes, &key)?;
        let sealed = self.store.get_range(name, end.offset, end.len).await?;
        pack::open_table(name, &sealed, end, &key)
    }

    fn write_index<T>(&self, write: impl FnOnce(&mut IndexState) -> T) -> T {
        write(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_index<T>(&self, read: impl FnOnce(&IndexState) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        self.read_index(|state| read(&state.index))
    }

    /// Refuses to go on where the index may lack packs: what it lacks would look like garbage.
    pub(crate) fn prove_index_whole(&self) -> Result<()> {
        self.read_index(|index| match &index.guessed {
            Some(name) => Err(Error::Unmarked {
                source: Box::new(Error::damaged(name, "it was made again from its packs")),
            }),
            None => Ok(()),
        })
    }

    /// The packs that each segment names.
    pub(crate) fn segment_packs(&self) -> HashMap<String, Arc<[Arc<str>]>> {
        self.read_index(|state| state.loaded.clone())
    }

    /// Tells the index that `added`, with the packs that it names, holds what `removed` held, so that
    /// nothing is read again, and gives back the memory of deleted packs.
    pub(crate) fn segments_replaced(
        &self,
        removed: &[String],
        added: Vec<(String, Vec<Arc<str>>)>,
    ) {
        self.write_index(|state| {
            for name in removed {
                state.loaded.remove(name);
            }
            for (name, packs) in added {
                state.loaded.insert(name, packs.into());
            }
            state.retain(|_| true);
        });
    }
}
