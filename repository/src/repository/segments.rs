//! The index, kept in step with the log.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLockWriteGuard},
};

use futures_util::future::join_all;

use super::{Repository, blocking};
use crate::{
    error::{Error, Result},
    index::{Index, IndexState, Limits, Segment, SegmentBuilder, TableDirectory},
    keys::KeyRing,
    log, pack,
    protocol::LogState,
    secret::Prefix,
};

/// Objects that are read at once.
const AT_ONCE: usize = 16;
/// Bytes of segments that are read at once, but for the first ones: of those it is not known how large they are.
const BYTES_AT_ONCE: usize = 32 << 20;
/// Chunks that are looked up in one state of the index.
const LOOKED_UP_AT_ONCE: usize = 1024;
/// Records of packs after which they are added to the index.
const GUESSED_AT_ONCE: usize = 256 << 10;

/// An index with tables below a directory, or in files without names.
pub(super) fn begin_index(keys: &KeyRing, tables: Option<PathBuf>) -> IndexState {
    let key = keys.mac().derive("tables", &[]);
    let directory = TableDirectory::new(tables, key, Limits::chosen());
    IndexState::begin(Arc::new(directory))
}

impl Repository {
    /// Keeps the tables of the index below `directory` from now on, and reads those that are there.
    pub(super) async fn use_tables(&self, directory: PathBuf) -> Result<()> {
        let keys = self.keys.clone();
        self.prove_tables(&directory).await?;
        let index = blocking(move || Ok(begin_index(&keys, Some(directory)))).await?;
        let _log = self.state.lock().await;
        self.install_made(true).await;
        self.write_index(|state| *state = index);
        Ok(())
    }

    /// Brings the index up to the log, which is locked. Readers see the index of before until a new one is whole.
    pub(super) async fn load_segments(&self, state: &mut LogState) -> Result<()> {
        self.install_made(false).await;
        self.drop_broken();
        let mut lost: Vec<String> = Vec::new();
        // How large they are shows with the first one.
        let mut at_once = 1;
        loop {
            let missing: Vec<String> = self.read_next(|index| {
                let new = state.segments.iter().filter(|name| !index.has(name));
                let new = new.filter(|name| !lost.contains(*name));
                new.take(at_once).cloned().collect()
            });
            if missing.is_empty() {
                break;
            }
            let read = join_all(missing.iter().map(|name| self.named_by_log(name))).await;
            let largest = read.iter().flatten().map(bytes::Bytes::len).max();
            at_once = (BYTES_AT_ONCE / largest.unwrap_or_default().max(1)).clamp(1, AT_ONCE);
            for (name, bytes) in missing.into_iter().zip(read) {
                let segment = bytes.and_then(|bytes| self.decode_segment(&name, &bytes));
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
                if let Err(error) = self.write_next(|index| index.add(name, segment)) {
                    if !self.drop_broken() {
                        return Err(error);
                    }
                    break;
                }
                self.make_tables(state).await;
            }
        }
        lost.retain(|name| state.segments.contains(name));
        if !lost.is_empty() {
            self.guess_segments(&lost, state).await?;
        }
        // What was replaced by others is not needed any more.
        if self.read_next(|index| index.segments() > state.segments.len()) {
            let current: HashSet<&str> = state.segments.iter().map(String::as_str).collect();
            self.write_next(|index| index.retain(|name| current.contains(name)));
        }
        if !self.read_next(|index| index.is_judged(state)) {
            self.write_next(|index| index.judge(state));
        }
        self.make_tables(state).await;
        if let Some(whole) = self.next_index().take() {
            self.write_index(|index| *index = whole);
        }
        Ok(())
    }

    /// Begins an index without the tables that turned out to be damaged; false if there are none. Until it knows
    /// everything again the one that is there stays: what it would find in a damaged table is an error.
    fn drop_broken(&self) -> bool {
        let next = self.read_next(|index| index.is_broken().then(|| index.without_broken()));
        let Some(next) = next else { return false };
        tracing::warn!("a local table of the index is damaged: it is made again");
        *self.next_index() = Some(next);
        true
    }

    /// A segment that the log names.
    pub(crate) async fn read_segment(&self, name: &str) -> Result<Segment> {
        let bytes = self.named_by_log(name).await?;
        self.decode_segment(name, &bytes)
    }

    fn decode_segment(&self, name: &str, bytes: &[u8]) -> Result<Segment> {
        let (_, session) = pack::parse_name(name)?;
        Segment::decode(name, bytes, &self.keys.session(session))
    }

