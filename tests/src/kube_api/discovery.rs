//! What the server says it serves.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::kind::{Kind, Kinds};

/// The version that the server claims.
pub const KUBERNETES_VERSION: &str = "v1.33.4";

/// What is further served of single kinds: path, kind of what is sent, verbs.
#[rustfmt::skip]
const SUBRESOURCES: [(&str, &str, &str, &[&str]); 7] = [
    ("namespaces", "finalize", "Namespace", &["update"]),
    ("pods", "exec", "PodExecOptions", &["create", "get"]),
    ("pods", "log", "Pod", &["get"]),
    ("pods", "portforward", "PodPortForwardOptions", &["create", "get"]),
    ("pods", "eviction", "Eviction", &["create"]),
    ("pods", "binding", "Binding", &["create"]),
    ("serviceaccounts", "token", "TokenRequest", &["create"]),
];

/// The answer to a path of discovery, if it is one.
pub(super) fn discover(kinds: &Kinds, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(version()),
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:443"}],
        })),
        ["apis"] => {
            let groups: Vec<Value> = groups(kinds)
                .iter()
                .map(|name| group(kinds, name))
                .collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if groups(kinds).contains(name) => {
            let mut group = group(kinds, name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["api", "v1"] => resources(kinds, "", "v1"),
        ["apis", group, version] => resources(kinds, group, version),
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": KUBERNETES_VERSION,
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "2025-08-13T14:21:22Z",
        "goVersion": "go1.24.5",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}

fn groups(kinds: &Kinds) -> BTreeSet<&str> {
    let all = kinds.all().iter().map(|kind| kind.group.as_str());
    all.filter(|group| !group.is_empty()).collect()
}

fn group(kinds: &Kinds, name: &str) -> Value {
    let mut versions: Vec<&str> = Vec::new();
    for kind in kinds.all().iter().filter(|kind| kind.group == name) {
        if !versions.contains(&kind.version.as_str()) {
            versions.push(&kind.version);
        }
    }
    versions.sort_by_key(|version| priority(version));
    let shown: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": shown[0], "versions": shown})
}

/// Stable versions first, then betas, then alphas; newer ones before older ones.
fn priority(version: &str) -> (u8, i64, i64) {
    let rest = version.trim_start_matches('v');
    for (rank, word) in [(1, "beta"), (2, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            let number = |text: &str| -text.parse::<i64>().unwrap_or(0);
            return (rank, number(major), number(minor));
        }
    }
    rest.parse::<i64>()
        .map_or((3, 0, 0), |major| (0, -major, 0))
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let served: Vec<&Arc<Kind>> = kinds
        .all()
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
        .collect();
    let group_version = served.first()?.api_version();
    let resources: Vec<Value> = served.iter().flat_map(|kind| entries(kind)).collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }))
}

fn entries(kind: &Kind) -> Vec<Value> {
    let verbs: &[&str] = match (kind.stored, kind.plural.as_str()) {
        (false, _) => &["create"],
        // The real server has no collection to delete here either.
        (true, "namespaces" | "services") => &[
            "create", "delete", "get", "list", "patch", "update", "watch",
        ],
        _ => &[
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ],
    };
    let mut whole = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": verbs,
    });
    for (key, words) in [
        ("shortNames", &kind.short),
        ("categories", &kind.categories),
    ] {
        if !words.is_empty() {
            whole[key] = words.as_slice().into();
        }
    }
    let mut entries = vec![whole];
    let mut further = |name: &str, what: &str, verbs: &[&str]| {
        entries.push(json!({
            "name": format!("{}/{name}", kind.plural),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": what,
            "verbs": verbs,
        }));
    };
    if kind.status {
        further("status", &kind.kind, &["get", "patch", "update"]);
    }
    for (_, name, what, verbs) in SUBRESOURCES
        .iter()
        .filter(|(plural, ..)| kind.is("", plural))
    {
        further(name, what, verbs);
    }
    entries
}
