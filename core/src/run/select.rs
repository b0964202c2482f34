//! Which of the known volumes a backup takes.

use std::collections::BTreeSet;

use super::{near::not_found, spec::BackupSpec};
use crate::{Lineage, VolumeRef};

/// A volume that an agent has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVolume {
    /// The volume.
    pub volume: VolumeRef,
    /// The node that has it.
    pub node: String,
    /// UID of its pod; empty if unknown.
    pub pod_uid: String,
    /// The volume plugin as the kubelet names it.
    pub plugin: String,
    /// The identity by which its snapshots are found.
    pub lineage: Lineage,
    /// Whether a backup that names no volumes takes it.
    pub selected: bool,
    /// Why it can never be backed up.
    pub skip_reason: Option<String>,
}

/// The volumes of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Volumes to back up, in order of volume.
    pub taken: Vec<KnownVolume>,
    /// Volumes of the pods concerned that are left out, each with the reason.
    pub skipped: Vec<(VolumeRef, String)>,
}

/// A selection that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// Something that was named is not known; the text names it and near misses.
    #[error("{0}")]
    Unknown(String),
    /// A volume that was named can never be backed up.
    #[error("volume {volume} cannot be backed up: {reason}")]
    Ineligible {
        /// The volume.
        volume: VolumeRef,
        /// Why.
        reason: String,
    },
}

/// The volumes of `known` that `spec` asks for.
///
/// # Errors
/// A namespace, pod or volume that was named is not known, or a volume that was named is not eligible.
pub fn select(spec: &BackupSpec, known: &[KnownVolume]) -> Result<Selection, SelectError> {
    let mut known: Vec<&KnownVolume> = known.iter().collect();
    known.sort_by(|a, b| (&a.volume, &a.node).cmp(&(&b.volume, &b.node)));
    if spec.volumes.is_empty() {
        by_pod(spec, &known)
    } else {
        by_name(spec, &known)
    }
}

fn by_name(spec: &BackupSpec, known: &[&KnownVolume]) -> Result<Selection, SelectError> {
    let mut selection = Selection::default();
    let wanted: BTreeSet<&VolumeRef> = spec.volumes.iter().collect();
    for volume in wanted {
        let Some(found) = known.iter().find(|k| k.volume == *volume) else {
            let names: Vec<String> = known.iter().map(|k| k.volume.to_string()).collect();
            let names = names.iter().map(String::as_str);
            return Err(SelectError::Unknown(not_found(
                "volume",
                &volume.to_string(),
                names,
            )));
        };
        if let Some(reason) = &found.skip_reason {
            return Err(SelectError::Ineligible {
                volume: volume.clone(),
                reason: reason.clone(),
            });
        }
        selection.taken.push((*found).clone());
    }
    Ok(selection)
}

fn by_pod(spec: &BackupSpec, known: &[&KnownVolume]) -> Result<Selection, SelectError> {
    let namespaces: BTreeSet<&str> = known.iter().map(|k| k.volume.namespace.as_str()).collect();
    let pods: BTreeSet<String> = known.iter().map(|k| pod_of(&k.volume)).collect();
    if let Some(name) = spec
        .namespaces
        .iter()
        .find(|n| !namespaces.contains(n.as_str()))
    {
        return Err(SelectError::Unknown(not_found(
            "namespace",
            name,
            namespaces,
        )));
    }
    if let Some(name) = spec.pods.iter().find(|n| !pods.contains(*n)) {
        let pods = pods.iter().map(String::as_str);
        return Err(SelectError::Unknown(not_found("pod", name, pods)));
    }
    let mut selection = Selection::default();
    for found in known {
        let volume = &found.volume;
        let of_namespace =
            spec.namespaces.is_empty() || spec.namespaces.contains(&volume.namespace);
        if !of_namespace || !(spec.pods.is_empty() || spec.pods.contains(&pod_of(volume))) {
            continue;
        }
        let twin = selection
            .taken
            .last()
            .is_some_and(|last| last.volume == *volume);
        let reason = match &found.skip_reason {
            Some(reason) => reason.clone(),
            None if !found.selected => "its pod does not select it".to_owned(),
            None if twin => format!(
                "another pod of this name has it too (uid {})",
                found.pod_uid
            ),
            None => {
                selection.taken.push((*found).clone());
                continue;
            }
        };
        selection.skipped.push((volume.clone(), reason));
    }
    Ok(selection)
}

fn pod_of(volume: &VolumeRef) -> String {
    format!("{}/{}", volume.namespace, volume.pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(volume: &str, selected: bool, skip: Option<&str>) -> KnownVolume {
        let volume: VolumeRef = volume.parse().unwrap();
        KnownVolume {
            lineage: volume.default_lineage(),
            volume,
            node: "n".to_owned(),
            pod_uid: "u".to_owned(),
            plugin: "kubernetes.io~empty-dir".to_owned(),
            selected,
            skip_reason: skip.map(str::to_owned),
        }
    }

    fn all() -> Vec<KnownVolume> {
        vec![
            known("shop/web/cache", false, None),
            known("shop/db/data", true, None),
            known("shop/db/token", true, Some("secrets are never backed up")),
            known("mail/box/data", true, None),
        ]
    }

    fn names(selection: &Selection) -> Vec<String> {
        selection
            .taken
            .iter()
            .map(|k| k.volume.to_string())
            .collect()
    }

    #[test]
    fn without_names_every_selected_volume_is_taken() {
        let selection = select(&BackupSpec::default(), &all()).unwrap();
        assert_eq!(names(&selection), ["mail/box/data", "shop/db/data"]);
        assert_eq!(selection.skipped.len(), 2);
    }

    #[test]
    fn namespaces_and_pods_narrow_the_selection() {
        let spec = BackupSpec {
            namespaces: vec!["mail".into()],
            ..BackupSpec::default()
        };
        assert_eq!(names(&select(&spec, &all()).unwrap()), ["mail/box/data"]);
        let spec = BackupSpec {
            pods: vec!["shop/db".into()],
            ..BackupSpec::default()
        };
        assert_eq!(names(&select(&spec, &all()).unwrap()), ["shop/db/data"]);
    }

    #[test]
    fn a_named_volume_is_taken_whatever_its_pod_selects() {
        let spec = BackupSpec {
            volumes: vec!["shop/web/cache".parse().unwrap()],
            ..Default::default()
        };
        assert_eq!(names(&select(&spec, &all()).unwrap()), ["shop/web/cache"]);
    }

    #[test]
    fn what_is_not_known_is_named_with_near_misses() {
        let spec = BackupSpec {
            volumes: vec!["shop/bd/data".parse().unwrap()],
            ..Default::default()
        };
        let error = select(&spec, &all()).unwrap_err().to_string();
        assert_eq!(
            error,
            "volume shop/bd/data not found; did you mean shop/db/data?"
        );
        let spec = BackupSpec {
            namespaces: vec!["shp".into()],
            ..BackupSpec::default()
        };
        let error = select(&spec, &all()).unwrap_err().to_string();
        assert_eq!(error, "namespace shp not found; did you mean shop?");
        let spec = BackupSpec {
            volumes: vec!["shop/db/token".parse().unwrap()],
            ..Default::default()
        };
        assert!(
            select(&spec, &all())
                .unwrap_err()
                .to_string()
                .contains("never backed up")
        );
    }
}
