//! Writes the index anew without what is gone, and joins small segments.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{Collector, repack::SEGMENT_RECORDS};
use crate::{
    error::Result,
    index::SegmentBuilder,
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
        let named = repository.segment_packs();
        let many = state.segments.len() > SEGMENTS_MAX;
        let chosen: Vec<&String> = state
            .segments
            .iter()
            .filter(|name| {
                let packs = named.get(*name);
                let dead =
                    packs.is_none_or(|packs| packs.iter().any(|p| state.dead.contains(&**p)));
                dead || (many && listing.get(*name).is_some_and(|size| *size < SMALL))
            })
            .collect();
        if chosen.is_empty() && state.dead.is_empty() {
            return Ok(());
        }
        let key = repository.keys.session(self.term);
        let mut builder = SegmentBuilder::default();
        let mut seen: HashSet<Arc<str>> = HashSet::new();
        let mut added: Vec<(String, Vec<Arc<str>>)> = Vec::new();
        for (i, name) in chosen.iter().enumerate() {
            let segment = repository.read_segment(name).await?;
            let mut kept =
                segment.filtered(|pack| !state.dead.contains(pack) && !seen.contains(pack));
            seen.extend(kept.packs());
            builder.append(std::mem::take(&mut kept));
            let last = i + 1 == chosen.len();
            if builder.len() >= SEGMENT_RECORDS || (last && builder.len() > 0) {
                let packs = builder.packs();
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
            gone: state.dead.iter().cloned().collect(),
            ..IndexBody::default()
        };
        let mut newest = repository.newest_state().await?;
        self.append(&mut newest, |_| Ok(Some(Body::Index(body.clone()))))
            .await?;
        repository.segments_replaced(&removed, added);
        Ok(())
    }
}
