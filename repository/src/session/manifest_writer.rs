//! Entries in listing order → the trees of a snapshot → its commit.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use orlop_core::SnapshotId;

use super::{
    CommitRequest,
    parent::{ParentEntry, ParentLeaf},
    write::{CommitInfo, UploadStats, WriteSession},
    writer::Writer,
};
use crate::{
    error::Result,
    manifest::{Entry, StatRecord, TreeBuilder},
    secret::Secret,
    snapshot::{SnapshotState, SnapshotStats, TreeRoots, seal_capsule, seal_root},
};

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
        let Some(run) = &mut self.run else {
            let only = found.position..found.position + 1;
            return push_kept(&mut self.tree, &mut self.writer, &found.leaf, only);
        };
        run.count += 1;
        // The last leaf may have been closed by the end of the walk, not by its content.
        if run.count == run.leaf.records.len() && !run.leaf.is_last {
            let leaf = self.run.take().expect("a run").leaf;
            push_leaf(&mut self.tree, &mut self.writer, &leaf)?;
        }
        Ok(())
    }

    /// Reads what a run stands for, because its leaf did not stay whole.
    fn break_run(&mut self) -> Result<()> {
        if let Some(run) = self.run.take() {
            push_kept(&mut self.tree, &mut self.writer, &run.leaf, 0..run.count)?;
        }
        Ok(())
    }

    /// The roots of the trees if the listing ends here, and the secret of their top reference page.
    ///
    /// Costs the pages on the way from here to the roots, however many entries there are.
    fn finish_copy(&mut self) -> Result<(TreeRoots, Secret)> {
        let mut tree = self.tree.clone();
        match &self.run {
            Some(run) if run.count == run.leaf.records.len() => {
                push_leaf(&mut tree, &mut self.writer, &run.leaf)?;
            }
            Some(run) => push_kept(&mut tree, &mut self.writer, &run.leaf, 0..run.count)?,
            None => {}
        }
        tree.finish(&mut self.writer)
    }
}

/// Appends a parent's leaf as a whole.
fn push_leaf(tree: &mut TreeBuilder, writer: &mut Writer<'_>, leaf: &ParentLeaf) -> Result<()> {
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
    tree.push_leaf(child, last_path, writer)
}

/// Appends some entries of a parent's leaf one by one.
fn push_kept(
    tree: &mut TreeBuilder,
    writer: &mut Writer<'_>,
    leaf: &ParentLeaf,
    positions: Range<usize>,
) -> Result<()> {
    let entries = writer.session.parent_leaf(leaf)?;
    for position in positions {
        let (_, _, record) = leaf.records.get(position).expect("as long as the leaf");
        tree.push(&entries[position], record, writer)?;
    }
    Ok(())
}

impl WriteSession {
    /// The builder of the manifest.
    ///
    /// # Errors
    /// No memory for a compressor.
    pub fn manifest(&self) -> Result<ManifestWriter<'_>> {
        Ok(ManifestWriter {
            writer: self.writer()?,
            tree: TreeBuilder::new(self.keys.domain.newest()),
            run: None,
        })
    }

    /// Finishes manifest, packs and index and commits the snapshot. After `Ok` it is durable.
    ///
    /// # Errors
    /// The store or the committer failed: the snapshot is then wholly there or not at all.
    pub fn commit(
        &self,
        mut manifest: ManifestWriter<'_>,
        info: CommitInfo,
    ) -> Result<(SnapshotId, UploadStats)> {
        let trees = manifest.finish_copy()?;
        drop(manifest);
        let snapshot = self.commit_trees(trees, info)?;
        Ok((snapshot, self.uploads()))
    }

    /// Commits what `manifest` holds so far as a partial snapshot, from which a later session goes on, and
    /// makes everything durable that was stored; others may go on storing chunks meanwhile. The session
    /// stays open, and `manifest` goes on as if nothing had happened. `None` if it failed in a way that may
    /// pass: that is logged, and the next checkpoint or the commit makes up for it.
    ///
    /// `info` tells of what `manifest` holds; its state is not used. There must be an entry.
    ///
    /// # Errors
    /// The session cannot go on: an upload has failed for good, or the session was cancelled or, with
    /// [`crate::Error::Fenced`] or [`crate::Error::NoSession`], shut out.
    pub fn checkpoint(
        &self,
        manifest: &mut ManifestWriter<'_>,
        info: CommitInfo,
    ) -> Result<Option<SnapshotId>> {
        let info = CommitInfo {
            state: SnapshotState::Partial,
            ..info
        };
        let before = manifest.writer.packed;
        let trees = manifest.finish_copy();
        let bytes = manifest.writer.packed - before;
        self.checkpoint_bytes.fetch_add(bytes, Ordering::Relaxed);
        let made = trees.and_then(|trees| self.commit_trees(trees, info));
        match made {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(error) if error.is_permanent() || self.packer.is_lost() => Err(error),
            Err(error) => {
                let session = self.grant.session;
                tracing::warn!(session, %error, "no checkpoint was made: the next one is due later");
                Ok(None)
            }
        }
    }

    fn commit_trees(
        &self,
        (roots, refs_root): (TreeRoots, Secret),
        info: CommitInfo,
    ) -> Result<SnapshotId> {
        let segments = self.packer.flush()?;
        let stats = SnapshotStats {
            uploaded_bytes: info.stats.uploaded_bytes + self.uploads().uploaded_bytes,
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
            capsule: seal_capsule(self.keys.volume.newest(), &roots)?,
            refs_root,
            segments: segments.clone(),
            stats,
            origin: self.origin,
        };
        let snapshot = self
            .handle
            .block_on(self.committer.commit(self.grant.session, request))?;
        self.packer.committed(&segments);
        Ok(snapshot)
    }
}
