//! Commands to agents, and the context by which a task is known again when the state database is gone.

use bytes::Bytes;
use orlop_core::{
    Chunking, Lineage, RestoreMode, SnapshotId, TaskId, VolumeRef,
    run::{Event, Making, NewTask, Objects, Place, PodRun, Run, RunKind, RunSpec, Task},
};
use orlop_kubernetes::velero::Restore;
use orlop_proto::v1;
use orlop_runtime::mac::{self, MacKey};
use serde::{Deserialize, Serialize};

use super::agents::command;
use crate::{locations::Reach, records::Document};

/// Larger contexts name only their own task; with its code a context is at most 256 KiB.
const MAX_CONTEXT_BYTES: usize = (256 << 10) - mac::CODE_BYTES;

/// Enough of a run to finish it.
#[derive(Serialize, Deserialize)]
struct Context {
    name: String,
    location: String,
    created_ms: i64,
    skipped: u32,
    spec: RunSpec,
    tasks: Vec<ContextTask>,
    /// Pods with hooks: those after volumes run in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pods: Vec<PodRun>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objects: Option<Objects>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    order: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct ContextTask {
    id: TaskId,
    volume: VolumeRef,
    node: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lineage: Option<Lineage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<SnapshotId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<VolumeRef>,
}

/// Begin `task` of the run in `document`, whose store it reaches as told or through the coordinator.
pub(super) fn start(
    document: &Document,
    task: &Task,
    reach: Option<Reach>,
    key: &MacKey,
) -> v1::AgentCommand {
    let work = match &document.spec {
        RunSpec::Backup(spec) => v1::start_task::Work::Backup(v1::BackupTask {
            exclude: spec.exclude.clone(),
            tags: spec.tags.clone(),
            force_full: spec.force_full,
            chunking: v1::Chunking::from(
                task.place
                    .as_ref()
                    .map_or(Chunking::Auto, |place| place.chunking),
            )
            .into(),
        }),
        RunSpec::Restore(spec) => v1::start_task::Work::Restore(v1::RestoreTask {
            snapshot_id: task.snapshot.map(|id| id.to_string()).unwrap_or_default(),
            mode: v1::RestoreMode::from(mode_of(spec.effective_mode(), task)).into(),
            path: spec.path.clone().into(),
            marks_expected: volumes_of_pod(&document.run, &task.volume),
            directory: spec
                .directory(&document.run.name)
                .unwrap_or_default()
                .to_owned(),
            directory_may_exist: goes_on(task),
            awaited: task.awaited,
            parallel: parallel(&spec.velero_object),
        }),
    };
    let mut start = v1::StartTask {
        task_id: task.id.to_string(),
        run: document.run.name.clone(),
        volume: Some((&task.volume).into()),
        store: Some(v1::start_task::Store::Gateway(v1::Gateway {})),
        context: key.seal(context(document, task)).into(),
        work: Some(work),
        s3_keys: None,
        ca_pem: Bytes::new(),
        place: task.place.as_ref().map(|place| v1::Place {
            pod_uid: place.pod_uid.clone(),
            directory: place.directory.clone(),
            host_path: place.host_path.clone(),
        }),
        lineage: task
            .lineage
            .as_ref()
            .filter(|_| task.place.is_some())
            .map(|lineage| lineage.0.clone())
            .unwrap_or_default(),
    };
    if let Some(reach) = reach {
        start.store = Some(v1::start_task::Store::StoreUrl(reach.url));
        start.s3_keys = reach.keys.as_ref().map(Into::into);
        start.ca_pem = reach.ca_pem.into();
    }
    command(v1::agent_command::Command::Start(start))
}

/// Names of the volumes of the pod of `volume` that the run restores.
fn volumes_of_pod(run: &Run, volume: &VolumeRef) -> Vec<String> {
    let same = |task: &&Task| {
        (&task.volume.namespace, &task.volume.pod) == (&volume.namespace, &volume.pod)
    };
    let tasks = run.tasks.iter().filter(same);
    tasks.map(|task| task.volume.volume.clone()).collect()
}

/// How many files of a volume the `Restore` wants to be written at once; 0 if it does not say.
fn parallel(velero_object: &str) -> u32 {
    let restore = serde_json::from_str::<Restore>(velero_object);
    let config = restore
        .ok()
        .and_then(|restore| restore.spec.uploader_config);
    config.map_or(0, |config| {
        u32::try_from(config.parallel_files_download).unwrap_or(0)
    })
}

/// An attempt after the first one goes on in what the first one left in a target that was empty.
fn mode_of(mode: RestoreMode, task: &Task) -> RestoreMode {
    match mode {
        RestoreMode::Empty if goes_on(task) => RestoreMode::Overwrite,
        mode => mode,
    }
}

/// Whether an attempt before this one may have written.
fn goes_on(task: &Task) -> bool {
    task.touched && task.attempts > 1
}

/// Stop a task.
pub(super) fn cancel(id: TaskId) -> v1::AgentCommand {
    let task_id = id.to_string();
    command(v1::agent_command::Command::Cancel(v1::CancelTask {
        task_id,
    }))
}

/// Forget a task that has ended.
pub(super) fn acknowledge(id: TaskId) -> v1::AgentCommand {
    let task_id = id.to_string();
    command(v1::agent_command::Command::Acknowledge(
        v1::AcknowledgeTask { task_id },
    ))
}

fn context(document: &Document, own: &Task) -> Vec<u8> {
    let all = encode(document, document.run.tasks.iter());
    if all.len() <= MAX_CONTEXT_BYTES {
        return all;
    }
    let one = encode(document, std::iter::once(own));
    // Without a context the task is known from the state database alone.
    if one.len() <= MAX_CONTEXT_BYTES {
        one
    } else {
        Vec::new()
    }
}

