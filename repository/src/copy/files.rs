//! The entries of a snapshot in listing order: what they need is copied, group by group.

use orlop_core::Progress;

use super::{
    Copier, CopyReport,
    base::Base,
    chunks::{Chunks, Order, Slice},
};
use crate::{
    error::{Error, Result},
    manifest::{ChildRef, Content, Entry, Extent, ExtentList, StatRecord},
    session::{
        CommitInfo, ManifestWriter, ParentCursor, ReadSession, WriteKeys, WriteSession, Writer,
    },
    snapshot::{self, SnapshotInfo, SnapshotState, SnapshotStats},
};

/// A group ends at so many entries, extents, or bytes that are to be read.
const ENTRIES: usize = 4096;
const EXTENTS: usize = 1 << 16;
const BYTES: u64 = 128 << 20;
/// What a bundle may have, about.
const BUNDLE_BYTES: u64 = 2 << 20;
/// Extents of a long list that are copied together.
const STRETCH: usize = 256;

/// An entry whose turn will come.
struct Waiting {
    entry: Entry,
    stat: StatRecord,
    /// Its content is the other repository's already.
    ready: bool,
}

/// What a copy is made of, and with.
pub(super) struct Files<'s> {
    copier: &'s Copier,
    source: &'s ReadSession,
    target: &'s WriteSession,
    info: &'s SnapshotInfo,
    bases: Vec<Base<'s>>,
    stats: Option<ParentCursor>,
    chunks: Chunks<'s>,
    manifest: ManifestWriter<'s>,
    writer: Writer<'s>,
    group: Vec<Waiting>,
    order: Order,
    extents: usize,
    bytes: u64,
    done: Progress,
    /// What is in the manifest so far.
    covered: SnapshotStats,
    checkpointed: u64,
}

impl<'s> Files<'s> {
    pub(super) fn new(
        copier: &'s Copier,
        source: &'s ReadSession,
        target: &'s WriteSession,
        info: &'s SnapshotInfo,
        bases: Vec<Base<'s>>,
    ) -> Result<Self> {
        let stats = &info.stats;
        Ok(Self {
            copier,
            source,
            target,
            info,
            bases,
            stats: records(copier, source, info)?,
            chunks: Chunks::new(source, target),
            manifest: target.manifest()?,
            writer: target.writer()?,
            group: Vec::new(),
            order: Order::default(),
            extents: 0,
            bytes: 0,
            done: Progress {
                entries_total: stats.files + stats.dirs + stats.others,
                bytes_total: stats.logical_bytes,
                ..Progress::default()
            },
            covered: SnapshotStats::default(),
            checkpointed: 0,
        })
    }

    pub(super) fn copy(mut self) -> Result<CopyReport> {
        for entry in self.source.entries() {
            self.take(entry?)?;
            let full = self.group.len() >= ENTRIES
                || self.extents >= EXTENTS
                || self.order.len() as u64 * BUNDLE_BYTES >= BYTES * 8
                || self.bytes >= BYTES;
            if full {
                self.flush()?;
            }
        }
        self.flush()?;
        let stats = SnapshotStats {
            uploaded_bytes: 0,
            ..self.info.stats
        };
        let info = self.commit_info(self.info.state, stats);
        let (snapshot, uploads) = self.target.commit(self.manifest, info)?;
        Ok(CopyReport {
            snapshot,
            existed: false,
            base: None,
            resumed_from: None,
            entries: self.done.entries_done,
            bytes: self.done.bytes_done,
            chunks_read: self.chunks.read(),
            read_bytes: self.source.fetched_bytes(),
            uploaded_bytes: uploads.uploaded_bytes,
        })
    }

    fn commit_info(&self, state: SnapshotState, stats: SnapshotStats) -> CommitInfo {
        CommitInfo {
            time_ms: self.info.time_ms,
            node: self.info.node.clone(),
            backup: self.info.backup.clone(),
            tags: self.info.tags.clone(),
            state,
            stats,
        }
    }

    /// Adds an entry to the group, and the chunks that it needs to the order.
    fn take(&mut self, mut entry: Entry) -> Result<()> {
        let stat = self.stat_of(&entry)?;
        let mut ready = matches!(entry.content, Content::None);
        for base in &mut self.bases {
            let Some((here, there)) = base.find(&entry.path)? else {
                continue;
            };
            if ready || matches!(there.content, Content::None) {
                continue;
            }
            if here.content == entry.content && here.digest == entry.digest {
                entry.content = there.content;
                entry.digest = there.digest;
                ready = true;
                continue;
            }
            let (here, there) = (base.here.extents(&here), base.there.extents(&there));
            for (here, there) in here.zip(there) {
                let (Ok(here), Ok(there)) = (here, there) else {
                    break;
                };
                self.chunks.learn(&here, &there);
            }
        }
        let index = self.group.len();
        if !ready && let Content::Extents(extents) = &entry.content {
            self.extents += extents.len();
            for extent in extents {
                self.want(index, extent, entry.digest != [0; 16]);
            }
        }
        self.group.push(Waiting { entry, stat, ready });
        Ok(())
    }

