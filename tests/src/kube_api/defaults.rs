//! What the server puts into new objects of its own kinds, as far as anybody here looks at it.

use serde_json::{Value, json};

use super::{
    kind::Kind,
    meta::{child, items, metadata, text},
};

/// Takes away the status that a client gave.
pub(super) fn drop_status(kind: &Kind, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.remove("status");
    let status = match kind.plural.as_str() {
        _ if kind.custom => return,
        "namespaces" => json!({"phase": "Active"}),
        "pods" => json!({"phase": "Pending", "qosClass": "BestEffort"}),
        "persistentvolumeclaims" | "persistentvolumes" => json!({"phase": "Pending"}),
        "services" => json!({"loadBalancer": {}}),
        _ => json!({}),
    };
    fields.insert("status".to_owned(), status);
}

/// Fills in what a new object lacks.
pub(super) fn of_new(kind: &Kind, object: &mut Value) {
    if kind.custom {
        return;
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => namespace(object),
        ("", "secrets") => secret(object),
        ("", "services") => service(object),
        ("", "pods") => pod(object),
        ("", "persistentvolumeclaims" | "persistentvolumes") => {
            let spec = child(object, "spec");
            spec.entry("volumeMode").or_insert("Filesystem".into());
        }
        _ => {}
    }
}

fn namespace(object: &mut Value) {
    let name = text(object, "metadata.name").to_owned();
    child(object, "spec").insert("finalizers".to_owned(), json!(["kubernetes"]));
    metadata(object);
    child(&mut object["metadata"], "labels")
        .insert("kubernetes.io/metadata.name".to_owned(), name.into());
}

/// Plain strings become encoded data.
pub(super) fn secret(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.entry("type").or_insert("Opaque".into());
    let Some(Value::Object(plain)) = fields.remove("stringData") else {
        return;
    };
    let data = child(object, "data");
    for (key, value) in plain {
        let bytes = value.as_str().unwrap_or_default().as_bytes();
        data.insert(key, aws_smithy_types::base64::encode(bytes).into());
    }
}

fn service(object: &mut Value) {
    let spec = child(object, "spec");
    let kind = spec.entry("type").or_insert("ClusterIP".into()).clone();
    if kind != "ExternalName" && !spec.contains_key("clusterIP") {
        let (a, b): (u8, u8) = rand::random();
        spec.insert("clusterIP".to_owned(), format!("10.96.{a}.{b}").into());
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        for port in spec
            .get_mut("ports")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if port["nodePort"].as_u64().unwrap_or(0) == 0 {
                port["nodePort"] = rand::random_range(30_000..32_768).into();
            }
        }
    }
}

fn pod(object: &mut Value) {
    let spec = child(object, "spec");
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", json!("default")),
        ("terminationGracePeriodSeconds", json!(30)),
    ] {
        spec.entry(key).or_insert(value);
    }
}

/// What of a pod's spec may not change once it is made; everything that is left is compared.
pub(super) fn fixed_part_of_pod(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for list in ["containers", "initContainers"] {
        for index in 0..items(&spec, list).len() {
            if let Some(container) = spec[list][index].as_object_mut() {
                container.remove("image");
            }
        }
    }
    if let Some(fields) = spec.as_object_mut() {
        for key in [
            "activeDeadlineSeconds",
            "terminationGracePeriodSeconds",
            "tolerations",
            "schedulingGates",
        ] {
            fields.remove(key);
        }
    }
    spec
}
