//! Structural schemas of custom kinds: what they drop, fill in and refuse.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::failure::Cause;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";

/// An `openAPIV3Schema`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Schema(Value);

impl Schema {
    pub(super) fn new(schema: Value) -> Self {
        Self(schema)
    }

    /// Removes the fields that the schema does not know, and says which, sorted.
    pub(super) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        prune(&self.0, object, "", true, &mut dropped);
        dropped.sort();
        dropped
    }

    /// Fills in the defaults of fields that are missing.
    pub(super) fn fill(&self, object: &mut Value) {
        fill(&self.0, object);
    }

    /// What is wrong with an object.
    pub(super) fn check(&self, object: &Value) -> Vec<Cause> {
        let mut causes = Vec::new();
        check(&self.0, object, "", &mut causes);
        causes
    }
}

fn is_set(schema: &Value, key: &str) -> bool {
    schema[key] == true
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn prune(schema: &Value, value: &mut Value, path: &str, whole: bool, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let whole = whole || is_set(schema, EMBEDDED);
            fields.retain(|key, inner| {
                if whole && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                let path = join(path, key);
                if let Some(known) = schema["properties"].get(key) {
                    prune(known, inner, &path, false, dropped);
                } else if schema["additionalProperties"].is_object() {
                    prune(
                        &schema["additionalProperties"],
                        inner,
                        &path,
                        false,
                        dropped,
                    );
                } else if schema["additionalProperties"] != true && !is_set(schema, PRESERVE) {
                    dropped.push(path);
                    return false;
                }
                true
            });
        }
        Value::Array(elements) if schema["items"].is_object() => {
            for (index, element) in elements.iter_mut().enumerate() {
                let path = format!("{path}[{index}]");
                prune(&schema["items"], element, &path, false, dropped);
            }
        }
        _ => {}
    }
}

fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(known) = schema["properties"].as_object() {
                for (key, known) in known {
                    fill_field(fields, key, known);
                }
            }
            if schema["additionalProperties"].is_object() {
                for inner in fields.values_mut() {
                    fill(&schema["additionalProperties"], inner);
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                fill(&schema["items"], element);
            }
        }
        _ => {}
    }
}

fn fill_field(fields: &mut Map<String, Value>, key: &str, known: &Value) {
    let default = known.get("default");
    let unwanted_null = fields.get(key).is_some_and(Value::is_null) && !is_set(known, "nullable");
    if let Some(default) = default
        && (unwanted_null || !fields.contains_key(key))
    {
        fields.insert(key.to_owned(), default.clone());
    }
    if let Some(inner) = fields.get_mut(key) {
        fill(known, inner);
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_invalid(path: &str, wanted: &str, found: &str) -> Cause {
    Cause {
        field: path.to_owned(),
        reason: "FieldValueTypeInvalid",
        message: format!(
            "Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}"
        ),
    }
}

/// Whether the value is of the schema's type; says so if not.
fn has_type(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) -> bool {
    let found = kind_of(value);
    if is_set(schema, INT_OR_STRING) {
        let good = matches!(found, "integer" | "string");
        if !good {
            causes.push(type_invalid(path, "integer,string", found));
        }
        return good;
    }
    let Some(wanted) = schema["type"].as_str() else {
        return true;
    };
    let good = found == wanted || (wanted, found) == ("number", "integer");
    if !good {
        causes.push(type_invalid(path, wanted, found));
    }
    good
}

fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && (is_set(schema, "nullable") || schema["type"].is_null()) {
        return;
    }
    if !has_type(schema, value, path, causes) {
        return;
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        causes.push(unsupported(path, value, choices));
    }
    check_bounds(schema, value, path, causes);
    match value {
        Value::Object(fields) => check_fields(schema, fields, path, causes),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                let path = format!("{path}[{index}]");
                check(&schema["items"], element, &path, causes);
            }
        }
        _ => {}
    }
}

fn unsupported(path: &str, value: &Value, choices: &[Value]) -> Cause {
    let choices: Vec<String> = choices.iter().map(Value::to_string).collect();
    Cause {
        field: path.to_owned(),
        reason: "FieldValueNotSupported",
        message: format!(
            "Unsupported value: {value}: supported values: {}",
            choices.join(", ")
        ),
    }
}

