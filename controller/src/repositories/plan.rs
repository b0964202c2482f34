//! Which `BackupRepository` objects there should be, and what they say.

use std::collections::{BTreeMap, BTreeSet};

use orlop_kubernetes::{
    api::ObjectMeta,
    velero::{
        BackupRepository, GoDuration, PodVolumeBackup, PodVolumePhase,
        labels::{self, valid_name},
        pod_volume::UploaderType,
        repository::{
            BackupRepositoryPhase, BackupRepositorySpec, BackupRepositoryStatus, Maintenance,
            MaintenanceResult,
        },
    },
};
use orlop_proto::v1;

use crate::{clock, names};

/// How many maintenances are kept in sight.
const MAINTENANCES: usize = 25;
/// How often space is freed, as Velero says it.
const FREQUENCY: GoDuration = GoDuration::from_secs(3600);

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// There is none yet, or somebody has deleted it.
    Create(Box<BackupRepository>),
    /// The object of this name becomes this.
    Change(String, Box<BackupRepository>),
    /// Nothing of that namespace is in the location any more.
    Delete(String),
}

/// Compares the objects with what volumes are backed up where.
pub(crate) fn next(
    objects: &[&BackupRepository],
    volumes: &[&PodVolumeBackup],
    locations: &[v1::LocationStatus],
    namespace: &str,
) -> Vec<Step> {
    let locations: BTreeMap<&str, &v1::LocationStatus> = locations
        .iter()
        .map(|one| (one.location.as_str(), one))
        .collect();
    let wanted: BTreeSet<(&str, &str)> = volumes
        .iter()
        .filter(|volume| volume.status.phase == PodVolumePhase::Completed)
        .filter_map(|volume| {
            let location = volume.spec.backup_storage_location.as_str();
            Some((volume.spec.pod.namespace.as_deref()?, location))
        })
        .filter(|(_, location)| locations.contains_key(location))
        .collect();
    let ours = objects
        .iter()
        .filter(|object| names::annotation(**object, labels::ENGINE) == Some(names::OURS));
    let mut known: BTreeMap<(&str, &str), &BackupRepository> = BTreeMap::new();
    let mut steps = Vec::new();
    for object in ours {
        let pair = (
            object.spec.volume_namespace.as_str(),
            object.spec.backup_storage_location.as_str(),
        );
        let double = known.contains_key(&pair);
        if double || !wanted.contains(&pair) {
            steps.extend(object.metadata.name.clone().map(Step::Delete));
        } else {
            known.insert(pair, object);
        }
    }
    for (of, location) in wanted {
        let told = locations[location];
        match known.get(&(of, location)) {
            None => {
                let mut object = made(of, location, namespace);
                object.status = status(&object.status, told);
                steps.push(Step::Create(Box::new(object)));
            }
            Some(object) => {
                let mut changed = (*object).clone();
                changed.status = status(&object.status, told);
                if changed != **object
                    && let Some(name) = object.metadata.name.clone()
                {
                    steps.push(Step::Change(name, Box::new(changed)));
                }
            }
        }
    }
    steps
}

fn made(of: &str, location: &str, namespace: &str) -> BackupRepository {
    let text = str::to_owned;
    let on_object = [
        (text(labels::VOLUME_NAMESPACE), valid_name(of)),
        (text(labels::STORAGE_LOCATION), valid_name(location)),
        (text(labels::REPOSITORY_TYPE), text("kopia")),
    ];
    BackupRepository {
        metadata: ObjectMeta {
            // A namespace has no dots: the first one is the mark between the two.
            name: Some(names::with_end(&format!("{of}.{location}"), "-kopia")),
            namespace: Some(text(namespace)),
            labels: Some(on_object.into()),
            annotations: Some([(text(labels::ENGINE), text(names::OURS))].into()),
            ..ObjectMeta::default()
        },
        spec: BackupRepositorySpec {
            volume_namespace: text(of),
            backup_storage_location: text(location),
            repository_type: UploaderType::Kopia,
            maintenance_frequency: FREQUENCY,
            ..BackupRepositorySpec::default()
        },
        ..BackupRepository::default()
    }
}

