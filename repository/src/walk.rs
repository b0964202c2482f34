//! Goes through all that a snapshot is made of, past whatever of it is lost.

use std::{
    collections::{HashMap, HashSet},
    slice,
};

use crate::{
    error::{Error, Result},
    frame::FrameKind,
    manifest::{
        ChildRef, Content, Entry, Extent, ManifestPage, SidecarPage, decode_extent_page,
        decode_manifest, decode_sidecar,
    },
    mark::refs_page,
    protocol::CommitBody,
    reader::FrameReader,
    secret::{EpochKeys, Key, Prefix, Secret},
    snapshot::{OpenedSnapshot, open_capsule},
};

/// Nodes above a leaf at most.
const MAX_DEPTH: u32 = 12;

/// Something that a snapshot is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'w> {
    /// A page of one of the trees, or of a long list of extents.
    Page {
        kind: FrameKind,
        secret: &'w Secret,
        /// Keys of all epochs, one of which opens it.
        keys: &'w [Key],
        /// The first path that it tells of, or the file's; empty where that is not known.
        path: &'w [u8],
    },
    /// A chunk of a file.
    Chunk {
        secret: &'w Secret,
        /// As of a page.
        keys: &'w [Key],
        path: &'w [u8],
    },
    /// A page that cannot be read: what only it tells of is lost.
    Lost { error: &'w Error },
}

/// A place in the trees.
struct Place {
    manifest: Secret,
    /// Unknown below a node of the sidecar that is lost.
    sidecar: Option<Secret>,
    refs: Option<Secret>,
    first: Vec<u8>,
    depth: u32,
}

struct Keys {
    domain: EpochKeys,
    volume: EpochKeys,
    refs: Key,
}

/// Goes through snapshots; of pages that several share, only the first one's turn counts.
pub(crate) struct Walk<'r> {
    reader: FrameReader<'r>,
    seen: HashSet<Secret>,
}

impl<'r> Walk<'r> {
    pub(crate) fn new(reader: FrameReader<'r>) -> Self {
        Self {
            reader,
            seen: HashSet::new(),
        }
    }

    /// Forgets which pages were seen, so that the next snapshot is gone through whole.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }

