//! What a backup or restore concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use orlop_core::{
    SnapshotId, TaskId, VolumeRef,
    run::{BackupSpec, NewPod, NewTask, RestoreSpec, Run, not_found},
};
use orlop_proto::v1::LogLevel;
use orlop_repository::{SnapshotInfo, SnapshotState};
use rand::Rng as _;

use super::{Refusal, RunKey, Runs, restoring::at_location};
use crate::{
    artifacts,
    cluster::{PlannedObjects, PlannedVolume, Target},
};

/// A run that was planned.
pub(super) struct Plan {
    pub(super) location: String,
    pub(super) tasks: Vec<NewTask>,
    /// Tasks, among the others, whose volumes are no more.
    pub(super) lost: Vec<TaskId>,
    pub(super) skipped: Vec<(VolumeRef, String)>,
    pub(super) pods: Vec<NewPod>,
    /// Pods that are backed up one after the other.
    pub(super) order: Vec<(String, String)>,
    pub(super) objects: Option<PlannedObjects>,
    pub(super) notes: Vec<(LogLevel, String)>,
    /// Whether its tasks become known only while Kubernetes objects are made again.
    pub(super) opens: bool,
}

impl Plan {
    /// A run at a location whose tasks become known while it runs.
    pub(super) fn opening(location: String) -> Self {
        Self {
            location,
            tasks: Vec::new(),
            lost: Vec::new(),
            skipped: Vec::new(),
            pods: Vec::new(),
            order: Vec::new(),
            objects: None,
            notes: Vec::new(),
            opens: true,
        }
    }
}

/// A location, and snapshots there with the targets that were asked for.
type Sources = (String, Vec<(SnapshotInfo, Option<Target>)>);

impl Runs {
    pub(super) async fn plan_backup(
        &self,
        name: &str,
        spec: &BackupSpec,
        location: String,
    ) -> Result<Plan, Refusal> {
        let plan = self.parts.cluster.plan_backup(name, spec).await?;
        let mut notes = plan.notes;
        let objects = self.objects_kept(&location, plan.objects, &mut notes);
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
            order: plan.order,
            objects,
            notes,
            opens: false,
        })
    }

    /// The objects of a backup, unless its location keeps none: then there is a warning among the notes.
    fn objects_kept(
        &self,
        location: &str,
        objects: Option<PlannedObjects>,
        notes: &mut Vec<(LogLevel, String)>,
    ) -> Option<PlannedObjects> {
        let objects = objects?;
        if self.parts.locations.artifacts(location).is_some() {
            return Some(objects);
        }
        artifacts::remove(&objects.file);
        let warning = format!(
            "location {location} keeps no Kubernetes objects: the backup has volumes only; objects are kept in locations \
             that a BackupStorageLocation makes"
        );
        notes.push((LogLevel::Warning, warning));
        None
    }

    pub(super) async fn plan_restore(
        &self,
        spec: &RestoreSpec,
        location: &str,
    ) -> Result<Plan, Refusal> {
        let (location, sources) = self.sources(spec, location).await?;
        mapped(spec, sources.iter().map(|(snapshot, _)| &snapshot.volume))?;
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
            order: Vec::new(),
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

pub(super) fn new_task_id(now_ms: i64) -> TaskId {
    TaskId::new(now_ms.cast_unsigned(), rand::rng().random())
}

/// Proves that each mapping is of a namespace or pod that is restored: what is misspelt would be restored over what runs.
fn mapped<'a>(
    spec: &RestoreSpec,
    volumes: impl Iterator<Item = &'a VolumeRef>,
) -> Result<(), Refusal> {
    let (mut namespaces, mut pods) = (BTreeSet::new(), BTreeSet::new());
    for volume in volumes {
        namespaces.insert(volume.namespace.as_str());
        pods.insert(volume.pod.as_str());
    }
    let maps = [
        (
            "namespace_mapping",
            "namespace",
            &spec.namespace_mapping,
            &namespaces,
        ),
        ("pod_mapping", "pod", &spec.pod_mapping, &pods),
    ];
    for (field, what, map, known) in maps {
        let Some(from) = map.keys().find(|from| !known.contains(from.as_str())) else {
            continue;
        };
        let missing = not_found(what, from, known.iter().copied());
        return Err(Refusal::Invalid {
            field,
            message: format!("in what is restored: {missing}"),
        });
    }
    Ok(())
}