fn status(
    before: &BackupRepositoryStatus,
    location: &v1::LocationStatus,
) -> BackupRepositoryStatus {
    let mut status = before.clone();
    (status.phase, status.message) = if location.available {
        (BackupRepositoryPhase::Ready, String::new())
    } else {
        (BackupRepositoryPhase::NotReady, location.message.clone())
    };
    let Some(time) = clock::time(location.collected_ms) else {
        return status;
    };
    let last = status.recent_maintenance.last();
    if last.and_then(|last| last.complete_timestamp.as_ref()) == Some(&time) {
        return status;
    }
    let (result, message) = if location.collect_failed {
        (MaintenanceResult::Failed, location.collected.clone())
    } else {
        status.last_maintenance_time = Some(time.clone());
        (MaintenanceResult::Succeeded, String::new())
    };
    status.recent_maintenance.push(Maintenance {
        result,
        start_timestamp: Some(time.clone()),
        complete_timestamp: Some(time),
        message,
    });
    let more = status.recent_maintenance.len().saturating_sub(MAINTENANCES);
    status.recent_maintenance.drain(..more);
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_767_323_045_000;

    fn volume(namespace: &str, location: &str, phase: &str) -> PodVolumeBackup {
        serde_json::from_value(json!({
            "spec": {
                "node": "n", "pod": {"namespace": namespace}, "volume": "v", "backupStorageLocation": location,
                "repoIdentifier": "",
            },
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn location(name: &str, collected_ms: i64) -> v1::LocationStatus {
        v1::LocationStatus {
            location: name.to_owned(),
            available: true,
            collected_ms,
            ..v1::LocationStatus::default()
        }
    }

    fn made_by(steps: Vec<Step>) -> BackupRepository {
        match steps.into_iter().next() {
            Some(Step::Create(object) | Step::Change(_, object)) => *object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_namespace_of_a_location_has_one() {
        let volumes = [
            volume("shop", "default", "Completed"),
            volume("shop", "default", "Completed"),
            volume("new", "default", "InProgress"),
            volume("shop", "gone", "Completed"),
        ];
        let volumes: Vec<_> = volumes.iter().collect();
        let places = [location("default", NOW)];
        let steps = next(&[], &volumes, &places, "velero");
        assert_eq!(steps.len(), 1);
        let object = made_by(steps);
        assert_eq!(
            json!(object),
            json!({
                "apiVersion": "velero.io/v1", "kind": "BackupRepository",
                "metadata": {
                    "name": "shop.default-kopia", "namespace": "velero", "annotations": {"orlop.io/engine": "orlop"},
                    "labels": {
                        "velero.io/volume-namespace": "shop", "velero.io/storage-location": "default",
                        "velero.io/repository-type": "kopia",
                    },
                },
                "spec": {
                    "volumeNamespace": "shop", "backupStorageLocation": "default", "repositoryType": "kopia",
                    "maintenanceFrequency": "1h0m0s",
                },
                "status": {
                    "phase": "Ready", "lastMaintenanceTime": "2026-01-02T03:04:05Z",
                    "recentMaintenance": [{
                        "result": "Succeeded", "startTimestamp": "2026-01-02T03:04:05Z",
                        "completeTimestamp": "2026-01-02T03:04:05Z",
                    }],
                },
            })
        );
        assert_eq!(next(&[&object], &volumes, &places, "velero"), []);
        assert_eq!(
            next(&[&object], &[], &places, "velero"),
            [Step::Delete("shop.default-kopia".to_owned())]
        );
    }

    #[test]
    fn maintenances_are_told_once_and_the_oldest_forgotten() {
        let volumes = [volume("shop", "default", "Completed")];
        let volumes: Vec<_> = volumes.iter().collect();
        let mut object = made_by(next(&[], &volumes, &[location("default", NOW)], "velero"));
        for hour in 1..=30 {
            let mut place = location("default", NOW + hour * 3_600_000);
            place.collect_failed = hour == 30;
            place.collected = "the store was full".to_owned();
            object = made_by(next(&[&object], &volumes, &[place], "velero"));
        }
        let status = object.status;
        assert_eq!(status.recent_maintenance.len(), 25);
        let last = status.recent_maintenance.last().unwrap();
        assert_eq!(
            (&last.result, last.message.as_str()),
            (&MaintenanceResult::Failed, "the store was full")
        );
        assert_eq!(
            status.last_maintenance_time,
            clock::time(NOW + 29 * 3_600_000)
        );
    }

    #[test]
    fn a_repository_that_cannot_be_reached_says_why_and_those_of_others_are_left_alone() {
        let volumes = [volume("shop", "default", "Completed")];
        let volumes: Vec<_> = volumes.iter().collect();
        let place = v1::LocationStatus {
            available: false,
            message: "no route".to_owned(),
            ..location("default", 0)
        };
        let status = made_by(next(&[], &volumes, &[place], "velero")).status;
        assert_eq!(
            (status.phase, status.message.as_str()),
            (BackupRepositoryPhase::NotReady, "no route")
        );
        let old: BackupRepository = serde_json::from_value(json!({
            "metadata": {"name": "old"},
            "spec": {"volumeNamespace": "x", "backupStorageLocation": "default", "maintenanceFrequency": "1h"},
        }))
        .unwrap();
        assert_eq!(next(&[&old], &[], &[location("default", 0)], "velero"), []);
    }
}