    fn want(&mut self, index: usize, extent: &Extent, digested: bool) {
        match extent {
            Extent::Data { secret, len } if !self.chunks.is_known(secret) => {
                self.order.add(*secret, *len, None);
                self.bytes += u64::from(*len);
            }
            Extent::Bundle {
                secret,
                offset,
                len,
            } if digested || !self.chunks.is_known(secret) => {
                let slice = Slice {
                    index,
                    offset: *offset,
                    len: *len,
                };
                self.order.add(*secret, 0, digested.then_some(slice));
            }
            _ => {}
        }
    }

    /// The sidecar's record of the entry; one that makes the next backup read it again if there is none.
    fn stat_of(&mut self, entry: &Entry) -> Result<StatRecord> {
        let unknown = StatRecord {
            kind: entry.kind,
            racy: true,
            ino: 0,
            size: entry.size,
            mtime: entry.meta.mtime,
            ctime: entry.meta.mtime,
        };
        let Some(cursor) = &mut self.stats else {
            return Ok(unknown);
        };
        match cursor.find(entry.parent(), entry.name()) {
            Ok(found) => Ok(found.map_or(unknown, |found| found.record)),
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(%error, "stat data cannot be read: the next backup there reads all files again");
                self.stats = None;
                Ok(unknown)
            }
        }
    }

    /// Copies what the group needs and appends its entries to the manifest.
    fn flush(&mut self) -> Result<()> {
        let order = std::mem::take(&mut self.order);
        for (index, digest) in self.chunks.copy(&order)? {
            self.group[index].entry.digest = digest;
        }
        (self.extents, self.bytes) = (0, 0);
        for waiting in std::mem::take(&mut self.group) {
            let Waiting {
                mut entry,
                stat,
                ready,
            } = waiting;
            if !ready {
                self.translate(&mut entry)?;
            }
            self.manifest.push(&entry, &stat)?;
            self.count(&entry);
        }
        let uploaded = self.target.uploads().uploaded_bytes;
        self.done.transferred_bytes = uploaded;
        self.copier.monitor.progress(self.done);
        if self.copier.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if uploaded - self.checkpointed >= self.copier.checkpoint_bytes {
            let info = self.commit_info(SnapshotState::Partial, self.covered);
            self.target.checkpoint(&mut self.manifest, info)?;
            self.checkpointed = self.target.uploads().uploaded_bytes;
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry) {
        use crate::manifest::EntryKind::{Directory, File};
        self.done.entries_done += 1;
        self.done.bytes_done += entry.size;
        self.covered.logical_bytes += entry.size;
        match entry.kind {
            File => self.covered.files += 1,
            Directory => self.covered.dirs += 1,
            _ => self.covered.others += 1,
        }
    }

    /// Puts the other repository's chunks in the place of this one's.
    fn translate(&mut self, entry: &mut Entry) -> Result<()> {
        match std::mem::replace(&mut entry.content, Content::None) {
            Content::None => {}
            Content::Extents(extents) => {
                if let [Extent::Inline(bytes)] = extents.as_slice()
                    && entry.digest != [0; 16]
                {
                    entry.digest = self.target.digest(bytes);
                }
                let extents = extents.into_iter().map(|one| self.chunks.translate(one));
                entry.content = Content::Extents(extents.collect::<Result<_>>()?);
            }
            pages @ Content::Pages(_) => {
                let source = self.source;
                let long = Entry {
                    content: pages,
                    ..entry.clone()
                };
                entry.content = self.translate_list(source, &long)?;
            }
        }
        Ok(())
    }

    /// The same for a list of any length.
    fn translate_list(&mut self, source: &ReadSession, entry: &Entry) -> Result<Content> {
        let mut list = ExtentList::new();
        let mut extents = source.extents(entry);
        loop {
            let stretch: Vec<Extent> = extents.by_ref().take(STRETCH).collect::<Result<_>>()?;
            if stretch.is_empty() {
                break;
            }
            let mut order = Order::default();
            for extent in &stretch {
                if let Extent::Data { secret, len } = extent
                    && !self.chunks.is_known(secret)
                {
                    order.add(*secret, *len, None);
                }
            }
            self.chunks.copy(&order)?;
            for extent in stretch {
                let extent = self.chunks.translate(extent)?;
                self.writer.push_extent(&mut list, extent)?;
            }
            self.copier.monitor.progress(Progress {
                transferred_bytes: self.target.uploads().uploaded_bytes,
                ..self.done
            });
        }
        self.writer.finish_extents(list)
    }
}

/// The snapshot's stat records; `None` if they cannot be read: then the next backup there reads everything.
fn records(
    copier: &Copier,
    source: &ReadSession,
    info: &SnapshotInfo,
) -> Result<Option<ParentCursor>> {
    let (from, namespace) = (&copier.from, &info.volume.namespace);
    let opened = copier.handle.block_on(from.open_by_id(info.id))?;
    let keys = WriteKeys {
        domain: from.keys.domain(namespace),
        volume: from.keys.volume(namespace, &info.lineage),
        refs: from.keys.refs(namespace, &info.lineage),
    };
    let roots = snapshot::open_capsule(keys.volume.all(), info.id, &opened.capsule);
    let root = match roots {
        Ok(roots) => ChildRef {
            manifest: roots.manifest,
            sidecar: roots.sidecar,
            refs: roots.refs,
            first_path: Vec::new(),
            entries: 0,
        },
        Err(error) => {
            tracing::warn!(%error, "the snapshot has no stat data");
            return Ok(None);
        }
    };
    ParentCursor::of(source, keys, root).map(Some)
}
