//! Takes from an object what belonged to its former life, and from the cluster's own what nobody restores.

use serde_json::Value;

use super::json::remove;

/// Metadata that the server or a controller makes anew. Finalizers stay.
const FORMER: [&str; 10] = [
    "generateName",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "managedFields",
];

/// Takes former metadata away.
pub(super) fn metadata(object: &mut Value) {
    for key in FORMER {
        remove(object, "/metadata", key);
    }
}

/// Takes the status away.
pub(super) fn status(object: &mut Value) {
    remove(object, "", "status");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_labels_annotations_and_finalizers_stay() {
        let mut object = json!({
            "metadata": {
                "name": "a", "generateName": "a-", "namespace": "shop", "selfLink": "/x", "uid": "u",
                "resourceVersion": "7", "generation": 2, "creationTimestamp": "t",
                "deletionTimestamp": "t", "deletionGracePeriodSeconds": 30, "managedFields": [{}],
                "ownerReferences": [{"name": "o"}], "finalizers": ["a/b"], "labels": {"a": "b"},
                "annotations": {"c": "d"},
            },
            "status": {"phase": "Running"},
            "spec": {},
        });
        metadata(&mut object);
        status(&mut object);
        let want = json!({
            "metadata": {
                "name": "a", "namespace": "shop", "finalizers": ["a/b"], "labels": {"a": "b"},
                "annotations": {"c": "d"},
            },
            "spec": {},
        });
        assert_eq!(object, want);
        metadata(&mut Value::Null);
    }
}
