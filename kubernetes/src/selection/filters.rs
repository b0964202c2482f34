//! Which objects of the cluster, or of a backup, are meant.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{
    labels::{self, Labels},
    lists::NameFilter,
    resources::{Choice, ResourceKind},
};
use crate::velero::{BackupSpec, RestoreSpec, labels::EXCLUDE_FROM_BACKUP};

/// Kinds that no backup takes: they mean nothing in another cluster.
const NEVER_BACKED_UP: [&str; 2] = [
    "volumesnapshots.snapshot.storage.k8s.io",
    "volumesnapshotcontents.snapshot.storage.k8s.io",
];

/// Kinds that no restore makes: the cluster makes them itself, or they are Velero's own, of which the requests would be
/// obeyed.
pub const NEVER_RESTORED: [&str; 16] = [
    "nodes",
    "events",
    "events.events.k8s.io",
    "backups.velero.io",
    "restores.velero.io",
    "backuprepositories.velero.io",
    "resticrepositories.velero.io",
    "datadownloads.velero.io",
    "datauploads.velero.io",
    "deletebackuprequests.velero.io",
    "downloadrequests.velero.io",
    "podvolumebackups.velero.io",
    "podvolumerestores.velero.io",
    "serverstatusrequests.velero.io",
    "csinodes.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
];

/// Filters that contradict each other or make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct InvalidFilters {
    /// One line for a person each: the validation errors of the status.
    pub problems: Vec<String>,
}

/// The two ways to say which kinds are meant. They cannot be mixed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kinds {
    /// One list for all kinds, and a word about those of the cluster.
    Together {
        names: NameFilter,
        cluster: Option<bool>,
        /// Whether kinds of the cluster that are not in the list come along with what needs them, if that word is yes.
        needed_too: bool,
    },
    /// A list for kinds of the cluster and one for those in namespaces.
    Apart {
        cluster: NameFilter,
        namespaced: NameFilter,
    },
}

/// Which objects are meant, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters {
    namespaces: NameFilter,
    kinds: Kinds,
    never: &'static [&'static str],
    /// An object must match one of them; without any, everything matches.
    selectors: Vec<LabelSelector>,
}

impl Filters {
    /// The filters of a backup.
    ///
    /// # Errors
    /// The old and the new way to choose kinds are mixed; lists contradict each other; a name cannot be a
    /// namespace's; both kinds of label selectors are given, or one makes no sense.
    pub fn of_backup(spec: &BackupSpec) -> Result<Self, InvalidFilters> {
        let together =
            NameFilter::ignoring_empty(&spec.included_resources, &spec.excluded_resources);
        let cluster = NameFilter::ignoring_empty(
            &spec.included_cluster_scoped_resources,
            &spec.excluded_cluster_scoped_resources,
        );
        let namespaced = NameFilter::ignoring_empty(
            &spec.included_namespace_scoped_resources,
            &spec.excluded_namespace_scoped_resources,
        );
        let empty = NameFilter::default();
        let old = together != empty || spec.include_cluster_resources.is_some();
        let new = cluster != empty || namespaced != empty;
        let mut problems = Vec::new();
        if old && new {
            problems.push(
                "resources: includedResources, excludedResources and includeClusterResources cannot be mixed with \
                 the lists of cluster-scoped and namespace-scoped resources; use one way or the other"
                    .to_owned(),
            );
        }
        let kinds = if new {
            problems.extend(cluster.problems("cluster-scoped resources", true));
            problems.extend(namespaced.problems("namespace-scoped resources", true));
            Kinds::Apart {
                cluster,
                namespaced,
            }
        } else {
            problems.extend(together.problems("resources", false));
            Kinds::Together {
                names: together,
                cluster: spec.include_cluster_resources,
                needed_too: true,
            }
        };
        let namespaces = NameFilter::new(&spec.included_namespaces, &spec.excluded_namespaces);
        let selectors = (&spec.label_selector, spec.or_label_selectors.as_slice());
        Self::checked(namespaces, kinds, &NEVER_BACKED_UP, selectors, problems)
    }

    /// The filters of a restore. Namespaces are those of the backup, before any mapping.
    ///
    /// # Errors
    /// Lists contradict each other; a name cannot be a namespace's; both kinds of label selectors are given, or one
    /// makes no sense.
    pub fn of_restore(spec: &RestoreSpec) -> Result<Self, InvalidFilters> {
        let names = NameFilter::ignoring_empty(&spec.included_resources, &spec.excluded_resources);
        let problems = names.problems("resources", false);
        let kinds = Kinds::Together {
            names,
            cluster: spec.include_cluster_resources,
            needed_too: false,
        };
        let namespaces = NameFilter::new(&spec.included_namespaces, &spec.excluded_namespaces);
        let selectors = (&spec.label_selector, spec.or_label_selectors.as_slice());
        Self::checked(namespaces, kinds, &NEVER_RESTORED, selectors, problems)
    }

