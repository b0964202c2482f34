//! Which objects of the backup a restore means.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    items::Items,
    order::{DEFINITIONS, NAMESPACES},
};
use crate::{
    collect::ServedKind,
    files::tarball::ItemPath,
    selection::{Choice, Filters, ResourceKind},
};

/// The kinds that the server has, by their names such as `deployments.apps`.
pub(super) type Kinds = BTreeMap<String, ServedKind>;

/// Which objects are meant.
pub(super) struct Scope {
    pub(super) filters: Filters,
    /// Namespace of the backup → namespace of the cluster.
    pub(super) mapping: BTreeMap<String, String>,
}

impl Scope {
    /// The namespace in the cluster.
    pub(super) fn mapped<'a>(&'a self, namespace: &'a str) -> &'a str {
        self.mapping.get(namespace).map_or(namespace, |to| to)
    }

    /// Whether objects of a kind are meant.
    pub(super) fn choose(&self, resource: &str, namespaced: bool, kinds: &Kinds) -> Choice {
        let guessed;
        let kind = if let Some(served) = kinds.get(resource) {
            &served.resource
        } else {
            guessed = guess(resource, namespaced);
            &guessed
        };
        self.filters.choose(kind)
    }

    /// Whether an object that others need may be restored with them: whatever its labels are.
    pub(super) fn allows(&self, path: &ItemPath, kinds: &Kinds) -> bool {
        let namespaced = path.namespace.is_some();
        let inside = |namespace: &String| self.filters.takes_namespace(namespace);
        path.namespace.as_ref().is_none_or(inside)
            && self.choose(&path.resource, namespaced, kinds) != Choice::LeftOut
    }

    /// The objects of a kind that are meant. Definitions and namespaces are more than these, see [`Self::definitions`]
    /// and [`Self::namespaces`].
    pub(super) fn objects(&self, resource: &str, items: &Items, kinds: &Kinds) -> Vec<ItemPath> {
        items
            .of(resource)
            .filter(|(path, meant)| {
                *meant
                    && match &path.namespace {
                        Some(_) => self.allows(path, kinds),
                        None => self.choose(resource, false, kinds) == Choice::Taken,
                    }
            })
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// The definitions that are meant, and those of the custom objects that are.
    pub(super) fn definitions(&self, items: &Items, kinds: &Kinds) -> Vec<ItemPath> {
        let mut meant: BTreeSet<ItemPath> = self
            .objects(DEFINITIONS, items, kinds)
            .into_iter()
            .collect();
        for (path, _) in items.of(DEFINITIONS) {
            if self.allows(path, kinds) && !self.objects(&path.name, items, kinds).is_empty() {
                meant.insert(path.clone());
            }
        }
        meant.into_iter().collect()
    }

    /// The namespaces of these objects, and without selectors all that are meant.
    pub(super) fn namespaces(
        &self,
        items: &Items,
        objects: &[(String, Vec<ItemPath>)],
    ) -> Vec<ItemPath> {
        if !self.filters.takes_namespace_objects() {
            return Vec::new();
        }
        let paths = objects.iter().flat_map(|(_, paths)| paths);
        let holding: BTreeSet<&str> = paths.filter_map(|path| path.namespace.as_deref()).collect();
        let all = self.filters.selectors().is_empty();
        items
            .of(NAMESPACES)
            .filter(|(path, meant)| {
                let name = path.name.as_str();
                self.filters.takes_namespace(name) && ((all && *meant) || holding.contains(name))
            })
            .map(|(path, _)| path.clone())
            .collect()
    }
}

/// What a kind may be called that the server does not have.
fn guess(resource: &str, namespaced: bool) -> ResourceKind {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    ResourceKind {
        plural: plural.to_owned(),
        singular: plural.strip_suffix('s').unwrap_or(plural).to_owned(),
        group: group.to_owned(),
        short_names: Vec::new(),
        namespaced,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::items::tests::items, *};

    fn scope(spec: Value) -> Scope {
        let spec = serde_json::from_value(spec).unwrap();
        Scope {
            filters: Filters::of_restore(&spec).unwrap(),
            mapping: BTreeMap::new(),
        }
    }

    fn backup() -> Items {
        let of = |namespace: &str, name: &str| json!({"metadata": {"namespace": namespace, "name": name}});
        items(&[
            ("pods", of("shop", "db")),
            ("pods", of("mail", "in")),
            ("events", of("shop", "e")),
            ("deletebackuprequests.velero.io", of("velero", "d")),
            ("carts.example.com", of("shop", "c")),
            (
                DEFINITIONS,
                json!({"metadata": {"name": "carts.example.com"}}),
            ),
            (
                DEFINITIONS,
                json!({"metadata": {"name": "boats.example.com"}}),
            ),
            (
                "clusterroles.rbac.authorization.k8s.io",
                json!({"metadata": {"name": "r"}}),
            ),
            (NAMESPACES, json!({"metadata": {"name": "shop"}})),
            (NAMESPACES, json!({"metadata": {"name": "mail"}})),
            (NAMESPACES, json!({"metadata": {"name": "empty"}})),
        ])
    }

    fn names(paths: &[ItemPath]) -> Vec<&str> {
        paths.iter().map(|path| path.name.as_str()).collect()
    }

    fn chosen(spec: Value, resource: &str) -> Vec<String> {
        let (items, kinds) = (backup(), Kinds::new());
        let scope = scope(spec);
        let paths = match resource {
            DEFINITIONS => scope.definitions(&items, &kinds),
            NAMESPACES => {
                let pods = scope.objects("pods", &items, &kinds);
                scope.namespaces(&items, &[("pods".to_owned(), pods)])
            }
            _ => scope.objects(resource, &items, &kinds),
        };
        names(&paths).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn everything_is_restored_but_what_the_cluster_makes_and_what_would_be_obeyed() {
        assert_eq!(chosen(json!({}), "pods"), ["in", "db"]);
        assert_eq!(
            chosen(json!({}), "clusterroles.rbac.authorization.k8s.io"),
            ["r"]
        );
        assert!(chosen(json!({}), "events").is_empty());
        assert!(chosen(json!({}), "deletebackuprequests.velero.io").is_empty());
        assert_eq!(
            chosen(json!({}), DEFINITIONS),
            ["boats.example.com", "carts.example.com"]
        );
        assert_eq!(chosen(json!({}), NAMESPACES), ["empty", "mail", "shop"]);
    }

    #[test]
    fn one_namespace_comes_with_the_definitions_of_its_objects_and_no_other_objects_of_the_cluster()
    {
        let shop = json!({"includedNamespaces": ["shop"]});
        assert_eq!(chosen(shop.clone(), "pods"), ["db"]);
        assert_eq!(chosen(shop.clone(), DEFINITIONS), ["carts.example.com"]);
        assert_eq!(chosen(shop.clone(), NAMESPACES), ["shop"]);
        assert!(chosen(shop, "clusterroles.rbac.authorization.k8s.io").is_empty());
        let named = json!({"includedResources": ["clusterroles"]});
        assert_eq!(
            chosen(named, "clusterroles.rbac.authorization.k8s.io"),
            ["r"]
        );
        let without = json!({"includeClusterResources": false});
        assert!(chosen(without, DEFINITIONS).is_empty());
    }

    #[test]
    fn with_a_selector_only_namespaces_that_hold_something_come() {
        let selector = json!({"labelSelector": {"matchLabels": {"a": "b"}}});
        // All objects of this backup count as matching.
        assert_eq!(chosen(selector, NAMESPACES), ["mail", "shop"]);
    }
}