fn check_fields(schema: &Value, fields: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for key in schema["required"].as_array().into_iter().flatten() {
        let key = key.as_str().unwrap_or_default();
        if !fields.contains_key(key) {
            causes.push(Cause::required(&join(path, key), ""));
        }
    }
    for (key, inner) in fields {
        let path = join(path, key);
        if let Some(known) = schema["properties"].get(key) {
            check(known, inner, &path, causes);
        } else if schema["additionalProperties"].is_object() {
            check(&schema["additionalProperties"], inner, &path, causes);
        }
    }
}

/// Sizes, amounts and the one format that matters here.
fn check_bounds(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut wrong = |why: String| {
        let why = format!("{path} in body should {why}");
        causes.push(Cause::invalid(path, value, &why));
    };
    let bound = |key: &str| schema[key].as_f64();
    if let Some(number) = value.as_f64() {
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            wrong(format!("be greater than or equal to {least}"));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            wrong(format!("be less than or equal to {most}"));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as f64;
        if let Some(least) = bound("minLength").filter(|least| length < *least) {
            wrong(format!("be at least {least} chars long"));
        }
        if bound("maxLength").is_some_and(|most| length > most) {
            wrong("not be longer than allowed".to_owned());
        }
        if schema["format"] == "date-time" && text.parse::<Timestamp>().is_err() {
            let why = format!("{path} in body must be of type date-time: {text:?}");
            causes.push(Cause::invalid(path, value, &why));
        }
    }
    let size = value.as_array().map(|elements| elements.len() as f64);
    if let Some(size) = size {
        let mut wrong = |why: String| {
            let why = format!("{path} in body should {why}");
            causes.push(Cause::invalid(path, &size.into(), &why));
        };
        if let Some(least) = bound("minItems").filter(|least| size < *least) {
            wrong(format!("have at least {least} items"));
        }
        if let Some(most) = bound("maxItems").filter(|most| size > *most) {
            wrong(format!("have at most {most} items"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::new(json!({"type": "object", "properties": {
            "spec": {"type": "object", "required": ["node"], "properties": {
                "node": {"type": "string"},
                "kind": {"type": "string", "enum": ["a", ""]},
                "count": {"type": "integer", "minimum": 1, "default": 3},
                "at": {"type": "string", "format": "date-time", "nullable": true},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true},
                "list": {"type": "array", "items": {"type": "object", "properties": {
                    "x": {"type": "string"}}}},
            }},
        }}))
    }

    #[test]
    fn unknown_fields_are_dropped_unless_they_are_preserved() {
        let mut object = json!({"metadata": {"any": 1}, "more": 1, "spec": {
            "node": "n", "y": 1, "tags": {"a": "b"}, "any": {"z": {"y": 1}},
            "list": [{"x": "1", "y": 2}]}});
        let dropped = schema().prune(&mut object);
        assert_eq!(dropped, ["more", "spec.list[0].y", "spec.y"]);
        let rest = json!({"metadata": {"any": 1}, "spec": {"node": "n", "tags": {"a": "b"},
            "any": {"z": {"y": 1}}, "list": [{"x": "1"}]}});
        assert_eq!(object, rest);
    }

    #[test]
    fn defaults_are_filled_in() {
        let mut object = json!({"spec": {"node": "n"}});
        schema().fill(&mut object);
        assert_eq!(object, json!({"spec": {"node": "n", "count": 3}}));
    }

    #[test]
    fn what_is_wrong_is_said_as_the_real_server_says_it() {
        let said = |spec: Value| -> Vec<String> {
            let causes = schema().check(&json!({"spec": spec}));
            causes
                .iter()
                .map(|c| format!("{}: {}", c.field, c.message))
                .collect()
        };
        assert!(said(json!({"node": "", "kind": "", "at": null, "port": "http"})).is_empty());
        assert_eq!(said(json!({})), ["spec.node: Required value"]);
        assert_eq!(
            said(json!({"node": 1})),
            [
                r#"spec.node: Invalid value: "integer": spec.node in body must be of type string: "integer""#
            ]
        );
        assert_eq!(
            said(json!({"node": "n", "kind": "x"})),
            [r#"spec.kind: Unsupported value: "x": supported values: "a", """#]
        );
        assert_eq!(
            said(json!({"node": "n", "count": 0})),
            [
                "spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1"
            ]
        );
        assert_eq!(
            said(json!({"node": "n", "at": "now", "port": 1.5})).len(),
            2
        );
    }
}
