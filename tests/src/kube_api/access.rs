//! Who may do what: tokens, and rules from the test or from the RBAC objects that are stored.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    kind::Place,
    meta::{items, text},
    store::{Key, Store},
};

/// For whom tokens are that name nobody else.
pub const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// Somebody who asks the server for something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeUser {
    /// Such as `system:serviceaccount:velero:orlop`.
    pub name: String,
    /// Empty for none.
    pub uid: String,
    /// Besides `system:authenticated`.
    pub groups: Vec<String>,
    /// Such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl KubeUser {
    /// Somebody in no group.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(&format!("system:serviceaccount:{namespace}:{name}"))
            .in_group("system:serviceaccounts")
            .in_group(&format!("system:serviceaccounts:{namespace}"))
    }

    /// The same, in a further group.
    #[must_use]
    pub fn in_group(mut self, group: &str) -> Self {
        self.groups.push(group.to_owned());
        self
    }

    /// The same, with the claims of a token that is bound to a pod.
    #[must_use]
    pub fn in_pod(mut self, name: &str, uid: &str, node: &str) -> Self {
        for (key, value) in [("pod-name", name), ("pod-uid", uid), ("node-name", node)] {
            if !value.is_empty() {
                let key = format!("authentication.kubernetes.io/{key}");
                self.extra.insert(key, vec![value.to_owned()]);
            }
        }
        self
    }

    pub(super) fn json(&self) -> Value {
        let mut groups = self.groups.clone();
        groups.push("system:authenticated".to_owned());
        let mut user = json!({"username": self.name, "groups": groups});
        if !self.uid.is_empty() {
            user["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            user["extra"] = json!(self.extra);
        }
        user
    }
}

/// What a token stands for.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) user: KubeUser,
    /// Empty for the server itself.
    pub(super) audiences: Vec<String>,
    /// What it goes with, by place and uid.
    pub(super) bound: Vec<(Key, String)>,
    pub(super) expires: Option<Timestamp>,
}

impl Token {
    /// The audiences that it is for, of those that are asked for; an error if there are none.
    pub(super) fn audiences(&self, asked: &[String]) -> Result<Vec<String>, String> {
        let own = vec![AUDIENCE.to_owned()];
        let asked = if asked.is_empty() { &own } else { asked };
        let has = if self.audiences.is_empty() {
            &own
        } else {
            &self.audiences
        };
        let common: Vec<String> = asked
            .iter()
            .filter(|one| has.contains(one))
            .cloned()
            .collect();
        if common.is_empty() {
            Err(format!(
                "token audiences {has:?} is invalid for the target audiences {asked:?}"
            ))
        } else {
            Ok(common)
        }
    }
}

/// What is to be done, as rules see it.
#[derive(Debug, Clone, Default)]
pub(super) struct Deed {
    pub(super) verb: String,
    pub(super) group: String,
    /// With its subresource: `pods/exec`.
    pub(super) resource: String,
    /// Empty for all namespaces, or none.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Something that the test allows.
#[derive(Debug, Clone)]
struct Rule {
    user: String,
    verbs: Vec<String>,
    /// `pods`, `pods/exec`, `backups.velero.io` or `*`.
    resources: Vec<String>,
    /// None for all.
    namespace: Option<String>,
}

/// Tokens and rules.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) required: bool,
    /// How long tokens last that are asked for, if the server decides that.
    pub(super) lifetime: Option<Duration>,
    tokens: BTreeMap<String, Token>,
    rules: Vec<Rule>,
}

impl Access {
    pub(super) fn new(required: bool) -> Self {
        Self {
            required,
            ..Self::default()
        }
    }

    pub(super) fn add_token(&mut self, token: &str, stands_for: Token) {
        self.tokens.insert(token.to_owned(), stands_for);
    }

