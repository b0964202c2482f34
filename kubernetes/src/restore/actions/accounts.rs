//! Service accounts, their tokens, and bindings of roles to them.

use serde_json::Value;

use super::super::{
    items::Items,
    json::{annotation, items_mut, map_mut, text},
    scope::Scope,
};
use crate::files::tarball::ItemPath;

const TOKEN: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Takes away the account's own token, which the cluster makes anew.
pub(super) fn forget_token(name: &str, account: &mut Value) {
    let prefix = format!("{name}-token-");
    let Some(secrets) = account.get_mut("secrets").and_then(Value::as_array_mut) else {
        return;
    };
    let is_token = |one: &Value| text(one, "/name").is_some_and(|name| name.starts_with(&prefix));
    if let Some(place) = secrets.iter().position(is_token) {
        secrets.remove(place);
    }
}

/// Whether a secret is the token of an account that the cluster makes.
pub(super) fn is_made_anew(path: &ItemPath, secret: &Value, backup: &Items) -> bool {
    if text(secret, "/type") != Some(TOKEN) {
        return false;
    }
    let is_token_of = |account: &str| path.name.starts_with(&format!("{account}-token-"));
    let mut accounts = backup.of("serviceaccounts");
    annotation(secret, ACCOUNT).is_some_and(is_token_of)
        || accounts.any(|(one, _)| one.namespace == path.namespace && is_token_of(&one.name))
}

/// Takes away what a token holds, which the cluster fills in. Other secrets stay as they are.
pub(super) fn empty_token(secret: &mut Value) {
    if text(secret, "/type") != Some(TOKEN) {
        return;
    }
    if let Some(annotations) = map_mut(secret, "/metadata/annotations") {
        annotations.remove(ACCOUNT_UID);
    }
    if let Some(data) = map_mut(secret, "/data") {
        data.remove("token");
        data.remove("ca.crt");
    }
}

/// Binds the accounts of the namespaces of this cluster.
pub(super) fn map_subjects(binding: &mut Value, scope: &Scope) {
    for subject in items_mut(binding, "/subjects") {
        if let Some(namespace) = text(subject, "/namespace") {
            let mapped = scope.mapped(namespace).to_owned();
            subject["namespace"] = mapped.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::super::items::tests::items, *};
    use crate::{selection::Filters, velero::RestoreSpec};

    #[test]
    fn an_account_forgets_its_own_token_alone() {
        let mut account =
            json!({"secrets": [{"name": "pull"}, {"name": "db-token-a"}, {"name": "db-token-b"}]});
        forget_token("db", &mut account);
        assert_eq!(
            account["secrets"],
            json!([{"name": "pull"}, {"name": "db-token-b"}])
        );
        forget_token("db", &mut json!({}));
    }

    #[test]
    fn tokens_that_the_cluster_makes_are_not_restored_and_others_come_empty() {
        let account = json!({"metadata": {"namespace": "shop", "name": "db"}});
        let backup = items(&[("serviceaccounts", account)]);
        let token = |name: &str| {
            json!({
                "type": TOKEN, "data": {"token": "x", "ca.crt": "y", "namespace": "z"},
                "metadata": {"annotations": {ACCOUNT: name, ACCOUNT_UID: "u"}},
            })
        };
        let made = |namespace: &str, name: &str, secret: &Value| {
            is_made_anew(
                &ItemPath::namespaced("secrets", namespace, name),
                secret,
                &backup,
            )
        };
        assert!(made("shop", "db-token-x", &token("other")));
        assert!(made("mail", "in-token-x", &token("in")));
        let mut own = token("db");
        assert!(!made("shop", "by-hand", &own));
        empty_token(&mut own);
        assert_eq!(own["data"], json!({"namespace": "z"}));
        assert_eq!(own["metadata"]["annotations"], json!({ACCOUNT: "db"}));
        let mut plain = json!({"type": "Opaque", "data": {"token": "x"}});
        assert!(!made("shop", "db-token-x", &plain));
        empty_token(&mut plain);
        assert_eq!(plain["data"], json!({"token": "x"}));
    }

    #[test]
    fn roles_are_bound_to_the_accounts_of_mapped_namespaces() {
        let scope = Scope {
            filters: Filters::of_restore(&RestoreSpec::default()).unwrap(),
            mapping: [("shop".to_owned(), "shop-2".to_owned())].into(),
        };
        let mut binding = json!({"subjects": [
            {"kind": "ServiceAccount", "namespace": "shop", "name": "db"},
            {"kind": "ServiceAccount", "namespace": "mail", "name": "in"},
            {"kind": "User", "name": "shop"},
        ]});
        map_subjects(&mut binding, &scope);
        let namespaces: Vec<&Value> = binding["subjects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["namespace"])
            .collect();
        assert_eq!(namespaces, [&json!("shop-2"), &json!("mail"), &Value::Null]);
    }
}
