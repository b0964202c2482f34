//! Finds snapshots: all of them, by what a person types, and the newest of a lineage.

use futures_util::future::join_all;
use orlop_core::VolumeRef;

use super::Repository;
use crate::{
    error::{Error, Result},
    snapshot::{SnapshotInfo, SnapshotState},
};

impl Repository {
    /// All snapshots that can be read, oldest first, partial ones included.
    ///
    /// # Errors
    /// The log or a snapshot cannot be read.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.refresh().await?;
        let (names, lost): (Vec<String>, _) = {
            let state = self.state.lock().await;
            let names = state.snapshots.iter().map(|c| c.snapshot.clone());
            (names.collect(), state.lost.clone())
        };
        let mut found = Vec::with_capacity(names.len());
        for batch in names.chunks(32) {
            let opened = join_all(batch.iter().map(|name| self.open_snapshot(name))).await;
            for (name, opened) in batch.iter().zip(opened) {
                match opened {
                    Ok(opened) => found.push(SnapshotInfo {
                        state: opened.info.state.with_damage(lost.contains(name)),
                        damaged: lost.contains(name),
                        ..opened.info
                    }),
                    // One that cannot be read must not hide the others; check names it.
                    Err(Error::Damaged { name, reason }) => {
                        tracing::error!(
                            name,
                            reason,
                            "a snapshot cannot be read: run `orlop repo check`"
                        );
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        found.sort_by_key(|info| (info.time_ms, info.id));
        Ok(found)
    }

    /// The snapshot that `text` names: an id, its unique beginning, `latest` or `latest:NS/POD/VOL`.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] with near misses, or the snapshots cannot be read.
    pub async fn resolve(&self, text: &str) -> Result<SnapshotInfo> {
        let mut all = self.snapshots().await?;
        let fail = |hint: String| Error::NoSnapshot {
            wanted: text.to_owned(),
            store: self.store.description(),
            hint,
        };
        if all.is_empty() {
            return Err(fail(
                "; the repository holds no snapshots yet: make one with `orlop repo backup`"
                    .to_owned(),
            ));
        }
        if let Some(rest) = text.strip_prefix("latest") {
            all.retain(|info| info.state != SnapshotState::Partial);
            let volume: Option<VolumeRef> = match rest.strip_prefix(':') {
                Some(volume) => Some(
                    volume
                        .parse()
                        .map_err(|e: orlop_core::ParseVolumeError| Error::Invalid(e.to_string()))?,
                ),
                None if rest.is_empty() => None,
                None => {
                    return Err(fail(
                        "; write latest or latest:NAMESPACE/POD/VOLUME".to_owned(),
                    ));
                }
            };
            let newest = all
                .iter()
                .rev()
                .find(|info| volume.as_ref().is_none_or(|v| info.volume == *v));
            return newest.cloned().ok_or_else(|| {
                let mut known: Vec<String> =
                    all.iter().map(|info| info.volume.to_string()).collect();
                known.sort();
                known.dedup();
                known.truncate(5);
                fail(format!("; there are snapshots of {}", known.join(", ")))
            });
        }
        let mut matching = all
            .into_iter()
            .filter(|info| text.len() >= 4 && info.id.to_string().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(info), None) => Ok(info),
            (Some(_), Some(_)) => Err(fail(
                "; more than one begins so: give more characters".to_owned(),
            )),
            (None, _) if text.len() < 4 => {
                Err(fail("; give four characters of its id or more".to_owned()))
            }
            (None, _) => Err(fail(
                "; list them with `orlop snapshot ls` or `orlop repo snapshots`".to_owned(),
            )),
        }
    }
}
