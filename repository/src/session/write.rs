//! A write session: chunks in, one snapshot out.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use orlop_core::{Lineage, SnapshotId, VolumeRef};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    BeginWrite, Committer, Parent, WriteGrant,
    known::{Known, Trust},
    packer::Packer,
    pages::PageReader,
    parent::{ParentCursor, ParentEntry, ParentLeaf, read_leaf},
    writer::Writer,
};
use crate::{
    chunker::Chunker,
    error::{Error, Result},
    frame::FrameKind,
    manifest::{ChildRef, Content, Entry, Extent, decode_extent_page},
    secret::{EpochKeys, Key},
    snapshot::{Origin, SnapshotState, SnapshotStats, open_capsule},
    store::ObjectStore,
    throttle::Throttle,
};

/// How a session uses memory and its parent.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Finished packs that may wait for the store.
    pub uploads: u32,
    /// Do not build upon an earlier snapshot: read everything again.
    pub ignore_parent: bool,
    /// How fast packs and segments may be sent; `None` for as fast as the store takes them.
    pub upload_limit: Option<Arc<Throttle>>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            uploads: 3,
            ignore_parent: false,
            upload_limit: None,
        }
    }
}

/// Keys that content secrets are made with.
#[derive(Clone)]
pub(crate) struct WriteKeys {
    pub(crate) domain: EpochKeys,
    pub(crate) volume: EpochKeys,
    pub(crate) refs: Key,
}

impl WriteKeys {
    pub(super) fn of(&self, kind: FrameKind) -> &Key {
        match kind {
            FrameKind::Sidecar => self.volume.newest(),
            FrameKind::Refs => &self.refs,
            FrameKind::Data | FrameKind::Manifest | FrameKind::Extents => self.domain.newest(),
        }
    }
}

/// What a session has sent to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadStats {
    /// Bytes of packs and segments.
    pub uploaded_bytes: u64,
    /// Objects.
    pub objects_put: u64,
    /// Chunks of files that were not in the repository.
    pub chunks_new: u64,
    /// Chunks of files that were.
    pub chunks_reused: u64,
    /// Plain bytes of the new ones.
    pub new_bytes: u64,
}

/// What the caller knows of the snapshot.
#[derive(Debug, Clone)]
pub struct CommitInfo {
    /// When the walk began, milliseconds since 1970.
    pub time_ms: i64,
    /// Node; empty if unknown.
    pub node: String,
    /// The backup that holds the snapshot; empty for none.
    pub backup: String,
    /// Labels.
    pub tags: Vec<String>,
    /// Whether it is whole.
    pub state: SnapshotState,
    /// Counts; what the session has uploaded is added to `uploaded_bytes`.
    pub stats: SnapshotStats,
}

/// An open write session. Its methods block and may be called from many threads, not from a runtime's.
pub struct WriteSession {
    pub(super) committer: Arc<dyn Committer>,
    pub(super) grant: WriteGrant,
    pub(super) keys: WriteKeys,
    pub(super) volume: VolumeRef,
    pub(super) lineage: Lineage,
    pub(super) handle: Handle,
    pub(super) packer: Packer,
    pub(super) pages: Arc<PageReader>,
    chunker: Chunker,
    finer: Chunker,
    pub(super) bundle_key: Key,
    pub(super) digest_key: Key,
    /// The newest first; all but the last are checkpoints.
    parents: Vec<ParentRoot>,
    /// What the snapshot is a copy of.
    pub(super) origin: Option<Origin>,
    pub(super) known: Known,
    /// Bytes of pages that only checkpoints needed.
    pub(super) checkpoint_bytes: AtomicU64,
    leaves: Mutex<VecDeque<(u64, Arc<Vec<Entry>>)>>,
    pub(super) chunks_new: AtomicU64,
    pub(super) chunks_reused: AtomicU64,
    pub(super) new_bytes: AtomicU64,
}

/// Leaves of the parents that are kept.
const LEAVES: usize = 8;

/// A snapshot that the session builds upon.
struct ParentRoot {
    snapshot: SnapshotId,
    partial: bool,
    root: ChildRef,
}

impl ParentRoot {
    fn open(keys: &WriteKeys, parent: &Parent) -> Result<Self> {
        let roots = open_capsule(keys.volume.all(), parent.snapshot, &parent.capsule)?;
        Ok(Self {
            snapshot: parent.snapshot,
            partial: parent.partial,
            root: ChildRef {
                manifest: roots.manifest,
                sidecar: roots.sidecar,
                refs: roots.refs,
                first_path: Vec::new(),
                entries: 0,
            },
        })
    }
}

impl WriteSession {
    /// Begins a session.
    ///
    /// # Errors
    /// The committer cannot be reached or refuses.
    pub fn open(
        committer: Arc<dyn Committer>,
        store: Arc<dyn ObjectStore>,
        volume: VolumeRef,
        lineage: Lineage,
        options: WriteOptions,
        handle: Handle,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let begin = BeginWrite {
            volume: volume.clone(),
            lineage: lineage.clone(),
        };
        let grant = handle.block_on(committer.begin_write(begin))?;
        let keys = WriteKeys {
            domain: grant.domain_keys.clone(),
            volume: grant.volume_keys.clone(),
            refs: grant.refs_key.clone(),
        };
        let usable = grant.parents.iter().filter(|_| !options.ignore_parent);
        let parents: Vec<ParentRoot> = usable
            .map(|parent| ParentRoot::open(&keys, parent))
            .collect::<Result<_>>()?;
        let trust = match (options.ignore_parent, parents.is_empty()) {
            (true, _) => Trust::Data,
            (false, true) => Trust::Packs,
            (false, false) => Trust::All,
        };
        let pages = PageReader::new(
            Arc::clone(&committer),
            Arc::clone(&store),
            grant.session,
            handle.clone(),
        )?;
        let chunker = Chunker::new(keys.domain.newest(), grant.chunks);
        Ok(Self {
            packer: Packer::new(
                &grant,
                store,
                handle.clone(),
                (options.uploads.max(1), options.upload_limit),
                cancel,
            ),
            pages: Arc::new(pages),
            finer: chunker.finer(),
            chunker,
            bundle_key: keys.domain.newest().derive("bundle boundaries", &[]),
            digest_key: keys.domain.newest().derive("small file digest", &[]),
            committer,
            grant,
            keys,
            volume,
            lineage,
            handle,
            parents,
            origin: None,
            known: Known::new(trust),
            checkpoint_bytes: AtomicU64::new(0),
            leaves: Mutex::default(),
            chunks_new: AtomicU64::new(0),
            chunks_reused: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
        })
    }

