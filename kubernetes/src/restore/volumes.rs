//! What becomes of claims and persistent volumes: with a snapshot, a new volume that data is restored into; without, an
//! empty one, unless the old volume is retained.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    BackedVolume,
    items::Items,
    json::{items, text},
    order::{CLAIMS, VOLUMES},
};
use crate::files::tarball::ItemPath;

/// What becomes of the volume of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimVolume {
    /// It had none.
    None,
    /// A new one is made, and a pod restores into it.
    Restored,
    /// The old one is used again.
    Kept,
    /// A new one is made and stays empty, for this reason.
    Empty(&'static str),
}

/// What becomes of a persistent volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeFate {
    /// It is restored as it was: its data is still where it points to.
    Kept,
    /// Another one is made for its claim.
    MadeAnew,
}

/// The volumes that are restored.
pub(super) struct Volumes<'a> {
    all: &'a [BackedVolume],
    /// By namespace and name of their pods in the backup.
    of_pods: BTreeMap<(&'a str, &'a str), Vec<&'a BackedVolume>>,
    /// Persistent volumes with snapshots.
    persistent: BTreeSet<&'a str>,
    /// Claims that a pod of this restore restores into, by namespace and name, with the pod.
    claims: BTreeMap<(&'a str, &'a str), &'a str>,
    /// Whether persistent volumes are restored at all.
    restores: bool,
}

impl<'a> Volumes<'a> {
    /// `takes_pod` says whether a pod of the backup is restored, by namespace and name.
    pub(super) fn new(
        all: &'a [BackedVolume],
        restores: bool,
        takes_pod: impl Fn(&str, &str) -> bool,
    ) -> Self {
        let mut volumes = Self {
            all,
            of_pods: BTreeMap::new(),
            persistent: BTreeSet::new(),
            claims: BTreeMap::new(),
            restores,
        };
        for one in all {
            let (namespace, pod) = (one.source.namespace.as_str(), one.source.pod.as_str());
            volumes
                .of_pods
                .entry((namespace, pod))
                .or_default()
                .push(one);
            if !one.persistent_volume.is_empty() {
                volumes.persistent.insert(&one.persistent_volume);
            }
            if !one.claim.is_empty() && takes_pod(namespace, pod) {
                volumes.claims.insert((namespace, &one.claim), pod);
            }
        }
        volumes
    }

    /// The volumes with snapshots that a pod still has.
    pub(super) fn of_pod(
        &self,
        namespace: &str,
        pod: &str,
        object: &Value,
    ) -> Vec<&'a BackedVolume> {
        let known = self.of_pods.get(&(namespace, pod));
        let has = |volume: &&&BackedVolume| {
            let mut volumes = items(object, "/spec/volumes");
            volumes.any(|one| one["name"] == volume.source.volume.as_str())
        };
        known.into_iter().flatten().filter(has).copied().collect()
    }

    /// The pod that restores into a claim.
    pub(super) fn restorer(&self, namespace: &str, claim: &str) -> Option<&'a str> {
        self.claims.get(&(namespace, claim)).copied()
    }

    /// What becomes of a persistent volume.
    pub(super) fn fate(&self, name: &str, volume: &Value) -> VolumeFate {
        let retained = text(volume, "/spec/persistentVolumeReclaimPolicy") == Some("Retain");
        if self.restores && retained && !self.persistent.contains(name) {
            VolumeFate::Kept
        } else {
            VolumeFate::MadeAnew
        }
    }

    /// What becomes of the volume of a claim of the backup. `is_there`: whether the cluster has a persistent volume of
    /// that name, which counts only if it was retained.
    pub(super) fn of_claim(
        &self,
        (namespace, name): (&str, &str),
        claim: &Value,
        backup: &Items,
        may_restore: bool,
        is_there: bool,
    ) -> ClaimVolume {
        let Some(volume) = text(claim, "/spec/volumeName") else {
            return ClaimVolume::None;
        };
        if self.claims.contains_key(&(namespace, name)) {
            return ClaimVolume::Restored;
        }
        let of_claim = |one: &BackedVolume| one.claim == name && one.source.namespace == namespace;
        if self.all.iter().any(of_claim) {
            return ClaimVolume::Empty(
                "its snapshot is restored only together with its pod, which is not restored",
            );
        }
        let Some(persistent) = backup.look(&ItemPath::cluster(VOLUMES, volume)) else {
            return if is_there {
                ClaimVolume::Kept
            } else {
                ClaimVolume::Empty("neither its data nor its persistent volume is in the backup")
            };
        };
        let retained = text(&persistent, "/spec/persistentVolumeReclaimPolicy") == Some("Retain");
        match self.fate(volume, &persistent) {
            VolumeFate::Kept if may_restore || is_there => ClaimVolume::Kept,
            _ if retained && is_there => ClaimVolume::Kept,
            VolumeFate::Kept => ClaimVolume::Empty(
                "its data is not in the backup, and its persistent volume is not restored",
            ),
            VolumeFate::MadeAnew => ClaimVolume::Empty("its data is not in the backup"),
        }
    }

    /// Whether it matters for a claim if its old volume is still there.
    pub(super) fn asks_for_old(&self, namespace: &str, name: &str, claim: &Value) -> bool {
        text(claim, "/spec/volumeName").is_some() && !self.claims.contains_key(&(namespace, name))
    }
}

