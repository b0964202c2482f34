//! Which kinds of objects the server has, and in which order a backup takes them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResource, APIResourceList};
use kube::core::Request;

use super::{Problem, report::Problems};
use crate::{
    client::{CALL_LIMIT, ClientError, Connection},
    selection::{ResourceKind, Severity},
};

/// What one must be able to do with a kind for a backup of it to make sense.
const VERBS: [&str; 4] = ["list", "get", "create", "delete"];

/// The core kinds that come first: what others belong to.
const FIRST: [&str; 3] = ["pods", "persistentvolumeclaims", "persistentvolumes"];

/// Kinds that servers show, or showed, in two groups. The objects are the same.
const COHABITING: [(&str, [&str; 2]); 5] = [
    ("deployments", ["apps", "extensions"]),
    ("daemonsets", ["apps", "extensions"]),
    ("replicasets", ["apps", "extensions"]),
    ("networkpolicies", ["networking.k8s.io", "extensions"]),
    ("events", ["", "events.k8s.io"]),
];

/// How many groups are asked for their kinds at once.
const ASKED_AT_ONCE: usize = 8;

/// A kind of objects as the server has it, in the version that it prefers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedKind {
    /// Its names.
    pub resource: ResourceKind,
    /// Such as `Deployment`.
    pub kind: String,
    /// Such as `v1`.
    pub version: String,
}

impl ServedKind {
    /// The kind of namespaces, which are taken last: only then is known which of them hold something.
    pub(super) fn is_namespaces(&self) -> bool {
        self.resource.group.is_empty() && self.resource.plural == "namespaces"
    }

    /// `v1`, or with its group `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.resource.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.resource.group, self.version)
        }
    }

    /// Where its objects are, those of one namespace or all.
    pub(crate) fn request(&self, namespace: Option<&str>) -> Request {
        let root = if self.resource.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let version = self.api_version();
        let plural = &self.resource.plural;
        Request::new(match namespace {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{version}/{plural}"),
        })
    }

    fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }
}

/// All kinds whose objects a backup can hold, in its order, and a line for each group that could not be asked.
///
/// # Errors
/// The server does not answer at all.
pub async fn discover(
    connection: &Connection,
) -> Result<(Vec<ServedKind>, Vec<Problem>), ClientError> {
    let groups = connection
        .call(CALL_LIMIT, async |client| client.list_api_groups().await)
        .await?;
    let core = connection
        .call(CALL_LIMIT, async |client| {
            client.list_core_api_resources("v1").await
        })
        .await?;
    let mut kinds: Vec<ServedKind> = core
        .resources
        .into_iter()
        .filter_map(|resource| served("", "v1", resource))
        .collect();
    let mut problems = Problems::default();
    let mut asked = Vec::new();
    for (group, version) in groups.groups.iter().flat_map(versions) {
        asked.push(ask(connection, group.to_owned(), version.to_owned()));
    }
    // Answers come in the order of the questions: preferred versions before others.
    let mut answers = stream::iter(asked).buffered(ASKED_AT_ONCE);
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    while let Some((group, version, answer)) = answers.next().await {
        match answer {
            Ok(list) => {
                let new = list
                    .resources
                    .into_iter()
                    .filter(|resource| found.insert((group.clone(), resource.name.clone())));
                kinds.extend(new.filter_map(|resource| served(&group, &version, resource)));
            }
            // A version that has gone meanwhile.
            Err(ClientError::NotFound { .. }) => {}
            Err(error) => problems.add(
                Severity::Error,
                format!("the objects of {group}/{version} are left out, for their kinds cannot be asked for: {error}"),
            ),
        }
    }
    Ok((in_order(kinds), problems.into_list()))
}

/// The kinds of a version of a group.
async fn ask(
    connection: &Connection,
    group: String,
    version: String,
) -> (String, String, Result<APIResourceList, ClientError>) {
    let group_version = format!("{group}/{version}");
    let answer = connection
        .call(CALL_LIMIT, async |client| {
            client.list_api_group_resources(&group_version).await
        })
        .await;
    (group, version, answer)
}

