//! A write session: chunks in, one snapshot out.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use orlop_core::{Lineage, SnapshotId, VolumeRef};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    BeginWrite, CommitRequest, Committer, WriteGrant,
    packer::Packer,
    pages::PageReader,
    parent::{ParentCursor, ParentEntry, ParentLeaf, read_leaf},
};
use crate::{
    chunker::Chunker,
    error::{Error, Result},
    frame::{Encoder, FrameKind},
    manifest::{ChildRef, Content, Entry, Extent, ExtentList, PageSink, StatRecord, TreeBuilder},
    secret::{Key, Prefix, Secret},
    snapshot::{SnapshotState, SnapshotStats, open_capsule, seal_capsule, seal_root},
    store::ObjectStore,
};

/// How a session uses memory and its parent.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// Finished packs that may wait for the store.
    pub uploads: u32,
    /// Do not build upon an earlier snapshot: read everything again.
    pub ignore_parent: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            uploads: 3,
            ignore_parent: false,
        }
    }
}

/// Keys that content secrets are made with.
#[derive(Clone)]
pub(crate) struct WriteKeys {
    pub(crate) domain: Key,
    pub(crate) volume: Key,
    pub(crate) refs: Key,
}

impl WriteKeys {
    fn of(&self, kind: FrameKind) -> &Key {
        match kind {
            FrameKind::Sidecar => &self.volume,
            FrameKind::Refs => &self.refs,
            FrameKind::Data | FrameKind::Manifest | FrameKind::Extents => &self.domain,
        }
    }
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its secret.
    pub secret: Secret,
    /// Whether it was not in the repository.
    pub new: bool,
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
    /// Counts; `uploaded_bytes` is filled in.
    pub stats: SnapshotStats,
}

/// An open write session. Its methods block and may be called from many threads, not from a runtime's.
pub struct WriteSession {
    committer: Arc<dyn Committer>,
    grant: WriteGrant,
    keys: WriteKeys,
    volume: VolumeRef,
    lineage: Lineage,
    handle: Handle,
    packer: Packer,
    pages: Arc<PageReader>,
    chunker: Chunker,
    bundle_key: Key,
    digest_key: Key,
    parent: Option<(SnapshotId, ChildRef)>,
    stored: Vec<Mutex<HashSet<Prefix>>>,
    leaves: Mutex<VecDeque<(u64, Arc<Vec<Entry>>)>>,
    chunks_new: AtomicU64,
    chunks_reused: AtomicU64,
    new_bytes: AtomicU64,
}

