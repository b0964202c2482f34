//! The parent snapshot as the next backup reads it: records in listing order, and the manifest leaf
//! behind them only where something changed.

use super::{pages::PageReader, write::WriteKeys};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    manifest::{
        ChildRef, Entry, EntryKind, ManifestPage, SidecarLeaf, SidecarPage, StatRecord,
        compare_listing, decode_manifest, decode_sidecar,
    },
};
use std::{cmp::Ordering, sync::Arc};

/// A leaf of the parent with its place in the walk.
pub(crate) struct ParentLeaf {
    pub(crate) child: ChildRef,
    pub(crate) ordinal: u64,
    pub(crate) is_last: bool,
    pub(crate) records: SidecarLeaf,
}

/// An entry of the parent that the walk met again.
#[derive(Clone)]
pub struct ParentEntry {
    /// What change detection kept of it.
    pub record: StatRecord,
    pub(crate) leaf: Arc<ParentLeaf>,
    pub(crate) position: usize,
}

impl std::fmt::Debug for ParentEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParentEntry")
            .field("record", &self.record)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Goes through the parent's records in step with a walk.
pub struct ParentCursor {
    pages: Arc<PageReader>,
    keys: WriteKeys,
    /// Children of the nodes above, reversed: the next one is last.
    pending: Vec<ChildRef>,
    leaf: Option<Arc<ParentLeaf>>,
    position: usize,
    leaves: u64,
    removed: u64,
}

impl ParentCursor {
    pub(crate) fn new(pages: Arc<PageReader>, keys: WriteKeys, root: ChildRef) -> Self {
        Self {
            pages,
            keys,
            pending: vec![root],
            leaf: None,
            position: 0,
            leaves: 0,
            removed: 0,
        }
    }

    /// The parent's entry of that directory and name, if it had one. Calls must come in listing
    /// order; regular files that the walk passed over count as removed.
    ///
    /// # Errors
    /// A page cannot be read.
    pub fn find(&mut self, dir: &[u8], name: &[u8]) -> Result<Option<ParentEntry>> {
        loop {
            let Some(leaf) = &self.leaf else {
                if !self.load()? {
                    return Ok(None);
                }
                continue;
            };
            let Some((leaf_dir, leaf_name, record)) = leaf.records.get(self.position) else {
                self.leaf = None;
                continue;
            };
            match compare_listing((leaf_dir, leaf_name), (dir, name)) {
                Ordering::Less => {
                    self.removed += u64::from(record.kind == EntryKind::File);
                    self.position += 1;
                }
                Ordering::Equal => {
                    let found = ParentEntry {
                        record: *record,
                        leaf: Arc::clone(leaf),
                        position: self.position,
                    };
                    self.position += 1;
                    return Ok(Some(found));
                }
                Ordering::Greater => return Ok(None),
            }
        }
    }

    /// Entries of the parent that the walk did not meet; call it after the walk.
    ///
    /// # Errors
    /// A page cannot be read.
    pub fn finish(mut self) -> Result<u64> {
        if let Some(leaf) = &self.leaf {
            self.removed += (leaf.records.len() - self.position) as u64;
        }
        self.removed += self
            .pending
            .drain(..)
            .map(|child| child.entries)
            .sum::<u64>();
        Ok(self.removed)
    }

    fn load(&mut self) -> Result<bool> {
        while let Some(child) = self.pending.pop() {
            let bytes =
                self.pages
                    .read(FrameKind::Sidecar, &child.sidecar, Some(&self.keys.volume))?;
            match decode_sidecar(&bytes) {
                Some(SidecarPage::Node(children)) => {
                    self.pending.extend(children.into_iter().rev());
                }
                Some(SidecarPage::Leaf(records)) => {
                    self.leaf = Some(Arc::new(ParentLeaf {
                        child,
                        ordinal: self.leaves,
                        is_last: self.pending.is_empty(),
                        records,
                    }));
                    self.position = 0;
                    self.leaves += 1;
                    return Ok(true);
                }
                None => return Err(Error::damaged("stat sidecar", "a page breaks the format")),
            }
        }
        Ok(false)
    }
}

/// The entries of the manifest leaf behind a parent's leaf, as many as it has records.
pub(crate) fn read_leaf(
    pages: &PageReader,
    keys: &WriteKeys,
    leaf: &ParentLeaf,
) -> Result<Vec<Entry>> {
    let fail = |reason| Err(Error::damaged("manifest", reason));
    let bytes = pages.read(
        FrameKind::Manifest,
        &leaf.child.manifest,
        Some(&keys.domain),
    )?;
    match decode_manifest(&bytes) {
        Some(ManifestPage::Leaf(entries)) if entries.len() == leaf.records.len() => Ok(entries),
        Some(ManifestPage::Leaf(_)) => fail("a leaf and its sidecar differ in length"),
        _ => fail("a leaf breaks the format"),
    }
}
