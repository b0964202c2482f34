//! Which snapshots and paths damage hits.

use std::{collections::HashMap, sync::Arc};

use super::{Check, DamageKind, object_of};
use crate::{
    error::Result,
    mark::snapshot_id,
    reader::{FrameReader, lock},
    walk::{Needs, Piece, Walk},
};

impl Check {
    /// Finds the snapshots and paths that damaged objects belong to: snapshots by their reference pages, and
    /// the paths of those that are hit by their manifests.
    pub(super) async fn attribute(&self) -> Result<()> {
        self.add_chunks()?;
        let hit = lock(&self.found).by_chunk();
        if hit.is_empty() {
            return Ok(());
        }
        let mut needs = Needs::new(FrameReader::new(&self.repository)?);
        let mut walk = Walk::new(FrameReader::new(&self.repository)?);
        // Some may be forgotten by now.
        let state = self.repository.newest_state().await?.clone();
        for commit in state.needed() {
            self.go_on()?;
            let Some(id) = snapshot_id(commit) else {
                continue;
            };
            if !needs
                .any(commit, &|prefix| hit.contains_key(prefix))
                .await?
            {
                continue;
            }
            let opened = match self.repository.open_snapshot(&commit.snapshot).await {
                Ok(opened) => opened,
                Err(error) if error.is_loss() => {
                    let object = object_of(&error);
                    self.found(&object, DamageKind::DamagedSnapshot, None, Some(id));
                    continue;
                }
                Err(error) => return Err(error),
            };
            walk.forget();
            walk.snapshot(&opened, &mut |piece| {
                let (secret, path) = match piece {
                    Piece::Page { secret, path, .. } | Piece::Chunk { secret, path, .. } => {
                        (secret, path)
                    }
                    Piece::Lost { .. } => return,
                };
                for key in hit.get(&secret.id().prefix()).into_iter().flatten() {
                    lock(&self.found).add_path(key, id, path);
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Adds to each damaged pack the chunks that are read from it.
    fn add_chunks(&self) -> Result<()> {
        let mut found = lock(&self.found);
        self.repository.with_index(|index| {
            let kinds = [DamageKind::MissingPack, DamageKind::DamagedPack];
            let mut packs: HashMap<u32, Arc<str>> = HashMap::new();
            index.each_pack(|ordinal, pack, _| {
                if kinds
                    .iter()
                    .any(|kind| found.get_mut(&pack.name, *kind).is_some())
                {
                    packs.insert(ordinal, pack.name.clone());
                }
            })?;
            if packs.is_empty() {
                return Ok(());
            }
            index.each_place(|place| {
                let (prefix, pack) = (place.prefix, place.pack);
                let Some(name) = packs.get(&pack) else {
                    return Ok(());
                };
                // A chunk that also lies elsewhere is read from the best of its places.
                if index
                    .find_pack(&prefix)?
                    .is_some_and(|(best, _)| best != pack)
                {
                    return Ok(());
                }
                for kind in kinds {
                    if let Some(hit) = found.get_mut(name, kind) {
                        hit.chunks.insert(prefix);
                    }
                }
                Ok(())
            })
        })
    }
}