const SHARDS: usize = 16;
/// Leaves of the parent that are kept.
const LEAVES: usize = 8;

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
            domain: grant.domain_key.clone(),
            volume: grant.volume_key.clone(),
            refs: grant.refs_key.clone(),
        };
        let parent = match grant.parent.as_ref().filter(|_| !options.ignore_parent) {
            Some(parent) => {
                let roots = open_capsule(&keys.volume, parent.snapshot, &parent.capsule)?;
                let root = ChildRef {
                    manifest: roots.manifest,
                    sidecar: roots.sidecar,
                    refs: roots.refs,
                    first_path: Vec::new(),
                    entries: 0,
                };
                Some((parent.snapshot, root))
            }
            None => None,
        };
        let pages = PageReader::new(
            Arc::clone(&committer),
            Arc::clone(&store),
            grant.session,
            handle.clone(),
        )?;
        Ok(Self {
            packer: Packer::new(
                &grant,
                store,
                handle.clone(),
                options.uploads.max(1),
                cancel,
            ),
            pages: Arc::new(pages),
            chunker: Chunker::new(&keys.domain, grant.chunks),
            bundle_key: keys.domain.derive("bundle boundaries", &[]),
            digest_key: keys.domain.derive("small file digest", &[]),
            committer,
            grant,
            keys,
            volume,
            lineage,
            handle,
            parent,
            stored: (0..SHARDS).map(|_| Mutex::default()).collect(),
            leaves: Mutex::default(),
            chunks_new: AtomicU64::new(0),
            chunks_reused: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
        })
    }

    /// The snapshot that this one builds upon.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.parent.as_ref().map(|(id, _)| *id)
    }

    /// The parent's records, if there is a parent.
    pub fn parent_cursor(&self) -> Option<ParentCursor> {
        let (_, root) = self.parent.as_ref()?;
        Some(ParentCursor::new(
            Arc::clone(&self.pages),
            self.keys.clone(),
            root.clone(),
        ))
    }

    /// The whole of an entry that the parent has.
    ///
    /// # Errors
    /// Its page cannot be read.
    pub fn parent_entry(&self, found: &ParentEntry) -> Result<Entry> {
        let leaf = self.parent_leaf(&found.leaf)?;
        let entry = leaf.get(found.position).cloned();
        entry.ok_or_else(|| Error::damaged("manifest", "a leaf and its sidecar differ in length"))
    }

    /// The entries of a parent's leaf; neighbours are asked for together, so the last few are kept.
    fn parent_leaf(&self, leaf: &ParentLeaf) -> Result<Arc<Vec<Entry>>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, entries)) = leaves.iter().find(|(ordinal, _)| *ordinal == leaf.ordinal) {
            return Ok(Arc::clone(entries));
        }
        let entries = Arc::new(read_leaf(&self.pages, &self.keys, &leaf.child.manifest)?);
        leaves.truncate(LEAVES - 1);
        leaves.push_front((leaf.ordinal, Arc::clone(&entries)));
        Ok(entries)
    }

    /// The chunker of the domain.
    pub fn chunker(&self) -> &Chunker {
        &self.chunker
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
        Ok(Writer {
            session: self,
            encoder: Encoder::new()?,
        })
    }

    /// The builder of the manifest.
    ///
    /// # Errors
    /// No memory for a compressor.
    pub fn manifest(&self) -> Result<ManifestWriter<'_>> {
        Ok(ManifestWriter {
            writer: self.writer()?,
            tree: TreeBuilder::new(&self.keys.domain),
            run: None,
            loaded: None,
        })
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

    /// Ends the session without a snapshot. What was uploaded is garbage that collection removes.
    pub fn abandon(self) {
        let _ = self.packer.join();
        if let Err(error) = self.handle.block_on(self.committer.end(self.grant.session)) {
            tracing::warn!(session = self.grant.session, %error, "cannot end the session");
        }
    }

    /// Whether the chunk must be stored: it is neither in the repository nor stored by this session.
    fn is_new(&self, secret: &Secret) -> Result<bool> {
        let id = secret.id();
        let prefix = id.prefix();
        let shard = &self.stored[usize::from(prefix[0]) % SHARDS];
        if shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&prefix)
        {
            return Ok(false);
        }
        if self.pages.locate(&[id])?.pop().flatten().is_some() {
            return Ok(false);
        }
        Ok(shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(prefix))
    }
}

/// Stores chunks for one thread.
pub struct Writer<'s> {
    session: &'s WriteSession,
    encoder: Encoder,
}

impl Writer<'_> {
    /// Stores a chunk of a file, or a bundle, unless the repository has it.
    ///
    /// # Errors
    /// The store or the committer failed, or the work was cancelled.
    pub fn store(&mut self, plain: &[u8]) -> Result<Stored> {
        let stored = self.put(FrameKind::Data, plain)?;
        if stored.new {
            self.session.chunks_new.fetch_add(1, Ordering::Relaxed);
            self.session
                .new_bytes
                .fetch_add(plain.len() as u64, Ordering::Relaxed);
        } else {
            self.session.chunks_reused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(stored)
    }

    /// Appends an extent to a file's list.
    ///
    /// # Errors
    /// As [`Self::store`]: a long list is stored in pages.
    pub fn push_extent(&mut self, list: &mut ExtentList, extent: Extent) -> Result<()> {
        list.push(extent, self)
    }

    /// The content that a list makes.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn finish_extents(&mut self, list: ExtentList) -> Result<Content> {
        list.finish(self)
    }

    fn put(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Stored> {
        self.session.packer.check()?;
        let secret = Secret::of(self.session.keys.of(kind), plain);
        let new = self.session.is_new(&secret)?;
        if new {
            let frame = self.encoder.encode(kind, &secret, plain)?;
            self.session.packer.push(frame)?;
        }
        Ok(Stored { secret, new })
    }
}

impl PageSink for Writer<'_> {
    fn store_page(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Secret> {
        self.put(kind, plain).map(|stored| stored.secret)
    }
}

/// A run of unchanged entries from the beginning of a parent's leaf.
struct Run {
    leaf: Arc<ParentLeaf>,
    count: usize,
}

/// Builds the manifest from entries in listing order.
pub struct ManifestWriter<'s> {
    writer: Writer<'s>,
    tree: TreeBuilder,
    run: Option<Run>,
    /// The parent's leaf that was read last.
    loaded: Option<(u64, Vec<Option<Entry>>)>,
}

