//! A cluster that does what a test says.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use orlop_core::{
    SnapshotId, VolumeRef,
    hook::{Hook, HookOutcome, HookSource, OnError},
    run::{BackupSpec, KnownVolume, Place, RestoreSpec},
};
use orlop_kubernetes::{events::Occurrence, velero::Restore};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{
        BackupPlan, Cluster, ContainerState, HookEnd, ItemEnd, ItemReport, ObjectsRequest,
        PodState, RestoreHook, RestoreSink, RestoredPod,
    },
    runs::Refusal,
};

/// What a test says of the cluster.
#[derive(Default)]
pub(super) struct Script {
    /// Pods that are made.
    pub(super) pods: Vec<RestoredPod>,
    /// Reports of objects, after the pods.
    pub(super) reports: Vec<ItemReport>,
    /// How pods are, by name.
    pub(super) states: BTreeMap<String, PodState>,
    /// Whether making objects goes on until it is cancelled.
    pub(super) hangs: bool,
    /// Hooks that fail, by name.
    pub(super) failing: Vec<&'static str>,
    /// How every container is.
    pub(super) container: Option<ContainerState>,
    /// What was told of objects: kind, name, reason and note.
    pub(super) told: Vec<(String, String, String, String)>,
    /// How long a hook takes.
    pub(super) hook_takes: Duration,
    /// Hooks that run, and the most that ran at once.
    pub(super) running: (usize, usize),
    /// What was called, in order.
    pub(super) calls: Vec<String>,
    /// The objects as they were put aside.
    pub(super) tarball: Vec<u8>,
    /// Volumes that were said to have snapshots.
    pub(super) backed: usize,
}

/// A cluster that does what its script says.
#[derive(Default)]
pub(super) struct Fake(Mutex<Script>);

impl Fake {
    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: impl Into<String>) {
        self.script().calls.push(call.into());
    }
}

#[async_trait]
impl Cluster for Fake {
    fn report(&self, _node: &str, _volumes: Vec<KnownVolume>) {}

    fn volumes(&self) -> Vec<KnownVolume> {
        Vec::new()
    }

    fn volumes_of(&self, _node: &str) -> Vec<KnownVolume> {
        Vec::new()
    }

    async fn plan_backup(&self, _name: &str, _spec: &BackupSpec) -> Result<BackupPlan, Refusal> {
        Ok(BackupPlan::default())
    }

    async fn run_hook(&self, _namespace: &str, _pod: &str, hook: &Hook) -> HookEnd {
        self.call(format!("hook {}", hook.name));
        let takes = {
            let mut script = self.script();
            script.running.0 += 1;
            script.running.1 = script.running.1.max(script.running.0);
            script.hook_takes
        };
        tokio::time::sleep(takes).await;
        self.script().running.0 -= 1;
        let fails = self.script().failing.contains(&hook.name.as_str());
        HookEnd {
            outcome: if fails {
                HookOutcome::Failed
            } else {
                HookOutcome::Succeeded
            },
            stdout: String::new(),
            stderr: String::new(),
            message: String::new(),
        }
    }

    async fn downloads_url(&self) -> Result<Option<String>, Refusal> {
        Ok(None)
    }

    fn restore_object(&self, _name: &str, spec: &RestoreSpec) -> Result<Restore, Refusal> {
        serde_json::from_str(&spec.velero_object).map_err(|error| Refusal::Invalid {
            field: "velero_object",
            message: error.to_string(),
        })
    }

    async fn restore_objects(
        &self,
        request: &ObjectsRequest<'_>,
        sink: &mut dyn RestoreSink,
        cancel: &CancellationToken,
    ) -> Result<(), Refusal> {
        self.call("make");
        let tarball = std::fs::read(request.tarball).unwrap();
        let (pods, reports, hangs) = {
            let mut script = self.script();
            script.tarball = tarball;
            script.backed = request.volumes.len();
            let pods = script.pods.clone();
            (pods, script.reports.clone(), script.hangs)
        };
        sink.total(reports.len() as u64);
        for pod in pods {
            sink.pod(pod);
        }
        for report in reports {
            sink.item(report);
        }
        if hangs {
            cancel.cancelled().await;
            self.call("cancelled");
            return Err(Refusal::Precondition("it was cancelled".to_owned()));
        }
        Ok(())
    }

    async fn pod_state(&self, pod: &RestoredPod) -> Result<PodState, Refusal> {
        let state = self.script().states.get(&pod.pod).cloned();
        Ok(state.unwrap_or(PodState::Gone))
    }

    fn tell(&self, occurrence: Occurrence) {
        let Occurrence {
            object,
            reason,
            note,
            ..
        } = occurrence;
        let told = (object.kind, object.name, reason, note);
        self.script().told.push(told);
    }

    async fn delete_pod(&self, namespace: &str, pod: &str, uid: &str) -> Result<(), Refusal> {
        self.call(format!("delete {namespace}/{pod} {uid}"));
        Ok(())
    }

    async fn container_state(
        &self,
        _namespace: &str,
        _pod: &str,
        _container: &str,
    ) -> Result<ContainerState, Refusal> {
        let state = self.script().container.clone();
        Ok(state.unwrap_or(ContainerState::Ready))
    }

    async fn finish_volumes(
        &self,
        _request: &ObjectsRequest<'_>,
        _cancel: &CancellationToken,
    ) -> Vec<String> {
        self.call("finish");
        vec!["volume pv-1 keeps its policy".to_owned()]
    }
}

/// A restored pod with these volumes and hooks.
pub(super) fn pod(
    name: &str,
    volumes: &[(&str, SnapshotId)],
    hooks: &[(&str, OnError)],
) -> RestoredPod {
    let hook = |(name, on_error): &(&str, OnError)| RestoreHook {
        name: (*name).to_owned(),
        source: HookSource::Annotation,
        container: "app".to_owned(),
        command: vec!["true".to_owned()],
        on_error: *on_error,
        exec_timeout: Duration::from_secs(30),
        wait_timeout: Duration::from_mins(2),
        wait_for_ready: true,
    };
    let volume = |(volume, snapshot): &(&str, SnapshotId)| {
        let source = VolumeRef::new("old", name, *volume);
        ((*volume).to_owned(), source, *snapshot)
    };
    RestoredPod {
        namespace: "shop".to_owned(),
        pod: name.to_owned(),
        uid: "1".to_owned(),
        volumes: volumes.iter().map(volume).collect(),
        hooks: hooks.iter().map(hook).collect(),
    }
}

/// A pod that waits on node `n` with these volumes.
pub(super) fn waiting(volumes: &[&str]) -> PodState {
    let place = |volume: &&str| {
        let directory = format!("dir-{volume}");
        let place = Place {
            directory,
            ..Place::default()
        };
        ((*volume).to_owned(), place)
    };
    PodState::Waiting {
        node: "n".to_owned(),
        places: volumes.iter().map(place).collect(),
    }
}

/// A report of an object.
pub(super) fn report(name: &str, end: ItemEnd, errors: &[&str]) -> ItemReport {
    ItemReport {
        resource: "configmaps".to_owned(),
        kind: "ConfigMap".to_owned(),
        api_version: "v1".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        end,
        warnings: Vec::new(),
        errors: errors.iter().map(|error| (*error).to_owned()).collect(),
    }
}
