//! Takes snapshots out of the repository; what only they needed is garbage from then on.

use std::collections::BTreeSet;

use orlop_core::SnapshotId;

use super::Repository;
use crate::{
    error::Result,
    mark::snapshot_id,
    protocol::{Body, ForgetBody},
};

/// Snapshots in one entry of the log.
const AT_ONCE: usize = 50_000;

impl Repository {
    /// Forgets snapshots, all in one step as long as there are no more than 50,000; the ids of those that
    /// were there. Sessions that read them or build upon them go on; [`Self::collect`] frees the space.
    ///
    /// # Errors
    /// The log cannot be read or appended to.
    pub async fn forget(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
        let wanted: BTreeSet<SnapshotId> = ids.iter().copied().collect();
        let mut state = self.newest_state().await?;
        let mut forgotten = Vec::new();
        loop {
            let mut found = Vec::new();
            let appended = self
                .append(&mut state, |state| {
                    let here = state.snapshots.iter();
                    let here =
                        here.filter(|c| snapshot_id(c).is_some_and(|id| wanted.contains(&id)));
                    let here: Vec<_> = here.take(AT_ONCE).collect();
                    found = here.iter().filter_map(|c| snapshot_id(c)).collect();
                    let snapshots: Vec<String> = here.iter().map(|c| c.snapshot.clone()).collect();
                    Ok((!snapshots.is_empty()).then_some(Body::Forget(ForgetBody { snapshots })))
                })
                .await?;
            if appended.is_none() {
                return Ok(forgotten);
            }
            forgotten.append(&mut found);
        }
    }
}
