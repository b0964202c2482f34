//! The shapes of types that Kubernetes itself declares.

use k8s_openapi::{
    ByteString,
    api::core::v1::{ObjectReference, SecretKeySelector, TypedLocalObjectReference},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, Time},
};
use serde_json::{Map, Value, json};

use super::shape::Shape;

/// Whatever the API server holds there, kept as it is.
impl Shape for Value {
    fn schema() -> Value {
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }

    fn is_absent(&self) -> bool {
        self.is_null()
    }
}

impl Shape for Time {
    fn schema() -> Value {
        json!({"type": "string", "format": "date-time"})
    }

    fn is_absent(&self) -> bool {
        false
    }
}

impl Shape for ByteString {
    fn schema() -> Value {
        json!({"type": "string", "format": "byte"})
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

impl Shape for LabelSelector {
    fn schema() -> Value {
        json!({
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "properties": {
                "matchLabels": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "Labels that an object must have with exactly these values.",
                },
                "matchExpressions": {
                    "type": "array",
                    "x-kubernetes-list-type": "atomic",
                    "description": "Conditions that must all hold.",
                    "items": {
                        "type": "object",
                        "required": ["key", "operator"],
                        "properties": {
                            "key": {"type": "string", "description": "The label's key."},
                            "operator": {
                                "type": "string",
                                "description": "In, NotIn, Exists or DoesNotExist.",
                            },
                            "values": {
                                "type": "array",
                                "items": {"type": "string"},
                                "x-kubernetes-list-type": "atomic",
                                "description": "The values of In and NotIn.",
                            },
                        },
                    },
                },
            },
        })
    }

    fn is_absent(&self) -> bool {
        false
    }
}

fn reference(names: &[&str], required: &[&str]) -> Value {
    let properties: Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({"type": "string"})))
        .collect();
    let mut schema =
        json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

impl Shape for ObjectReference {
    fn schema() -> Value {
        reference(
            &[
                "apiVersion",
                "fieldPath",
                "kind",
                "name",
                "namespace",
                "resourceVersion",
                "uid",
            ],
            &[],
        )
    }

    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

impl Shape for TypedLocalObjectReference {
    fn schema() -> Value {
        reference(&["apiGroup", "kind", "name"], &["kind", "name"])
    }

    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

impl Shape for SecretKeySelector {
    fn schema() -> Value {
        let mut schema = reference(&["key", "name"], &["key"]);
        schema["properties"]["name"]["default"] = json!("");
        schema["properties"]["optional"] = json!({"type": "boolean"});
        schema
    }

    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}