    /// The same for a snapshot that is copied from another repository.
    #[must_use]
    pub(crate) fn copying(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// The whole snapshot that this one builds upon, if there is one.
    pub fn parent(&self) -> Option<SnapshotId> {
        let whole = self.parents.iter().find(|parent| !parent.partial)?;
        Some(whole.snapshot)
    }

    /// The checkpoint of an earlier session that this one goes on from, if there is one.
    pub fn resumes(&self) -> Option<SnapshotId> {
        let newest = self.parents.first().filter(|parent| parent.partial)?;
        Some(newest.snapshot)
    }

    /// The parents' records, if there are parents.
    pub fn parent_cursor(&self) -> Option<ParentCursor> {
        let roots = self.parents.iter().map(|parent| parent.root.clone());
        (!self.parents.is_empty())
            .then(|| ParentCursor::new(Arc::clone(&self.pages), self.keys.clone(), roots))
    }

    /// The whole of an entry that a parent has.
    ///
    /// # Errors
    /// Its page cannot be read.
    pub fn parent_entry(&self, found: &ParentEntry) -> Result<Entry> {
        let leaf = self.parent_leaf(&found.leaf)?;
        let entry = leaf.get(found.position).cloned();
        entry.ok_or_else(|| Error::damaged("manifest", "a leaf and its sidecar differ in length"))
    }

    /// The entries of a parent's leaf; neighbours are asked for together, so the last few are kept.
    pub(super) fn parent_leaf(&self, leaf: &ParentLeaf) -> Result<Arc<Vec<Entry>>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, entries)) = leaves.iter().find(|(ordinal, _)| *ordinal == leaf.ordinal) {
            return Ok(Arc::clone(entries));
        }
        let entries = Arc::new(read_leaf(&self.pages, &self.keys, leaf)?);
        leaves.truncate(LEAVES - 1);
        leaves.push_front((leaf.ordinal, Arc::clone(&entries)));
        Ok(entries)
    }

    /// The extents at the beginning of a file of the parent: all of a short list, some hundreds of a long one.
    ///
    /// # Errors
    /// Their page cannot be read.
    pub fn first_extents(&self, entry: &Entry) -> Result<Vec<Extent>> {
        let first = match &entry.content {
            Content::None => return Ok(Vec::new()),
            Content::Extents(extents) => return Ok(extents.clone()),
            Content::Pages(pages) => pages.first(),
        };
        let Some(page) = first else {
            return Ok(Vec::new());
        };
        let keys = self.keys.domain.all();
        let bytes = self.pages.read(FrameKind::Extents, &page.secret, keys)?;
        decode_extent_page(&bytes)
            .ok_or_else(|| Error::damaged("manifest", "an extent page breaks the format"))
    }

    /// The chunker of the domain.
    pub fn chunker(&self) -> &Chunker {
        &self.chunker
    }

    /// The one for files of which little changes here and there.
    pub fn finer_chunker(&self) -> &Chunker {
        &self.finer
    }

    /// Whether a bundle of at least 768 KiB ends before the entry of this name.
    pub fn is_bundle_boundary(&self, name: &[u8]) -> bool {
        blake3::keyed_hash(self.bundle_key.as_bytes(), name).as_bytes()[0].trailing_zeros() >= 5
    }

    /// The digest by which a small file's content is known again.
    pub fn digest(&self, content: &[u8]) -> [u8; 16] {
        self.digest_key.digest16(content)
    }

    /// A writer for one thread.
    ///
    /// # Errors
    /// No memory for a compressor.
    pub fn writer(&self) -> Result<Writer<'_>> {
        Writer::new(self)
    }

    /// What was sent so far.
    pub fn uploads(&self) -> UploadStats {
        let sent = self.packer.sent();
        UploadStats {
            uploaded_bytes: sent.bytes,
            objects_put: sent.objects,
            chunks_new: self.chunks_new.load(Ordering::Relaxed),
            chunks_reused: self.chunks_reused.load(Ordering::Relaxed),
            new_bytes: self.new_bytes.load(Ordering::Relaxed),
        }
    }

    /// Ends the session without a snapshot; returns what was sent. The next session of the volume takes it
    /// over; if there is none before the next collection, it is garbage.
    pub fn abandon(self) -> UploadStats {
        let _ = self.packer.join();
        if let Err(error) = self.handle.block_on(self.committer.end(self.grant.session)) {
            tracing::warn!(session = self.grant.session, %error, "cannot end the session");
        }
        self.uploads()
    }

    /// Bytes of chunks and pages that were put into packs so far, as they are stored, but for the pages
    /// that only checkpoints needed.
    pub fn packed_bytes(&self) -> u64 {
        self.packer.packed() - self.checkpoint_bytes.load(Ordering::Relaxed)
    }

    /// Size at which a pack is closed, in bytes.
    pub fn pack_bytes(&self) -> u64 {
        self.packer.pack_bytes()
    }
}
