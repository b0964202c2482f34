//! Somebody whose token the API server knows.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec},
};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Somebody whose token the API server knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Identity {
    /// Such as `system:serviceaccount:velero:orlop-agent`.
    pub user: String,
    /// Empty if there is none.
    pub uid: String,
    /// The groups that the user is in.
    pub groups: Vec<String>,
    /// The pod that the token was made for, if it was made for one.
    pub pod_name: Option<String>,
    /// Its uid.
    pub pod_uid: Option<String>,
    /// Its node. Servers before Kubernetes 1.30 do not say it; see [`super::Reviewer::node_of`].
    pub node_name: Option<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// Namespace and name of the service account, if the user is one.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')
    }

    pub(super) fn of(user: UserInfo) -> Self {
        let extra = user.extra.unwrap_or_default();
        let first = |key: &str| {
            extra
                .get(key)?
                .first()
                .filter(|text| !text.is_empty())
                .cloned()
        };
        Self {
            user: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            pod_name: first(POD_NAME),
            pod_uid: first(POD_UID),
            node_name: first(NODE_NAME),
            extra,
        }
    }
}

/// Something that one may do with objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Right {
    /// Such as `create`.
    pub verb: String,
    /// Such as `velero.io`; empty for the core group.
    pub group: String,
    /// The plural, such as `backups`; with a subresource `pods/exec`.
    pub resource: String,
    /// The namespace; empty for all of them, or for objects of the cluster.
    pub namespace: String,
    /// The object; empty for all of them.
    pub name: String,
}

/// The question whether somebody has a right.
pub(super) fn question(who: &Identity, right: &Right) -> SubjectAccessReviewSpec {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (resource, part) = match right.resource.split_once('/') {
        Some((resource, part)) => (resource, some(part)),
        None => (right.resource.as_str(), None),
    };
    SubjectAccessReviewSpec {
        user: some(&who.user),
        uid: some(&who.uid),
        groups: Some(who.groups.clone()),
        extra: (!who.extra.is_empty()).then(|| who.extra.clone()),
        resource_attributes: Some(ResourceAttributes {
            verb: some(&right.verb),
            group: some(&right.group),
            resource: some(resource),
            subresource: part,
            namespace: some(&right.namespace),
            name: some(&right.name),
            ..ResourceAttributes::default()
        }),
        non_resource_attributes: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pod_of_a_token_is_read_from_its_claims() {
        let user = json!({
            "username": "system:serviceaccount:velero:agent", "uid": "u", "groups": ["g"],
            "extra": {POD_NAME: ["agent-1"], POD_UID: ["p"], NODE_NAME: [""]},
        });
        let who = Identity::of(serde_json::from_value(user).unwrap());
        assert_eq!(who.service_account(), Some(("velero", "agent")));
        assert_eq!(who.pod_name.as_deref(), Some("agent-1"));
        assert_eq!(who.pod_uid.as_deref(), Some("p"));
        assert_eq!(who.node_name, None);
    }

    #[test]
    fn a_subresource_is_asked_for_as_one() {
        let right = Right {
            verb: "create".to_owned(),
            resource: "pods/exec".to_owned(),
            ..Right::default()
        };
        let asked = question(&Identity::default(), &right)
            .resource_attributes
            .unwrap();
        assert_eq!(asked.resource.as_deref(), Some("pods"));
        assert_eq!(asked.subresource.as_deref(), Some("exec"));
        assert_eq!(asked.namespace, None);
    }
}
