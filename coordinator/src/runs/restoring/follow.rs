//! Follows restored pods until their volumes have ended: tasks begin where the pods wait.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use orlop_core::run::{AGAIN, MadePod, PodId, RestoreEvent, Run, Task, TaskPhase};
use orlop_kubernetes::{
    events::{EventObject, Occurrence},
    velero::{GoDuration, labels::POD_VOLUME_TIMEOUT},
};
use orlop_proto::v1::LogLevel;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Restoring,
    evict::Evicted,
    judge::{Judgement, OpenPod, Watch},
    sink::made,
};
use crate::{
    cluster::{PodState, RestoredPod},
    runs::Refusal,
};

/// The run is looked at this often.
const STEP: Duration = Duration::from_secs(1);
/// Pods that are asked for at once.
const AT_ONCE: usize = 8;
/// A pod that does not move on is given up after this time, unless the restore says another.
const LIMIT: Duration = Duration::from_hours(4);

impl Restoring<'_> {
    /// Follows pods until all objects were gone through (`made`) and no task and no hook is open, or until `shutdown`. After a
    /// cancel only their ends are waited for.
    pub(super) async fn follow(&self, made: &CancellationToken, shutdown: &CancellationToken) {
        let limit = self.limit();
        let mut watches: HashMap<PodId, Watch> = HashMap::new();
        let mut evicted = Evicted::default();
        loop {
            let Some((pods, idle)) = self.open_pods() else {
                return;
            };
            if made.is_cancelled() && idle {
                return;
            }
            watches.retain(|id, _| pods.iter().any(|pod| pod.id == *id));
            if !self.cancel.is_cancelled() {
                self.look(pods, limit, &mut watches, &mut evicted).await;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(STEP) => {}
            }
        }
    }

    /// How long a pod may stand still.
    fn limit(&self) -> Duration {
        let Some((spec, run)) = self.spec() else {
            return LIMIT;
        };
        let restore = self.runs.parts.cluster.restore_object(&run.name, &spec);
        let annotations = restore.ok().and_then(|it| it.metadata.annotations);
        let Some(said) = annotations.and_then(|mut all| all.remove(POD_VOLUME_TIMEOUT)) else {
            return LIMIT;
        };
        let read = said.parse::<GoDuration>().ok().and_then(duration);
        read.unwrap_or_else(|| {
            let line = format!(
                "annotation {POD_VOLUME_TIMEOUT}: {said:?} is no time above zero such as 90m: pods are given {}",
                GoDuration::from(LIMIT)
            );
            self.note(LogLevel::Warning, &line);
            LIMIT
        })
    }

    /// Pods with open tasks, and whether nothing is open; `None` if the run is gone.
    fn open_pods(&self) -> Option<(Vec<OpenPod>, bool)> {
        let table = self.runs.lock();
        let run = &table.document(self.key)?.run;
        let connected = |node: &str| {
            let agent = table.agents.get(node);
            agent.is_some_and(|agent| agent.link.is_some())
        };
        Some((pods_of(run, connected), run.is_idle()))
    }

    async fn look(
        &self,
        pods: Vec<OpenPod>,
        limit: Duration,
        watches: &mut HashMap<PodId, Watch>,
        evicted: &mut Evicted,
    ) {
        let now = Instant::now();
        let mut due = pods.into_iter().filter(|pod| {
            let watch = watches.entry(pod.id.clone());
            watch.or_insert_with(|| Watch::new(now)).next <= now
        });
        let mut looks: JoinSet<(OpenPod, Result<PodState, Refusal>)> = JoinSet::new();
        let mut looked = Vec::new();
        loop {
            while looks.len() < AT_ONCE {
                let Some(pod) = due.next() else { break };
                let cluster = Arc::clone(&self.runs.parts.cluster);
                looks.spawn(async move {
                    let state = cluster.pod_state(&pod.pod).await;
                    (pod, state)
                });
            }
            match looks.join_next().await {
                None => break,
                Some(Ok(one)) => looked.push(one),
                Some(Err(error)) => {
                    tracing::error!(error = %error, "looking at a pod has panicked");
                }
            }
        }
        drop(due);
        for (pod, state) in looked {
            let Some(watch) = watches.get_mut(&pod.id) else {
                continue;
            };
            let state = state.map_err(|refusal| refusal.to_string());
            let judgement = watch.judge(&pod, state, Instant::now(), limit);
            self.act(&pod, judgement, evicted).await;
        }
    }

    async fn act(&self, pod: &OpenPod, judgement: Judgement, evicted: &mut Evicted) {
        match judgement {
            Judgement::Wait => {}
            Judgement::Tell(line) => self.log(LogLevel::Info, &line),
            Judgement::Warn(line) => self.warn(&pod.id, &line),
            Judgement::Place(node, places) => self.tell(RestoreEvent::PodPlaced {
                pod: pod.id.clone(),
                node,
                places,
            }),
            Judgement::Again(uid) => {
                let PodId { namespace, pod, .. } = &pod.id;
                let line = format!(
                    "pod {namespace}/{pod} was made again and waits: its volumes are restored again"
                );
                self.log(LogLevel::Info, &line);
                if let Some(again) = self.again(namespace, pod, uid) {
                    self.tell(RestoreEvent::PodMade(again));
                }
            }
            Judgement::Replaced(uid) => self.evict(evicted, &pod.id, &uid).await,
            Judgement::Lost(message) => self.tell(RestoreEvent::PodLost {
                pod: pod.id.clone(),
                message,
            }),
        }
    }

    /// Somebody should know why a pod does not move on: whoever looks at the restore, its log or the pod.
    fn warn(&self, pod: &PodId, line: &str) {
        self.note(LogLevel::Warning, line);
        let cluster = &self.runs.parts.cluster;
        let occurrence = |object, reason: &str| Occurrence {
            object,
            warning: true,
            reason: reason.to_owned(),
            note: line.to_owned(),
        };
        let object = EventObject {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: pod.namespace.clone(),
            name: pod.pod.clone(),
            uid: pod.uid.clone(),
        };
        cluster.tell(occurrence(object, "RestoreWaits"));
        if let Some((spec, run)) = self.spec()
            && let Ok(restore) = cluster.restore_object(&run.name, &spec)
        {
            cluster.tell(occurrence(EventObject::of(&restore), "PodWaits"));
        }
    }

    /// The pod that has the name of a restored one, with the same volumes and hooks.
    fn again(&self, namespace: &str, pod: &str, uid: String) -> Option<MadePod> {
        let now_ms = self.runs.now_ms();
        let table = self.runs.lock();
        let run = &table.document(self.key)?.run;
        let tasks = run.tasks.iter().filter(|task| {
            (task.volume.namespace.as_str(), task.volume.pod.as_str()) == (namespace, pod)
        });
        let volumes = tasks.filter_map(volume_of).collect();
        let sizes = run
            .tasks
            .iter()
            .filter_map(|task| Some((task.snapshot?, task.snapshot_bytes)))
            .collect();
        let mut again = made(restored(namespace, pod, uid, volumes), now_ms, &sizes);
        if let Some(known) = run.pod(namespace, pod) {
            again.hooks = known.hooks.clone();
            let waits = known.restored.as_ref().map(|restored| &restored.waits);
            again.waits = waits.cloned().unwrap_or_default();
        }
        Some(again)
    }
}

