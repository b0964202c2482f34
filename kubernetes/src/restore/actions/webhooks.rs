//! What extends the API server itself.

use serde_json::Value;

use super::super::json::items_mut;

/// Whether the server keeps this entry by itself, as those of custom kinds.
pub(super) fn is_automatic(service: &Value) -> bool {
    let label = &service["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"];
    !label.is_null()
}

/// Old webhooks may say of their side effects what is no longer accepted.
pub(super) fn prepare(configuration: &mut Value) {
    for webhook in items_mut(configuration, "/webhooks").filter_map(Value::as_object_mut) {
        let effects = webhook.get("sideEffects").and_then(Value::as_str);
        if !matches!(effects, Some("None" | "NoneOnDryRun")) {
            webhook.insert("sideEffects".to_owned(), "None".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn side_effects_become_what_is_accepted() {
        let mut configuration = json!({"webhooks": [
            {"sideEffects": "Unknown"}, {"sideEffects": "NoneOnDryRun"}, {"name": "x"},
        ]});
        prepare(&mut configuration);
        let effects: Vec<&Value> = configuration["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["sideEffects"])
            .collect();
        assert_eq!(effects, ["None", "NoneOnDryRun", "None"]);
    }

    #[test]
    fn entries_that_the_server_keeps_itself_are_told_by_their_label() {
        let label =
            json!({"metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": "true"}}});
        assert!(is_automatic(&label) && !is_automatic(&json!({"metadata": {}})));
    }
}
