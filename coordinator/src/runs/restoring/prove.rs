//! The proof that every snapshot a restore may need can be read, before the first object is made.

use std::sync::Arc;

use orlop_kubernetes::{selection::NameFilter, velero::Restore};
use orlop_proto::v1::LogLevel;
use orlop_repository::{ReadSession, Repository, Result};
use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Restoring,
    prepare::{Prepared, Trouble},
};
use crate::{cluster::BackedVolume, runs::with_sources};

/// Snapshots that are looked at at once.
const AT_ONCE: usize = 4;
/// Missing snapshots that the reason names; the log names all.
const NAMED: usize = 5;

impl Restoring<'_> {
    /// Opens the root of every snapshot that is needed.
    pub(super) async fn prove(&self, prepared: &Prepared) -> std::result::Result<(), Trouble> {
        let mut needed = needed(&prepared.restore, &prepared.volumes).into_iter();
        let mut looks: JoinSet<(BackedVolume, Result<()>)> = JoinSet::new();
        let mut missing = Vec::new();
        let mut passing = None;
        loop {
            while looks.len() < AT_ONCE && !self.cancel.is_cancelled() {
                let Some(volume) = needed.next() else { break };
                let (repository, cancel) = (Arc::clone(&prepared.repository), self.cancel.clone());
                let handle = Handle::current();
                looks.spawn_blocking(move || {
                    let looked = look(&repository, &volume, handle, cancel);
                    (volume, looked)
                });
            }
            let Some(looked) = looks.join_next().await else {
                break;
            };
            let (volume, looked) =
                looked.map_err(|error| Trouble::Passing(format!("look at a snapshot: {error}")))?;
            match looked {
                Ok(()) => {}
                Err(error) if error.is_permanent() => {
                    let BackedVolume {
                        source, snapshot, ..
                    } = volume;
                    let reason = with_sources(&error);
                    missing.push(format!("snapshot {snapshot} of {source}: {reason}"));
                }
                Err(error) => passing = Some(Trouble::from(error)),
            }
        }
        if self.cancel.is_cancelled() {
            return Err(Trouble::Passing("it was stopped".to_owned()));
        }
        if missing.is_empty() {
            return passing.map_or(Ok(()), Err);
        }
        missing.sort();
        for line in &missing {
            self.log(LogLevel::Error, line);
        }
        Err(Trouble::Lasting(summary(&missing)))
    }
}

/// Reads the first page of a snapshot, and with it all that leads there.
fn look(
    repository: &Arc<Repository>,
    volume: &BackedVolume,
    handle: Handle,
    cancel: CancellationToken,
) -> Result<()> {
    let store = Arc::clone(repository.store());
    let committer = repository.browser();
    let session = ReadSession::open(committer, store, volume.snapshot, handle, cancel)?;
    let root = session.entry(b"").map(|_| ());
    session.end();
    root
}

/// The volumes that a restore may need: those of the namespaces and kinds that it takes. Its labels are not looked at:
/// who restores a part by label from a backup that has lost snapshots must name the namespaces too.
fn needed(restore: &Restore, volumes: &[BackedVolume]) -> Vec<BackedVolume> {
    let spec = &restore.spec;
    let kinds = NameFilter::ignoring_empty(&spec.included_resources, &spec.excluded_resources);
    let is_pod = |name: &str| matches!(name, "*" | "pods" | "pod" | "po");
    if !kinds.selects_by(is_pod) {
        return Vec::new();
    }
    let namespaces = NameFilter::new(&spec.included_namespaces, &spec.excluded_namespaces);
    let taken = |volume: &&BackedVolume| namespaces.selects(&volume.source.namespace);
    volumes.iter().filter(taken).cloned().collect()
}

fn summary(missing: &[String]) -> String {
    let named = missing[..missing.len().min(NAMED)].join("; ");
    let more = missing.len().saturating_sub(NAMED);
    let rest = if more > 0 {
        format!("; and {more} more, which the log names")
    } else {
        String::new()
    };
    format!(
        "nothing was restored, because the backup is not whole: {named}{rest}; leave their namespaces out, or restore another backup"
    )
}

#[cfg(test)]
mod tests {
    use orlop_core::{SnapshotId, VolumeRef};

    use super::*;

    fn volume(namespace: &str) -> BackedVolume {
        BackedVolume {
            source: VolumeRef::new(namespace, "p", "v"),
            snapshot: SnapshotId::from_bytes([1; 16]),
            claim: String::new(),
            persistent_volume: String::new(),
        }
    }

    #[test]
    fn only_what_the_restore_takes_is_needed() {
        let volumes = [volume("shop"), volume("blog")];
        let mut restore = Restore::default();
        assert_eq!(needed(&restore, &volumes), volumes);
        restore.spec.excluded_namespaces = vec!["b*".to_owned()];
        assert_eq!(needed(&restore, &volumes), [volume("shop")]);
        restore.spec.excluded_resources = vec!["pods".to_owned()];
        assert_eq!(needed(&restore, &volumes), []);
        restore.spec.excluded_resources = Vec::new();
        restore.spec.included_resources = vec!["configmaps".to_owned()];
        assert_eq!(needed(&restore, &volumes), []);
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let missing: Vec<String> = (0..7).map(|i| format!("s{i}")).collect();
        let text = summary(&missing);
        assert!(text.contains("s4; and 2 more"), "{text}");
        assert!(!text.contains("s5"), "{text}");
        assert!(!summary(&missing[..1]).contains("more"));
    }
}
