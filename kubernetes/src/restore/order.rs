//! In which order kinds are restored: what others need first.

/// Definitions of custom kinds: before everything else, for only then can the rest be planned.
pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
pub(super) const NAMESPACES: &str = "namespaces";
pub(super) const PODS: &str = "pods";
pub(super) const CLAIMS: &str = "persistentvolumeclaims";
pub(super) const VOLUMES: &str = "persistentvolumes";
pub(super) const PRIORITY_CLASSES: &str = "priorityclasses.scheduling.k8s.io";

/// Kinds that come first, in this order. Pods come before what makes pods, so that it adopts them.
const HIGH: [&str; 23] = [
    DEFINITIONS,
    NAMESPACES,
    "storageclasses.storage.k8s.io",
    "volumesnapshotclasses.snapshot.storage.k8s.io",
    "volumesnapshotcontents.snapshot.storage.k8s.io",
    "volumesnapshots.snapshot.storage.k8s.io",
    "datauploads.velero.io",
    VOLUMES,
    CLAIMS,
    "clusterroles.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "serviceaccounts",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "secrets",
    "configmaps",
    "limitranges",
    PRIORITY_CLASSES,
    PODS,
    "replicasets.apps",
    "clusterclasses.cluster.x-k8s.io",
    "endpoints",
    "services",
];

/// Kinds that come last, in this order.
const LOW: [&str; 5] = [
    "clusterbootstraps.run.tanzu.vmware.com",
    "clusters.cluster.x-k8s.io",
    "clusterresourcesets.addons.cluster.x-k8s.io",
    "apps.kappctrl.k14s.io",
    "packageinstalls.packaging.carvel.dev",
];

/// The place of a kind in the order; kinds of the same place come alphabetically.
pub(super) fn rank(resource: &str) -> usize {
    let place = |list: &[&str]| list.iter().position(|one| *one == resource);
    match (place(&HIGH), place(&LOW)) {
        (Some(place), _) => place,
        (None, None) => HIGH.len(),
        (None, Some(place)) => HIGH.len() + 1 + place,
    }
}

/// Puts kinds in order.
pub(super) fn sort(resources: &mut [String]) {
    resources.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first_and_the_rest_alphabetically() {
        let mut kinds = [
            "clusters.cluster.x-k8s.io",
            "statefulsets.apps",
            "services",
            "endpoints",
            "controllerrevisions.apps",
            "pods",
            "zebras.example.com",
            "clusterbootstraps.run.tanzu.vmware.com",
            "namespaces",
            "secrets",
            "persistentvolumeclaims",
            "replicasets.apps",
            DEFINITIONS,
            "deployments.apps",
        ]
        .map(str::to_owned);
        sort(&mut kinds);
        assert_eq!(
            kinds,
            [
                DEFINITIONS,
                "namespaces",
                "persistentvolumeclaims",
                "secrets",
                "pods",
                "replicasets.apps",
                "endpoints",
                "services",
                "controllerrevisions.apps",
                "deployments.apps",
                "statefulsets.apps",
                "zebras.example.com",
                "clusterbootstraps.run.tanzu.vmware.com",
                "clusters.cluster.x-k8s.io",
            ]
        );
    }
}