impl ManifestWriter<'_> {
    /// Appends an entry that is new or changed.
    ///
    /// # Errors
    /// The store failed, or the entry is out of order.
    pub fn push(&mut self, entry: &Entry, stat: &StatRecord) -> Result<()> {
        self.break_run()?;
        self.tree.push(entry, stat, &mut self.writer)
    }

    /// Appends an entry of the parent as it is. A leaf whose entries all come this way is shared
    /// without being read.
    ///
    /// # Errors
    /// A page cannot be read or stored.
    pub fn keep(&mut self, found: &ParentEntry) -> Result<()> {
        let continues = match &self.run {
            Some(run) => run.leaf.ordinal == found.leaf.ordinal && run.count == found.position,
            None => false,
        };
        if !continues {
            self.break_run()?;
            if found.position == 0 && self.tree.at_boundary() {
                self.run = Some(Run {
                    leaf: Arc::clone(&found.leaf),
                    count: 0,
                });
            }
        }
        match &mut self.run {
            Some(run) => {
                run.count += 1;
                // The last leaf may have been closed by the end of the walk, not by its content.
                if run.count == run.leaf.records.len() && !run.leaf.is_last {
                    let leaf = self.run.take().expect("a run").leaf;
                    self.push_leaf(&leaf)?;
                }
                Ok(())
            }
            None => self.push_kept(&Arc::clone(&found.leaf), found.position),
        }
    }

    /// Reads what a run stands for, because its leaf did not stay whole.
    fn break_run(&mut self) -> Result<()> {
        if let Some(run) = self.run.take() {
            for position in 0..run.count {
                self.push_kept(&run.leaf, position)?;
            }
        }
        Ok(())
    }

    fn push_leaf(&mut self, leaf: &ParentLeaf) -> Result<()> {
        let (dir, name, _) = leaf
            .records
            .get(leaf.records.len() - 1)
            .expect("a leaf has entries");
        let last_path = if dir.is_empty() {
            name.to_vec()
        } else {
            [dir, name].join(&b'/')
        };
        let mut child = leaf.child.clone();
        child.entries = leaf.records.len() as u64;
        self.tree.push_leaf(child, last_path, &mut self.writer)
    }

    fn push_kept(&mut self, leaf: &ParentLeaf, position: usize) -> Result<()> {
        if self
            .loaded
            .as_ref()
            .is_none_or(|(ordinal, _)| *ordinal != leaf.ordinal)
        {
            let session = self.writer.session;
            let entries = read_leaf(&session.pages, &session.keys, &leaf.child.manifest)?;
            if entries.len() != leaf.records.len() {
                return Err(Error::damaged(
                    "manifest",
                    "a leaf and its sidecar differ in length",
                ));
            }
            self.loaded = Some((leaf.ordinal, entries.into_iter().map(Some).collect()));
        }
        let entry = self
            .loaded
            .as_mut()
            .and_then(|(_, entries)| entries[position].take());
        let entry = entry.ok_or_else(|| Error::Invalid("an entry was kept twice".to_owned()))?;
        let (_, _, record) = leaf.records.get(position).expect("as long as the leaf");
        self.tree.push(&entry, record, &mut self.writer)
    }
}

impl WriteSession {
    /// Finishes manifest, packs and index and commits the snapshot. After `Ok` it is durable.
    ///
    /// # Errors
    /// The store or the committer failed: the snapshot is then wholly there or not at all.
    pub fn commit(
        &self,
        mut manifest: ManifestWriter<'_>,
        info: CommitInfo,
    ) -> Result<(SnapshotId, UploadStats)> {
        match manifest.run.take() {
            Some(run) if run.count == run.leaf.records.len() => manifest.push_leaf(&run.leaf)?,
            run => {
                manifest.run = run;
                manifest.break_run()?;
            }
        }
        let ManifestWriter {
            mut writer, tree, ..
        } = manifest;
        let (roots, refs_root) = tree.finish(&mut writer)?;
        let segments = self.packer.finish()?;
        let uploads = self.uploads();
        let stats = SnapshotStats {
            uploaded_bytes: uploads.uploaded_bytes,
            ..info.stats
        };
        let request = CommitRequest {
            volume: self.volume.clone(),
            lineage: self.lineage.clone(),
            time_ms: info.time_ms,
            node: info.node,
            backup: info.backup,
            tags: info.tags,
            parent: self.parent(),
            state: info.state,
            sealed_root: seal_root(&self.grant.read_public_key, &roots.manifest, &self.volume)?,
            capsule: seal_capsule(&self.keys.volume, &roots)?,
            refs_root,
            segments,
            stats,
        };
        let snapshot = self
            .handle
            .block_on(self.committer.commit(self.grant.session, request))?;
        Ok((snapshot, uploads))
    }
}
