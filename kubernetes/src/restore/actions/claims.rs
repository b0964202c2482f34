//! Claims and persistent volumes: freed of the binding to each other that the cluster makes anew.

use serde_json::{Map, Value};

use super::{
    super::{
        json::{items, map_mut, remove, text},
        scope::Scope,
        volumes::ClaimVolume,
    },
    Decision,
};
use crate::files::tarball::ItemPath;

/// Annotations by which the cluster remembers a binding.
const BINDING: [&str; 6] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "pv.kubernetes.io/provisioned-by",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
];

/// Whether a claim is that of an ephemeral volume: the cluster makes it when its pod is there, and takes no other one.
pub(super) fn is_a_pods(claim: &Value) -> bool {
    items(claim, "/metadata/ownerReferences")
        .any(|owner| owner["kind"] == "Pod" && owner["controller"] == true)
}

/// Takes away the annotations by which the cluster remembers a binding.
pub(in crate::restore) fn forget_binding(annotations: &mut Map<String, Value>) {
    annotations.retain(|key, _| !BINDING.contains(&key.as_str()));
}

pub(super) fn prepare(claim: &mut Value, volume: &ClaimVolume) -> Decision {
    if let Some(annotations) = map_mut(claim, "/metadata/annotations") {
        forget_binding(annotations);
    }
    let (mut warnings, mut needs) = (Vec::new(), Vec::new());
    let old = text(claim, "/spec/volumeName").map(str::to_owned);
    match (volume, old) {
        (ClaimVolume::Kept, Some(old)) => {
            needs.push(ItemPath::cluster(super::VOLUMES, &old));
        }
        (ClaimVolume::Restored | ClaimVolume::Empty(_), Some(_)) => {
            // What the old volume was made from is of no use to the new one.
            for key in ["volumeName", "dataSource", "dataSourceRef", "selector"] {
                remove(claim, "/spec", key);
            }
            if let ClaimVolume::Empty(why) = volume {
                warnings.push(format!("the claim comes back empty: {why}"));
            }
            if claim["spec"]["storageClassName"] == "" {
                warnings.push(
                    "the claim has no storage class, so nothing makes a volume for it: make one by hand".to_owned(),
                );
            }
        }
        _ => {}
    }
    Decision::Make { warnings, needs }
}

/// A persistent volume that is restored as it was: for the claim of the same name, which has another uid.
pub(super) fn prepare_volume(volume: &mut Value, scope: &Scope) {
    for key in ["uid", "resourceVersion"] {
        remove(volume, "/spec/claimRef", key);
    }
    let namespace = text(volume, "/spec/claimRef/namespace");
    if let Some(namespace) = namespace.map(|name| scope.mapped(name).to_owned()) {
        volume["spec"]["claimRef"]["namespace"] = namespace.into();
    }
    if let Some(annotations) = map_mut(volume, "/metadata/annotations") {
        // Who made the volume is still the one who removes it.
        annotations.retain(|key, _| {
            key == "pv.kubernetes.io/provisioned-by" || !BINDING.contains(&key.as_str())
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_that_a_pod_controls_is_made_by_the_cluster() {
        let owned = |owner: Value| is_a_pods(&json!({"metadata": {"ownerReferences": [owner]}}));
        assert!(owned(
            json!({"kind": "Pod", "name": "db-0", "controller": true})
        ));
        assert!(!owned(json!({"kind": "Pod", "name": "db-0"})));
        assert!(!owned(
            json!({"kind": "StatefulSet", "name": "db", "controller": true})
        ));
        assert!(!is_a_pods(&json!({"metadata": {}})));
    }
    use crate::{selection::Filters, velero::RestoreSpec};

    fn claim() -> Value {
        json!({
            "metadata": {"annotations": {
                "pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "n1",
                "volume.kubernetes.io/storage-provisioner": "p", "mine": "x",
            }},
            "spec": {"volumeName": "pv-1", "dataSource": {"kind": "VolumeSnapshot"}, "storageClassName": "fast"},
        })
    }

    #[test]
    fn a_claim_with_a_snapshot_gets_a_new_volume() {
        let mut claim = claim();
        let done = prepare(&mut claim, &ClaimVolume::Restored);
        assert_eq!(done, Decision::make());
        assert_eq!(claim["spec"], json!({"storageClassName": "fast"}));
        assert_eq!(claim["metadata"]["annotations"], json!({"mine": "x"}));
    }

    #[test]
    fn a_claim_that_comes_back_empty_says_so() {
        let mut claim = claim();
        claim["spec"]["storageClassName"] = "".into();
        let Decision::Make { warnings, .. } = prepare(&mut claim, &ClaimVolume::Empty("so it is"))
        else {
            panic!("it is made");
        };
        assert_eq!(warnings[0], "the claim comes back empty: so it is");
        assert!(warnings[1].contains("storage class"));
        assert_eq!(claim["spec"].get("volumeName"), None);
    }

    #[test]
    fn a_claim_whose_volume_is_retained_needs_it() {
        let mut claim = claim();
        let Decision::Make { needs, warnings } = prepare(&mut claim, &ClaimVolume::Kept) else {
            panic!("it is made");
        };
        assert_eq!(needs, [ItemPath::cluster("persistentvolumes", "pv-1")]);
        assert!(warnings.is_empty());
        assert_eq!(claim["spec"]["volumeName"], "pv-1");
    }

    #[test]
    fn a_retained_volume_waits_for_the_claim_of_the_mapped_namespace() {
        let scope = Scope {
            filters: Filters::of_restore(&RestoreSpec::default()).unwrap(),
            mapping: [("shop".to_owned(), "shop-2".to_owned())].into(),
        };
        let mut volume = json!({
            "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "p", "pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {"claimRef": {"namespace": "shop", "name": "data", "uid": "u", "resourceVersion": "1"}},
        });
        prepare_volume(&mut volume, &scope);
        assert_eq!(
            volume["spec"]["claimRef"],
            json!({"namespace": "shop-2", "name": "data"})
        );
        let kept = json!({"pv.kubernetes.io/provisioned-by": "p"});
        assert_eq!(volume["metadata"]["annotations"], kept);
    }
}
