//! What is changed in an object before it is made, kind by kind.

mod accounts;
mod claims;
mod classes;
mod definitions;
mod endpoints;
mod kotsadm;
mod pods;
mod services;
mod webhooks;
mod workloads;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    items::Items,
    order::{CLAIMS, DEFINITIONS, PODS, VOLUMES},
    scope::Scope,
    settings::Settings,
    volumes::{ClaimVolume, VolumeFate, Volumes},
};
use crate::files::tarball::ItemPath;

pub(super) use claims::forget_binding;
pub(super) use definitions::is_served;

/// What actions know.
pub(super) struct Context<'a> {
    pub(super) scope: &'a Scope,
    pub(super) items: &'a Items,
    pub(super) volumes: &'a Volumes<'a>,
    pub(super) settings: &'a Settings,
    /// Whether services keep their node ports.
    pub(super) keeps_ports: bool,
}

/// What follows for an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is to be made.
    Make {
        /// Said if it is made.
        warnings: Vec<String>,
        /// What it needs, to be restored before it.
        needs: Vec<ItemPath>,
    },
    /// It is not restored; the cluster has or makes something in its place, or nobody needs it.
    Skip,
}

impl Decision {
    fn make() -> Self {
        Self::Make {
            warnings: Vec::new(),
            needs: Vec::new(),
        }
    }
}

/// Makes of an object of the backup what fits this cluster. Its metadata and status are still those of the backup.
///
/// `volume` is what becomes of the volume, if the object is a claim.
pub(super) fn prepare(
    path: &ItemPath,
    object: &mut Value,
    volume: &ClaimVolume,
    cx: &Context<'_>,
) -> Decision {
    if is_left_out(path, object, cx) {
        return Decision::Skip;
    }
    kotsadm::prepare(path, object, &cx.settings.kotsadm);
    let classes = &cx.settings.storage_classes;
    match path.resource.as_str() {
        PODS => return pods::prepare(path, object, cx),
        CLAIMS => {
            classes::map(object, "/spec", classes);
            return claims::prepare(object, volume);
        }
        VOLUMES => {
            classes::map(object, "/spec", classes);
            claims::prepare_volume(object, cx.scope);
        }
        "serviceaccounts" => accounts::forget_token(&path.name, object),
        "secrets" => accounts::empty_token(object),
        "services" => services::prepare(object, cx.keeps_ports),
        "jobs.batch" => workloads::forget_job(object),
        "statefulsets.apps" => workloads::map_templates(object, classes),
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io" => {
            accounts::map_subjects(object, cx.scope);
        }
        DEFINITIONS => definitions::prepare(object),
        "mutatingwebhookconfigurations.admissionregistration.k8s.io"
        | "validatingwebhookconfigurations.admissionregistration.k8s.io" => {
            webhooks::prepare(object);
        }
        _ => {}
    }
    workloads::rename_images(&path.resource, object, &cx.settings.images);
    Decision::make()
}

/// Whether the cluster has or makes something in the object's place, or nobody needs it.
fn is_left_out(path: &ItemPath, object: &Value, cx: &Context<'_>) -> bool {
    match path.resource.as_str() {
        PODS => pods::is_left_out(object),
        CLAIMS => claims::is_a_pods(object),
        VOLUMES => cx.volumes.fate(&path.name, object) == VolumeFate::MadeAnew,
        "secrets" => accounts::is_made_anew(path, object, cx.items),
        "endpoints" | "endpointslices.discovery.k8s.io" => {
            endpoints::is_made_by_the_cluster(path, object, cx.items)
        }
        "jobs.batch" => workloads::is_complete(object),
        "apiservices.apiregistration.k8s.io" => webhooks::is_automatic(object),
        _ => false,
    }
}

/// Old name → new name.
pub(super) type Renames = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{
        super::{items::tests::items, settings::WaitSettings, wait_container},
        *,
    };
    use crate::{selection::Filters, velero::RestoreSpec};

    const KINDS: [&str; 17] = [
        PODS,
        CLAIMS,
        VOLUMES,
        DEFINITIONS,
        "serviceaccounts",
        "secrets",
        "services",
        "endpoints",
        "endpointslices.discovery.k8s.io",
        "jobs.batch",
        "cronjobs.batch",
        "statefulsets.apps",
        "deployments.apps",
        "rolebindings.rbac.authorization.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "configmaps",
    ];

    /// Any JSON whose keys are those that actions look at.
    fn any_json() -> impl Strategy<Value = Value> {
        let keys = prop::sample::select(vec![
            "spec",
            "metadata",
            "annotations",
            "labels",
            "volumes",
            "containers",
            "initContainers",
            "name",
            "ports",
            "webhooks",
            "subjects",
            "versions",
            "schema",
            "openAPIV3Schema",
            "template",
            "secrets",
            "volumeName",
            "claimRef",
            "image",
            "persistentVolumeClaim",
            "securityContext",
            "selector",
            "volumeMounts",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec((keys.clone(), inner), 0..5).prop_map(|pairs| {
                    pairs
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_object_makes_an_action_panic(
            kind in prop::sample::select(KINDS.to_vec()),
            parts in prop::collection::vec(any_json(), 5),
        ) {
            let [spec, webhooks, secrets, subjects, status] = &parts[..] else { unreachable!() };
            let mut object = json!({
                "metadata": {"name": "x", "namespace": "shop"}, "spec": spec, "webhooks": webhooks,
                "secrets": secrets, "subjects": subjects, "status": status, "type": "kubernetes.io/service-account-token",
            });
            if kind == DEFINITIONS && object["spec"].is_object() {
                object["spec"]["preserveUnknownFields"] = true.into();
            }
            let renames: Renames = [("a".to_owned(), "b".to_owned())].into();
            let cx = Context {
                scope: &Scope {
                    filters: Filters::of_restore(&RestoreSpec::default()).unwrap(),
                    mapping: [("a".to_owned(), "b".to_owned())].into(),
                },
                items: &items(&[]),
                volumes: &Volumes::new(&[], true, |_, _| true),
                settings: &Settings {
                    wait: WaitSettings::new("i"),
                    storage_classes: renames.clone(),
                    images: renames,
                    kotsadm: BTreeMap::new(),
                    warnings: Vec::new(),
                },
                keeps_ports: false,
            };
            let path = ItemPath::namespaced(kind, "shop", "x");
            let _ = prepare(&path, &mut object, &ClaimVolume::Restored, &cx);
            let before = object.clone();
            let waits = wait_container::inject(&mut object, &cx.settings.wait, std::time::Duration::ZERO);
            wait_container::strip(&mut object);
            if kind == PODS && waits.is_ok() && before["spec"]["volumes"].is_array() {
                let (before, after) = (&before["spec"]["containers"], &object["spec"]["containers"]);
                prop_assert_eq!(before, after);
            }
        }
    }
}
