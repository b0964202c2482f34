//! Decrypts every chunk that a snapshot's manifest names, each once.

use std::collections::HashSet;

use super::{Check, DamageKind, object_of};
use crate::{
    error::Result,
    manifest::{Content, Extent},
    mark::{Marked, snapshot_id},
    protocol::CommitBody,
    secret::Prefix,
    session::{ReadSession, Wanted},
};

/// Chunks that are fetched together.
const BATCH: usize = 256;

impl Check {
    /// Reads all manifests and all chunks that they name.
    pub(super) fn verify_chunks(&self, marked: &Marked) -> Result<()> {
        let mut seen = HashSet::new();
        for commit in &self.commits {
            if let Err(error) = self.verify_snapshot(commit, marked, &mut seen) {
                if error.is_cancelled() {
                    return Err(error);
                }
                let object = object_of(&error);
                self.report(
                    &object,
                    DamageKind::DamagedSnapshot,
                    None,
                    snapshot_id(commit),
                );
            }
        }
        Ok(())
    }

    fn verify_snapshot(
        &self,
        commit: &CommitBody,
        marked: &Marked,
        seen: &mut HashSet<Prefix>,
    ) -> Result<()> {
        let Some(id) = snapshot_id(commit) else {
            return Ok(());
        };
        let session = self.read_session(id)?;
        let mut batch = Vec::with_capacity(BATCH);
        // What the reference pages lack would be collected one day.
        let needs = |prefix: &Prefix| {
            if !marked.ids.contains(prefix) {
                self.report(
                    &commit.refset,
                    DamageKind::DamagedSnapshot,
                    Some(*prefix),
                    Some(id),
                );
            }
        };
        for entry in session.entries() {
            let entry = entry?;
            if let Content::Pages(pages) = &entry.content {
                for page in pages {
                    needs(&page.secret.id().prefix());
                }
            }
            for extent in session.extents(&entry) {
                let (Extent::Data { secret, .. } | Extent::Bundle { secret, .. }) = extent? else {
                    continue;
                };
                let prefix = secret.id().prefix();
                needs(&prefix);
                if seen.insert(prefix) {
                    batch.push(Wanted { secret, len: 0 });
                }
                if batch.len() == BATCH {
                    self.verify_batch(&session, &mut batch)?;
                }
            }
        }
        self.verify_batch(&session, &mut batch)
    }

    fn verify_batch(&self, session: &ReadSession, batch: &mut Vec<Wanted>) -> Result<()> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        session.fetch(batch, workers.min(4), &|i, result| {
            if let Err(error) = result {
                let prefix = batch[i].secret.id().prefix();
                self.report(
                    &object_of(&error),
                    DamageKind::DamagedPack,
                    Some(prefix),
                    None,
                );
            }
        })?;
        batch.clear();
        Ok(())
    }
}
