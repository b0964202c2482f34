//! Whether an object of the cluster is what the backup has, apart from what servers and controllers fill in.

use serde_json::{Map, Value};

use super::{
    RESTORE_UID,
    json::{items_mut, map_mut, remove},
    order::CLAIMS,
    reset,
};
use crate::velero::{
    labels::{BACKUP_NAME, RESTORE_NAME},
    merge_patch,
};

/// The merge patch that makes of the cluster's object what was to be restored; `None` if it is that already.
///
/// What a server assigns to single objects, such as a service's address, is neither compared nor patched, and neither
/// are the labels that a restore adds.
pub(super) fn difference(resource: &str, found: &Value, wanted: &Value) -> Option<Value> {
    let (found, wanted) = (bare(resource, found), bare(resource, wanted));
    merge_patch(&found, &wanted)
}

/// Adds to `found` what of `wanted` it has not. What both have stays as it is.
pub(super) fn merged_account(found: &Value, wanted: &Value) -> Option<Value> {
    let before = bare("serviceaccounts", found);
    let wanted = bare("serviceaccounts", wanted);
    let mut after = before.clone();
    for list in ["secrets", "imagePullSecrets"] {
        let mut all = after[list].as_array().cloned().unwrap_or_default();
        for one in wanted[list].as_array().into_iter().flatten() {
            if !all.contains(one) {
                all.push(one.clone());
            }
        }
        if !all.is_empty() {
            after[list] = Value::Array(all);
        }
    }
    for map in ["labels", "annotations"] {
        let given = wanted["metadata"][map].as_object();
        for (key, value) in given.into_iter().flatten() {
            if after["metadata"][map][key].is_null() {
                after["metadata"][map][key] = value.clone();
            }
        }
    }
    merge_patch(&before, &after)
}

fn bare(resource: &str, object: &Value) -> Value {
    let mut object = object.clone();
    reset::metadata(&mut object);
    reset::status(&mut object);
    for key in [BACKUP_NAME, RESTORE_NAME] {
        remove(&mut object, "/metadata/labels", key);
    }
    remove(&mut object, "/metadata/annotations", RESTORE_UID);
    for map in ["labels", "annotations"] {
        let empty = object["metadata"][map]
            .as_object()
            .is_some_and(Map::is_empty);
        if empty {
            remove(&mut object, "/metadata", map);
        }
    }
    match resource {
        "services" => {
            for key in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
                if object["spec"][key] != "None"
                    && object["spec"][key] != serde_json::json!(["None"])
                {
                    remove(&mut object, "/spec", key);
                }
            }
            for port in items_mut(&mut object, "/spec/ports") {
                remove(port, "", "nodePort");
            }
        }
        CLAIMS => {
            remove(&mut object, "/spec", "volumeName");
            if let Some(annotations) = map_mut(&mut object, "/metadata/annotations") {
                super::actions::forget_binding(annotations);
            }
            let empty = object["metadata"]["annotations"]
                .as_object()
                .is_some_and(Map::is_empty);
            if empty {
                remove(&mut object, "/metadata", "annotations");
            }
        }
        _ => {}
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_restore_adds_and_the_server_assigns_makes_no_difference() {
        let found = json!({
            "metadata": {"name": "db", "uid": "u", "resourceVersion": "7", "managedFields": []},
            "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "type": "NodePort",
                     "ports": [{"port": 5432, "nodePort": 31000}]},
            "status": {"loadBalancer": {}},
        });
        let mut wanted = json!({
            "metadata": {"name": "db", "labels": {BACKUP_NAME: "b", RESTORE_NAME: "r"},
                         "annotations": {RESTORE_UID: "u"}},
            "spec": {"type": "NodePort", "ports": [{"port": 5432}]},
        });
        assert_eq!(difference("services", &found, &wanted), None);
        wanted["spec"]["type"] = "ClusterIP".into();
        let patch = json!({"spec": {"type": "ClusterIP"}});
        assert_eq!(difference("services", &found, &wanted), Some(patch));
        assert!(difference("configmaps", &found, &wanted).is_some());
    }

    #[test]
    fn a_bound_claim_is_the_claim_it_was() {
        let found = json!({
            "metadata": {"name": "data", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "pv-2", "resources": {}},
        });
        let wanted = json!({"metadata": {"name": "data"}, "spec": {"resources": {}}});
        assert_eq!(difference(CLAIMS, &found, &wanted), None);
    }

    #[test]
    fn accounts_are_merged_and_nothing_of_the_clusters_is_lost() {
        let found = json!({
            "metadata": {"name": "default", "labels": {"a": "1"}},
            "secrets": [{"name": "x"}], "automountServiceAccountToken": false,
        });
        let wanted = json!({
            "metadata": {"name": "default", "labels": {"a": "2", "b": "3"}},
            "secrets": [{"name": "x"}, {"name": "y"}], "imagePullSecrets": [{"name": "pull"}],
        });
        let patch = json!({
            "metadata": {"labels": {"b": "3"}},
            "secrets": [{"name": "x"}, {"name": "y"}], "imagePullSecrets": [{"name": "pull"}],
        });
        assert_eq!(merged_account(&found, &wanted), Some(patch));
        assert_eq!(merged_account(&found, &found), None);
    }
}