    /// Adds what lost segments held, as far as the packs tell that no other segment names.
    async fn guess_segments(&self, lost: &[String], state: &LogState) -> Result<()> {
        let add = |name: &str, builder: SegmentBuilder| {
            self.write_next(|index| index.guess(name, builder.into_segment()))
        };
        for name in lost {
            add(name, SegmentBuilder::default())?;
        }
        let (mut again, mut chunks) = (SegmentBuilder::default(), 0);
        for class in ["m/", "p/"] {
            let unnamed: Vec<_> = {
                let objects = self.store.list(class).await?;
                let known = |name: &str| self.read_next(|index| index.names_pack(name));
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
                if again.len() >= GUESSED_AT_ONCE {
                    chunks += again.len();
                    add(&lost[0], std::mem::take(&mut again))?;
                    self.make_tables(state).await;
                }
            }
        }
        chunks += again.len();
        add(&lost[0], again)?;
        tracing::info!(chunks, "made lost segments again");
        Ok(())
    }

    /// Reads the whole index again.
    pub(crate) async fn reload_index(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        self.install_made(true).await;
        let directory = self.read_index(|index| Arc::clone(index.directory()));
        let index = blocking(move || Ok(IndexState::begin(directory))).await?;
        *self.next_index() = Some(index);
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

    fn next_index(&self) -> RwLockWriteGuard<'_, Option<IndexState>> {
        self.next_index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index that is being made, or else the one that is there.
    pub(super) fn write_next<T>(&self, write: impl FnOnce(&mut IndexState) -> T) -> T {
        match &mut *self.next_index() {
            Some(next) => write(next),
            None => self.write_index(write),
        }
    }

    pub(super) fn read_next<T>(&self, read: impl FnOnce(&IndexState) -> T) -> T {
        let next = self
            .next_index
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match &*next {
            Some(next) => read(next),
            None => self.read_index(read),
        }
    }

    fn write_index<T>(&self, write: impl FnOnce(&mut IndexState) -> T) -> T {
        write(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_index<T>(&self, read: impl FnOnce(&IndexState) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        self.read_index(|state| read(state.index()))
    }

    /// Looks something up; a local table that turns out to be damaged is made again first. The log must not be
    /// locked.
    pub(crate) async fn look_up<T: Send>(
        &self,
        read: impl Fn(&Index) -> Result<T> + Send,
    ) -> Result<T> {
        match self.with_index(&read) {
            Err(_) if self.read_index(IndexState::is_broken) => {
                self.refresh().await?;
                self.with_index(&read)
            }
            other => other,
        }
    }

    /// Looks up many chunks, each batch in one state of the index: whoever changes it need not wait long. In order
    /// the blocks of the index are read once each.
    ///
    /// # Errors
    /// Of `ids` or of `read`, which is not called again then.
    pub(crate) async fn look_up_each(
        &self,
        mut ids: impl Iterator<Item = Result<Prefix>> + Send,
        mut read: impl FnMut(&Index, &Prefix) -> Result<()> + Send,
    ) -> Result<()> {
        loop {
            let batch: Vec<Prefix> = ids
                .by_ref()
                .take(LOOKED_UP_AT_ONCE)
                .collect::<Result<_>>()?;
            if batch.is_empty() {
                return Ok(());
            }
            self.with_index(|index| batch.iter().try_for_each(|id| read(index, id)))?;
            tokio::task::yield_now().await;
        }
    }

    /// Whether the index names a pack that is not deleted.
    pub(crate) fn has_pack(&self, name: &str) -> bool {
        self.read_index(|index| index.has_pack(name))
    }

    /// Of these packs those that are not in the store. Chunks that are in others, too, are read there from now on.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn find_missing(&self, packs: BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut missing = BTreeSet::new();
        for pack in packs {
            if self.store.stat(&pack).await?.is_none() {
                tracing::warn!(pack, "a pack is missing: run `orlop repo check`");
                missing.insert(pack);
            }
        }
        if !missing.is_empty() {
            let miss = |index: &mut IndexState| index.miss(missing.iter().map(String::as_str));
            self.write_index(miss);
            if let Some(next) = &mut *self.next_index() {
                miss(next);
            }
        }
        Ok(missing)
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

    /// The segments among `segments` that may name one of `packs`, or of which that is not known.
    pub(crate) fn segments_naming<'p>(
        &self,
        segments: &[String],
        packs: impl Iterator<Item = &'p String>,
    ) -> HashSet<String> {
        self.read_index(|state| {
            let mut naming = state.naming(packs);
            let unknown = segments.iter().filter(|name| !state.has(name));
            naming.extend(unknown.cloned());
            naming
        })
    }

    /// Tells the index that `added`, with the packs that it names, holds what `removed` held, so that
    /// nothing is read again, and gives back the memory of deleted packs.
    /// The log must be locked.
    pub(crate) async fn segments_replaced(
        &self,
        removed: &[String],
        added: Vec<(String, Arc<[u64]>)>,
    ) {
        self.install_made(false).await;
        self.write_index(|state| state.replaced(removed, added));
    }
}
