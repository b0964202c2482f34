//! Directories of locations, mounted into our own Deployment.

use std::{collections::BTreeMap, sync::Arc};

use orlop_kubernetes::{
    api::{Deployment, PersistentVolumeClaim},
    client::{ClientError, Objects},
    velero::BackupStorageLocation,
};
use serde_json::json;

use super::{
    Locations, Outcome,
    mount::{self, Mount, Rollout},
    provider::{self, Wanted},
};
use crate::{error::Trouble, patch::only_if};

impl Locations {
    /// Mounts the directories of all locations; `None` if that of this one is mounted, or it has none.
    pub(super) async fn mount(&self, wanted: &Wanted) -> Result<Option<Outcome>, Trouble> {
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
        Ok(match self.roll_out(mounts).await? {
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
        self.roll_out(self.mounts()).await.map(drop)
    }

    /// The directories of all locations that are known, by location.
    fn mounts(&self) -> BTreeMap<String, Mount> {
        let known = self.0.locations.all().unwrap_or_default();
        let mount = |location: Arc<BackupStorageLocation>| {
            let name = location.metadata.name.clone()?;
            let mount = provider::wanted(&name, &location.spec, &self.0.config.stores).ok()?.mount?;
            Some((name, mount))
        };
        known.into_iter().filter_map(mount).collect()
    }

    /// `None` if there is no Deployment.
    async fn roll_out(&self, mounts: BTreeMap<String, Mount>) -> Result<Option<Rollout>, Trouble> {
        let deployments = Objects::<Deployment>::of(&self.0.connection, Some(self.0.namespace()));
        let name = &self.0.config.deployment;
        let Some(deployment) = deployments.get(name).await? else {
            return Ok(None);
        };
        let version = deployment.metadata.resource_version.clone();
        let mounts: Vec<Mount> = mounts.into_values().collect();
        let rollout = mount::rollout(&json!(deployment), &mounts);
        if let Rollout::Patch(patch) = &rollout {
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
}
