//! How much a repository holds and what it costs.

use std::collections::HashSet;

use serde::Serialize;

use crate::{
    error::Result,
    frame::FrameKind,
    index::Index,
    mark::{IdSet, Marked, mark},
    repository::Repository,
    snapshot::SnapshotState,
};

/// Objects of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ObjectCounts {
    /// Packs of data.
    pub data_packs: u64,
    /// Packs of manifest, sidecar and reference pages.
    pub meta_packs: u64,
    /// Index segments.
    pub index: u64,
    /// Snapshot roots, but for those of partial snapshots.
    pub snapshots: u64,
    /// Refsets.
    pub refsets: u64,
    /// Roots of partial snapshots: from these backups that have not finished go on.
    pub checkpoints: u64,
    /// Log entries.
    pub log: u64,
}

/// What a repository holds. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepositoryStats {
    /// Random id in hexadecimal.
    pub repository_id: String,
    /// Format.
    pub format: u32,
    /// Snapshots, but for partial ones.
    pub snapshots: u64,
    /// Lineages that have snapshots, partial ones included.
    pub lineages: u64,
    /// Sum of the snapshots' regular files; what a checkpoint holds is in the snapshot that will follow.
    pub logical_bytes: u64,
    /// Different chunks of files, before compression.
    pub unique_bytes: u64,
    /// All objects.
    pub stored_bytes: u64,
    /// Frames that no snapshot needs, and packs that no index names.
    pub dead_bytes: u64,
    /// Different chunks of files.
    pub chunks: u64,
    /// Objects by kind.
    pub objects: ObjectCounts,
    /// `logical_bytes / unique_bytes`, 1 for an empty repository.
    pub dedup_ratio: f64,
    /// `unique_bytes` over the bytes of their frames, 1 for an empty repository.
    pub compression_ratio: f64,
}

fn ratio(a: u64, b: u64) -> f64 {
    if a == 0 || b == 0 {
        1.0
    } else {
        a as f64 / b as f64
    }
}

impl Repository {
    /// Counts everything; reads all reference pages and lists all objects.
    ///
    /// # Errors
    /// The store failed or a reference page is damaged.
    pub async fn stats(&self) -> Result<RepositoryStats> {
        let infos = self.snapshots().await?;
        let objects = self.store().list("").await?;
        let state = self.log_state().await;
        let (mut marked, mut failure) = (Marked::default(), None);
        mark(self, &state.snapshots, &mut marked, &mut |broken| {
            failure = Some(broken.error);
        })
        .await?;
        if let Some(error) = failure {
            return Err(error);
        }

        let mut counts = ObjectCounts::default();
        let known = self.with_index(Index::pack_names)?;
        let partial = state.snapshots.iter().filter(|commit| commit.partial);
        let partial: HashSet<&str> = partial.map(|commit| &*commit.snapshot).collect();
        let mut dead = 0;
        for object in &objects {
            let counter = match object.name.split('/').next() {
                Some("p") => &mut counts.data_packs,
                Some("m") => &mut counts.meta_packs,
                Some("i") => &mut counts.index,
                Some("s") if partial.contains(&*object.name) => &mut counts.checkpoints,
                Some("s") => &mut counts.snapshots,
                Some("r") => &mut counts.refsets,
                Some("log") => &mut counts.log,
                _ => continue,
            };
            *counter += 1;
            let is_pack = object.name.starts_with("p/") || object.name.starts_with("m/");
            if is_pack && !known.contains(&*object.name) {
                dead += object.size;
            }
        }
        let (mut seen, mut stored_data, mut chunks) = (IdSet::default(), 0, 0);
        let unique_bytes = self.with_index(|index| {
            index.each_place(|place| {
                if !marked.ids.contains(&place.prefix)? || !seen.add(place.prefix)? {
                    dead += u64::from(place.len);
                } else if place.kind == Some(FrameKind::Data) {
                    stored_data += u64::from(place.len);
                    chunks += 1;
                }
                Ok(())
            })?;
            index.plain_data_bytes()
        })?;
        let whole = infos.iter().filter(|i| i.state != SnapshotState::Partial);
        let logical_bytes = whole.clone().map(|info| info.stats.logical_bytes).sum();
        let lineages: HashSet<_> = infos.iter().map(|info| &info.lineage).collect();
        Ok(RepositoryStats {
            repository_id: self.id(),
            format: self.format(),
            snapshots: whole.count() as u64,
            lineages: lineages.len() as u64,
            logical_bytes,
            unique_bytes,
            stored_bytes: objects.iter().map(|object| object.size).sum(),
            dead_bytes: dead,
            chunks,
            objects: counts,
            dedup_ratio: ratio(logical_bytes, unique_bytes),
            compression_ratio: ratio(unique_bytes, stored_data),
        })
    }
}
