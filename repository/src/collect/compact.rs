//! Writes the index anew without what is gone, and joins small segments.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{Collector, gather::NAMED_MAX, repack::SEGMENT_RECORDS};
use crate::{
    error::Result,
    index::{SegmentBuilder, digests},
    protocol::{Body, IndexBody},
    store::Durability,
};

/// More segments than this are joined.
const SEGMENTS_MAX: usize = 64;
/// Segments below this size are joined with others, in bytes.
const SMALL: u64 = 2 << 20;

impl Collector<'_> {
    /// Replaces segments that name deleted packs, and small ones if there are many.
    pub(super) async fn compact(&mut self, listing: &HashMap<String, u64>) -> Result<()> {
        let repository = self.repository;
        let state = repository.newest_state().await?.clone();
        let named = repository.segments_naming(&state.segments, state.dead.iter());
        let many = state.segments.len() > SEGMENTS_MAX;
        let chosen: Vec<&String> = state
            .segments
            .iter()
            .filter(|name| {
                named.contains(*name)
                    || (many && listing.get(*name).is_some_and(|size| *size < SMALL))
            })
            .collect();
        if chosen.is_empty() && state.dead.is_empty() {
            return Ok(());
        }
        let key = repository.keys.session(self.term);
        let mut builder = SegmentBuilder::default();
        // Names would take too much room, and no two may be taken for the same.
        let mut seen: HashSet<[u8; 16]> = HashSet::new();
        let mut added: Vec<(String, Arc<[u64]>)> = Vec::new();
        for (i, name) in chosen.iter().enumerate() {
            let segment = repository.read_segment(name).await?;
            let new = |pack: &str| !state.dead.contains(pack) && !seen.contains(&long_digest(pack));
            let kept = segment.filtered(new);
            seen.extend(kept.packs().map(|pack| long_digest(pack)));
            builder.append(kept);
            let last = i + 1 == chosen.len();
            if builder.len() >= SEGMENT_RECORDS || (last && builder.len() > 0) {
                let packs = digests(builder.packs());
                let (name, bytes) = builder.finish(1, self.term, &key)?;
                repository
                    .store()
                    .put(&name, vec![bytes.into()], Durability::Now)
                    .await?;
                added.push((name, packs));
            }
        }
        let removed: Vec<String> = chosen.into_iter().cloned().collect();
        let known: BTreeSet<&String> = state.segments.iter().collect();
        added.retain(|(name, _)| !known.contains(name));
        let body = IndexBody {
            leader: self.term,
            added: added.iter().map(|(name, _)| name.clone()).collect(),
            removed: removed.clone(),
            gone: state.dead.iter().take(NAMED_MAX).cloned().collect(),
            ..IndexBody::default()
        };
        let mut newest = repository.newest_state().await?;
        self.append(&mut newest, |_| Ok(Some(Body::Index(body.clone()))))
            .await?;
        repository.segments_replaced(&removed, added).await;
        Ok(())
    }
}

/// Stands for a pack's name; no other one has the same.
fn long_digest(pack: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(pack.as_bytes()).as_bytes()[..16]);
    digest
}
