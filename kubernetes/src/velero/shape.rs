//! How a custom resource's types are declared once, for their JSON and for their schema.
//!
//! A field that is absent, null or of its type's empty value is the same thing, as it is in Go; only
//! fields declared `required` are written when they are empty. Fields that nobody knows are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

/// What a type is in JSON.
pub(crate) trait Shape {
    /// Its OpenAPI schema, without a description.
    fn schema() -> Value;

    /// Whether it says nothing, so that it need not be written.
    fn is_absent(&self) -> bool;
}

/// A field of an object, for the schema.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) lines: &'static [&'static str],
    pub(crate) schema: Value,
    pub(crate) flags: &'static [&'static str],
}

/// The schema of an object with these fields.
pub(crate) fn object_schema(fields: Vec<Field>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let mut schema = field.schema;
        describe(&mut schema, field.lines);
        for flag in field.flags {
            match *flag {
                "required" => required.push(field.name),
                "nullable" => schema["nullable"] = json!(true),
                "not_empty" => schema["minItems"] = json!(1),
                "raw_items" => schema["x-kubernetes-preserve-unknown-fields"] = json!(true),
                "or_empty" => {
                    if let Some(words) = schema["enum"].as_array_mut() {
                        words.push(json!(""));
                    }
                }
                other => unreachable!("no flag is called {other}"),
            }
        }
        properties.insert(field.name.to_owned(), schema);
    }
    required.sort_unstable();
    let mut schema = json!({"type": "object"});
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Adds the doc comment `lines` as the schema's description.
pub(crate) fn describe(schema: &mut Value, lines: &[&str]) {
    let text: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    let text = text.join(" ");
    let text = text.trim();
    if !text.is_empty() {
        schema["description"] = json!(text);
    }
}

/// A field's value, where null is the same as the empty value.
pub(crate) fn or_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Shape for String {
    fn schema() -> Value {
        json!({"type": "string"})
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Shape for bool {
    fn schema() -> Value {
        json!({"type": "boolean"})
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

impl Shape for i32 {
    fn schema() -> Value {
        json!({"type": "integer"})
    }

    fn is_absent(&self) -> bool {
        *self == 0
    }
}

impl Shape for i64 {
    fn schema() -> Value {
        json!({"type": "integer", "format": "int64"})
    }

    fn is_absent(&self) -> bool {
        *self == 0
    }
}

impl<T: Shape> Shape for Option<T> {
    fn schema() -> Value {
        T::schema()
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Shape> Shape for BTreeMap<String, T> {
    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Declares an object: `field: Type = "jsonName", flag…;`.
///
/// Flags: `required` (in the schema, and written also when empty), `nullable`, `not_empty` (an array of at least
/// one), `raw_items` (an array whose items nobody checks), `or_empty` (a word that may be "").
macro_rules! object {
    ($(#[doc = $about:literal])* pub struct $name:ident {
        $($(#[doc = $line:literal])* $field:ident : $type:ty = $json:literal $(, $flag:ident)*;)*
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[doc = $line])*
                #[serde(rename = $json, deserialize_with = "crate::velero::shape::or_empty")]
                pub $field: $type,
            )*
        }

        impl crate::velero::shape::Shape for $name {
            fn schema() -> serde_json::Value {
                crate::velero::shape::object_schema(vec![$(crate::velero::shape::Field {
                    name: $json,
                    lines: &[$($line),*],
                    schema: <$type as crate::velero::shape::Shape>::schema(),
                    flags: &[$(stringify!($flag)),*],
                }),*])
            }

            fn is_absent(&self) -> bool {
                *self == Self::default()
            }
        }

        impl serde::Serialize for $name {
            #[allow(unused_mut, reason = "an object may have no fields")]
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serde::Serializer::serialize_map(serializer, None)?;
                $(
                    let required = [$(stringify!($flag)),*].contains(&"required");
                    if required || !crate::velero::shape::Shape::is_absent(&self.$field) {
                        serde::ser::SerializeMap::serialize_entry(&mut map, $json, &self.$field)?;
                    }
                )*
                serde::ser::SerializeMap::end(map)
            }
        }
    };
}

/// Declares words of which a field has one. `Unset` is the empty text, `Other` one that is not known here.
macro_rules! words {
    ($(#[doc = $about:literal])* pub enum $name:ident {
        $($(#[doc = $line:literal])* $word:ident = $json:literal,)*
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            /// Nobody has said yet.
            #[default]
            Unset,
            $($(#[doc = $line])* $word,)*
            /// A word that this version does not know.
            Other(String),
        }

        impl $name {
            /// The word as it is written.
            pub fn as_str(&self) -> &str {
                match self {
                    Self::Unset => "",
                    $(Self::$word => $json,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    "" => Self::Unset,
                    $($json => Self::$word,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self::from(text.as_str()))
            }
        }

        impl crate::velero::shape::Shape for $name {
            fn schema() -> serde_json::Value {
                serde_json::json!({"type": "string", "enum": [$($json),*]})
            }

            fn is_absent(&self) -> bool {
                self.as_str().is_empty()
            }
        }
    };
}

pub(crate) use object;
pub(crate) use words;
