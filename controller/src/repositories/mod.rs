//! `BackupRepository`: the volumes' data of a namespace in a location, for those who look for one.

mod plan;

use std::sync::Arc;

use orlop_kubernetes::velero::{BackupRepository, PodVolumeBackup, merge_patch};

use crate::{
    engine::{Next, Reconciler},
    error::Trouble,
    parts::Parts,
};
use plan::Step;

/// Looks after `BackupRepository` objects: when one changes or is gone, all are compared with what there should be.
pub(crate) struct Repositories(pub(crate) Arc<Parts>);

impl Reconciler for Repositories {
    type Object = BackupRepository;

    fn concerns(&self, _object: &BackupRepository) -> bool {
        false
    }

    async fn reconcile(
        &self,
        _name: &str,
        _object: Option<BackupRepository>,
    ) -> Result<Next, Trouble> {
        Ok(Next::Done)
    }

    fn noticed(&self, _object: &BackupRepository) {
        self.0.repositories_changed.notify_one();
    }
}

/// Makes the objects that there should be, and removes the others of ours.
pub(crate) async fn compare(parts: &Parts) -> Result<(), Trouble> {
    let (Some(objects), Some(volumes)) = (parts.repositories.all(), parts.volumes.all()) else {
        return Ok(());
    };
    let locations = parts.coordinator.all_locations().await?;
    let objects: Vec<&BackupRepository> = objects.iter().map(|one| &**one).collect();
    let volumes: Vec<&PodVolumeBackup> = volumes.iter().map(|one| &**one).collect();
    for step in plan::next(&objects, &volumes, &locations, parts.namespace()) {
        match step {
            Step::Create(object) => {
                parts.repositories.create(&object).await?;
            }
            Step::Change(name, changed) => {
                let before = objects
                    .iter()
                    .find(|one| one.metadata.name.as_ref() == Some(&name));
                if let Some(patch) = before.and_then(|before| merge_patch(*before, &changed)) {
                    parts.repositories.patch(&name, &patch).await?;
                }
            }
            Step::Delete(name) => parts.repositories.delete(&name, None).await?,
        }
    }
    Ok(())
}
