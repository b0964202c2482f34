//! Addresses of services that the cluster finds out by itself: old ones would lead to pods that are gone.

use serde_json::Value;

use super::super::{
    items::Items,
    json::{annotation, text},
};
use crate::files::tarball::ItemPath;

/// Label of slices that say who looks after them.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Annotation that the cluster's controller puts on endpoints.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Whether the cluster makes these endpoints, or this slice of them, from a service and its pods.
pub(super) fn is_made_by_the_cluster(path: &ItemPath, object: &Value, backup: &Items) -> bool {
    if path.resource != "endpoints" {
        let manager = object["metadata"]["labels"][MANAGED_BY].as_str();
        return manager.is_some_and(|manager| manager.ends_with(".k8s.io"));
    }
    let service = ItemPath {
        resource: "services".to_owned(),
        ..path.clone()
    };
    let selects = |service: Value| {
        let selector = service["spec"]["selector"].as_object();
        selector.is_some_and(|selector| !selector.is_empty())
            && text(&service, "/spec/type") != Some("ExternalName")
    };
    annotation(object, TRIGGER).is_some() || backup.look(&service).is_some_and(selects)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::super::items::tests::items, *};

    #[test]
    fn endpoints_are_restored_only_if_somebody_wrote_them() {
        let service = |name: &str, spec: Value| {
            (
                "services",
                json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}),
            )
        };
        let backup = items(&[
            service("db", json!({"selector": {"app": "db"}})),
            service("outside", json!({})),
        ]);
        let of = |name: &str, object: &Value| {
            is_made_by_the_cluster(
                &ItemPath::namespaced("endpoints", "shop", name),
                object,
                &backup,
            )
        };
        assert!(of("db", &json!({})));
        assert!(!of("outside", &json!({})));
        assert!(of(
            "gone",
            &json!({"metadata": {"annotations": {TRIGGER: "t"}}})
        ));
        let slice = ItemPath::namespaced("endpointslices.discovery.k8s.io", "shop", "db-x");
        for (manager, made) in [("endpointslice-controller.k8s.io", true), ("me", false)] {
            let object = json!({"metadata": {"labels": {MANAGED_BY: manager}}});
            assert_eq!(is_made_by_the_cluster(&slice, &object, &backup), made);
        }
    }
}
