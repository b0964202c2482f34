//! Patches that must not undo what others have written meanwhile.

use serde_json::Value;

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
    fn a_condition_joins_what_the_patch_says_of_metadata() {
        let patch = json!({"metadata": {"labels": {"a": "b"}}});
        let with = only_if(patch, Some("7"));
        assert_eq!(
            with,
            json!({"metadata": {"labels": {"a": "b"}, "resourceVersion": "7"}})
        );
        assert_eq!(only_if(json!({"spec": 1}), None), json!({"spec": 1}));
    }
}
