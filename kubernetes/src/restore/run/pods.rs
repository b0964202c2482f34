//! Pods: made so that they wait for their volumes, and told to those who restore these.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::Run;
use crate::{
    collect::ServedKind,
    files::tarball::ItemPath,
    restore::{
        BackedVolume, RestoreError, RestoredPod, apply::Outcome, hooks, json::text, wait_container,
    },
    velero::{GoDuration, labels::POD_VOLUME_TIMEOUT},
};

/// After how long without any progress a pod stops to wait and is started again.
const STALL: Duration = Duration::from_hours(4);

impl Run<'_> {
    /// Makes a pod, which is already in its namespace and freed of its former life.
    pub(super) async fn pod(
        &mut self,
        path: &ItemPath,
        kind: &ServedKind,
        object: &mut Value,
    ) -> Result<Outcome, RestoreError> {
        let source = path.namespace.as_deref().unwrap_or_default();
        let backed = self.volumes.of_pod(source, &path.name, object);
        let typed: Pod = match serde_json::from_value(object.clone()) {
            Ok(pod) => pod,
            Err(error) => {
                return Ok(Outcome::failed(format!(
                    "the backup's copy of it is no pod: {error}"
                )));
            }
        };
        let found = hooks::pod_hooks(&typed, &self.request.restore.spec.hooks, !backed.is_empty());
        if !backed.is_empty()
            && let Err(error) = wait_container::inject(object, &self.settings.wait, self.stall())
        {
            return Ok(Outcome::failed(error));
        }
        hooks::inject(object, found.init);
        let mut outcome = self.put(path, kind, object).await?;
        let Some(own) = &outcome.own else {
            if !backed.is_empty() && outcome.errors.is_empty() {
                outcome.warnings.push(
                    "the pod exists already, so nothing is restored into its volumes: delete it, and what makes it, before \
                     a restore"
                        .to_owned(),
                );
            }
            return Ok(outcome);
        };
        let namespace = self.scope.mapped(source).to_owned();
        for volume in &backed {
            let claim = (namespace.clone(), volume.claim.clone());
            if self.found_claims.contains(&claim) {
                outcome.warnings.push(format!(
                    "the claim {} existed already; volume {} is restored into what it holds",
                    volume.claim, volume.source.volume
                ));
            }
        }
        outcome.warnings.extend(found.warnings);
        outcome.errors.extend(found.errors);
        if !backed.is_empty() || !found.exec.is_empty() {
            let named =
                |one: &&BackedVolume| (one.source.volume.clone(), one.source.clone(), one.snapshot);
            let pod = RestoredPod {
                namespace,
                pod: path.name.clone(),
                uid: text(own, "/metadata/uid").unwrap_or_default().to_owned(),
                volumes: backed.iter().map(named).collect(),
                hooks: found.exec,
            };
            self.sink.pod(pod);
        }
        Ok(outcome)
    }

    /// How long a pod waits without progress: as long as all volumes together may take.
    fn stall(&self) -> Duration {
        let annotations = self.request.restore.metadata.annotations.as_ref();
        let given = annotations.and_then(|annotations| annotations.get(POD_VOLUME_TIMEOUT));
        let given = given.and_then(|text| text.parse::<GoDuration>().ok()?.to_std());
        given.filter(|time| !time.is_zero()).unwrap_or(STALL)
    }
}
