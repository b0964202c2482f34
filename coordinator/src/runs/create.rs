//! Accepting a backup or restore: what it concerns is decided before it is accepted.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use orlop_core::{
    SnapshotId, TaskId, VolumeRef,
    run::{
        BackupSpec, Event, KnownVolume, NewTask, RestoreSpec, Run, RunKind, RunSpec, not_found,
        select,
    },
};
use orlop_proto::v1::LogLevel;
use orlop_repository::{SnapshotInfo, SnapshotState};
use rand::Rng as _;

use super::{Refusal, RunKey, Runs, agents::Agent};
use crate::records::Document;

/// How long agents may take to look for volumes before an older inventory is used.
const INVENTORY_PATIENCE: Duration = Duration::from_secs(5);

/// A run that was planned.
struct Plan {
    tasks: Vec<NewTask>,
    skipped: Vec<(VolumeRef, String)>,
}

impl Runs {
    /// Begins the run that is asked for, unless the same request was accepted before. True if it is new.
    pub(crate) async fn create(
        &self,
        name: String,
        location: &str,
        spec: RunSpec,
    ) -> Result<(Document, bool), Refusal> {
        self.check_location(location)?;
        let key = RunKey::new(spec.kind(), name);
        if let Some(existing) = self.same_request(&key, &spec)? {
            return Ok((existing, false));
        }
        if !self.refresh_inventories(INVENTORY_PATIENCE).await {
            let message = "no agent is connected: start one on the node that has the volumes";
            return Err(Refusal::Unavailable(message.to_owned()));
        }
        let plan = match &spec {
            RunSpec::Backup(spec) => self.plan_backup(spec)?,
            RunSpec::Restore(spec) => self.plan_restore(spec).await?,
        };
        self.accept(&key, spec, plan)
    }

    /// Whether there is such a location; an empty name is the default one's.
    pub(crate) fn check_location(&self, location: &str) -> Result<(), Refusal> {
        let own = self.parts.location.as_str();
        if location.is_empty() || location == own {
            return Ok(());
        }
        Err(Refusal::NotFound {
            kind: "location",
            name: location.to_owned(),
            message: not_found("location", location, [own]),
        })
    }

    fn same_request(&self, key: &RunKey, spec: &RunSpec) -> Result<Option<Document>, Refusal> {
        let table = self.lock();
        match table.document(key) {
            None => Ok(None),
            Some(existing) if existing.spec == *spec => Ok(Some(existing.clone())),
            Some(_) => Err(Refusal::Exists {
                kind: key.kind.as_str(),
                name: key.name.clone(),
            }),
        }
    }

    fn accept(&self, key: &RunKey, spec: RunSpec, plan: Plan) -> Result<(Document, bool), Refusal> {
        if let Some(existing) = self.same_request(key, &spec)? {
            return Ok((existing, false));
        }
        let now = self.now_ms();
        let mut table = self.lock();
        if table.document(key).is_some() {
            return Err(Refusal::Exists {
                kind: key.kind.as_str(),
                name: key.name.clone(),
            });
        }
        let run = Run::new(key.kind, &key.name, &self.parts.location, now);
        table.insert(Document::new(spec, run), 0);
        for (volume, reason) in &plan.skipped {
            let line = format!("{volume}: left out: {reason}");
            table.log(key, LogLevel::Warning, None, &line, now);
        }
        for task in &plan.tasks {
            table.tasks.insert(task.id, key.clone());
            table
                .agents
                .entry(task.node.clone())
                .or_insert_with(Agent::awaited);
        }
        let skipped = plan.skipped.len() as u32;
        table.apply(
            key,
            Event::Planned {
                tasks: plan.tasks,
                skipped,
            },
            now,
        );
        let document = table.document(key).cloned();
        document
            .map(|document| (document, true))
            .ok_or_else(|| Refusal::unknown_run(key, &[]))
    }

    fn plan_backup(&self, spec: &BackupSpec) -> Result<Plan, Refusal> {
        let selection = select(spec, &self.parts.cluster.volumes())?;
        if selection.taken.is_empty() {
            let message = "no volume is eligible: `orlop status` shows what the agents have found";
            return Err(Refusal::Precondition(message.to_owned()));
        }
        let tasks = selection.taken.into_iter().map(|found| NewTask {
            id: new_task_id(self.now_ms()),
            volume: found.volume,
            lineage: Some(found.lineage),
            node: found.node,
            snapshot: None,
        });
        Ok(Plan {
            tasks: tasks.collect(),
            skipped: selection.skipped,
        })
    }

