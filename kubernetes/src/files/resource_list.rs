//! The names of the objects of a backup or restore, by kind.

use std::collections::BTreeMap;

/// What became of an object of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreOutcome {
    /// It was made.
    Created,
    /// It was there and was changed.
    Updated,
    /// It could not be made.
    Failed,
    /// It was there and was left alone.
    Skipped,
}

impl RestoreOutcome {
    /// The word beside the object's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Names of objects by `GROUP/VERSION/KIND` (core: `VERSION/KIND`). As JSON it is the map itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ResourceList {
    /// Each name is `NAMESPACE/NAME`, or `NAME` for cluster resources.
    pub objects: BTreeMap<String, Vec<String>>,
}

impl ResourceList {
    /// Adds an object of a backup. `api_version` is as in the object itself; no namespace for cluster resources.
    pub fn add(&mut self, api_version: &str, kind: &str, namespace: Option<&str>, name: &str) {
        self.push(api_version, kind, full_name(namespace, name));
    }

    /// Adds an object of a restore.
    pub fn add_restored(
        &mut self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        outcome: RestoreOutcome,
    ) {
        let name = format!("{}({})", full_name(namespace, name), outcome.as_str());
        self.push(api_version, kind, name);
    }

    /// Puts the names of each kind in order.
    pub fn sort(&mut self) {
        self.objects.values_mut().for_each(|names| names.sort());
    }

    fn push(&mut self, api_version: &str, kind: &str, name: String) {
        let kind = format!("{api_version}/{kind}");
        self.objects.entry(kind).or_default().push(name);
    }
}

fn full_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_listed_by_kind_and_in_order() {
        let mut list = ResourceList::default();
        list.add("apps/v1", "Deployment", Some("shop"), "web");
        list.add("apps/v1", "Deployment", Some("shop"), "api");
        list.add("v1", "Namespace", None, "shop");
        list.sort();
        assert_eq!(
            json!(list),
            json!({"apps/v1/Deployment": ["shop/api", "shop/web"], "v1/Namespace": ["shop"]})
        );
    }

    #[test]
    fn a_restore_says_what_became_of_each_object() {
        let mut list = ResourceList::default();
        list.add_restored("v1", "Pod", Some("shop"), "web", RestoreOutcome::Created);
        list.add_restored("v1", "Pod", Some("shop"), "db", RestoreOutcome::Skipped);
        assert_eq!(
            json!(list),
            json!({"v1/Pod": ["shop/web(created)", "shop/db(skipped)"]})
        );
    }
}
