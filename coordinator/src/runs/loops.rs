//! The loop that gives tasks to agents when it is their turn.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use orlop_core::{
    SnapshotId, TaskId, VolumeRef,
    run::{Event, Limits, Outcome, RunKind, TaskResult, Turn as CoreTurn, schedule},
};
use orlop_repository::{SnapshotInfo, SnapshotState};
use tokio_util::sync::CancellationToken;

use super::{Refusal, RunKey, Runs, stalled::Stalls};

/// Silent agents are looked for this often.
const TICK: Duration = Duration::from_secs(1);

/// Something whose turn it is.
enum Next {
    /// A task.
    Task(Turn),
    /// The hooks of a pod: they begin.
    Hooks(RunKey, Event),
}

/// A task whose turn it is.
struct Turn {
    key: RunKey,
    task: TaskId,
    volume: VolumeRef,
    /// Location of its run.
    location: String,
    /// When its run was accepted.
    created_ms: i64,
    /// An earlier attempt may have made its snapshot.
    tried: bool,
}

impl Runs {
    /// Gives tasks to agents whenever something has changed, until `shutdown`.
    pub(crate) async fn run_scheduler(self: Arc<Self>, shutdown: CancellationToken) {
        let mut stalls = Stalls::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.signals.schedule.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            self.expire();
            self.end_stalled(&mut stalls);
            self.assign_due().await;
        }
    }

    async fn assign_due(&self) {
        let mut turns = Vec::new();
        for next in self.due() {
            match next {
                Next::Task(turn) => turns.push(turn),
                Next::Hooks(key, event) => self.lock().apply(&key, event, self.now_ms()),
            }
        }
        let mut snapshots: BTreeMap<String, Option<Vec<SnapshotInfo>>> = BTreeMap::new();
        for turn in turns.iter().filter(|turn| turn.tried) {
            if !snapshots.contains_key(&turn.location) {
                let there = self.snapshots_at(&turn.location).await;
                snapshots.insert(turn.location.clone(), there);
            }
        }
        for turn in turns {
            let made = match (snapshots.get(&turn.location), turn.tried) {
                (_, false) => None,
                (Some(Some(snapshots)), true) => made_by(&turn, snapshots),
                // Its turn comes again when the snapshots can be listed.
                (_, true) => continue,
            };
            let task = turn.task;
            let event = match made {
                Some(snapshot) => Event::Finished {
                    task,
                    outcome: outcome_of(snapshot),
                },
                None => Event::Assigned { task },
            };
            self.lock().apply(&turn.key, event, self.now_ms());
        }
    }

    async fn snapshots_at(&self, location: &str) -> Option<Vec<SnapshotInfo>> {
        let listed = match self.parts.locations.repository(location) {
            Ok(repository) => repository.snapshots().await.map_err(Refusal::from),
            Err(refusal) => Err(refusal),
        };
        listed
            .inspect_err(|reason| {
                tracing::warn!(location, %reason, "cannot look for snapshots of earlier attempts");
            })
            .ok()
    }

    fn due(&self) -> Vec<Next> {
        let table = self.lock();
        let limits = Limits {
            nodes: table
                .node_limits(self.parts.limits.tasks_per_node)
                .collect(),
            location: self.parts.limits.tasks_per_location,
            now_ms: self.now_ms(),
        };
        let mut open: Vec<_> = table
            .entries
            .values()
            .map(|entry| &entry.document)
            .filter(|document| !document.run.phase.is_final())
            .collect();
        open.sort_by_key(|document| document.run.created_ms);
        let due = schedule(open.iter().map(|document| &document.run), &limits);
        let turn = |due: &orlop_core::run::Due<'_>| {
            let key = RunKey::of(due.run);
            let id = match due.turn {
                CoreTurn::Task(id) => id,
                CoreTurn::Hooks(pod) => {
                    let (namespace, pod) = (pod.namespace.clone(), pod.pod.clone());
                    return Some(Next::Hooks(key, Event::HooksBegun { namespace, pod }));
                }
            };
            let task = due.run.task(id)?;
            let recovered = table
                .document(&key)
                .is_some_and(|document| document.recovered);
            let tried = key.kind == RunKind::Backup && (task.attempts > 0 || recovered);
            Some(Next::Task(Turn {
                key,
                task: id,
                volume: task.volume.clone(),
                location: due.run.location.clone(),
                created_ms: due.run.created_ms,
                tried,
            }))
        };
        due.iter().filter_map(turn).collect()
    }
}

/// The newest whole snapshot that an earlier attempt at the task has made. A snapshot that is older than the
/// run is of an earlier backup of the same name; ids tell, because the coordinator makes them and no other
/// clock is involved.
fn made_by<'a>(turn: &Turn, snapshots: &'a [SnapshotInfo]) -> Option<&'a SnapshotInfo> {
    let first = SnapshotId::new(turn.created_ms.cast_unsigned(), [0; 10]);
    let own = |s: &&SnapshotInfo| {
        s.backup == turn.key.name
            && s.volume == turn.volume
            && s.state != SnapshotState::Partial
            && s.id >= first
    };
    snapshots.iter().rfind(own)
}

fn outcome_of(snapshot: &SnapshotInfo) -> Outcome {
    let stats = snapshot.stats;
    Outcome::Completed(TaskResult {
        snapshot: snapshot.id,
        logical_bytes: stats.logical_bytes,
        transferred_bytes: stats.uploaded_bytes,
        entries: stats.files + stats.dirs + stats.others,
        warnings: stats.warnings,
        errors: stats.errors,
    })
}

#[cfg(test)]
mod tests {
    use orlop_repository::SnapshotStats;

    use super::*;

    #[test]
    fn a_snapshot_of_an_earlier_backup_of_the_same_name_is_not_taken() {
        let volume = VolumeRef::new("ns", "p", "v");
        let turn = |created_ms| Turn {
            key: RunKey::new(RunKind::Backup, "nightly"),
            task: TaskId::from_bytes([1; 16]),
            volume: volume.clone(),
            location: "default".to_owned(),
            created_ms,
            tried: true,
        };
        let snapshot = |unix_ms, state| SnapshotInfo {
            id: SnapshotId::new(unix_ms, [7; 10]),
            lineage: volume.default_lineage(),
            volume: volume.clone(),
            // The node's clock is of no account.
            time_ms: 0,
            state,
            damaged: false,
            parent: None,
            backup: "nightly".to_owned(),
            node: String::new(),
            tags: Vec::new(),
            stats: SnapshotStats::default(),
            session: 0,
            origin: None,
        };
        let whole = SnapshotState::Complete;
        let all = [
            snapshot(10, whole),
            snapshot(20, whole),
            snapshot(30, SnapshotState::Partial),
        ];
        assert_eq!(made_by(&turn(15), &all), Some(&all[1]));
        assert_eq!(made_by(&turn(20), &all), Some(&all[1]));
        assert_eq!(made_by(&turn(21), &all), None);
    }
}
