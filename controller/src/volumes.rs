//! The tasks of a run as the objects of its volumes, whichever way the data goes.

use std::collections::{BTreeMap, BTreeSet};

use orlop_kubernetes::{
    api::{ObjectReference, Time},
    client::ObjectKind,
    record::TASK,
    velero::{PodVolumePhase, labels::valid_name, merge_patch, pod_volume::DataProgress},
};
use orlop_proto::v1::{self, TaskPhase};

use crate::{clock, engine::Kept, error::Trouble, names};

/// A kind of object that shows a task.
pub(crate) trait VolumeObject: ObjectKind + PartialEq {
    /// How far its volume has come.
    fn phase(&self) -> &PodVolumePhase;

    /// Whether somebody wants it to stop.
    fn is_to_stop(&self) -> bool;
}

/// What becomes of the objects of a run's tasks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step<K> {
    /// A task has none yet.
    Create(Box<K>),
    /// The object of this name becomes this.
    Change(String, Box<K>),
    /// The object of this name shows a task of a run that was lost and begun again.
    Remove(String),
}

/// Compares the objects that belong to a run with its tasks: `created` makes a task's object, `shown` says in an object
/// how far its task is.
pub(crate) fn next<K: VolumeObject>(
    tasks: &[v1::Task],
    objects: &[K],
    created: impl Fn(&v1::Task) -> K,
    shown: impl Fn(&mut K, &v1::Task),
) -> Vec<Step<K>> {
    let by_task: BTreeMap<&str, &K> = objects
        .iter()
        .filter_map(|object| Some((names::annotation(object, TASK)?, object)))
        .collect();
    let step = |task: &v1::Task| {
        let Some(object) = by_task.get(task.task_id.as_str()) else {
            return Some(Step::Create(Box::new(created(task))));
        };
        let mut changed = (*object).clone();
        shown(&mut changed, task);
        let name = object.meta().name.clone()?;
        (changed != **object).then(|| Step::Change(name, Box::new(changed)))
    };
    let mut steps: Vec<Step<K>> = tasks.iter().filter_map(step).collect();
    // As long as it has no tasks, a run may not know them yet.
    if !tasks.is_empty() {
        let live: BTreeSet<&str> = tasks.iter().map(|task| task.task_id.as_str()).collect();
        let lost = by_task.iter().filter(|(task, _)| !live.contains(**task));
        steps
            .extend(lost.filter_map(|(_, object)| Some(Step::Remove(object.meta().name.clone()?))));
    }
    steps
}

/// Makes the objects of a run what `next` says of those that are `mine`. Returns them as they were before.
async fn bring<K: VolumeObject>(
    kept: &Kept<K>,
    selector: &str,
    mine: impl Fn(&K) -> bool,
    next: impl Fn(&[K]) -> Vec<Step<K>>,
) -> Result<Vec<K>, Trouble> {
    let known = kept.all();
    let is_listed = known.is_some();
    let known = known.into_iter().flatten().filter(|object| mine(object));
    let mut objects: Vec<K> = known.map(|object| (*object).clone()).collect();
    let mut steps = next(&objects);
    if !is_listed || steps.iter().any(|step| matches!(step, Step::Create(_))) {
        // One may have been made that nobody has told us of.
        objects = kept.list(selector).await?;
        objects.retain(&mine);
        steps = next(&objects);
    }
    let before = |own: &str| {
        let is_it = |one: &&K| one.meta().name.as_deref() == Some(own);
        objects.iter().find(is_it)
    };
    for step in steps {
        match step {
            Step::Create(object) => {
                kept.create(&object).await?;
            }
            Step::Change(own, changed) => {
                if let Some(patch) = before(&own).and_then(|before| merge_patch(before, &*changed))
                {
                    kept.patch(&own, &patch).await?;
                }
            }
            Step::Remove(own) => {
                let uid = before(&own).and_then(|object| object.meta().uid.as_deref());
                kept.delete(&own, uid).await?;
            }
        }
    }
    Ok(objects)
}

