//! The patch that turns an object into another.

use serde::Serialize;
use serde_json::{Map, Value};

/// The JSON merge patch (RFC 7396) from `before` to `after`; `None` if they are the same.
///
/// What `after` lacks is set to null: our types do not write empty values, so that the patch has to take them
/// away. The result can go into `kube::api::Patch::Merge`.
pub fn merge_patch<T: Serialize>(before: &T, after: &T) -> Option<Value> {
    let value = |object: &T| serde_json::to_value(object).expect("an API object is JSON");
    difference(&value(before), &value(after))
}

fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let changed = match old.get(key) {
            Some(before) => difference(before, value),
            None => Some(value.clone()),
        };
        patch.extend(changed.map(|value| (key.clone(), value)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::velero::{Backup, BackupPhase};

    #[test]
    fn a_patch_has_what_changed_and_takes_away_what_is_gone() {
        let mut before = Backup::default();
        before.metadata.name = Some("b".to_owned());
        before.status.phase = BackupPhase::Queued;
        before.status.queue_position = 2;
        before.status.version = 1;
        let mut after = before.clone();
        assert_eq!(merge_patch(&before, &after), None);
        after.status.phase = BackupPhase::InProgress;
        after.status.queue_position = 0;
        after.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(
            merge_patch(&before, &after),
            Some(json!({
                "metadata": {"labels": {"a": "b"}},
                "status": {"phase": "InProgress", "queuePosition": null},
            }))
        );
    }

    #[test]
    fn lists_are_replaced_and_not_merged() {
        let patch = difference(
            &json!({"a": [1, 2], "b": {"c": 1}}),
            &json!({"a": [1], "b": 2}),
        );
        assert_eq!(patch, Some(json!({"a": [1], "b": 2})));
    }
}
