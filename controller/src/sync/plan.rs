//! What the cluster lacks of a location's backups, and what it has too much.

use std::collections::{BTreeMap, BTreeSet};

use orlop_kubernetes::{
    api::ObjectMeta,
    record::owner,
    velero::{
        Backup, BackupPhase, DeleteBackupRequest, PodVolumeBackup,
        labels::{self, valid_name},
    },
};

use crate::names;

/// How the cluster and a location differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Difference {
    /// In the store, and no object has the name.
    pub(crate) missing: Vec<String>,
    /// Objects whose volumes' objects are not all there yet.
    pub(crate) incomplete: Vec<String>,
    /// Finished once, and no longer in the store: name and UID.
    pub(crate) vanished: Vec<(String, String)>,
}

/// Compares. `before` are the objects as they were before the store was listed: what was finished then must be there.
pub(crate) fn difference(
    location: &str,
    before: &[&Backup],
    stored: &[String],
    requests: &[&DeleteBackupRequest],
) -> Difference {
    let stored: BTreeSet<&str> = stored.iter().map(String::as_str).collect();
    let in_cluster: BTreeMap<&str, &Backup> = before
        .iter()
        .filter_map(|backup| Some((backup.metadata.name.as_deref()?, *backup)))
        .collect();
    let mut found = Difference {
        missing: stored
            .iter()
            .filter(|name| !in_cluster.contains_key(**name))
            .map(|name| (*name).to_owned())
            .collect(),
        ..Difference::default()
    };
    for (name, backup) in in_cluster {
        if backup.spec.storage_location != location {
            continue;
        }
        let asked = requests
            .iter()
            .any(|request| request.spec.backup_name == name);
        let finished = match backup.status.phase {
            BackupPhase::Completed | BackupPhase::PartiallyFailed => true,
            // Whoever deletes it removes the object too, unless that was the console.
            BackupPhase::Deleting => !asked,
            _ => false,
        };
        if stored.contains(name) {
            if names::annotation(backup, names::INCOMPLETE).is_some() {
                found.incomplete.push(name.to_owned());
            }
        } else if finished {
            let uid = backup.metadata.uid.clone().unwrap_or_default();
            found.vanished.push((name.to_owned(), uid));
        }
    }
    found
}

/// The object of a backup that was found in `location`; `None` if the file is of another one or of none that ended.
pub(crate) fn object(
    mut stored: Backup,
    name: &str,
    location: &str,
    namespace: &str,
) -> Option<Backup> {
    if stored.metadata.name.as_deref() != Some(name) || !stored.status.phase.is_final() {
        return None;
    }
    let mut on_object = stored.metadata.labels.take().unwrap_or_default();
    on_object.insert(labels::STORAGE_LOCATION.to_owned(), valid_name(location));
    let mut annotations = stored.metadata.annotations.take().unwrap_or_default();
    annotations.insert(names::INCOMPLETE.to_owned(), "true".to_owned());
    stored.metadata = fresh(name, namespace);
    stored.metadata.labels = Some(on_object);
    stored.metadata.annotations = Some(annotations);
    location.clone_into(&mut stored.spec.storage_location);
    Some(stored)
}

/// The objects of a backup's volumes, as parts of the object that stands for it here.
pub(crate) fn volumes(stored: Vec<PodVolumeBackup>, backup: &Backup) -> Vec<PodVolumeBackup> {
    let name = backup.metadata.name.clone().unwrap_or_default();
    let uid = backup.metadata.uid.clone().unwrap_or_default();
    let namespace = backup.metadata.namespace.clone().unwrap_or_default();
    let mine = |mut volume: PodVolumeBackup| {
        let own = volume.metadata.name.take().filter(|own| !own.is_empty())?;
        let mut on_object = volume.metadata.labels.take().unwrap_or_default();
        on_object.insert(labels::BACKUP_NAME.to_owned(), valid_name(&name));
        on_object.insert(labels::BACKUP_UID.to_owned(), uid.clone());
        let annotations = volume.metadata.annotations.take();
        volume.metadata = fresh(&own, &namespace);
        volume.metadata.labels = Some(on_object);
        volume.metadata.annotations = annotations;
        volume.metadata.owner_references = Some(vec![owner(&name, &uid)]);
        backup
            .spec
            .storage_location
            .clone_into(&mut volume.spec.backup_storage_location);
        volume.spec.cancel = false;
        Some(volume)
    };
    stored.into_iter().filter_map(mine).collect()
}

