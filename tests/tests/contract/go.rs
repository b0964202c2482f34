//! Objects as Go's structs become JSON: fields without `omitempty`, and structs whose fields are all empty, are there too.

use serde_json::{Value, json};

/// An object of Velero's; `rest` has what else its metadata says.
pub(crate) fn object(kind: &str, metadata: &Value, spec: &Value) -> Value {
    let mut object = json!({
        "kind": kind, "apiVersion": "velero.io/v1",
        "metadata": {"namespace": "velero", "creationTimestamp": null},
        "spec": spec, "status": {},
    });
    merge(&mut object["metadata"], metadata);
    object
}

/// A backup; what `spec` does not say is as Go leaves it.
pub(crate) fn backup(metadata: &Value, spec: &Value) -> Value {
    let mut whole = json!({
        "metadata": {}, "ttl": "0s", "hooks": {}, "csiSnapshotTimeout": "0s", "itemOperationTimeout": "0s",
    });
    merge(&mut whole, spec);
    object("Backup", metadata, &whole)
}

/// A restore.
pub(crate) fn restore(metadata: &Value, spec: &Value) -> Value {
    let mut whole = json!({"hooks": {}, "itemOperationTimeout": "0s"});
    merge(&mut whole, spec);
    object("Restore", metadata, &whole)
}

/// A schedule.
pub(crate) fn schedule(metadata: &Value, cron: &str, template: &Value) -> Value {
    let template = backup(&json!({}), template)["spec"].clone();
    let spec = json!({"template": template, "schedule": cron, "useOwnerReferencesInBackup": false});
    object("Schedule", metadata, &spec)
}

/// Puts the entries of `more` over those of `base`.
pub(crate) fn merge(base: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        base[key] = value.clone();
    }
}

/// Bytes as a Secret or a certificate has them.
pub(crate) fn bytes(text: &str) -> Value {
    json!(k8s_openapi::ByteString(text.as_bytes().to_vec()))
}
