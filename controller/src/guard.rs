//! Whether a real Velero works on the same objects.

use orlop_kubernetes::{
    api::{DaemonSet, Deployment},
    client::{Connection, ObjectKind, Objects},
};
use serde_json::{Value, json};

use crate::error::Error;

/// Looks whether a Deployment or DaemonSet of our namespace makes pods of a real Velero. Templates count, not pods: our
/// own Deployment has Velero's name, and its old pods may still be going.
///
/// # Errors
/// There is one, or the API server does not answer.
pub(crate) async fn check(connection: &Connection) -> Result<(), Error> {
    look::<Deployment>(connection, "Deployment").await?;
    look::<DaemonSet>(connection, "DaemonSet").await
}

async fn look<K: ObjectKind>(connection: &Connection, kind: &'static str) -> Result<(), Error> {
    let namespace = connection.namespace();
    let objects = Objects::<K>::of(connection, Some(namespace));
    for object in objects.list("").await.map_err(Error::Cluster)? {
        if let Some(image) = velero_image(&json!(object)) {
            return Err(Error::Velero {
                kind,
                name: object.meta().name.clone().unwrap_or_default(),
                namespace: namespace.to_owned(),
                image,
            });
        }
    }
    Ok(())
}

/// The image of a real Velero in the template of a workload.
fn velero_image(workload: &Value) -> Option<String> {
    let pod = &workload["spec"]["template"]["spec"];
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| pod[list].as_array());
    let images = containers
        .flatten()
        .filter_map(|container| container["image"].as_str());
    images
        .into_iter()
        .find(|image| is_velero(image))
        .map(str::to_owned)
}

fn is_velero(image: &str) -> bool {
    let image = image.split('@').next().unwrap_or(image);
    let mut parts = image.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    // The mirrors of registries keep the last two parts.
    name == "velero"
        && matches!(
            parts.next(),
            Some("velero" | "bitnami" | "vmware-tanzu" | "heptio-images")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_velero_is_known_by_its_image() {
        let cases = [
            ("velero/velero:v1.16.2", true),
            ("docker.io/velero/velero", true),
            ("registry.local:5000/mirror/velero/velero@sha256:0123", true),
            ("registry.local:5000/velero/velero:v1@sha256:0123", true),
            ("bitnami/velero:1", true),
            ("velero/velero-plugin-for-aws:v1.12.0", false),
            ("ghcr.io/orlop/orlop:0.1.0", false),
            ("velero", false),
            ("shop/velero:1", false),
        ];
        for (image, want) in cases {
            assert_eq!(is_velero(image), want, "{image}");
        }
    }

    #[test]
    fn templates_are_looked_through_and_nothing_else() {
        let workload = |containers: Value, init: Value| json!({"spec": {"template": {"spec": {"containers": containers, "initContainers": init}}}});
        let ours = json!([{"image": "orlop:1"}]);
        let theirs = json!([{"image": "orlop:1"}, {"image": "velero/velero:v1"}]);
        assert_eq!(velero_image(&workload(ours.clone(), Value::Null)), None);
        let found = Some("velero/velero:v1".to_owned());
        assert_eq!(velero_image(&workload(theirs.clone(), Value::Null)), found);
        assert_eq!(velero_image(&workload(ours, theirs)), found);
        assert_eq!(velero_image(&json!({"spec": {}})), None);
    }
}
