//! The errors and warnings of a backup or restore, by where they belong.

use std::collections::BTreeMap;

use super::log::{Level, Record};
use crate::velero::shape::object;

object! {
    /// Errors or warnings.
    pub struct ResultGroup {
        /// Those of the server itself.
        velero: Vec<String> = "velero";
        /// Those of cluster resources.
        cluster: Vec<String> = "cluster";
        /// Those of the resources of each namespace.
        namespaces: BTreeMap<String, Vec<String>> = "namespaces";
    }
}

object! {
    /// The errors and warnings of a backup or restore.
    pub struct Results {
        /// What makes it partially failed.
        errors: ResultGroup = "errors", required;
        /// What went wrong without harm to it.
        warnings: ResultGroup = "warnings", required;
    }
}

impl Results {
    /// Takes a record of the log into account, if it is a warning or an error.
    pub fn add(&mut self, record: &Record) {
        let group = match record.level {
            Level::Warning => &mut self.warnings,
            Level::Error => &mut self.errors,
            Level::Debug | Level::Info => return,
        };
        let text = describe(record);
        match record.fields.get("namespace") {
            Some(namespace) if !namespace.is_empty() => {
                group
                    .namespaces
                    .entry(namespace.clone())
                    .or_default()
                    .push(text);
            }
            // What names a resource and no namespace is about the cluster's own objects.
            _ if record.fields.contains_key("resource") => group.cluster.push(text),
            _ => group.velero.push(text),
        }
    }
}

impl ResultGroup {
    /// How many there are.
    pub fn count(&self) -> usize {
        let of_namespaces: usize = self.namespaces.values().map(Vec::len).sum();
        self.velero.len() + self.cluster.len() + of_namespaces
    }
}

/// The record as clients know it, with the space before each part.
fn describe(record: &Record) -> String {
    let parts = [
        ("resource", record.fields.get("resource")),
        ("name", record.fields.get("name")),
        (
            "message",
            Some(&record.message).filter(|text| !text.is_empty()),
        ),
        ("error", record.fields.get("error")),
    ];
    parts
        .into_iter()
        .filter_map(|(name, value)| Some(format!(" {name}: /{}", value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_says_resource_name_message_and_error() {
        let mut results = Results::default();
        let record = |level| Record::new(Timestamp::UNIX_EPOCH, level, "Error executing hook");
        results.add(
            &record(Level::Error)
                .with("resource", "pods")
                .with("name", "postgresql-0")
                .with("namespace", "default")
                .with("error", "command terminated with exit code 1"),
        );
        results.add(&record(Level::Warning));
        results.add(&record(Level::Info));
        assert_eq!(
            json!(results),
            json!({
                "errors": {"namespaces": {"default": [
                    " resource: /pods name: /postgresql-0 message: /Error executing hook error: /command terminated with exit code 1"
                ]}},
                "warnings": {"velero": [" message: /Error executing hook"]},
            })
        );
        assert_eq!((results.errors.count(), results.warnings.count()), (1, 1));
    }

    #[test]
    fn no_results_are_two_empty_groups() {
        let text = json!(Results::default());
        assert_eq!(text, json!({"errors": {}, "warnings": {}}));
        let read: Results = serde_json::from_value(json!({"errors": null})).unwrap();
        assert_eq!(read, Results::default());
    }
}
