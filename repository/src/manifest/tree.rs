//! Writes the three trees of a snapshot in step.

use super::{
    entry::{Content, Entry},
    extents,
    order::compare_listing,
    page::{self, LeafBuilder},
    refs::RefsPage,
    sidecar::{self, SidecarBuilder, StatRecord},
};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    secret::{Key, Secret},
    snapshot::TreeRoots,
};

/// A leaf closes at the first boundary path after this many bytes (of the estimate below) …
const LEAF_MIN: usize = 24 << 10;
/// … and at this many in any case.
const LEAF_MAX: usize = 192 << 10;
const LEAF_MAX_ENTRIES: usize = 4096;
/// One path in 128 is a boundary.
const LEAF_MASK: u8 = 0x7f;
const NODE_MIN: usize = 16;
const NODE_MAX: usize = 512;
const NODE_MASK: u8 = 0x3f;
/// First paths of a node's children, in bytes, after which it closes.
const NODE_PATHS: usize = 256 << 10;

/// Takes finished pages. The key that a page's secret is made with follows from its kind.
pub(crate) trait PageSink {
    /// Stores a page unless the repository has it, and returns its secret.
    fn store_page(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Secret>;
}

/// A finished subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChildRef {
    pub(crate) manifest: Secret,
    pub(crate) sidecar: Secret,
    pub(crate) refs: Secret,
    /// Path of its first entry.
    pub(crate) first_path: Vec<u8>,
    /// Entries in it.
    pub(crate) entries: u64,
}

/// Builds the trees from entries in listing order, in memory of a page a level. A copy that is finished
/// tells what the trees would be if the listing ended here.
#[derive(Clone)]
pub(crate) struct TreeBuilder {
    boundary_key: Key,
    leaf: LeafBuilder,
    sidecar: SidecarBuilder,
    refs: RefsPage,
    first_path: Vec<u8>,
    last_path: Option<Vec<u8>>,
    entries: usize,
    estimate: usize,
    levels: Vec<Vec<ChildRef>>,
}

impl TreeBuilder {
    pub(crate) fn new(domain_key: &Key) -> Self {
        Self {
            boundary_key: domain_key.derive("page boundaries", &[]),
            leaf: LeafBuilder::default(),
            sidecar: SidecarBuilder::default(),
            refs: RefsPage::default(),
            first_path: Vec::new(),
            last_path: None,
            entries: 0,
            estimate: 0,
            levels: Vec::new(),
        }
    }

    /// Whether no entry waits for its leaf to close, so that a whole leaf may follow.
    pub(crate) fn at_boundary(&self) -> bool {
        self.entries == 0
    }

    /// Appends an entry. Entries come in listing order, each path once.
    pub(crate) fn push(
        &mut self,
        entry: &Entry,
        stat: &StatRecord,
        sink: &mut dyn PageSink,
    ) -> Result<()> {
        let (dir, name) = (entry.parent(), entry.name());
        if let Some(last) = &self.last_path {
            let last = super::split_path(last);
            if compare_listing(last, (dir, name)).is_ge() {
                let path = String::from_utf8_lossy(&entry.path);
                return Err(Error::Invalid(format!("entry {path:?} is out of order")));
            }
        }
        if self.entries == 0 {
            self.first_path.clone_from(&entry.path);
        }
        self.leaf.push(entry);
        self.sidecar.push(dir, name, stat);
        self.entries += 1;
        self.estimate += 48 + name.len() + entry.target.len();
        let same_dir = self
            .last_path
            .as_ref()
            .is_some_and(|last| super::split_path(last).0 == dir);
        if self.entries == 1 || !same_dir {
            self.estimate += 16 + dir.len();
        }
        self.estimate += entry
            .meta
            .xattrs
            .iter()
            .map(|x| x.name.len() + x.value.len() + 4)
            .sum::<usize>();
        match &entry.content {
            Content::None => {}
            Content::Extents(list) => {
                for secret in extents::secrets(list) {
                    self.refs.add_id(&secret.id());
                }
                let inline = |e: &super::Extent| {
                    if let super::Extent::Inline(b) = e {
                        b.len()
                    } else {
                        0
                    }
                };
                self.estimate += list.iter().map(|e| 16 + inline(e)).sum::<usize>();
            }
            Content::Pages(pages) => {
                for page in pages {
                    self.refs.add_id(&page.secret.id());
                    self.refs.children.push(page.refs);
                }
                self.estimate += pages.len() * 64;
            }
        }
        self.last_path = Some(entry.path.clone());
        let full = self.estimate >= LEAF_MAX || self.entries >= LEAF_MAX_ENTRIES;
        if full || (self.estimate >= LEAF_MIN && self.is_boundary(&entry.path, LEAF_MASK)) {
            self.close_leaf(sink)?;
        }
        Ok(())
    }

    /// Appends a leaf of the parent that is unchanged as a whole; only at a boundary.
    pub(crate) fn push_leaf(
        &mut self,
        leaf: ChildRef,
        last_path: Vec<u8>,
        sink: &mut dyn PageSink,
    ) -> Result<()> {
        debug_assert!(self.at_boundary(), "a leaf may only follow a closed leaf");
        self.last_path = Some(last_path);
        self.add_child(0, leaf, sink)
    }

    fn is_boundary(&self, path: &[u8], mask: u8) -> bool {
        blake3::keyed_hash(self.boundary_key.as_bytes(), path).as_bytes()[0] & mask == 0
    }