/// A time that is above zero.
fn duration(said: GoDuration) -> Option<Duration> {
    let time = said.to_std()?;
    (!time.is_zero()).then_some(time)
}

fn volume_of(task: &Task) -> Option<(String, orlop_core::VolumeRef, orlop_core::SnapshotId)> {
    let source = task.source.clone().unwrap_or_else(|| task.volume.clone());
    Some((task.volume.volume.clone(), source, task.snapshot?))
}

fn restored(
    namespace: &str,
    pod: &str,
    uid: String,
    volumes: Vec<(String, orlop_core::VolumeRef, orlop_core::SnapshotId)>,
) -> RestoredPod {
    RestoredPod {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid,
        volumes,
        hooks: Vec::new(),
    }
}

/// Why a task is tried again.
fn trouble_of(task: &Task) -> Option<String> {
    let reason = task.message.strip_suffix(AGAIN)?;
    Some(format!("volume {}: {reason}", task.volume.volume))
}

/// The pods of a run that have open tasks.
fn pods_of(run: &Run, connected: impl Fn(&str) -> bool) -> Vec<OpenPod> {
    let mut pods: BTreeMap<PodId, Vec<&Task>> = BTreeMap::new();
    for task in &run.tasks {
        let uid = task.place.as_ref().map(|place| place.pod_uid.clone());
        let id = PodId {
            namespace: task.volume.namespace.clone(),
            pod: task.volume.pod.clone(),
            uid: uid.unwrap_or_default(),
        };
        pods.entry(id).or_default().push(task);
    }
    let open = |(id, tasks): (PodId, Vec<&Task>)| {
        let left: Vec<&Task> = tasks
            .iter()
            .copied()
            .filter(|task| !task.phase.is_final())
            .collect();
        let first = left.first()?;
        let done = tasks
            .iter()
            .filter(|task| task.phase == TaskPhase::Completed)
            .count();
        let work = tasks.iter().map(|task| {
            let progress = task.progress;
            progress.bytes_done.saturating_add(progress.entries_done)
        });
        // One that does not know where it is makes all of them look again.
        let placed = left
            .iter()
            .all(|task| task.awaited && task.node == first.node);
        let volumes = tasks.iter().filter_map(|task| volume_of(task)).collect();
        Some(OpenPod {
            pod: restored(&id.namespace, &id.pod, id.uid.clone(), volumes),
            moved: (done as u64, work.fold(0, u64::saturating_add)),
            node: placed.then(|| first.node.clone()),
            connected: connected(&first.node),
            trouble: left.iter().find_map(|task| trouble_of(task)),
            untried: left
                .iter()
                .all(|task| task.phase == TaskPhase::Queued && task.attempts == 0),
            id,
        })
    };
    pods.into_iter().filter_map(open).collect()
}
