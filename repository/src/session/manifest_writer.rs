//! Entries in listing order → the trees of a snapshot → its commit.

use std::sync::Arc;

use orlop_core::SnapshotId;

use super::{
    CommitRequest,
    parent::{ParentEntry, ParentLeaf},
    write::{CommitInfo, UploadStats, WriteSession, Writer},
};
use crate::{
    error::Result,
    manifest::{Entry, StatRecord, TreeBuilder},
    snapshot::{SnapshotStats, seal_capsule, seal_root},
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
        let entries = self.writer.session.parent_leaf(leaf)?;
        let (_, _, record) = leaf.records.get(position).expect("as long as the leaf");
        self.tree.push(&entries[position], record, &mut self.writer)
    }
}

impl WriteSession {
    /// The builder of the manifest.
    ///
    /// # Errors
    /// No memory for a compressor.
    pub fn manifest(&self) -> Result<ManifestWriter<'_>> {
        Ok(ManifestWriter {
            writer: self.writer()?,
            tree: TreeBuilder::new(&self.keys.domain),
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