/// The claims of a pod, as volumes and the names of the claims.
pub(super) fn claims_of<'a>(name: &str, pod: &'a Value) -> Vec<(&'a str, String)> {
    let claim = |volume: &'a Value| {
        let of = text(volume, "/name")?;
        if let Some(claim) = text(volume, "/persistentVolumeClaim/claimName") {
            return Some((of, claim.to_owned()));
        }
        // The claim of an ephemeral volume is called after the pod and the volume.
        volume.get("ephemeral")?;
        Some((of, format!("{name}-{of}")))
    };
    items(pod, "/spec/volumes").filter_map(claim).collect()
}

/// The claims that a pod of this namespace needs, as paths.
pub(super) fn claim_paths(namespace: &str, name: &str, pod: &Value) -> Vec<ItemPath> {
    let claims = claims_of(name, pod).into_iter();
    claims
        .map(|(_, claim)| ItemPath::namespaced(CLAIMS, namespace, &claim))
        .collect()
}

#[cfg(test)]
mod tests {
    use orlop_core::{SnapshotId, VolumeRef};
    use serde_json::json;

    use super::{super::items::tests::items, *};

    fn backed(pod: &str, claim: &str) -> BackedVolume {
        BackedVolume {
            source: VolumeRef::new("shop", pod, "data"),
            snapshot: SnapshotId::from_bytes([1; 16]),
            claim: claim.to_owned(),
            persistent_volume: format!("pv-{claim}"),
        }
    }

    fn persistent(claim: &str, policy: &str) -> (&'static str, Value) {
        let volume = json!({
            "metadata": {"name": format!("pv-{claim}")},
            "spec": {"persistentVolumeReclaimPolicy": policy},
        });
        (VOLUMES, volume)
    }

    #[test]
    fn a_claim_comes_back_with_its_data_with_its_old_volume_or_empty() {
        let all = [backed("db-0", "data"), backed("gone", "lone")];
        let volumes = Volumes::new(&all, true, |_, pod| pod == "db-0");
        let backup = items(&[
            persistent("data", "Retain"),
            persistent("kept", "Retain"),
            persistent("cache", "Delete"),
        ]);
        let of = |claim: &str, may_restore, is_there| {
            let object = json!({"spec": {"volumeName": format!("pv-{claim}")}});
            volumes.of_claim(("shop", claim), &object, &backup, may_restore, is_there)
        };
        assert_eq!(of("data", true, true), ClaimVolume::Restored);
        assert_eq!(of("kept", true, false), ClaimVolume::Kept);
        assert_eq!(of("kept", false, true), ClaimVolume::Kept);
        assert!(matches!(of("kept", false, false), ClaimVolume::Empty(_)));
        assert!(matches!(of("cache", true, true), ClaimVolume::Empty(_)));
        assert!(matches!(of("lone", true, true), ClaimVolume::Empty(why) if why.contains("pod")));
        assert!(matches!(of("unknown", true, false), ClaimVolume::Empty(_)));
        let unbound = volumes.of_claim(("shop", "new"), &json!({"spec": {}}), &backup, true, false);
        assert_eq!(unbound, ClaimVolume::None);
    }

    #[test]
    fn a_retained_volume_is_restored_unless_it_has_a_snapshot_or_nobody_wants_volumes() {
        let all = [backed("db-0", "data")];
        let retained = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        let volumes = Volumes::new(&all, true, |_, _| true);
        assert_eq!(volumes.fate("pv-kept", &retained), VolumeFate::Kept);
        assert_eq!(volumes.fate("pv-data", &retained), VolumeFate::MadeAnew);
        let deleted = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
        assert_eq!(volumes.fate("pv-kept", &deleted), VolumeFate::MadeAnew);
        let without = Volumes::new(&all, false, |_, _| true);
        assert_eq!(without.fate("pv-kept", &retained), VolumeFate::MadeAnew);
    }

    #[test]
    fn only_volumes_that_the_pod_still_has_are_restored() {
        let all = [backed("db-0", "data")];
        let volumes = Volumes::new(&all, true, |_, _| true);
        let with = json!({"spec": {"volumes": [{"name": "data", "ephemeral": {}}, {"name": "x"}]}});
        assert_eq!(volumes.of_pod("shop", "db-0", &with).len(), 1);
        assert!(
            volumes
                .of_pod("shop", "db-0", &json!({"spec": {}}))
                .is_empty()
        );
        assert!(volumes.of_pod("mail", "db-0", &with).is_empty());
        assert_eq!(claims_of("db-0", &with), [("data", "db-0-data".to_owned())]);
    }
}