    fn close_leaf(&mut self, sink: &mut dyn PageSink) -> Result<()> {
        let child = ChildRef {
            manifest: sink.store_page(FrameKind::Manifest, &self.leaf.finish())?,
            sidecar: sink.store_page(FrameKind::Sidecar, &self.sidecar.finish())?,
            refs: sink.store_page(FrameKind::Refs, &std::mem::take(&mut self.refs).encode())?,
            first_path: std::mem::take(&mut self.first_path),
            entries: std::mem::take(&mut self.entries) as u64,
        };
        self.estimate = 0;
        self.add_child(0, child, sink)
    }

    fn add_child(&mut self, level: usize, child: ChildRef, sink: &mut dyn PageSink) -> Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let boundary = self.is_boundary(&child.first_path, NODE_MASK);
        let children = &mut self.levels[level];
        children.push(child);
        let paths: usize = children.iter().map(|c| c.first_path.len()).sum();
        if children.len() >= NODE_MAX
            || paths >= NODE_PATHS
            || (children.len() >= NODE_MIN && boundary)
        {
            let children = std::mem::take(children);
            let node = store_node(&children, sink)?;
            self.add_child(level + 1, node, sink)?;
        }
        Ok(())
    }

    /// Roots of the trees, and the secret of the reference page that covers everything.
    pub(crate) fn finish(mut self, sink: &mut dyn PageSink) -> Result<(TreeRoots, Secret)> {
        if self.entries > 0 {
            self.close_leaf(sink)?;
        }
        let mut level = 0;
        let root = loop {
            let children = std::mem::take(
                self.levels
                    .get_mut(level)
                    .ok_or_else(|| Error::Invalid("a manifest needs a root entry".to_owned()))?,
            );
            let above_is_empty = self.levels[level + 1..].iter().all(Vec::is_empty);
            match children.as_slice() {
                [] => level += 1,
                [only] if above_is_empty => break only.clone(),
                _ => {
                    let node = store_node(&children, sink)?;
                    if self.levels.len() == level + 1 {
                        self.levels.push(Vec::new());
                    }
                    self.levels[level + 1].push(node);
                    level += 1;
                }
            }
        };
        let mut top = RefsPage::top(&root.manifest, &root.sidecar, root.refs);
        let top = sink.store_page(FrameKind::Refs, &top.encode())?;
        Ok((
            TreeRoots {
                manifest: root.manifest,
                sidecar: root.sidecar,
                refs: root.refs,
            },
            top,
        ))
    }
}

fn store_node(children: &[ChildRef], sink: &mut dyn PageSink) -> Result<ChildRef> {
    let mut refs = RefsPage::default();
    for child in children {
        refs.add_id(&child.manifest.id());
        refs.add_id(&child.sidecar.id());
        refs.children.push(child.refs);
    }
    Ok(ChildRef {
        manifest: sink.store_page(FrameKind::Manifest, &page::encode_node(children))?,
        sidecar: sink.store_page(FrameKind::Sidecar, &sidecar::encode_node(children))?,
        refs: sink.store_page(FrameKind::Refs, &refs.encode())?,
        first_path: children
            .first()
            .map(|c| c.first_path.clone())
            .unwrap_or_default(),
        entries: children.iter().map(|c| c.entries).sum(),
    })
}

#[cfg(test)]
mod tests {
    use orlop_core::Timestamp;

    use super::*;
    use crate::manifest::{EntryKind, Metadata};

    /// Counts the pages that it is given.
    #[derive(Default)]
    struct Counter {
        key: Option<Key>,
        pages: u64,
    }

    impl PageSink for Counter {
        fn store_page(&mut self, _kind: FrameKind, plain: &[u8]) -> Result<Secret> {
            self.pages += 1;
            let key = self.key.get_or_insert_with(|| Key::from_bytes([2; 32]));
            Ok(Secret::of(key, plain))
        }
    }

    #[test]
    fn a_checkpoint_costs_the_way_to_the_root_however_many_entries_there_are() {
        let mut tree = TreeBuilder::new(&Key::from_bytes([1; 32]));
        let mut sink = Counter::default();
        let stat = StatRecord {
            kind: EntryKind::File,
            racy: false,
            ino: 1,
            size: 0,
            mtime: Timestamp::new(1, 0),
            ctime: Timestamp::new(1, 0),
        };
        let mut most = 0;
        for n in 0..400_000u32 {
            let entry = Entry {
                content: Content::Extents(Vec::new()),
                ..Entry::bare(
                    format!("{n:08}").into_bytes(),
                    EntryKind::File,
                    Metadata::default(),
                )
            };
            tree.push(&entry, &stat, &mut sink).unwrap();
            if n % 9973 == 0 {
                let mut copy = Counter::default();
                let _ = tree.clone().finish(&mut copy).unwrap();
                most = most.max(copy.pages);
            }
        }
        let depth = tree.levels.len() as u64;
        assert!(depth >= 2, "{depth}");
        // A leaf and a node of each level in each of the three trees, and the top.
        assert!(most <= 3 * (depth + 2) + 1, "{most} pages, depth {depth}");
        // What is held meanwhile is bounded, too.
        let children: usize = tree.levels.iter().map(Vec::len).sum();
        assert!(children <= NODE_MAX * tree.levels.len());
    }
}
