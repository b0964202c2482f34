//! Strategic merge patches: lists whose elements have a key are merged by it, others are replaced.
//!
//! The keys are told by the fields' names alone. Of the directives `$patch`, `$deleteFromPrimitiveList`
//! and `$retainKeys` are heeded; `$setElementOrder` is not.

use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const REMOVE: &str = "$deleteFromPrimitiveList/";

/// By what the elements of a list are told apart.
pub(super) fn list_key(field: &str, elements: &[Value]) -> Option<&'static str> {
    let key = match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets"
        | "resourceClaims" => "name",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" | "podIPs" => "ip",
        "ownerReferences" => "uid",
        "conditions" => "type",
        "ports" if elements.iter().all(|port| port["containerPort"].is_u64()) => "containerPort",
        "ports" => "port",
        _ => return None,
    };
    let keyed = |element: &Value| element.get(key).is_some() || element.get(DIRECTIVE).is_some();
    elements.iter().all(keyed).then_some(key)
}

/// Merges a patch into an object.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() || patch.get(DIRECTIVE).is_some_and(|how| how == "replace") {
        *target = Value::Object(Map::new());
    }
    let fields = target.as_object_mut().expect("it was made a map");
    if let Some(kept) = patch.get(RETAIN).and_then(Value::as_array) {
        fields.retain(|key, _| kept.iter().any(|one| one == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(REMOVE) {
            if let Some(known) = fields.get_mut(list).and_then(Value::as_array_mut) {
                known.retain(|one| !value.as_array().is_some_and(|gone| gone.contains(one)));
            }
        } else if key.starts_with('$') {
        } else if value.is_null() || value.get(DIRECTIVE).is_some_and(|how| how == "delete") {
            fields.remove(key);
        } else {
            merge_field(key, fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn merge_field(key: &str, target: &mut Value, patch: &Value) {
    let Some(elements) = patch.as_array() else {
        return merge(target, patch);
    };
    if let Some(known) = target.as_array_mut() {
        if key == "finalizers" {
            let fresh = elements.iter().filter(|one| !known.contains(one));
            let fresh: Vec<Value> = fresh.cloned().collect();
            known.extend(fresh);
            return;
        }
        if let Some(by) = list_key(key, elements) {
            return merge_list(known, elements, by);
        }
    }
    let plain = elements.iter().map(|element| {
        let mut plain = Value::Null;
        merge(&mut plain, element);
        plain
    });
    *target = plain.collect();
}

fn merge_list(known: &mut Vec<Value>, elements: &[Value], by: &str) {
    if elements.iter().any(|one| one[DIRECTIVE] == "replace") {
        known.clear();
    }
    for element in elements {
        let Some(name) = element.get(by) else {
            continue;
        };
        let found = known.iter().position(|one| one[by] == *name);
        match found {
            _ if element[DIRECTIVE] == "delete" => known.retain(|one| one[by] != *name),
            Some(index) => merge(&mut known[index], element),
            None => {
                let mut plain = Value::Null;
                merge(&mut plain, element);
                known.push(plain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_with_keys_are_merged_and_others_replaced() {
        let mut pod = json!({"spec": {
            "containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w"}],
        }});
        merge(
            &mut pod,
            &json!({"spec": {
                "containers": [{"name": "a", "args": ["y"]}, {"name": "c"}],
                "volumes": [{"name": "w", "$patch": "delete"}],
                "nodeName": "n",
            }}),
        );
        let expected = json!({"spec": {
            "containers": [{"name": "a", "image": "1", "args": ["y"]}, {"name": "b"}, {"name": "c"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "nodeName": "n",
        }});
        assert_eq!(pod, expected);
    }

    #[test]
    fn directives_are_heeded() {
        let mut object = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}},
            "spec": {"strategy": {"type": "A", "more": 1}}});
        merge(
            &mut object,
            &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"],
                    "labels": {"x": null, "y": "2"}},
                "spec": {"strategy": {"$retainKeys": ["type"], "type": "B"}}}),
        );
        let expected = json!({"metadata": {"finalizers": ["b", "c"], "labels": {"y": "2"}},
            "spec": {"strategy": {"type": "B"}}});
        assert_eq!(object, expected);
    }
}
