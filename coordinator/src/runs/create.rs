//! Accepting a backup or restore: what it concerns is decided before it is accepted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use orlop_core::{
    SnapshotId, TaskId, VolumeRef,
    run::{
        BackupSpec, Event, NewPod, NewTask, Outcome, RestoreEvent, RestoreSpec, Run, RunKind,
        RunSpec,
    },
};
use orlop_proto::v1::LogLevel;
use orlop_repository::{SnapshotInfo, SnapshotState};
use rand::Rng as _;

use super::{Refusal, RunKey, Runs, agents::Agent, restoring::at_location};
use crate::{
    cluster::{PlannedObjects, PlannedVolume, Target},
    records::Document,
};

/// How long agents may take to look for volumes before an older inventory is used.
const INVENTORY_PATIENCE: Duration = Duration::from_secs(5);

/// Why a volume fails that the backup took when it was begun before.
const LOST: &str = "it is not there any more: its pod has gone since the backup was first begun, before the coordinator was \
                    restarted without its state";

/// A run that was planned.
struct Plan {
    location: String,
    tasks: Vec<NewTask>,
    /// Tasks, among the others, whose volumes are no more.
    lost: Vec<TaskId>,
    skipped: Vec<(VolumeRef, String)>,
    pods: Vec<NewPod>,
    objects: Option<PlannedObjects>,
    notes: Vec<(LogLevel, String)>,
    /// Whether its tasks become known only while Kubernetes objects are made again.
    opens: bool,
}

impl Plan {
    /// A run at a location whose tasks become known while it runs.
    fn opening(location: String) -> Self {
        Self {
            location,
            tasks: Vec::new(),
            lost: Vec::new(),
            skipped: Vec::new(),
            pods: Vec::new(),
            objects: None,
            notes: Vec::new(),
            opens: true,
        }
    }
}

/// A location, and snapshots there with the targets that were asked for.
type Sources = (String, Vec<(SnapshotInfo, Option<Target>)>);

impl Runs {
    /// Begins the run that is asked for, unless the same request was accepted before. True if it is new. An empty
    /// location is the default one's for a backup, and that of the snapshots for a restore.
    pub(crate) async fn create(
        &self,
        name: String,
        location: &str,
        spec: RunSpec,
    ) -> Result<(Document, bool), Refusal> {
        let locations = &self.parts.locations;
        let location = match spec.kind() {
            RunKind::Restore if location.is_empty() => String::new(),
            _ => locations.name_of(location)?,
        };
        let key = RunKey::new(spec.kind(), name);
        if let Some(existing) = self.same_request(&key, &location, &spec)? {
            return Ok((existing, false));
        }
        if spec.kind() == RunKind::Backup {
            locations.writable(&location)?;
        }
        if !makes_objects(&spec) && !self.refresh_inventories(INVENTORY_PATIENCE).await {
            let message = "no agent is connected: start one on the node that has the volumes";
            return Err(Refusal::Unavailable(message.to_owned()));
        }
        let plan = match &spec {
            RunSpec::Backup(spec) => self.plan_backup(&key.name, spec, location).await?,
            RunSpec::Restore(spec) if spec.makes_objects() => {
                Plan::opening(self.objects_at(&key.name, spec, &location)?)
            }
            RunSpec::Restore(spec) => self.plan_restore(spec, &location).await?,
        };
        if self.records(&plan.location)?.has(&key).await? {
            // Another coordinator has made it since this one looked.
            self.sync(&plan.location, false).await?;
            if self.lock().document(&key).is_none() {
                return Err(Refusal::Exists {
                    kind: key.kind.as_str(),
                    name: key.name,
                });
            }
        }
        self.accept(&key, spec, plan)
    }

    fn same_request(
        &self,
        key: &RunKey,
        location: &str,
        spec: &RunSpec,
    ) -> Result<Option<Document>, Refusal> {
        let table = self.lock();
        let same = |existing: &Document| {
            let there = &existing.run.location;
            existing.spec == *spec && (location.is_empty() || location == there)
        };
        match table.document(key) {
            None => Ok(None),
            Some(existing) if same(existing) => Ok(Some(existing.clone())),
            Some(_) => Err(Refusal::Exists {
                kind: key.kind.as_str(),
                name: key.name.clone(),
            }),
        }
    }

