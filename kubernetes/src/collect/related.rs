//! Objects that others need: the claims of a pod, the volume of a claim, the roles of a service account.

use serde_json::Value;

use super::ServedKind;
use crate::files::tarball::ItemPath;

pub(super) const CLAIMS: &str = "persistentvolumeclaims";
pub(super) const VOLUMES: &str = "persistentvolumes";
pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
pub(super) const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
pub(super) const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
const ROLES: &str = "roles.rbac.authorization.k8s.io";
const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const PRIORITIES: &str = "priorityclasses.scheduling.k8s.io";

/// Groups that are the server's own although they have a dot.
const BUILT_IN: [&str; 17] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    let text = object.pointer(pointer).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
}

fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// What an object needs that is named in it. It may not exist.
pub(super) fn needs(item: &ItemPath, object: &Value) -> Vec<ItemPath> {
    match (item.resource.as_str(), &item.namespace) {
        ("pods", Some(namespace)) => {
            let claims = items(object, "/spec/volumes").filter_map(|volume| {
                let named = text(volume, "/persistentVolumeClaim/claimName").map(str::to_owned);
                named.or_else(|| {
                    // The claim of an ephemeral volume is called after the pod and the volume.
                    volume.get("ephemeral")?;
                    Some(format!("{}-{}", item.name, text(volume, "/name")?))
                })
            });
            let claims = claims.map(|name| ItemPath::namespaced(CLAIMS, namespace, &name));
            let priority = text(object, "/spec/priorityClassName");
            claims
                .chain(priority.map(|name| ItemPath::cluster(PRIORITIES, name)))
                .collect()
        }
        (CLAIMS, Some(_)) => {
            let volume = text(object, "/spec/volumeName");
            volume
                .map(|name| ItemPath::cluster(VOLUMES, name))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The definition of a kind, if it may be a custom one. Kinds of the server itself have none.
pub(super) fn definition(kind: &ServedKind) -> Option<ItemPath> {
    let resource = &kind.resource;
    // Groups without a dot, such as `apps`, are the server's own too.
    let custom = resource.group.contains('.') && !BUILT_IN.contains(&resource.group.as_str());
    custom.then(|| ItemPath::cluster(DEFINITIONS, &resource.group_resource()))
}

/// The service accounts that a binding of roles is for, by namespace and name.
pub(super) fn bound_accounts(namespace: Option<&str>, binding: &Value) -> Vec<(String, String)> {
    items(binding, "/subjects")
        .filter(|subject| text(subject, "/kind") == Some("ServiceAccount"))
        .filter_map(|subject| {
            let namespace = text(subject, "/namespace").or(namespace)?;
            Some((namespace.to_owned(), text(subject, "/name")?.to_owned()))
        })
        .collect()
}

/// The role that a binding gives.
pub(super) fn bound_role(namespace: Option<&str>, binding: &Value) -> Option<ItemPath> {
    let name = text(binding, "/roleRef/name")?;
    match (text(binding, "/roleRef/kind")?, namespace) {
        ("ClusterRole", _) => Some(ItemPath::cluster(CLUSTER_ROLES, name)),
        ("Role", Some(namespace)) => Some(ItemPath::namespaced(ROLES, namespace, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::selection::ResourceKind;

    #[test]
    fn a_pod_needs_its_claims_and_its_priority() {
        let pod = json!({"spec": {"priorityClassName": "high", "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "cache", "emptyDir": {}},
        ]}});
        let want = [
            ItemPath::namespaced(CLAIMS, "shop", "data-db-0"),
            ItemPath::namespaced(CLAIMS, "shop", "db-0-scratch"),
            ItemPath::cluster(PRIORITIES, "high"),
        ];
        assert_eq!(
            needs(&ItemPath::namespaced("pods", "shop", "db-0"), &pod),
            want
        );
    }

    #[test]
    fn a_claim_needs_its_volume_once_it_has_one() {
        let claim = ItemPath::namespaced(CLAIMS, "shop", "data");
        let bound = json!({"spec": {"volumeName": "pv-1"}});
        assert_eq!(needs(&claim, &bound), [ItemPath::cluster(VOLUMES, "pv-1")]);
        assert!(needs(&claim, &json!({"spec": {"volumeName": ""}})).is_empty());
    }

    #[test]
    fn a_binding_names_its_accounts_and_its_role() {
        let binding = json!({
            "subjects": [
                {"kind": "ServiceAccount", "name": "db"},
                {"kind": "ServiceAccount", "name": "web", "namespace": "front"},
                {"kind": "User", "name": "eve"},
            ],
            "roleRef": {"kind": "Role", "name": "reader"},
        });
        let accounts = bound_accounts(Some("shop"), &binding);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(accounts, [pair("shop", "db"), pair("front", "web")]);
        let role = ItemPath::namespaced(ROLES, "shop", "reader");
        assert_eq!(bound_role(Some("shop"), &binding), Some(role));
        assert_eq!(bound_role(None, &binding), None);
    }

    #[test]
    fn only_kinds_of_groups_with_a_domain_can_be_custom() {
        let of = |group: &str| {
            definition(&ServedKind {
                resource: ResourceKind {
                    plural: "things".to_owned(),
                    group: group.to_owned(),
                    ..ResourceKind::default()
                },
                kind: "Thing".to_owned(),
                version: "v1".to_owned(),
            })
        };
        assert_eq!(of("apps"), None);
        assert_eq!(of("networking.k8s.io"), None);
        assert_eq!(of("acme.io").unwrap().name, "things.acme.io");
    }
}
