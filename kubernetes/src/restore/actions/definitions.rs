//! Definitions of custom kinds: old ones that keep whatever nobody knows say so in a way that is no longer accepted.

use serde_json::{Value, json};

use super::super::json::{items_mut, map_mut, remove};

pub(super) fn prepare(definition: &mut Value) {
    if definition["spec"]["preserveUnknownFields"] != true {
        return;
    }
    remove(definition, "/spec", "preserveUnknownFields");
    for version in items_mut(definition, "/spec/versions") {
        if let Some(schema) = map_mut(version, "/schema/openAPIV3Schema") {
            schema.insert(
                "x-kubernetes-preserve-unknown-fields".to_owned(),
                json!(true),
            );
        }
    }
}

/// Whether the server serves what a definition defines.
pub(in crate::restore) fn is_served(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    ["Established", "NamesAccepted"].iter().all(|wanted| {
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one["type"] == *wanted && one["status"] == "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_kept_in_the_way_that_is_accepted() {
        let mut definition = json!({"spec": {"preserveUnknownFields": true, "versions": [
            {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}}, {"name": "v2"},
        ]}});
        prepare(&mut definition);
        assert_eq!(definition["spec"].get("preserveUnknownFields"), None);
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], true);
        let mut strict = json!({"spec": {"preserveUnknownFields": false}});
        prepare(&mut strict);
        assert_eq!(strict["spec"]["preserveUnknownFields"], false);
    }

    #[test]
    fn a_definition_is_served_when_both_conditions_hold() {
        let with = |established: &str| {
            json!({"status": {"conditions": [
                {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": established},
            ]}})
        };
        assert!(is_served(&with("True")) && !is_served(&with("False")) && !is_served(&json!({})));
    }
}