/// Makes the objects of a run what `next` says. The run's are those with its name and its UID in these labels. Returns them
/// as they were before.
pub(crate) async fn bring_of<K: VolumeObject>(
    kept: &Kept<K>,
    (name_label, name): (&str, &str),
    (uid_label, uid): (&str, Option<&str>),
    next: impl Fn(&[K]) -> Vec<Step<K>>,
) -> Result<Vec<K>, Trouble> {
    let name = valid_name(name);
    let mine = |volume: &K| {
        names::label(volume, name_label) == Some(&name) && names::label(volume, uid_label) == uid
    };
    bring(kept, &format!("{name_label}={name}"), mine, next).await
}

/// Whether somebody wants every volume of a run to stop: this is how Velero is told to stop one.
pub(crate) fn all_canceled<K: VolumeObject>(objects: &[K]) -> bool {
    let live: Vec<_> = objects
        .iter()
        .filter(|one| !one.phase().is_final())
        .collect();
    !live.is_empty() && live.iter().all(|one| one.is_to_stop())
}

/// The pairs that have a value.
pub(crate) fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let told = pairs.iter().filter(|(_, value)| !value.is_empty());
    told.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The pod of a task.
pub(crate) fn pod(task: &v1::Task) -> ObjectReference {
    let volume = task.volume.clone().unwrap_or_default();
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some(volume.namespace),
        name: Some(volume.pod),
        uid: (!task.pod_uid.is_empty()).then(|| task.pod_uid.clone()),
        ..ObjectReference::default()
    }
}

/// How far a volume has come, as the status of both kinds has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Course {
    pub(crate) phase: PodVolumePhase,
    pub(crate) message: String,
    pub(crate) accepted: Option<Time>,
    pub(crate) started: Option<Time>,
    pub(crate) completed: Option<Time>,
    pub(crate) progress: DataProgress,
}

impl Course {
    /// The same after what its task says; `None` if that says nothing.
    pub(crate) fn after(mut self, task: &v1::Task, now_ms: i64) -> Option<Self> {
        self.phase = match task.phase() {
            TaskPhase::Unspecified => return None,
            TaskPhase::Queued => PodVolumePhase::New,
            TaskPhase::Running => PodVolumePhase::InProgress,
            TaskPhase::Completed => PodVolumePhase::Completed,
            TaskPhase::Failed => PodVolumePhase::Failed,
            TaskPhase::Canceled => PodVolumePhase::Canceled,
        };
        let ended_ms = if task.completed_ms == 0 {
            now_ms
        } else {
            task.completed_ms
        };
        let ends = self.phase.is_final();
        if self.phase != PodVolumePhase::New && self.started.is_none() {
            // A task that never began has no length, but its times are what clients draw.
            let began_ms = if task.started_ms != 0 {
                task.started_ms
            } else if ends {
                ended_ms
            } else {
                now_ms
            };
            self.started = clock::time(began_ms);
            self.accepted.clone_from(&self.started);
        }
        if ends && self.completed.is_none() {
            self.completed = clock::time(ended_ms);
        } else if !ends {
            // It may have begun again.
            self.completed = None;
        }
        self.progress = progress(task);
        self.message.clone_from(&task.message);
        Some(self)
    }
}

/// KOTS divides by what is done, and calls a volume whole when both are equal.
fn progress(task: &v1::Task) -> DataProgress {
    let done = bytes(task.bytes_done);
    if task.phase() == TaskPhase::Completed {
        return DataProgress {
            total_bytes: done,
            bytes_done: done,
        };
    }
    let total = bytes(task.bytes_total);
    if done < 1 || total < 1 {
        return DataProgress::default();
    }
    DataProgress {
        total_bytes: total.max(done),
        bytes_done: done,
    }
}

/// A number of bytes as Velero writes it.
pub(crate) fn bytes(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
