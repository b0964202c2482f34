//! Whether an object's labels match a selector.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether the labels match. A selector without conditions matches everything; a condition that makes no sense,
/// nothing.
pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let conditions = selector.match_expressions.iter().flatten();
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && conditions
            .into_iter()
            .all(|condition| holds(condition, labels))
}

fn holds(condition: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let values = condition.values.as_deref().unwrap_or_default();
    let value = labels.get(&condition.key);
    match condition.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        // What lacks the label is not in the list either.
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The selector as the API server's lists take it; empty if it matches everything. Of one that [`problems`] finds
/// fault with it is no use.
pub fn query(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten();
    let equal = equal.map(|(key, value)| format!("{key}={value}"));
    let conditions = selector.match_expressions.iter().flatten();
    let conditions = conditions.map(|condition| {
        let key = &condition.key;
        let values = condition.values.as_deref().unwrap_or_default().join(",");
        match condition.operator.as_str() {
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            _ => format!("{key} in ({values})"),
        }
    });
    equal.chain(conditions).collect::<Vec<_>>().join(",")
}

/// What is wrong with a selector, one line for a person each.
pub fn problems(selector: &LabelSelector) -> Vec<String> {
    let conditions = selector.match_expressions.iter().flatten();
    conditions
        .filter_map(|condition| {
            let has_values = condition.values.as_ref().is_some_and(|values| !values.is_empty());
            let key = &condition.key;
            match (condition.operator.as_str(), has_values) {
                ("In" | "NotIn", true) | ("Exists" | "DoesNotExist", false) => None,
                ("In" | "NotIn", false) => Some(format!(
                    "label selector: {} of {key:?} needs values", condition.operator
                )),
                ("Exists" | "DoesNotExist", true) => Some(format!(
                    "label selector: {} of {key:?} takes no values", condition.operator
                )),
                (other, _) => Some(format!(
                    "label selector: {other:?} of {key:?} is none of In, NotIn, Exists, DoesNotExist"
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selector(value: serde_json::Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    fn condition(operator: &str, values: &[&str]) -> LabelSelector {
        selector(
            json!({"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}),
        )
    }

    #[test]
    fn every_operator_does_as_the_api_server_does() {
        let shop: Labels = [("app".to_owned(), "shop".to_owned())].into();
        let none = Labels::new();
        let cases = [
            (selector(json!({})), true, true),
            (
                selector(json!({"matchLabels": {"app": "shop"}})),
                true,
                false,
            ),
            (
                selector(json!({"matchLabels": {"app": "mail"}})),
                false,
                false,
            ),
            (condition("In", &["shop", "mail"]), true, false),
            (condition("In", &["mail"]), false, false),
            (condition("NotIn", &["shop"]), false, true),
            (condition("NotIn", &["mail"]), true, true),
            (condition("Exists", &[]), true, false),
            (condition("DoesNotExist", &[]), false, true),
            (condition("Near", &["shop"]), false, false),
            (
                selector(json!({
                    "matchLabels": {"app": "shop"},
                    "matchExpressions": [{"key": "tier", "operator": "Exists"}],
                })),
                false,
                false,
            ),
        ];
        for (selector, of_shop, of_none) in cases {
            assert_eq!(matches(&selector, &shop), of_shop, "{selector:?}");
            assert_eq!(matches(&selector, &none), of_none, "{selector:?}");
        }
    }

    #[test]
    fn a_selector_is_written_as_lists_take_it() {
        let all = selector(json!({
            "matchLabels": {"app": "shop"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "env", "operator": "NotIn", "values": ["test"]},
                {"key": "x", "operator": "Exists"},
                {"key": "y", "operator": "DoesNotExist"},
            ],
        }));
        assert_eq!(query(&all), "app=shop,tier in (a,b),env notin (test),x,!y");
        assert_eq!(query(&selector(json!({}))), "");
    }

    #[test]
    fn conditions_that_make_no_sense_are_named() {
        for bad in [
            condition("Near", &[]),
            condition("In", &[]),
            condition("Exists", &["x"]),
        ] {
            let problems = problems(&bad);
            assert!(
                problems.len() == 1 && problems[0].contains("\"app\""),
                "{problems:?}"
            );
        }
        assert!(problems(&condition("NotIn", &["x"])).is_empty());
    }
}