fn encode<'a>(document: &Document, tasks: impl Iterator<Item = &'a Task>) -> Vec<u8> {
    let run = &document.run;
    let restores = run.kind == RunKind::Restore;
    let task = |task: &Task| ContextTask {
        id: task.id,
        volume: task.volume.clone(),
        node: task.node.clone(),
        lineage: task.lineage.clone(),
        snapshot: task.snapshot.filter(|_| restores),
        place: task.place.clone(),
        source: task.source.clone(),
    };
    let context = Context {
        name: run.name.clone(),
        location: run.location.clone(),
        created_ms: run.created_ms,
        skipped: run.skipped,
        spec: document.spec.clone(),
        tasks: tasks.map(task).collect(),
        pods: run.pods.clone(),
        objects: run.objects,
        order: run.order.clone(),
    };
    serde_json::to_vec(&context).expect("names and numbers are always JSON")
}

/// The run of a task that an agent still has, with all its tasks queued; `None` if the context is not one that
/// a coordinator with this key has made.
pub(super) fn recovered(context: &[u8], key: &MacKey) -> Option<Document> {
    let context: Context = serde_json::from_slice(key.open(context)?).ok()?;
    let kind = context.spec.kind();
    let mut run = Run::new(kind, &context.name, &context.location, context.created_ms);
    let task = |task: ContextTask| NewTask {
        id: task.id,
        volume: task.volume,
        node: task.node,
        lineage: task.lineage,
        snapshot: task.snapshot,
        place: task.place,
        source: task.source,
    };
    let tasks: Vec<NewTask> = context.tasks.into_iter().map(task).collect();
    if tasks.is_empty() {
        return None;
    }
    // A plan with tasks asks for nothing.
    let _ = run.apply(
        Event::Planned {
            tasks,
            skipped: context.skipped,
            pods: Vec::new(),
            objects: context.objects,
        },
        context.created_ms,
    );
    run.pods = context.pods;
    run.order = context.order;
    if matches!(&context.spec, RunSpec::Restore(spec) if spec.makes_objects()) {
        // Its objects are gone through again; what is made already is found.
        run.making = Some(Making::default());
    }
    let mut document = Document::new(context.spec, run);
    document.recovered = true;
    Some(document)
}

#[cfg(test)]
mod tests {
    use orlop_core::run::{BackupSpec, TaskPhase};

    use super::*;

    #[test]
    fn files_at_once_are_as_the_restore_says() {
        assert_eq!(parallel(""), 0);
        assert_eq!(
            parallel(r#"{"spec": {"uploaderConfig": {"parallelFilesDownload": 3}}}"#),
            3
        );
        assert_eq!(
            parallel(r#"{"spec": {"uploaderConfig": {"parallelFilesDownload": -3}}}"#),
            0
        );
        assert_eq!(
            parallel(r#"{"spec": {"uploaderConfig": {"writeSparseFiles": true}}}"#),
            0
        );
    }

    #[test]
    fn a_run_is_put_together_again_from_a_context() {
        let mut run = Run::new(RunKind::Backup, "b", "default", 7);
        let task = |id: u8| NewTask {
            id: TaskId::from_bytes([id; 16]),
            volume: VolumeRef::new("ns", "p", format!("v{id}")),
            node: "n".to_owned(),
            lineage: Some(Lineage(format!("l{id}"))),
            snapshot: None,
            place: None,
            source: None,
        };
        let _ = run.apply(
            Event::Planned {
                tasks: vec![task(1), task(2)],
                skipped: 3,
                pods: Vec::new(),
                objects: None,
            },
            7,
        );
        let mut progressed = run.clone();
        let _ = progressed.apply(
            Event::Assigned {
                task: TaskId::from_bytes([1; 16]),
            },
            8,
        );
        let spec = RunSpec::Backup(BackupSpec {
            force_full: true,
            ..BackupSpec::default()
        });
        let document = Document::new(spec.clone(), progressed.clone());
        let key = MacKey::derive(b"secret", "test");
        let plain = context(&document, &progressed.tasks[0]);
        let sealed = key.seal(plain.clone());
        let again = recovered(&sealed, &key).unwrap();
        assert_eq!((again.run, again.spec, again.recovered), (run, spec, true));
        let other = MacKey::derive(b"another", "test");
        assert!(recovered(&sealed, &other).is_none());
        assert!(recovered(&plain, &key).is_none());
        assert!(recovered(&key.seal(b"{}".to_vec()), &key).is_none());
    }

    #[test]
    fn a_context_that_is_too_large_names_its_own_task_only() {
        let mut run = Run::new(RunKind::Backup, "b", "default", 7);
        let task = |id: u32| NewTask {
            id: TaskId::new(u64::from(id), [0; 10]),
            volume: VolumeRef::new("n".repeat(200), "p".repeat(200), format!("v{id:06}")),
            node: "n".to_owned(),
            lineage: None,
            snapshot: None,
            place: None,
            source: None,
        };
        let _ = run.apply(
            Event::Planned {
                tasks: (0..2000).map(task).collect(),
                skipped: 0,
                pods: Vec::new(),
                objects: None,
            },
            7,
        );
        let document = Document::new(RunSpec::Backup(BackupSpec::default()), run);
        let context = context(&document, &document.run.tasks[3]);
        assert!(context.len() < MAX_CONTEXT_BYTES);
        let key = MacKey::derive(b"secret", "test");
        let again = recovered(&key.seal(context), &key).unwrap();
        assert_eq!(again.run.tasks.len(), 1);
        assert_eq!(again.run.tasks[0].id, document.run.tasks[3].id);
        assert_eq!(again.run.tasks[0].phase, TaskPhase::Queued);
    }
}
