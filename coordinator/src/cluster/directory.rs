//! A cluster without a Kubernetes API: only what agents report having found.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use orlop_core::{
    hook::{Hook, HookOutcome},
    run::{BackupSpec, KnownVolume, RestoreSpec, select},
};
use orlop_kubernetes::{events::Occurrence, velero::Restore};
use tokio_util::sync::CancellationToken;

use super::{
    BackupPlan, Cluster, ContainerState, HookEnd, ObjectsRequest, PlannedVolume, PodState,
    RestoreSink, RestoredPod,
};
use crate::runs::Refusal;

/// The newest inventory of each node, kept when its agent goes away.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    nodes: Mutex<BTreeMap<String, Vec<KnownVolume>>>,
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<KnownVolume>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cluster for Directory {
    fn report(&self, node: &str, volumes: Vec<KnownVolume>) {
        self.lock().insert(node.to_owned(), volumes);
    }

    fn volumes(&self) -> Vec<KnownVolume> {
        self.lock().values().flatten().cloned().collect()
    }

    fn volumes_of(&self, node: &str) -> Vec<KnownVolume> {
        self.lock().get(node).cloned().unwrap_or_default()
    }

    async fn plan_backup(&self, _name: &str, spec: &BackupSpec) -> Result<BackupPlan, Refusal> {
        if !spec.velero_object.is_empty() {
            return Err(Refusal::Invalid {
                field: "velero_object",
                message: "there is no Kubernetes API here: name pods or volumes".to_owned(),
            });
        }
        let selection = select(spec, &self.volumes())?;
        if selection.taken.is_empty() {
            let message = "no volume is eligible: `orlop status` shows what the agents have found";
            return Err(Refusal::Precondition(message.to_owned()));
        }
        let planned = |found: KnownVolume| PlannedVolume {
            volume: found.volume,
            lineage: found.lineage,
            node: found.node,
            place: None,
        };
        Ok(BackupPlan {
            volumes: selection.taken.into_iter().map(planned).collect(),
            skipped: selection.skipped,
            ..BackupPlan::default()
        })
    }

    async fn run_hook(&self, _namespace: &str, _pod: &str, _hook: &Hook) -> HookEnd {
        HookEnd {
            outcome: HookOutcome::Failed,
            stdout: String::new(),
            stderr: String::new(),
            message: "there is no Kubernetes API here that could run it".to_owned(),
        }
    }

    async fn downloads_url(&self) -> Result<Option<String>, Refusal> {
        Ok(None)
    }

    fn restore_object(&self, _name: &str, _spec: &RestoreSpec) -> Result<Restore, Refusal> {
        Err(no_objects())
    }

    async fn restore_objects(
        &self,
        _request: &ObjectsRequest<'_>,
        _sink: &mut dyn RestoreSink,
        _cancel: &CancellationToken,
    ) -> Result<(), Refusal> {
        Err(no_objects())
    }

    async fn pod_state(&self, _pod: &RestoredPod) -> Result<PodState, Refusal> {
        Err(no_objects())
    }

    fn tell(&self, occurrence: Occurrence) {
        // Nobody looks at objects here; what matters is in the run's log as well.
        tracing::debug!(
            reason = occurrence.reason,
            note = occurrence.note,
            "no event is written"
        );
    }

    async fn delete_pod(&self, _namespace: &str, _pod: &str, _uid: &str) -> Result<(), Refusal> {
        Err(no_objects())
    }

    async fn container_state(
        &self,
        _namespace: &str,
        _pod: &str,
        _container: &str,
    ) -> Result<ContainerState, Refusal> {
        let reason = "there is no Kubernetes API here that knows it".to_owned();
        Ok(ContainerState::Never { reason })
    }

    async fn finish_volumes(
        &self,
        _request: &ObjectsRequest<'_>,
        _cancel: &CancellationToken,
    ) -> Vec<String> {
        Vec::new()
    }
}

/// Why no object can be made.
fn no_objects() -> Refusal {
    Refusal::Invalid {
        field: "velero_object",
        message: "it needs a Kubernetes API, and there is none here: start the coordinator with --in-cluster or \
                  --kubeconfig, or restore the volumes alone (`orlop restore create --volumes-only`)"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use orlop_core::VolumeRef;

    use super::*;

    #[test]
    fn a_restore_of_objects_is_refused_with_the_remedy() {
        let spec = RestoreSpec {
            velero_object: "{}".to_owned(),
            ..RestoreSpec::default()
        };
        let refused = Directory::default().restore_object("r", &spec).unwrap_err();
        assert!(matches!(
            refused,
            Refusal::Invalid {
                field: "velero_object",
                ..
            }
        ));
        assert!(refused.to_string().contains("--in-cluster"), "{refused}");
    }

    #[test]
    fn a_report_replaces_the_one_before() {
        let known = |pod: &str| {
            let volume = VolumeRef::new("ns", pod, "data");
            KnownVolume {
                lineage: volume.default_lineage(),
                volume,
                node: "n".to_owned(),
                pod_uid: String::new(),
                plugin: String::new(),
                selected: true,
                skip_reason: None,
            }
        };
        let directory = Directory::default();
        directory.report("n", vec![known("a"), known("b")]);
        directory.report("n", vec![known("c")]);
        assert_eq!(directory.volumes(), [known("c")]);
        assert_eq!(directory.volumes_of("other"), []);
    }
}