    fn checked(
        namespaces: NameFilter,
        kinds: Kinds,
        never: &'static [&'static str],
        (one, several): (&Option<LabelSelector>, &[LabelSelector]),
        mut problems: Vec<String>,
    ) -> Result<Self, InvalidFilters> {
        problems.extend(namespaces.problems("namespaces", false));
        let names = namespaces.included().chain(namespaces.excluded());
        problems.extend(names.filter_map(namespace_problem));
        if one.is_some() && !several.is_empty() {
            problems.push(
                "label selectors: labelSelector and orLabelSelectors cannot be used together"
                    .to_owned(),
            );
        }
        let selectors: Vec<LabelSelector> = one.iter().chain(several).cloned().collect();
        problems.extend(selectors.iter().flat_map(labels::problems));
        if problems.is_empty() {
            Ok(Self {
                namespaces,
                kinds,
                never,
                selectors,
            })
        } else {
            Err(InvalidFilters { problems })
        }
    }

    /// Whether objects of this namespace are meant.
    pub fn takes_namespace(&self, namespace: &str) -> bool {
        self.namespaces.selects(namespace)
    }

    /// The filter of namespaces.
    pub fn namespaces(&self) -> &NameFilter {
        &self.namespaces
    }

    /// Whether the namespaces of what is taken are taken too: unless their kind is excluded, or others are named in the one list
    /// for all kinds. That objects of the cluster are unwanted does not count here.
    pub fn takes_namespace_objects(&self) -> bool {
        let kind = ResourceKind {
            plural: "namespaces".to_owned(),
            singular: "namespace".to_owned(),
            short_names: vec!["ns".to_owned()],
            ..ResourceKind::default()
        };
        let called = |name: &str| kind.is_called(name);
        match &self.kinds {
            Kinds::Together { names, .. } => names.selects_by(called),
            Kinds::Apart { cluster, .. } => !cluster.excludes_by(called),
        }
    }

    /// Whether objects of this kind are meant. Namespace objects are a case of their own, which this does not know: one
    /// is also taken when anything in it is.
    ///
    /// Kinds of the cluster come along with the whole cluster, or if somebody names them; all others that nobody excludes come
    /// with what needs them (as in Velero's `pkg/util/collections/includes_excludes.go` and `pkg/backup/item_backupper.go`).
    pub fn choose(&self, kind: &ResourceKind) -> Choice {
        let called = |name: &str| kind.is_called(name);
        if self.never.contains(&kind.group_resource().as_str()) {
            return Choice::LeftOut;
        }
        let whole = self.namespaces.selects_all();
        match &self.kinds {
            Kinds::Apart { namespaced, .. } if kind.namespaced => {
                Choice::taken_if(namespaced.selects_by(called))
            }
            Kinds::Apart { cluster, .. } if cluster.excludes_by(called) => Choice::LeftOut,
            Kinds::Apart {
                cluster,
                namespaced,
            } => {
                let everything = cluster.is_empty() && whole && namespaced.selects_all();
                if everything || cluster.included().any(called) {
                    Choice::Taken
                } else {
                    Choice::IfNeeded
                }
            }
            Kinds::Together { names, .. } if kind.namespaced => {
                Choice::taken_if(names.selects_by(called))
            }
            Kinds::Together {
                names,
                cluster,
                needed_too,
            } => match (cluster, names.selects_by(called)) {
                (Some(true), true) => Choice::Taken,
                (None, true) if whole => Choice::Taken,
                (None, true) => Choice::IfNeeded,
                (Some(true), false) if *needed_too && !names.excludes_by(called) => {
                    Choice::IfNeeded
                }
                _ => Choice::LeftOut,
            },
        }
    }

    /// Whether an object with these labels is meant.
    pub fn takes_labels(&self, labels: &Labels) -> bool {
        !is_excluded(labels)
            && (self.selectors.is_empty()
                || self
                    .selectors
                    .iter()
                    .any(|one| labels::matches(one, labels)))
    }

    /// The label selectors, of which an object must match one. Each can be sent to the API server.
    pub fn selectors(&self) -> &[LabelSelector] {
        &self.selectors
    }

    /// The names of kinds that none of `kinds` is called by: probably misspelt, to be told as warnings.
    pub fn unknown_kinds(&self, kinds: &[ResourceKind]) -> Vec<String> {
        let lists = match &self.kinds {
            Kinds::Together { names, .. } => vec![names],
            Kinds::Apart {
                cluster,
                namespaced,
            } => vec![cluster, namespaced],
        };
        let names = lists
            .into_iter()
            .flat_map(|list| list.included().chain(list.excluded()));
        names
            .filter(|name| *name != "*" && !kinds.iter().any(|kind| kind.is_called(name)))
            .map(str::to_owned)
            .collect()
    }
}

/// Whether an object's labels keep it out of every backup.
pub fn is_excluded(labels: &Labels) -> bool {
    labels
        .get(EXCLUDE_FROM_BACKUP)
        .is_some_and(|value| value == "true")
}

/// Why `name` can be no namespace's name or a pattern of one.
fn namespace_problem(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-*?[]!^".contains(c);
    let hyphen = name.starts_with('-') || name.ends_with('-');
    (name.len() > 63 || hyphen || !name.chars().all(allowed)).then(|| {
        format!("namespaces: {name:?} is no namespace's name: lower-case letters, digits and hyphens, 63 at most")
    })
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