    /// Shows all pieces of a snapshot to `visit`, in listing order but for reference pages.
    ///
    /// # Errors
    /// The store failed; what is lost is no error.
    pub(crate) async fn snapshot(
        &mut self,
        opened: &OpenedSnapshot,
        visit: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<()> {
        let (ring, info) = (&self.reader.repository.keys, &opened.info);
        let keys = Keys {
            domain: ring.domain(&info.volume.namespace),
            volume: ring.volume(&info.volume.namespace, &info.lineage),
            refs: ring.refs(&info.volume.namespace, &info.lineage),
        };
        let roots = match open_capsule(keys.volume.all(), info.id, &opened.capsule) {
            Ok(roots) => Some(roots),
            Err(error) => {
                visit(Piece::Lost { error: &error });
                None
            }
        };
        if let Some(roots) = &roots {
            self.references(roots.refs, &keys, visit).await?;
        }
        let mut todo = vec![Place {
            manifest: opened.root,
            sidecar: roots.map(|roots| roots.sidecar),
            refs: None,
            first: Vec::new(),
            depth: 0,
        }];
        while let Some(place) = todo.pop() {
            if place.depth <= MAX_DEPTH && self.seen.insert(place.manifest) {
                self.place(&place, &keys, &mut todo, visit).await?;
            }
        }
        Ok(())
    }

    /// Shows one page of each tree and puts what is below it on `todo`.
    async fn place(
        &mut self,
        place: &Place,
        keys: &Keys,
        todo: &mut Vec<Place>,
        visit: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<()> {
        let manifest = self
            .page(
                FrameKind::Manifest,
                &place.manifest,
                keys.domain.all(),
                &place.first,
                visit,
            )
            .await?;
        let manifest = manifest.and_then(|bytes| decode_manifest(&bytes));
        let mut below: Option<Vec<ChildRef>> = None;
        if let Some(secret) = &place.sidecar {
            if matches!(manifest, Some(ManifestPage::Leaf(_))) {
                // It would tell nothing more.
                let (kind, keys, path) = (FrameKind::Sidecar, keys.volume.all(), &*place.first);
                visit(Piece::Page {
                    kind,
                    secret,
                    keys,
                    path,
                });
            } else {
                let read = self.page(
                    FrameKind::Sidecar,
                    secret,
                    keys.volume.all(),
                    &place.first,
                    visit,
                );
                let page = read.await?.and_then(|bytes| decode_sidecar(&bytes));
                if let Some(SidecarPage::Node(children)) = page {
                    below = Some(children);
                }
            }
        }
        if let Some(secret) = place.refs {
            self.references(secret, keys, visit).await?;
        }
        let depth = place.depth + 1;
        match (manifest, below) {
            (Some(ManifestPage::Leaf(entries)), _) => {
                for entry in &entries {
                    self.entry(entry, keys, visit).await?;
                }
            }
            (_, Some(children)) => todo.extend(children.into_iter().rev().map(|child| Place {
                manifest: child.manifest,
                sidecar: Some(child.sidecar),
                refs: Some(child.refs),
                first: child.first_path,
                depth,
            })),
            (Some(ManifestPage::Node(children)), None) => {
                todo.extend(children.into_iter().rev().map(|child| Place {
                    manifest: child.secret,
                    sidecar: None,
                    refs: None,
                    first: child.first_path,
                    depth,
                }));
            }
            (None, None) => {}
        }
        Ok(())
    }

    async fn entry(
        &mut self,
        entry: &Entry,
        keys: &Keys,
        visit: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<()> {
        let path = &*entry.path;
        let domain = keys.domain.all();
        let show = |extents: &[Extent], visit: &mut (dyn FnMut(Piece<'_>) + Send)| {
            for extent in extents {
                if let Extent::Data { secret, .. } | Extent::Bundle { secret, .. } = extent {
                    visit(Piece::Chunk {
                        secret,
                        keys: domain,
                        path,
                    });
                }
            }
        };
        match &entry.content {
            Content::None => {}
            Content::Extents(extents) => show(extents, visit),
            Content::Pages(pages) => {
                for page in pages {
                    self.references(page.refs, keys, visit).await?;
                    let read = self.page(FrameKind::Extents, &page.secret, domain, path, visit);
                    let extents = read.await?.and_then(|bytes| decode_extent_page(&bytes));
                    show(&extents.unwrap_or_default(), visit);
                }
            }
        }
        Ok(())
    }

    /// Shows a reference page and all below it.
    async fn references(
        &mut self,
        root: Secret,
        keys: &Keys,
        visit: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<()> {
        let mut todo = vec![root];
        while let Some(secret) = todo.pop() {
            if !self.seen.insert(secret) {
                continue;
            }
            let kind = FrameKind::Refs;
            let page = self
                .page(kind, &secret, slice::from_ref(&keys.refs), &[], visit)
                .await?;
            let page = page.and_then(|bytes| crate::manifest::RefsPage::decode(&bytes));
            todo.extend(page.into_iter().flat_map(|page| page.children));
        }
        Ok(())
    }

    /// Shows a page and reads it; `None` if it is lost, which is shown too.
    async fn page(
        &self,
        kind: FrameKind,
        secret: &Secret,
        keys: &[Key],
        path: &[u8],
        visit: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<Option<Vec<u8>>> {
        visit(Piece::Page {
            kind,
            secret,
            keys,
            path,
        });
        match self.reader.read(kind, secret, keys).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_loss() => {
                visit(Piece::Lost { error: &error });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Tells which snapshots need any of some chunks, from their reference pages; each page is read once.
pub(crate) struct Needs<'r> {
    reader: FrameReader<'r>,
    known: HashMap<Secret, bool>,
}

/// A reference page whose children are being looked at.
struct Open {
    secret: Secret,
    children: Vec<Secret>,
    needs: bool,
}

impl<'r> Needs<'r> {
    pub(crate) fn new(reader: FrameReader<'r>) -> Self {
        Self {
            reader,
            known: HashMap::new(),
        }
    }

    /// Whether the snapshot needs a chunk for which `wanted` is true, always the same one of chunks; also if
    /// that cannot be told, as some of its reference pages are lost.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn any(
        &mut self,
        commit: &CommitBody,
        wanted: &(dyn Fn(&Prefix) -> bool + Sync),
    ) -> Result<bool> {
        let (key, root) = match self.reader.repository.prove_refset(&commit.refset).await {
            Ok(found) => found,
            Err(error) if error.is_loss() => return Ok(true),
            Err(error) => return Err(error),
        };
        if let Some(known) = self.known.get(&root) {
            return Ok(*known);
        }
        let mut open = vec![self.open(commit, root, &key, wanted).await?];
        loop {
            let top = open.last_mut().expect("the root is open");
            if let Some(child) = top.children.pop() {
                match self.known.get(&child) {
                    Some(needs) => top.needs |= needs,
                    None => open.push(self.open(commit, child, &key, wanted).await?),
                }
                continue;
            }
            let done = open.pop().expect("the root is open");
            self.known.insert(done.secret, done.needs);
            match open.last_mut() {
                Some(above) => above.needs |= done.needs,
                None => return Ok(done.needs),
            }
        }
    }

    async fn open(
        &self,
        commit: &CommitBody,
        secret: Secret,
        key: &Key,
        wanted: &(dyn Fn(&Prefix) -> bool + Sync),
    ) -> Result<Open> {
        match refs_page(&self.reader, &commit.refset, &secret, key).await {
            Ok(page) => Ok(Open {
                secret,
                needs: wanted(&secret.id().prefix()) || page.ids.iter().any(wanted),
                children: page.children,
            }),
            Err(error) if error.is_loss() => Ok(Open {
                secret,
                children: Vec::new(),
                needs: true,
            }),
            Err(error) => Err(error),
        }
    }
}
