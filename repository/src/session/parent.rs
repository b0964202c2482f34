//! The parent snapshots as the next backup reads them: records in listing order, and the manifest leaf
//! behind them only where something changed.

use super::{ReadSession, pages::PageReader, write::WriteKeys};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    manifest::{
        ChildRef, Entry, EntryKind, ManifestPage, SidecarLeaf, SidecarPage, StatRecord,
        compare_listing, decode_manifest, decode_sidecar, split_path,
    },
};
use std::{cmp::Ordering, sync::Arc};

/// A leaf of a parent with its place in the walk; ordinals are unique among all parents.
pub(crate) struct ParentLeaf {
    pub(crate) child: ChildRef,
    pub(crate) ordinal: u64,
    pub(crate) is_last: bool,
    pub(crate) records: SidecarLeaf,
}

/// An entry of a parent that the walk met again.
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

/// Goes through the parents' records in step with a walk.
///
/// Checkpoints know the listing up to a position only: where the records of one parent end, those of the
/// next older one go on.
pub struct ParentCursor {
    pages: Arc<PageReader>,
    keys: WriteKeys,
    /// Roots of the parents that come after this one, the next one last.
    older: Vec<ChildRef>,
    /// Directory and name of the last entry that the parents before this one know.
    covered: Option<(Vec<u8>, Vec<u8>)>,
    /// Children of the nodes above, reversed: the next one is last.
    pending: Vec<ChildRef>,
    leaf: Option<Arc<ParentLeaf>>,
    position: usize,
    leaves: u64,
    removed: u64,
}

impl ParentCursor {
    /// A cursor over the parents with these roots, the newest first.
    pub(crate) fn new(
        pages: Arc<PageReader>,
        keys: WriteKeys,
        roots: impl DoubleEndedIterator<Item = ChildRef>,
    ) -> Self {
        let mut older: Vec<ChildRef> = roots.rev().collect();
        Self {
            pages,
            keys,
            pending: older.pop().into_iter().collect(),
            older,
            covered: None,
            leaf: None,
            position: 0,
            leaves: 0,
            removed: 0,
        }
    }

    /// A cursor over the records of the snapshot that a session reads, whose capsule has this root.
    pub(crate) fn of(session: &ReadSession, keys: WriteKeys, root: ChildRef) -> Result<Self> {
        let pages = Arc::new(session.page_reader()?);
        Ok(Self::new(pages, keys, std::iter::once(root)))
    }

    /// The parents' entry of that directory and name, if they had one. Calls must come in listing
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
                self.close_leaf();
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

    /// Entries of the parents that the walk did not meet; call it after the walk.
    ///
    /// # Errors
    /// A page cannot be read.
    pub fn finish(mut self) -> Result<u64> {
        while self.leaf.is_some() || self.load()? {
            let records = self.leaf.as_ref().map_or(0, |leaf| leaf.records.len());
            self.removed += (records - self.position) as u64;
            self.close_leaf();
            // Nodes tell how many entries are below them. Only where a parent ends must be read, if the
            // next one goes on there.
            let read = usize::from(!self.older.is_empty()).min(self.pending.len());
            let counted = self.pending.drain(read..);
            self.removed += counted.map(|child| child.entries).sum::<u64>();
        }
        Ok(self.removed)
    }

    /// All records of the leaf were seen.
    fn close_leaf(&mut self) {
        let Some(leaf) = self.leaf.take() else {
            return;
        };
        if !self.pending.is_empty() || self.older.is_empty() {
            return;
        }
        let last = leaf.records.get(leaf.records.len().wrapping_sub(1));
        let end = last.map(|(dir, name, _)| (dir.to_vec(), name.to_vec()));
        let farther = |end: &(Vec<u8>, Vec<u8>)| self.is_uncovered(&end.0, &end.1);
        if let Some(end) = end.filter(farther) {
            self.covered = Some(end);
        }
    }

    /// Whether the parents before this one end before that entry.
    fn is_uncovered(&self, dir: &[u8], name: &[u8]) -> bool {
        self.covered
            .as_ref()
            .is_none_or(|(d, n)| compare_listing((dir, name), (d, n)).is_gt())
    }

    /// The next leaf that has entries which newer parents do not cover; false if there is none.
    fn load(&mut self) -> Result<bool> {
        loop {
            let Some(child) = self.pending.pop() else {
                let Some(root) = self.older.pop() else {
                    return Ok(false);
                };
                self.pending.push(root);
                continue;
            };
            let ends_covered = |next: &ChildRef| {
                let (dir, name) = split_path(&next.first_path);
                !self.is_uncovered(dir, name)
            };
            if self.pending.last().is_some_and(ends_covered) {
                continue;
            }
            let keys = self.keys.volume.all();
            let bytes = self.pages.read(FrameKind::Sidecar, &child.sidecar, keys)?;
            match decode_sidecar(&bytes) {
                Some(SidecarPage::Node(children)) => {
                    self.pages
                        .expect(children.iter().map(|child| child.sidecar.id()));
                    self.pending.extend(children.into_iter().rev());
                }
                Some(SidecarPage::Leaf(records)) => {
                    self.position =
                        records.partition_point(|dir, name| !self.is_uncovered(dir, name));
                    self.leaf = Some(Arc::new(ParentLeaf {
                        child,
                        ordinal: self.leaves,
                        is_last: self.pending.is_empty(),
                        records,
                    }));
                    self.leaves += 1;
                    return Ok(true);
                }
                None => return Err(Error::damaged("stat sidecar", "a page breaks the format")),
            }
        }
    }
}

/// The entries of the manifest leaf behind a parent's leaf, as many as it has records.
pub(crate) fn read_leaf(
    pages: &PageReader,
    keys: &WriteKeys,
    leaf: &ParentLeaf,
) -> Result<Vec<Entry>> {
    let fail = |reason| Err(Error::damaged("manifest", reason));
    let bytes = pages.read(FrameKind::Manifest, &leaf.child.manifest, keys.domain.all())?;
    match decode_manifest(&bytes) {
        Some(ManifestPage::Leaf(entries)) if entries.len() == leaf.records.len() => Ok(entries),
        Some(ManifestPage::Leaf(_)) => fail("a leaf and its sidecar differ in length"),
        _ => fail("a leaf breaks the format"),
    }
}
