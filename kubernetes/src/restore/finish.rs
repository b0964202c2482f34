//! The end of a restore: new persistent volumes are treated as the old ones were.

use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    RESTORE_UID, RestoreError, RestoreRequest,
    api::{Api, Stop},
    json::{annotation, labels, text},
    order::VOLUMES,
};
use crate::{
    client::{Connection, Objects},
    files::{
        FileError,
        tarball::{Layout, Tarball, TarballLimits},
    },
    selection::labels::Labels,
};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};

/// How long claims are waited for that are not bound yet.
const BINDING_MAX: Duration = Duration::from_mins(10);

const LOOK: Duration = Duration::from_secs(2);

/// Labels that say where a volume is: the new one is elsewhere.
const PLACES: [&str; 2] = [
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
];

/// A persistent volume of the backup, for its claim.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Old {
    namespace: String,
    claim: String,
    name: String,
    policy: String,
    labels: Labels,
}

/// Gives the new persistent volumes of this restore's claims the reclaim policy and the labels of the old ones.
///
/// To be called when all volumes are restored. Claims that wait for a first consumer are left alone. The answer is what
/// could not be done, one line each; it takes some ten minutes at most, unless the server is away.
pub async fn finish_volumes(
    connection: &Connection,
    request: &RestoreRequest<'_>,
    cancel: &CancellationToken,
) -> Vec<String> {
    let tarball = request.tarball.to_owned();
    let stop = cancel.clone();
    let read = tokio::task::spawn_blocking(move || old_volumes(&tarball, &stop)).await;
    let old = match read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
        Ok(old) => old,
        Err(RestoreError::Cancelled) => return Vec::new(),
        Err(error) => {
            return vec![format!(
                "persistent volumes of the backup cannot be read: {error}"
            )];
        }
    };
    let mut api = Api::new(connection, cancel);
    let end = Instant::now() + BINDING_MAX;
    let mut warnings = Vec::new();
    for mut one in old {
        let mapping = &request.restore.spec.namespace_mapping;
        if let Some(to) = mapping.get(&one.namespace) {
            one.namespace.clone_from(to);
        }
        let uid = request.restore.metadata.uid.as_deref().unwrap_or_default();
        match finish(&mut api, &one, uid, end).await {
            Ok(None) => {}
            Ok(Some(warning)) => warnings.push(warning),
            Err(Stop::Cancelled) => break,
            Err(Stop::Failed(error)) => warnings.push(format!(
                "the persistent volume of claim {}/{} does not get the reclaim policy and the labels of {}: {error}",
                one.namespace, one.claim, one.name
            )),
        }
    }
    warnings
}

fn old_volumes(tarball: &Path, cancel: &CancellationToken) -> Result<Vec<Old>, RestoreError> {
    let input = BufReader::new(File::open(tarball).map_err(FileError::from)?);
    let mut old = Vec::new();
    Tarball::open(input, TarballLimits::default()).read(|item| {
        if cancel.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        if item.path.resource == VOLUMES && item.layout == Layout::Plain {
            let volume: Value = serde_json::from_slice(&item.json).unwrap_or_default();
            old.extend(old_volume(&item.path.name, &volume));
        }
        Ok(())
    })?;
    Ok(old)
}

fn old_volume(name: &str, volume: &Value) -> Option<Old> {
    let of_claim = |key: &str| Some(text(volume, &format!("/spec/claimRef/{key}"))?.to_owned());
    let mut labels = labels(volume);
    labels.retain(|key, _| !PLACES.iter().any(|place| key.starts_with(place)));
    Some(Old {
        namespace: of_claim("namespace")?,
        claim: of_claim("name")?,
        name: name.to_owned(),
        policy: text(volume, "/spec/persistentVolumeReclaimPolicy")?.to_owned(),
        labels,
    })
}

/// The answer is a warning, if there is one.
async fn finish(
    api: &mut Api<'_>,
    old: &Old,
    uid: &str,
    end: Instant,
) -> Result<Option<String>, Stop> {
    let claims = &Objects::<PersistentVolumeClaim>::of(api.connection, Some(&old.namespace));
    let name = old.claim.as_str();
    let bound = loop {
        let claim = api.patiently(async || claims.get(name).await).await?;
        let Some(claim) = claim else {
            return Ok(None);
        };
        let as_json = json!({"metadata": {"annotations": claim.metadata.annotations}});
        if annotation(&as_json, RESTORE_UID) != Some(uid) {
            return Ok(None);
        }
        let spec = claim.spec.unwrap_or_default();
        let bound = spec.volume_name.filter(|name| !name.is_empty());
        if let Some(bound) = bound {
            break bound;
        }
        if waits_for_consumer(api, spec.storage_class_name.as_deref()).await? {
            return Ok(None);
        }
        if Instant::now() >= end {
            return Ok(Some(format!(
                "claim {}/{name} is not bound, so its volume does not get the reclaim policy and the labels of {}",
                old.namespace, old.name
            )));
        }
        api.pause(LOOK).await?;
    };
    let volumes = &Objects::<PersistentVolume>::of(api.connection, None);
    let volume = &bound;
    let found = api.patiently(async || volumes.get(volume).await).await?;
    let Some(patch) = found.and_then(|found| patch_of(&found, old)) else {
        return Ok(None);
    };
    let patch = &patch;
    api.patiently(async || volumes.merge_patch(volume, patch).await)
        .await?;
    Ok(None)
}

async fn waits_for_consumer(api: &mut Api<'_>, class: Option<&str>) -> Result<bool, Stop> {
    let classes = &Objects::<StorageClass>::of(api.connection, None);
    let class = match class {
        Some(class) if !class.is_empty() => {
            api.patiently(async || classes.get(class).await).await?
        }
        _ => None,
    };
    let mode = class.and_then(|class| class.volume_binding_mode);
    Ok(mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// What a new volume lacks of the old one's.
fn patch_of(found: &PersistentVolume, old: &Old) -> Option<Value> {
    let spec = found.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let present: BTreeMap<String, String> = found.metadata.labels.clone().unwrap_or_default();
    let labels: Map<String, Value> = old
        .labels
        .iter()
        .filter(|(key, value)| present.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    let mut patch = json!({});
    if policy != Some(&old.policy) {
        patch["spec"] = json!({"persistentVolumeReclaimPolicy": old.policy});
    }
    if !labels.is_empty() {
        patch["metadata"] = json!({"labels": labels});
    }
    (patch != json!({})).then_some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_volume_gets_the_policy_and_the_labels_but_not_the_place() {
        let volume = json!({
            "metadata": {"name": "pv-1", "labels": {"app": "db", "topology.kubernetes.io/zone": "a"}},
            "spec": {"persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "shop", "name": "data"}},
        });
        let old = old_volume("pv-1", &volume).unwrap();
        let found = |value: Value| serde_json::from_value::<PersistentVolume>(value).unwrap();
        let new = found(
            json!({"metadata": {"name": "pv-2"}, "spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
        );
        let want = json!({
            "spec": {"persistentVolumeReclaimPolicy": "Retain"}, "metadata": {"labels": {"app": "db"}},
        });
        assert_eq!(patch_of(&new, &old), Some(want));
        assert_eq!(patch_of(&found(volume), &old), None);
        let free = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        assert_eq!(old_volume("pv-3", &free), None);
    }
}