    async fn plan_restore(&self, spec: &RestoreSpec) -> Result<Plan, Refusal> {
        let sources = self.sources(spec).await?;
        let known = self.parts.cluster.volumes();
        let mut tasks: BTreeMap<VolumeRef, NewTask> = BTreeMap::new();
        for (snapshot, target) in sources {
            let target = target.unwrap_or_else(|| spec.target_of(&snapshot.volume));
            let node = node_of(&target, &known)?;
            let task = NewTask {
                id: new_task_id(self.now_ms()),
                volume: target.clone(),
                node,
                lineage: None,
                snapshot: Some(snapshot.id),
            };
            if tasks.insert(target.clone(), task).is_some() {
                let message = format!("two snapshots would be restored into {target}");
                return Err(Refusal::Invalid {
                    field: "volumes",
                    message,
                });
            }
        }
        Ok(Plan {
            tasks: tasks.into_values().collect(),
            skipped: Vec::new(),
        })
    }

    /// The snapshots to restore, each with the target that was asked for.
    async fn sources(
        &self,
        spec: &RestoreSpec,
    ) -> Result<Vec<(SnapshotInfo, Option<VolumeRef>)>, Refusal> {
        let repository = &self.parts.repository;
        if spec.from_backup.is_empty() {
            let mut sources = Vec::with_capacity(spec.volumes.len());
            for volume in &spec.volumes {
                let snapshot = repository.resolve(&volume.snapshot).await?;
                sources.push((snapshot, volume.target.clone()));
            }
            return Ok(sources);
        }
        let backup = RunKey::new(RunKind::Backup, spec.from_backup.clone());
        let snapshots = repository.snapshots().await?;
        let found = match self.get(&backup) {
            Ok(document) => made_by(&document.run, snapshots)?,
            Err(unknown) => {
                let held = held_by(&backup.name, snapshots);
                if held.is_empty() {
                    return Err(unknown);
                }
                held
            }
        };
        Ok(found.into_iter().map(|snapshot| (snapshot, None)).collect())
    }
}

/// The snapshots that a backup has made: an earlier backup of its name may have left others.
fn made_by(backup: &Run, snapshots: Vec<SnapshotInfo>) -> Result<Vec<SnapshotInfo>, Refusal> {
    let name = &backup.name;
    if !backup.phase.is_final() {
        let message = format!("backup {name} has not ended yet: wait for it");
        return Err(Refusal::Precondition(message));
    }
    let mut known: HashMap<SnapshotId, SnapshotInfo> =
        snapshots.into_iter().map(|s| (s.id, s)).collect();
    let mut made = Vec::new();
    for task in &backup.tasks {
        let Some(id) = task.snapshot else { continue };
        let snapshot = known.remove(&id).ok_or_else(|| {
            let volume = &task.volume;
            Refusal::Precondition(format!(
                "snapshot {id} of {volume}, which backup {name} has made, is gone: name the \
                 snapshots to restore instead of the backup"
            ))
        })?;
        made.push(snapshot);
    }
    if made.is_empty() {
        let message = format!("backup {name} has no snapshot to restore");
        return Err(Refusal::Precondition(message));
    }
    Ok(made)
}

/// The snapshots that name a backup of which there is no record. The last one of a volume counts: an attempt
/// before it may have left another.
fn held_by(backup: &str, snapshots: Vec<SnapshotInfo>) -> Vec<SnapshotInfo> {
    let whole = |s: &SnapshotInfo| s.backup == backup && s.state != SnapshotState::Partial;
    let held = snapshots.into_iter().filter(whole);
    let newest: BTreeMap<VolumeRef, SnapshotInfo> = held.map(|s| (s.volume.clone(), s)).collect();
    newest.into_values().collect()
}

fn node_of(target: &VolumeRef, known: &[KnownVolume]) -> Result<String, Refusal> {
    let Some(found) = known.iter().find(|known| known.volume == *target) else {
        let names: Vec<String> = known.iter().map(|known| known.volume.to_string()).collect();
        let name = target.to_string();
        let message = not_found("volume", &name, names.iter().map(String::as_str));
        return Err(Refusal::NotFound {
            kind: "volume",
            name,
            message,
        });
    };
    if let Some(reason) = &found.skip_reason {
        return Err(Refusal::Precondition(format!(
            "volume {target} cannot be restored: {reason}"
        )));
    }
    Ok(found.node.clone())
}

fn new_task_id(now_ms: i64) -> TaskId {
    TaskId::new(now_ms.cast_unsigned(), rand::rng().random())
}
