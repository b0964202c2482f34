//! Kinds of objects by the names that people give them, and whether a backup takes them.

use super::glob;

/// A kind of object, as the API server's discovery tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceKind {
    /// Lower case, such as `deployments`.
    pub plural: String,
    /// Lower case, such as `deployment`.
    pub singular: String,
    /// Such as `apps`; empty for the core group.
    pub group: String,
    /// Such as `deploy`.
    pub short_names: Vec<String>,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl ResourceKind {
    /// The kind that pods are of.
    pub fn pods() -> Self {
        Self {
            plural: "pods".to_owned(),
            singular: "pod".to_owned(),
            short_names: vec!["po".to_owned()],
            namespaced: true,
            ..Self::default()
        }
    }

    /// `deployments.apps`, or `pods` for the core group: the directory in the tarball.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether `name` means it: `deployments`, `deployment`, `deploy`, each alone or with `.apps`, in any case; or
    /// a pattern for `deployments` or `deployments.apps`.
    pub fn is_called(&self, name: &str) -> bool {
        let name = name.trim().to_lowercase();
        if glob::is_pattern(&name) {
            return glob::matches(&name, &self.plural)
                || glob::matches(&name, &self.group_resource());
        }
        let (word, group) = match name.split_once('.') {
            Some((word, group)) => (word, Some(group)),
            None => (name.as_str(), None),
        };
        let known = word == self.plural
            || word == self.singular
            || self.short_names.iter().any(|short| short == word);
        known && group.is_none_or(|group| group == self.group)
    }
}

/// Whether a backup or restore takes the objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// All that match the other filters.
    Taken,
    /// Only those that objects which are taken need: the volume of a claim, the definition of a custom resource.
    IfNeeded,
    /// None.
    LeftOut,
}

impl Choice {
    /// All or none.
    pub(super) fn taken_if(taken: bool) -> Self {
        if taken { Self::Taken } else { Self::LeftOut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_answers_to_all_its_names() {
        let deployments = ResourceKind {
            plural: "deployments".to_owned(),
            singular: "deployment".to_owned(),
            group: "apps".to_owned(),
            short_names: vec!["deploy".to_owned()],
            namespaced: true,
        };
        let yes = [
            "deployments",
            "deployment",
            "Deployment",
            "deploy",
            "deployments.apps",
            "deployment.apps",
            "deploy.apps",
            " deployments ",
            "*",
            "deploy*",
            "*.apps",
        ];
        for name in yes {
            assert!(deployments.is_called(name), "{name}");
        }
        for name in [
            "deployments.extensions",
            "deploymen",
            "apps",
            "",
            "*.batch",
            "daemonsets",
        ] {
            assert!(!deployments.is_called(name), "{name}");
        }
        assert!(
            ResourceKind::pods().is_called("po") && !ResourceKind::pods().is_called("pods.apps")
        );
    }
}
