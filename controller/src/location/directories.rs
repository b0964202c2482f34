//! Directories of locations, mounted into our own Deployment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use orlop_kubernetes::{
    api::{DaemonSet, Deployment, PersistentVolumeClaim},
    client::{ClientError, Objects},
    velero::BackupStorageLocation,
};
use serde_json::json;

use super::{
    Locations, Outcome,
    mount::{self, Mount, Rollout},
    provider::{self, Wanted},
};
use crate::{agents::AGENTS, error::Trouble, names, patch::only_if};

/// How long a location must have been what it is before our Deployment follows. The KOTS Admin Console writes the
/// location, then reads and writes the Deployment, and gives up if somebody else has changed that in between.
const SETTLE: Duration = Duration::from_secs(2);

impl Locations {
    /// Mounts the directories of all locations; `None` if that of this one is mounted, or it has none.
    pub(super) async fn mount(
        &self,
        location: &BackupStorageLocation,
        wanted: &Wanted,
    ) -> Result<Option<Outcome>, Trouble> {
        let Some(mount) = &wanted.mount else {
            return Ok(None);
        };
        if let Some(claim) = mount.claim() {
            let claims =
                Objects::<PersistentVolumeClaim>::of(&self.0.connection, Some(self.0.namespace()));
            if claims.get(&mount.name()).await?.is_none() {
                let claim = serde_json::from_value(claim)
                    .map_err(|error| Trouble::Unreadable(error.to_string()))?;
                match claims.create(&claim).await {
                    Ok(_) | Err(ClientError::AlreadyExists { .. }) => {}
                    Err(ClientError::Invalid { message }) => {
                        return Ok(Some(Outcome::Refused(message)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut mounts = self.mounts();
        mounts.insert(mount.location.clone(), mount.clone());
        let is_settled = self.0.unchanged_for(location) >= SETTLE;
        Ok(match self.roll_out(mounts, is_settled).await? {
            Some(Rollout::Done) => None,
            Some(Rollout::Patch(_) | Rollout::Underway) => Some(Outcome::Mounting),
            None => Some(Outcome::Refused(format!(
                "Deployment {} of namespace {} does not exist: a directory is mounted into it",
                self.0.config.deployment,
                self.0.namespace()
            ))),
        })
    }

    /// Takes away what no location needs any more: a server that is gone would keep our pod from starting.
    pub(super) async fn unmount(&self) -> Result<(), Trouble> {
        self.roll_out(self.mounts(), true).await.map(drop)
    }

    /// The same, once for each change of a location that may have been a directory before. When to come again, if it
    /// is too early.
    pub(super) async fn tidy(
        &self,
        location: &BackupStorageLocation,
    ) -> Result<Option<Duration>, Trouble> {
        if self.0.is_tidy(location) {
            return Ok(None);
        }
        let rest = SETTLE.saturating_sub(self.0.unchanged_for(location));
        if !rest.is_zero() {
            return Ok(Some(rest));
        }
        let name = location.metadata.name.as_deref().unwrap_or_default();
        let wanted = provider::wanted(name, &location.spec, &self.0.config.stores);
        if !wanted.is_ok_and(|wanted| wanted.mount.is_some()) {
            self.unmount().await?;
        }
        self.0.tidied(location);
        Ok(None)
    }

    /// The directories of all locations that are known, by location.
    fn mounts(&self) -> BTreeMap<String, Mount> {
        let known = self.0.locations.all().unwrap_or_default();
        let mount = |location: Arc<BackupStorageLocation>| {
            let name = location.metadata.name.clone()?;
            let mount = provider::wanted(&name, &location.spec, &self.0.config.stores)
                .ok()?
                .mount?;
            Some((name, mount))
        };
        known.into_iter().filter_map(mount).collect()
    }

    /// Compares our Deployment with the directories, and changes it if it `may`; `None` if there is none.
    async fn roll_out(
        &self,
        mounts: BTreeMap<String, Mount>,
        may: bool,
    ) -> Result<Option<Rollout>, Trouble> {
        let deployments = Objects::<Deployment>::of(&self.0.connection, Some(self.0.namespace()));
        let name = &self.0.config.deployment;
        let Some(deployment) = deployments.get(name).await? else {
            return Ok(None);
        };
        let version = deployment.metadata.resource_version.clone();
        let mounts: Vec<Mount> = mounts.into_values().collect();
        let rollout = mount::rollout(&json!(deployment), &mounts);
        if let Rollout::Patch(patch) = &rollout
            && may
        {
            // First, for the change of the Deployment ends this program.
            self.restart_agents(&mounts).await?;
            tracing::info!(
                deployment = name,
                directories = mounts.len(),
                "the server is started with other directories"
            );
            deployments
                .merge_patch(name, &only_if(patch.clone(), version.as_deref()))
                .await?;
        }
        Ok(Some(rollout))
    }

    /// Replaces the pods of the agents when directories are mounted. The page of the KOTS Admin Console on which one was
    /// chosen leaves the restart to the plugin of directories, and waits until both, server and agents, are new pods.
    async fn restart_agents(&self, mounts: &[Mount]) -> Result<(), Trouble> {
        let sets = Objects::<DaemonSet>::of(&self.0.connection, Some(self.0.namespace()));
        let Some(set) = sets.get(AGENTS).await? else {
            return Ok(());
        };
        let wanted = mount::fingerprint(mounts);
        let set = json!(set);
        let template = &set["spec"]["template"]["metadata"]["annotations"];
        if mounts.is_empty() || template[names::DIRECTORIES] == wanted {
            return Ok(());
        }
        let annotations = json!({names::DIRECTORIES: wanted});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        sets.merge_patch(AGENTS, &patch).await?;
        Ok(())
    }
}
