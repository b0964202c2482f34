//! Which namespaces a backup looks into, and which of them it holds as objects.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;

use super::report::Problems;
use crate::{
    client::{ClientError, Connection, Objects},
    selection::{
        Filters, Severity,
        filters::is_excluded,
        glob,
        labels::{self, Labels},
    },
};

/// Up to so many namespaces are listed one by one; for more, the lists of the whole cluster are shorter.
const ONE_BY_ONE: usize = 8;

/// Which namespaces a backup looks into.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Those that are meant, with their labels.
    meant: BTreeMap<String, Labels>,
    /// Whether there can be others that are not meant.
    partial: bool,
}

impl Scope {
    /// Asks the server for its namespaces.
    pub(super) async fn read(
        connection: &Connection,
        filters: &Filters,
        problems: &mut Problems,
    ) -> Self {
        let all = Objects::<Namespace>::of(connection, None).list("").await;
        Self::of(all, filters, problems)
    }

    fn of(
        all: Result<Vec<Namespace>, ClientError>,
        filters: &Filters,
        problems: &mut Problems,
    ) -> Self {
        let named = || {
            filters
                .namespaces()
                .included()
                .filter(|name| !glob::is_pattern(name))
        };
        let all = match all {
            Ok(all) => all,
            Err(error) => {
                problems.add(
                    Severity::Error,
                    format!("namespaces cannot be listed, so only those that are named are in the backup: {error}"),
                );
                return Self {
                    meant: named()
                        .map(|name| (name.to_owned(), Labels::new()))
                        .collect(),
                    partial: true,
                };
            }
        };
        let mut scope = Self {
            meant: BTreeMap::new(),
            partial: false,
        };
        for namespace in all {
            let name = namespace.metadata.name.unwrap_or_default();
            let labels = namespace.metadata.labels.unwrap_or_default();
            if !filters.takes_namespace(&name) || is_excluded(&labels) {
                scope.partial = true;
            } else {
                scope.meant.insert(name, labels);
            }
        }
        for name in named().filter(|name| !scope.meant.contains_key(*name)) {
            problems.add(
                Severity::Warning,
                format!("namespace {name:?} does not exist or is excluded; nothing of it is in the backup"),
            );
        }
        scope
    }

    /// Whether objects of a namespace are meant. One that was made after we asked is not.
    pub(super) fn takes(&self, namespace: &str) -> bool {
        self.meant.contains_key(namespace)
    }

    /// The lists by which all objects are found: of single namespaces, or `None` for one of all.
    pub(super) fn lists(&self) -> Vec<Option<&str>> {
        if self.partial && self.meant.len() <= ONE_BY_ONE {
            self.meant.keys().map(|name| Some(name.as_str())).collect()
        } else {
            vec![None]
        }
    }

    /// The namespaces that are themselves in the backup: those that hold an object of it, those that a selector of
    /// labels means, those that are named, and without selectors all.
    pub(super) fn kept<'a>(
        &'a self,
        filters: &'a Filters,
        holding: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a str> {
        let selectors = filters.selectors();
        let named = |name: &str| filters.namespaces().included().any(|one| one == name);
        self.meant
            .iter()
            .filter(move |(name, of_it)| {
                selectors.is_empty()
                    || holding.contains(*name)
                    || named(name)
                    || selectors.iter().any(|one| labels::matches(one, of_it))
            })
            .map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filters(spec: serde_json::Value) -> Filters {
        Filters::of_backup(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn scope(filters: &Filters, problems: &mut Problems) -> Scope {
        let namespaces = json!([
            {"metadata": {"name": "shop", "labels": {"app": "shop"}}},
            {"metadata": {"name": "mail"}},
            {"metadata": {"name": "scratch", "labels": {"velero.io/exclude-from-backup": "true"}}},
        ]);
        Scope::of(
            Ok(serde_json::from_value(namespaces).unwrap()),
            filters,
            problems,
        )
    }

    fn kept(scope: &Scope, filters: &Filters, holding: &[&str]) -> Vec<String> {
        let holding = holding.iter().map(|&name| name.to_owned()).collect();
        scope.kept(filters, &holding).map(str::to_owned).collect()
    }

    #[test]
    fn an_excluded_namespace_is_not_looked_into() {
        let filters = filters(json!({}));
        let scope = scope(&filters, &mut Problems::default());
        assert!(scope.takes("shop") && !scope.takes("scratch"));
        assert_eq!(scope.lists(), [Some("mail"), Some("shop")]);
        assert_eq!(kept(&scope, &filters, &[]), ["mail", "shop"]);
    }

    #[test]
    fn with_a_selector_a_namespace_is_kept_if_it_matches_or_holds_something() {
        let filters = filters(json!({"labelSelector": {"matchLabels": {"app": "shop"}}}));
        let scope = scope(&filters, &mut Problems::default());
        assert_eq!(kept(&scope, &filters, &[]), ["shop"]);
        assert_eq!(kept(&scope, &filters, &["mail"]), ["mail", "shop"]);
    }

    #[test]
    fn a_name_that_means_nothing_is_told() {
        let mut problems = Problems::default();
        let filters = filters(json!({"includedNamespaces": ["shop", "gone"]}));
        let scope = scope(&filters, &mut problems);
        assert_eq!(scope.lists(), [Some("shop")]);
        let problems = problems.into_list();
        assert!(problems.len() == 1 && problems[0].message.contains("\"gone\""));
    }

    #[test]
    fn without_a_list_of_namespaces_those_that_are_named_are_tried() {
        let mut problems = Problems::default();
        let filters = filters(json!({"includedNamespaces": ["shop"]}));
        let what = "no".to_owned();
        let scope = Scope::of(
            Err(ClientError::Forbidden { what }),
            &filters,
            &mut problems,
        );
        assert_eq!(scope.lists(), [Some("shop")]);
        assert_eq!(problems.into_list()[0].severity, Severity::Error);
    }
}
