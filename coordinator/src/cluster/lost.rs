//! What a backup took before its coordinator lost its state: the objects of its volumes still tell.

use orlop_core::{VolumeRef, run::Place};
use orlop_kubernetes::{
    client::{Connection, Objects},
    velero::{
        Backup, PodVolumeBackup,
        labels::{BACKUP_NAME, BACKUP_UID, ENGINE, PVC_NAME, PVC_UID, valid_name},
    },
};

use super::PlannedVolume;
use crate::runs::{Refusal, with_sources};

/// The volumes of a backup's objects that are not among those that it would take now. Without a UID nothing was begun before.
///
/// # Errors
/// The API does not answer.
pub(super) async fn lost_volumes(
    connection: &Connection,
    backup: &Backup,
    taken: &[PlannedVolume],
) -> Result<Vec<PlannedVolume>, Refusal> {
    let metadata = &backup.metadata;
    let (Some(name), Some(uid), Some(namespace)) =
        (&metadata.name, &metadata.uid, &metadata.namespace)
    else {
        return Ok(Vec::new());
    };
    let objects = Objects::<PodVolumeBackup>::of(connection, Some(namespace));
    let selector = format!("{BACKUP_NAME}={},{BACKUP_UID}={uid}", valid_name(name));
    let found = objects.list(&selector).await;
    let found = found.map_err(|error| Refusal::Unavailable(with_sources(&error)))?;
    Ok(lost(found, taken))
}

fn lost(found: Vec<PodVolumeBackup>, taken: &[PlannedVolume]) -> Vec<PlannedVolume> {
    let mut lost: Vec<PlannedVolume> = Vec::new();
    for object in found.into_iter().filter_map(planned) {
        let claim = |one: &PlannedVolume| {
            let place = one.place.as_ref();
            place.map_or_else(String::new, |place| place.claim_uid.clone())
        };
        // A claim that several pods mount is taken once, of whichever of them is there.
        let is_same = |one: &PlannedVolume| {
            one.volume == object.volume || !claim(one).is_empty() && claim(one) == claim(&object)
        };
        if !taken.iter().chain(&lost).any(is_same) {
            lost.push(object);
        }
    }
    lost
}

/// What an object of ours says of its volume.
fn planned(object: PodVolumeBackup) -> Option<PlannedVolume> {
    let (spec, metadata) = (object.spec, object.metadata);
    let (labels, annotations) = (
        metadata.labels.unwrap_or_default(),
        metadata.annotations.unwrap_or_default(),
    );
    annotations.get(ENGINE)?;
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let volume = VolumeRef::new(&spec.pod.namespace?, &spec.pod.name?, &spec.volume);
    Some(PlannedVolume {
        lineage: volume.default_lineage(),
        volume,
        node: spec.node,
        place: Some(Place {
            pod_uid: spec.pod.uid.unwrap_or_default(),
            claim: text(annotations.get(PVC_NAME)),
            claim_uid: text(labels.get(PVC_UID)),
            ..Place::default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(pod: &str, claim_uid: &str) -> PodVolumeBackup {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("b-{pod}"), "labels": {"velero.io/pvc-uid": claim_uid},
                "annotations": {"orlop.io/engine": "orlop"},
            },
            "spec": {
                "node": "n1", "volume": "data", "backupStorageLocation": "default", "repoIdentifier": "",
                "pod": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": "p-1"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_taken_still_is_not_lost() {
        let taken = [
            planned(object("db-0", "")),
            planned(object("web-new", "c-1")),
        ];
        let taken = taken.map(Option::unwrap);
        let found = vec![
            object("db-0", ""),
            object("db-1", ""),
            object("db-1", ""),
            object("web-old", "c-1"),
        ];
        let lost = lost(found, &taken);
        let names: Vec<String> = lost.iter().map(|one| one.volume.to_string()).collect();
        assert_eq!(names, ["shop/db-1/data"]);
        assert_eq!(lost[0].node, "n1");
    }
}
