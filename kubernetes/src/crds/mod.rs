//! The definitions of Velero's custom resources, made from our types.

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
        CustomResourceDefinitionVersion, CustomResourceSubresources, CustomResourceValidation,
        JSONSchemaProps,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    velero::{self, Kind, Names, describe},
    yaml,
};

/// The objects as one YAML stream, each document after a line `---`, its keys in order of their names: the same every time.
pub fn to_yaml<T: Serialize>(objects: &[T]) -> String {
    let document = |object| {
        let mut value = serde_json::to_value(object).expect("an API object is JSON");
        value.sort_all_objects();
        format!("---\n{}", yaml::document(&value))
    };
    objects.iter().map(document).collect()
}

/// All definitions, in the order of their names.
///
/// None has a status subresource: clients and servers write status as a part of the object.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<velero::BackupRepository>(),
        definition::<velero::Backup>(),
        definition::<velero::BackupStorageLocation>(),
        definition::<velero::DataDownload>(),
        definition::<velero::DataUpload>(),
        definition::<velero::DeleteBackupRequest>(),
        definition::<velero::DownloadRequest>(),
        definition::<velero::PodVolumeBackup>(),
        definition::<velero::PodVolumeRestore>(),
        definition::<velero::Restore>(),
        definition::<velero::Schedule>(),
        definition::<velero::ServerStatusRequest>(),
        definition::<velero::VolumeSnapshotLocation>(),
    ]
}

fn definition<K: Kind>() -> CustomResourceDefinition {
    let Names {
        group,
        version,
        kind,
        plural,
        short,
    } = K::NAMES;
    let columns = K::columns();
    CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{plural}.{group}")),
            labels: Some([("component".to_owned(), "velero".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: group.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.to_owned(),
                list_kind: Some(format!("{kind}List")),
                plural: plural.to_owned(),
                short_names: (!short.is_empty())
                    .then(|| short.iter().map(|name| (*name).to_owned()).collect()),
                singular: Some(kind.to_lowercase()),
                ..CustomResourceDefinitionNames::default()
            },
            scope: "Namespaced".to_owned(),
            versions: vec![CustomResourceDefinitionVersion {
                name: version.to_owned(),
                served: true,
                storage: true,
                schema: Some(CustomResourceValidation {
                    open_api_v3_schema: Some(schema::<K>()),
                }),
                // As the real ones have it: nothing at all, or nothing in it.
                subresources: (!columns.is_empty()).then(CustomResourceSubresources::default),
                additional_printer_columns: (!columns.is_empty()).then_some(columns),
                ..CustomResourceDefinitionVersion::default()
            }],
            ..CustomResourceDefinitionSpec::default()
        },
        ..CustomResourceDefinition::default()
    }
}

fn schema<K: Kind>() -> JSONSchemaProps {
    let mut properties = Map::new();
    let mut text = |name: &str, about: &str| {
        let schema = json!({"type": "string", "description": about});
        properties.insert(name.to_owned(), schema);
    };
    text("apiVersion", "The group and version of the object.");
    text("kind", "The kind of the object.");
    properties.insert("metadata".to_owned(), json!({"type": "object"}));
    for (name, half) in K::halves() {
        properties.insert(name.to_owned(), half);
    }
    let mut schema = json!({"type": "object", "properties": Value::Object(properties)});
    describe(&mut schema, K::LINES);
    serde_json::from_value(schema).expect("our schemas are OpenAPI schemas")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_reads_back_as_what_it_was() {
        let object = json!({
            "b": [1, "two", {"x": [], "y": {}}, [true, null], []],
            "a": {"no": "yes", "text": "a: b # c\n\"d\"", "": "1.0"},
            "é": "12:30",
        });
        let yaml = to_yaml(std::slice::from_ref(&object));
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, object, "{yaml}");
        assert!(yaml.starts_with("---\n") && yaml.find("a:") < yaml.find("b:"));
    }
}