fn fresh(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn backup(name: &str, location: &str, phase: &str) -> Backup {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("u-{name}")},
            "spec": {"storageLocation": location}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_missing_comes_and_what_vanished_goes() {
        let mut half = backup("half", "default", "Completed");
        half.metadata.annotations =
            Some([(names::INCOMPLETE.to_owned(), "true".to_owned())].into());
        let objects = [
            backup("kept", "default", "Completed"),
            half,
            backup("gone", "default", "Completed"),
            backup("gone-too", "default", "PartiallyFailed"),
            backup("failed", "default", "Failed"),
            backup("running", "default", "InProgress"),
            backup("elsewhere", "other", "Completed"),
            backup("dropped", "default", "Deleting"),
            backup("asked", "default", "Deleting"),
        ];
        let request: DeleteBackupRequest =
            serde_json::from_value(json!({"spec": {"backupName": "asked"}})).unwrap();
        let stored = ["kept", "half", "new", "elsewhere"].map(str::to_owned);
        let before: Vec<&Backup> = objects.iter().collect();
        let found = difference("default", &before, &stored, &[&request]);
        assert_eq!(found.missing, ["new"]);
        assert_eq!(found.incomplete, ["half"]);
        let vanished: Vec<&str> = found
            .vanished
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(vanished, ["dropped", "gone", "gone-too"]);
        assert_eq!(found.vanished[1].1, "u-gone");
    }

    fn stored() -> Value {
        json!({
            "metadata": {
                "name": "b", "namespace": "old", "uid": "u-old", "resourceVersion": "9", "generation": 4,
                "creationTimestamp": "2026-01-02T03:04:05Z", "ownerReferences": [
                    {"apiVersion": "velero.io/v1", "kind": "Schedule", "name": "s", "uid": "x"},
                ],
                "labels": {"velero.io/storage-location": "there", "a": "b"}, "annotations": {"kots.io/instance": "true"},
            },
            "spec": {"storageLocation": "there", "ttl": "720h"},
            "status": {"phase": "Completed", "expiration": "2026-02-01T03:04:05Z"},
        })
    }

    #[test]
    fn a_stored_backup_becomes_an_object_of_this_cluster() {
        let made = object(
            serde_json::from_value(stored()).unwrap(),
            "b",
            "default",
            "velero",
        )
        .unwrap();
        assert_eq!(
            json!(made),
            json!({
                "apiVersion": "velero.io/v1", "kind": "Backup",
                "metadata": {
                    "name": "b", "namespace": "velero", "labels": {"velero.io/storage-location": "default", "a": "b"},
                    "annotations": {"kots.io/instance": "true", "orlop.io/incomplete": "true"},
                },
                "spec": {"storageLocation": "default", "ttl": "720h0m0s"},
                "status": {"phase": "Completed", "expiration": "2026-02-01T03:04:05Z"},
            })
        );
    }

    #[test]
    fn a_file_of_another_backup_or_of_one_that_runs_is_none() {
        assert_eq!(
            object(
                serde_json::from_value(stored()).unwrap(),
                "c",
                "default",
                "velero"
            ),
            None
        );
        let mut running = stored();
        running["status"]["phase"] = json!("InProgress");
        assert_eq!(
            object(
                serde_json::from_value(running).unwrap(),
                "b",
                "default",
                "velero"
            ),
            None
        );
    }

    #[test]
    fn volumes_belong_to_the_object_that_was_made() {
        let volume = json!({
            "metadata": {
                "name": "b-x1", "namespace": "old", "uid": "v-old", "labels": {"velero.io/backup-uid": "u-old"},
                "annotations": {"velero.io/pvc-name": "data"},
                "ownerReferences": [{"apiVersion": "velero.io/v1", "kind": "Backup", "name": "b", "uid": "u-old"}],
            },
            "spec": {"node": "n", "pod": {}, "volume": "v", "backupStorageLocation": "there", "repoIdentifier": ""},
            "status": {"phase": "Completed", "snapshotID": "s"},
        });
        let nameless = json!({"metadata": {}});
        let stored = vec![
            serde_json::from_value(volume).unwrap(),
            serde_json::from_value(nameless).unwrap(),
        ];
        let mut here = backup("b", "default", "Completed");
        here.metadata.namespace = Some("velero".to_owned());
        let made = volumes(stored, &here);
        assert_eq!(made.len(), 1);
        assert_eq!(
            json!(made[0].metadata),
            json!({
                "name": "b-x1", "namespace": "velero", "annotations": {"velero.io/pvc-name": "data"},
                "labels": {"velero.io/backup-name": "b", "velero.io/backup-uid": "u-b"},
                "ownerReferences": [{
                    "apiVersion": "velero.io/v1", "kind": "Backup", "name": "b", "uid": "u-b", "controller": true,
                }],
            })
        );
        assert_eq!(made[0].spec.backup_storage_location, "default");
        assert_eq!(made[0].status.snapshot_id, "s");
    }
}
