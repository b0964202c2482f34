//! Records that are in no table yet: sorted runs in memory.

use std::sync::Arc;

use super::{
    record::{PackEntry, Record},
    segment::Segment,
};
use crate::{protocol::Standing, secret::Prefix};

/// Segments that were added last, merged so that a look-up searches few runs.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) packs: Vec<PackEntry>,
    /// What may be done with each pack.
    pub(super) standing: Vec<Standing>,
    pub(super) runs: Vec<Arc<Vec<Record>>>,
}

impl Memory {
    /// Adds a segment; its packs are taken for live.
    pub(super) fn add(&mut self, mut segment: Segment) {
        let first = self.packs.len() as u32;
        self.packs.append(&mut segment.packs);
        self.standing.resize(self.packs.len(), Standing::Live);
        if segment.records.is_empty() {
            return;
        }
        let moved = segment.records.iter_mut();
        moved.for_each(|record| record.pack += first);
        self.runs.push(Arc::new(segment.records));
        // Merge runs of like size: a logarithmic number of them stays.
        while let [.., a, b] = self.runs.as_slice() {
            if a.len() > 2 * b.len() {
                break;
            }
            let last = self.runs.pop().expect("two runs");
            let mut merged = Arc::unwrap_or_clone(self.runs.pop().expect("two runs"));
            merged.reserve_exact(last.len());
            merged.extend_from_slice(&last);
            drop(last);
            merged.sort_unstable();
            self.runs.push(Arc::new(merged));
        }
    }

    /// Learns what may be done with each pack.
    pub(super) fn judge(&mut self, standing: impl Fn(&str) -> Standing) {
        for (pack, known) in self.packs.iter().zip(&mut self.standing) {
            // What was dead stays dead, even when the log has forgotten it.
            if *known != Standing::Dead {
                *known = standing(&pack.name);
            }
        }
    }

    /// All places of a chunk that can be read.
    pub(super) fn copies(&self, prefix: &Prefix) -> impl Iterator<Item = (&Record, Standing)> {
        let prefix = *prefix;
        self.runs.iter().flat_map(move |run| {
            let begin = run.partition_point(|record| record.prefix < prefix);
            let same = run[begin..].iter();
            same.take_while(move |record| record.prefix == prefix)
                .map(|record| (record, self.standing[record.pack as usize]))
                .filter(|(_, standing)| *standing != Standing::Dead)
        })
    }

    /// Every place that can be read, in no order.
    pub(super) fn places(&self) -> impl Iterator<Item = &Record> {
        let records = self.runs.iter().flat_map(|run| run.iter());
        records.filter(|record| self.standing[record.pack as usize] != Standing::Dead)
    }

    /// Forgets packs, and gives back the memory of what is deleted.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        for (pack, standing) in self.packs.iter().zip(&mut self.standing) {
            if is_gone(&pack.name) {
                *standing = Standing::Dead;
            }
        }
        let standing = &self.standing;
        for run in &mut self.runs {
            let dead = |record: &Record| standing[record.pack as usize] == Standing::Dead;
            if run.iter().any(dead) {
                let kept = Arc::make_mut(run);
                kept.retain(|record| !dead(record));
                kept.shrink_to_fit();
            }
        }
        self.runs.retain(|run| !run.is_empty());
    }

    /// How many places are in memory.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }
}