    pub(super) fn remove_token(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    pub(super) fn allow(
        &mut self,
        user: &str,
        verbs: &[&str],
        resources: &[&str],
        namespace: Option<&str>,
    ) {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        self.rules.push(Rule {
            user: user.to_owned(),
            verbs: owned(verbs),
            resources: owned(resources),
            namespace: namespace.map(str::to_owned),
        });
    }

    /// What a token stands for, as long as it is valid.
    pub(super) fn token(&self, store: &Store, token: &str) -> Option<&Token> {
        let found = self.tokens.get(token)?;
        let current = found
            .expires
            .is_none_or(|expires| Timestamp::now() < expires);
        let bound = found.bound.iter().all(|(key, uid)| {
            let object = store.get(key);
            object.is_some_and(|object| text(object, "metadata.uid") == uid)
        });
        (current && bound).then_some(found)
    }

    /// Whether somebody may do something.
    pub(super) fn allows(&self, store: &Store, user: &KubeUser, deed: &Deed) -> bool {
        user.groups.iter().any(|group| group == "system:masters")
            || self.rules.iter().any(|rule| rule.allows(user, deed))
            || bindings_allow(store, user, deed)
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl Rule {
    fn allows(&self, user: &KubeUser, deed: &Deed) -> bool {
        let resource = match deed.resource.split_once('/') {
            _ if deed.group.is_empty() => deed.resource.clone(),
            Some((plural, sub)) => format!("{plural}.{}/{sub}", deed.group),
            None => format!("{}.{}", deed.resource, deed.group),
        };
        let namespace = self.namespace.as_ref();
        (user.name == self.user || user.groups.contains(&self.user))
            && namespace.is_none_or(|one| *one == deed.namespace)
            && has(&self.verbs, &deed.verb)
            && has(&self.resources, &resource)
    }
}

fn place(plural: &str) -> Place {
    Place {
        group: "rbac.authorization.k8s.io".to_owned(),
        plural: plural.to_owned(),
    }
}

/// What the stored roles and their bindings say.
fn bindings_allow(store: &Store, user: &KubeUser, deed: &Deed) -> bool {
    let everywhere = store.list(&place("clusterrolebindings"), None);
    let here = match deed.namespace.as_str() {
        "" => Vec::new(),
        namespace => store.list(&place("rolebindings"), Some(namespace)),
    };
    everywhere.iter().chain(&here).any(|(key, binding)| {
        let mut subjects = items(binding, "subjects").iter();
        if !subjects.any(|subject| is_subject(user, subject, &key.namespace)) {
            return false;
        }
        let (plural, namespace) = match text(binding, "roleRef.kind") {
            "Role" => ("roles", key.namespace.clone()),
            _ => ("clusterroles", String::new()),
        };
        let role = Key {
            place: place(plural),
            namespace,
            name: text(binding, "roleRef.name").to_owned(),
        };
        let role = store.get(&role);
        role.is_some_and(|role| items(role, "rules").iter().any(|rule| grants(rule, deed)))
    })
}

fn is_subject(user: &KubeUser, subject: &Value, namespace: &str) -> bool {
    let name = text(subject, "name");
    match text(subject, "kind") {
        "ServiceAccount" => {
            let namespace = match text(subject, "namespace") {
                "" => namespace,
                given => given,
            };
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        "Group" => name == "system:authenticated" || user.groups.iter().any(|one| one == name),
        _ => user.name == name,
    }
}

fn grants(rule: &Value, deed: &Deed) -> bool {
    let lists = |key: &str, wanted: &str| {
        let mut all = items(rule, key).iter();
        all.any(|one| one == "*" || one == wanted)
    };
    let names = items(rule, "resourceNames");
    let subresource = deed
        .resource
        .split_once('/')
        .map(|(_, sub)| format!("*/{sub}"));
    lists("verbs", &deed.verb)
        && lists("apiGroups", &deed.group)
        && (lists("resources", &deed.resource)
            || subresource.is_some_and(|any| lists("resources", &any)))
        && (names.is_empty() || names.iter().any(|name| name == deed.name.as_str()))
}