    fn accept(&self, key: &RunKey, spec: RunSpec, plan: Plan) -> Result<(Document, bool), Refusal> {
        if let Some(existing) = self.same_request(key, &plan.location, &spec)? {
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
        let run = Run::new(key.kind, &key.name, &plan.location, now);
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
        for (level, line) in &plan.notes {
            table.log(key, *level, None, line, now);
        }
        let warnings = plan.skipped.len() + count(&plan.notes, LogLevel::Warning);
        let errors = count(&plan.notes, LogLevel::Error);
        let objects = plan.objects.map(|objects| {
            self.spool.keep(&key.name, &objects.file);
            objects.counts
        });
        let planned = if plan.opens {
            Event::Restore(RestoreEvent::Opened)
        } else {
            Event::Planned {
                tasks: plan.tasks,
                skipped: plan.skipped.len() as u32,
                pods: plan.pods,
                objects,
            }
        };
        table.apply(key, planned, now);
        if objects.is_some() {
            let noted = Event::Noted {
                warnings: warnings as u64,
                errors: errors as u64,
            };
            table.apply(key, noted, now);
        }
        for task in plan.lost {
            let outcome = Outcome::Failed {
                message: LOST.to_owned(),
                retry: false,
            };
            table.apply(key, Event::Finished { task, outcome }, now);
        }
        let document = table.document(key).cloned();
        document
            .map(|document| (document, true))
            .ok_or_else(|| Refusal::unknown_run(key, &[]))
    }

    async fn plan_backup(
        &self,
        name: &str,
        spec: &BackupSpec,
        location: String,
    ) -> Result<Plan, Refusal> {
        let plan = self.parts.cluster.plan_backup(name, spec).await?;
        let task = |planned: PlannedVolume| NewTask {
            id: new_task_id(self.now_ms()),
            volume: planned.volume,
            lineage: Some(planned.lineage),
            node: planned.node,
            snapshot: None,
            place: planned.place,
            source: None,
        };
        let lost: Vec<NewTask> = plan.lost.into_iter().map(task).collect();
        let mut tasks: Vec<NewTask> = plan.volumes.into_iter().map(task).collect();
        let ids = lost.iter().map(|task| task.id).collect();
        tasks.extend(lost);
        Ok(Plan {
            location,
            tasks,
            lost: ids,
            skipped: plan.skipped,
            pods: plan.pods,
            objects: plan.objects,
            notes: plan.notes,
            opens: false,
        })
    }

    async fn plan_restore(&self, spec: &RestoreSpec, location: &str) -> Result<Plan, Refusal> {
        let (location, sources) = self.sources(spec, location).await?;
        let mut tasks: BTreeMap<VolumeRef, NewTask> = BTreeMap::new();
        let mut running = BTreeSet::new();
        for (snapshot, target) in sources {
            let target = target.unwrap_or_else(|| Target::Volume(spec.target_of(&snapshot.volume)));
            let located = self.parts.cluster.locate(&target).await?;
            let target = located.volume;
            if located.runs {
                running.insert(format!("{}/{}", target.namespace, target.pod));
            }
            let task = NewTask {
                id: new_task_id(self.now_ms()),
                volume: target.clone(),
                node: located.node,
                lineage: None,
                snapshot: Some(snapshot.id),
                place: located.place,
                source: Some(snapshot.volume),
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
            location,
            tasks: tasks.into_values().collect(),
            lost: Vec::new(),
            skipped: Vec::new(),
            pods: Vec::new(),
            objects: None,
            notes: running.iter().map(|pod| beside(pod)).collect(),
            opens: false,
        })
    }

    /// The snapshots to restore, each with the target that was asked for, and their location.
    async fn sources(&self, spec: &RestoreSpec, location: &str) -> Result<Sources, Refusal> {
        if spec.from_backup.is_empty() {
            self.named_sources(spec, location).await
        } else {
            let (location, found) = self.backup_sources(&spec.from_backup, location).await?;
            let found = found.into_iter().map(|snapshot| (snapshot, None));
            Ok((location, found.collect()))
        }
    }

    async fn named_sources(&self, spec: &RestoreSpec, location: &str) -> Result<Sources, Refusal> {
        let locations = &self.parts.locations;
        let (mut at, mut sources) = (location.to_owned(), Vec::with_capacity(spec.volumes.len()));
        for volume in &spec.volumes {
            let (found_at, snapshot) = locations.resolve(location, &volume.snapshot).await?;
            if at.is_empty() {
                at = found_at;
            } else if at != found_at {
                let message = format!(
                    "snapshots of two locations, {at} and {found_at}: restore them one after the other"
                );
                return Err(Refusal::Invalid {
                    field: "volumes",
                    message,
                });
            }
            let named = volume.target.clone().map(Target::Volume);
            let target = named.or_else(|| volume.claim.clone().map(Target::Claim));
            sources.push((snapshot, target));
        }
        Ok((at, sources))
    }

    async fn backup_sources(
        &self,
        backup: &str,
        location: &str,
    ) -> Result<(String, Vec<SnapshotInfo>), Refusal> {
        let locations = &self.parts.locations;
        let unknown = match self.get(&RunKey::backup(backup)) {
            Ok(document) => {
                at_location(&document.run, location)?;
                let at = document.run.location.clone();
                let snapshots = locations.repository(&at)?.snapshots().await?;
                return Ok((at, made_by(&document.run, snapshots)?));
            }
            Err(unknown) => unknown,
        };
        for (at, repository) in locations.open_ones() {
            if location.is_empty() || location == at {
                let held = held_by(backup, repository.snapshots().await?);
                if !held.is_empty() {
                    return Ok((at, held));
                }
            }
        }
        Err(unknown)
    }
}

fn makes_objects(spec: &RunSpec) -> bool {
    matches!(spec, RunSpec::Restore(spec) if spec.makes_objects())
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

/// What somebody should know of a restore into the volumes of a pod that runs.
fn beside(pod: &str) -> (LogLevel, String) {
    let line = format!(
        "pod {pod} runs while its volumes are written: what it has open or keeps in memory may not be what it finds then; \
         restart it afterwards"
    );
    (LogLevel::Warning, line)
}

fn count(notes: &[(LogLevel, String)], wanted: LogLevel) -> usize {
    notes.iter().filter(|(level, _)| *level == wanted).count()
}

pub(super) fn new_task_id(now_ms: i64) -> TaskId {
    TaskId::new(now_ms.cast_unsigned(), rand::rng().random())
}