/// A group's versions, the preferred one first.
fn versions(group: &APIGroup) -> Vec<(&str, &str)> {
    let preferred = group.preferred_version.iter();
    let mut versions = Vec::new();
    for version in preferred.chain(&group.versions) {
        let pair = (group.name.as_str(), version.version.as_str());
        if !versions.contains(&pair) {
            versions.push(pair);
        }
    }
    versions
}

/// A kind, if a backup can hold its objects.
fn served(group: &str, version: &str, resource: APIResource) -> Option<ServedKind> {
    let is_part = resource.name.contains('/');
    let can = |verb: &&str| resource.verbs.iter().any(|one| one == verb);
    if is_part || !VERBS.iter().all(can) {
        return None;
    }
    let singular = if resource.singular_name.is_empty() {
        resource.kind.to_lowercase()
    } else {
        resource.singular_name
    };
    Some(ServedKind {
        resource: ResourceKind {
            plural: resource.name,
            singular,
            group: group.to_owned(),
            short_names: resource.short_names.unwrap_or_default(),
            namespaced: resource.namespaced,
        },
        kind: resource.kind,
        version: version.to_owned(),
    })
}

/// The core group first, in it what others belong to; then by group and name. Of kinds that are the same, one.
fn in_order(mut kinds: Vec<ServedKind>) -> Vec<ServedKind> {
    kinds.sort_by_cached_key(|kind| {
        let ResourceKind { group, plural, .. } = &kind.resource;
        let first = FIRST
            .iter()
            .position(|name| group.is_empty() && name == plural);
        let place = first.unwrap_or(FIRST.len());
        (place, group.clone(), plural.clone())
    });
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (plural, groups) in COHABITING {
        let is_there = |group: &&&str| kinds.iter().any(|kind| kind.is(group, plural));
        if let Some(group) = groups.iter().find(is_there) {
            taken.insert(plural, group);
        }
    }
    let is_double = |kind: &ServedKind| {
        COHABITING.iter().any(|(plural, groups)| {
            let ours = groups.iter().any(|group| kind.is(group, plural));
            ours && taken
                .get(plural)
                .is_some_and(|group| !kind.is(group, plural))
        })
    };
    kinds.retain(|kind| !is_double(kind));
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(group: &str, plural: &str) -> ServedKind {
        let resource = json!({
            "name": plural, "kind": "K", "singularName": "", "namespaced": true, "verbs": VERBS,
        });
        served(group, "v1", serde_json::from_value(resource).unwrap()).unwrap()
    }

    #[test]
    fn pods_and_their_claims_come_first_and_nothing_twice() {
        let kinds = [
            kind("extensions", "deployments"),
            kind("apps", "deployments"),
            kind("events.k8s.io", "events"),
            kind("", "events"),
            kind("extensions", "ingresses"),
            kind("", "configmaps"),
            kind("", "persistentvolumes"),
            kind("acme.io", "pods"),
            kind("", "persistentvolumeclaims"),
            kind("", "pods"),
        ];
        let ordered = in_order(kinds.to_vec());
        let names: Vec<String> = ordered
            .iter()
            .map(|kind| kind.resource.group_resource())
            .collect();
        let want = [
            "pods",
            "persistentvolumeclaims",
            "persistentvolumes",
            "configmaps",
            "events",
            "pods.acme.io",
            "deployments.apps",
            "ingresses.extensions",
        ];
        assert_eq!(names, want);
    }

    #[test]
    fn what_cannot_be_listed_and_made_again_is_no_kind_of_a_backup() {
        for (name, verbs) in [
            ("pods/log", &VERBS[..]),
            ("bindings", &["create"]),
            ("x", &VERBS[1..]),
        ] {
            let resource = json!({
                "name": name, "kind": "K", "singularName": "k", "namespaced": true, "verbs": verbs,
            });
            assert_eq!(
                served("", "v1", serde_json::from_value(resource).unwrap()),
                None
            );
        }
    }
}
