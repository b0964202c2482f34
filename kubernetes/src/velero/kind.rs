//! How a kind of custom resource is declared: its names, its metadata and its two halves.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::Value;

/// What a definition of a custom resource says beside the types.
pub(crate) struct Names {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short: &'static [&'static str],
}

/// A kind of custom resource.
pub(crate) trait Kind {
    const NAMES: Names;
    /// The doc comment of the kind.
    const LINES: &'static [&'static str];

    /// The schemas of the fields beside apiVersion, kind and metadata, by name.
    fn halves() -> Vec<(&'static str, Value)>;

    /// What `kubectl get` shows beside the name.
    fn columns() -> Vec<CustomResourceColumnDefinition>;
}

/// A column of `kubectl get`.
pub(crate) fn column(name: &str, of_type: &str, path: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: of_type.to_owned(),
        json_path: path.to_owned(),
        ..CustomResourceColumnDefinition::default()
    }
}

/// Declares a kind: a struct with metadata and the given halves, usable with `kube::Api`.
macro_rules! kind {
    (
        $(#[doc = $about:literal])* pub struct $name:ident = $version:literal, $plural:literal $(, short $short:literal)*;
        columns [$(($column:literal, $of:literal, $path:literal)),* $(,)?];
        $($(#[doc = $line:literal])* $half:ident : $type:ty,)*
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            /// Name, labels, annotations and what the API server adds.
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            $($(#[doc = $line])* pub $half: $type,)*
        }

        impl crate::velero::kind::Kind for $name {
            const NAMES: crate::velero::kind::Names = crate::velero::kind::Names {
                group: crate::velero::GROUP,
                version: $version,
                kind: stringify!($name),
                plural: $plural,
                short: &[$($short),*],
            };
            const LINES: &'static [&'static str] = &[$($about),*];

            fn halves() -> Vec<(&'static str, serde_json::Value)> {
                vec![$({
                    let mut schema = <$type as crate::velero::shape::Shape>::schema();
                    crate::velero::shape::describe(&mut schema, &[$($line),*]);
                    (stringify!($half), schema)
                }),*]
            }

            fn columns() -> Vec<
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition,
            > {
                vec![$(crate::velero::kind::column($column, $of, $path)),*]
            }
        }

        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = k8s_openapi::NamespaceResourceScope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                stringify!($name).into()
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                crate::velero::GROUP.into()
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serde::Serializer::serialize_map(serializer, None)?;
                let api_version = <Self as kube::Resource>::api_version(&());
                serde::ser::SerializeMap::serialize_entry(&mut map, "apiVersion", &api_version)?;
                serde::ser::SerializeMap::serialize_entry(&mut map, "kind", stringify!($name))?;
                serde::ser::SerializeMap::serialize_entry(&mut map, "metadata", &self.metadata)?;
                $(
                    if !crate::velero::shape::Shape::is_absent(&self.$half) {
                        serde::ser::SerializeMap::serialize_entry(
                            &mut map, stringify!($half), &self.$half,
                        )?;
                    }
                )*
                serde::ser::SerializeMap::end(map)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Default, serde::Deserialize)]
                #[serde(default)]
                struct Parts {
                    kind: Option<String>,
                    #[serde(deserialize_with = "crate::velero::shape::or_empty")]
                    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
                    $(
                        #[serde(deserialize_with = "crate::velero::shape::or_empty")]
                        $half: $type,
                    )*
                }
                let parts = Parts::deserialize(deserializer)?;
                if let Some(other) = parts.kind.filter(|kind| kind != stringify!($name)) {
                    return Err(serde::de::Error::custom(format_args!(
                        "this is a {other}, not a {}", stringify!($name),
                    )));
                }
                Ok(Self { metadata: parts.metadata, $($half: parts.$half),* })
            }
        }
    };
}

pub(crate) use kind;
