//! Which Kubernetes objects of a backup are made again, as the `Restore` object that says so.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use orlop_kubernetes::{
    selection::{Filters, label_text},
    velero::RestoreSpec,
};
use serde_json::json;

use crate::exit;

/// Which objects, and what to do with those that exist.
#[derive(Debug, Default, Args)]
pub(super) struct ObjectArgs {
    /// Only objects of these namespaces, as the backup has them; * and ? stand for any letters
    #[arg(long, value_name = "NS", value_delimiter = ',')]
    include_namespaces: Vec<String>,
    /// No objects of these namespaces
    #[arg(long, value_name = "NS", value_delimiter = ',')]
    exclude_namespaces: Vec<String>,
    /// Only objects of these kinds, such as deployments.apps
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    include_resources: Vec<String>,
    /// No objects of these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    exclude_resources: Vec<String>,
    /// Only objects with these labels, such as app=shop,tier!=test
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// What to do with an object that exists and differs: leave it (none, the default), or change it (update)
    #[arg(long, value_name = "POLICY", value_enum)]
    existing_resource_policy: Option<ExistingPolicy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExistingPolicy {
    /// It stays as it is
    None,
    /// It becomes what the backup has
    Update,
}

impl ObjectArgs {
    /// Whether any of the options is given.
    pub(super) fn is_given(&self) -> bool {
        let lists = [
            &self.include_namespaces,
            &self.exclude_namespaces,
            &self.include_resources,
            &self.exclude_resources,
        ];
        lists.iter().any(|list| !list.is_empty())
            || self.selector.is_some()
            || self.existing_resource_policy.is_some()
    }
}

/// The object. The same options give the same bytes, so that the same command asks for the same restore.
///
/// # Errors
/// The options contradict each other or make no sense.
pub(super) fn velero_object(
    backup: &str,
    mapping: &[(String, String)],
    args: &ObjectArgs,
) -> Result<Vec<u8>> {
    let selector = args.selector.as_deref().map(label_text::parse).transpose();
    let selector = selector.map_err(|error| exit::usage(format!("--selector: {error}")))?;
    let policy = match args.existing_resource_policy {
        None | Some(ExistingPolicy::None) => "",
        Some(ExistingPolicy::Update) => "update",
    };
    let spec = RestoreSpec {
        backup_name: backup.to_owned(),
        included_namespaces: args.include_namespaces.clone(),
        excluded_namespaces: args.exclude_namespaces.clone(),
        included_resources: args.include_resources.clone(),
        excluded_resources: args.exclude_resources.clone(),
        namespace_mapping: mapping.iter().cloned().collect(),
        label_selector: selector,
        existing_resource_policy: policy.to_owned(),
        ..RestoreSpec::default()
    };
    Filters::of_restore(&spec).map_err(|error| exit::usage(error.to_string()))?;
    let object = json!({"apiVersion": "velero.io/v1", "kind": "Restore", "spec": spec});
    serde_json::to_vec(&object).context("encode the restore's object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_spec_of_a_restore() {
        let args = ObjectArgs {
            include_namespaces: vec!["shop".to_owned()],
            exclude_resources: vec!["secrets".to_owned()],
            selector: Some("app=web,!canary".to_owned()),
            existing_resource_policy: Some(ExistingPolicy::Update),
            ..ObjectArgs::default()
        };
        assert!(args.is_given() && !ObjectArgs::default().is_given());
        let mapping = [("shop".to_owned(), "shop-2".to_owned())];
        let object = velero_object("b1", &mapping, &args).unwrap();
        let text = String::from_utf8(object.clone()).unwrap();
        assert_eq!(
            text,
            r#"{"apiVersion":"velero.io/v1","kind":"Restore","spec":{"backupName":"b1","includedNamespaces":["shop"],"excludedResources":["secrets"],"namespaceMapping":{"shop":"shop-2"},"labelSelector":{"matchExpressions":[{"key":"canary","operator":"DoesNotExist"}],"matchLabels":{"app":"web"}},"existingResourcePolicy":"update"}}"#
        );
        let read: orlop_kubernetes::velero::Restore = serde_json::from_slice(&object).unwrap();
        assert_eq!(read.spec.backup_name, "b1");
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        let both = ObjectArgs {
            include_namespaces: vec!["a".to_owned()],
            exclude_namespaces: vec!["a".to_owned()],
            ..ObjectArgs::default()
        };
        let labels = ObjectArgs {
            selector: Some("a b".to_owned()),
            ..ObjectArgs::default()
        };
        for args in [both, labels] {
            assert!(velero_object("b", &[], &args).is_err(), "{args:?}");
        }
    }
}
