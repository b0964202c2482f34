//! The form in which objects are shown.

use serde_json::{Value, json};

use super::{kind::Kind, request::KubeRequest};

/// How much of an object a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Whole,
    Metadata,
}

impl View {
    /// What a request accepts.
    pub(super) fn of(request: &KubeRequest) -> Self {
        if request.accept.contains("as=PartialObjectMetadata") {
            Self::Metadata
        } else {
            Self::Whole
        }
    }

    /// An object as one version of its kind.
    pub(super) fn show(self, kind: &Kind, object: &Value) -> Value {
        match self {
            Self::Whole => {
                let mut shown = object.clone();
                if kind.custom {
                    shown["apiVersion"] = kind.api_version().into();
                }
                shown
            }
            Self::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            }),
        }
    }

    /// A list; as from the real server, elements of built-in kinds do not say what they are.
    pub(super) fn show_list<'a>(
        self,
        kind: &Kind,
        metadata: &Value,
        objects: impl Iterator<Item = &'a Value>,
    ) -> Value {
        let items: Vec<Value> = objects
            .map(|object| {
                let mut shown = self.show(kind, object);
                if let (Self::Whole, false, Some(fields)) =
                    (self, kind.custom, shown.as_object_mut())
                {
                    fields.remove("apiVersion");
                    fields.remove("kind");
                }
                shown
            })
            .collect();
        let (api_version, name) = match self {
            Self::Whole => (kind.api_version(), format!("{}List", kind.kind)),
            Self::Metadata => (
                "meta.k8s.io/v1".to_owned(),
                "PartialObjectMetadataList".to_owned(),
            ),
        };
        json!({"kind": name, "apiVersion": api_version, "metadata": metadata, "items": items})
    }
}
