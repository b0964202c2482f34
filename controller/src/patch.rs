//! JSON merge patches with what has changed and nothing else, so that what others write meanwhile survives.

use serde_json::{Map, Value};

/// The patch that makes `new` of `old`; `None` if they are the same.
pub(crate) fn between(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (key, value) in after {
        let change = match before.get(key) {
            Some(old) => between(old, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(key.clone(), change);
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The patch that makes the object `new` of the object `old`.
pub(crate) fn of<K: orlop_kubernetes::client::ObjectKind>(old: &K, new: &K) -> Option<Value> {
    between(&serde_json::json!(old), &serde_json::json!(new))
}

/// A patch that is refused if somebody has changed the object since it was read.
pub(crate) fn only_if(mut patch: Value, resource_version: Option<&str>) -> Value {
    if let Some(version) = resource_version {
        patch["metadata"]["resourceVersion"] = version.into();
    }
    patch
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_holds_what_has_changed_and_nothing_else() {
        let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1, 2], "f": {"g": 1}});
        let new = json!({"a": 1, "b": {"c": 9}, "e": [1], "f": {"g": 1}, "h": {"i": 1}});
        let patch = json!({"b": {"c": 9, "d": null}, "e": [1], "h": {"i": 1}});
        assert_eq!(between(&old, &new), Some(patch));
        assert_eq!(between(&old, &old), None);
    }

    #[test]
    fn a_condition_joins_what_the_patch_says_of_metadata() {
        let patch = json!({"metadata": {"labels": {"a": "b"}}});
        let with = only_if(patch, Some("7"));
        assert_eq!(
            with,
            json!({"metadata": {"labels": {"a": "b"}, "resourceVersion": "7"}})
        );
    }
}
