//! Who is who, and who may do what.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenReview},
    authorization::v1::SubjectAccessReview,
    core::v1::{ConfigMap, Pod, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use orlop_tests::kube_api::{AUDIENCE, KubeApi, KubeUser, Options};
use serde_json::{Value, json};

use crate::cluster::{Cluster, client, create, from, refused, started};

on_each_server!(
    a_token_of_a_service_account_says_whose_it_is,
    an_unknown_token_is_nobodys,
    roles_give_access,
);

async fn account(cluster: &Cluster, name: &str) -> ServiceAccount {
    let account = from(json!({"metadata": {"name": name}}));
    let api = cluster.api::<ServiceAccount>();
    create(&api, &account).await.unwrap()
}

async fn token(cluster: &Cluster, account: &str, spec: Value) -> String {
    let request: TokenRequest = from(json!({"metadata": {}, "spec": spec}));
    let api = cluster.api::<ServiceAccount>();
    let params = PostParams::default();
    let made = api.create_token_request(account, &params, &request).await;
    made.unwrap().status.unwrap().token
}

async fn review(client: &kube::Client, token: &str, audiences: &[&str]) -> Value {
    let review: TokenReview = from(json!({"spec": {"token": token, "audiences": audiences}}));
    let api: Api<TokenReview> = Api::all(client.clone());
    let answer = create(&api, &review).await.unwrap();
    json!(answer.status.unwrap())
}

async fn a_token_of_a_service_account_says_whose_it_is(cluster: Cluster) {
    let account = account(&cluster, "agent").await;
    let pod = {
        let mut pod = crate::cluster::pod("a");
        pod.spec.as_mut().unwrap().service_account_name = Some("agent".to_owned());
        let api = cluster.api::<Pod>();
        create(&api, &pod).await.unwrap()
    };
    let spec = json!({"audiences": ["orlop"], "boundObjectRef": {
        "apiVersion": "v1", "kind": "Pod", "name": "a", "uid": pod.uid(),
    }});
    let token = token(&cluster, "agent", spec).await;
    let status = review(&cluster.client, &token, &["orlop", "other"]).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!(["orlop"]));
    let user = &status["user"];
    let name = format!("system:serviceaccount:{}:agent", cluster.namespace);
    assert_eq!(
        (&user["username"], &user["uid"]),
        (&json!(name), &json!(account.uid()))
    );
    let extra = &user["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["a"]));
    assert_eq!(
        extra["authentication.kubernetes.io/pod-uid"],
        json!([pod.uid()])
    );
    let groups = user["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("system:serviceaccounts")));
    let elsewhere = review(&cluster.client, &token, &[]).await;
    assert_ne!(elsewhere["authenticated"], true);
    let api = cluster.api::<Pod>();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    // A real server remembers for some seconds what it has found.
    for _ in 0..300 {
        let status = review(&cluster.client, &token, &["orlop"]).await;
        if status["authenticated"] != true {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the token outlives its pod");
}

async fn an_unknown_token_is_nobodys(cluster: Cluster) {
    let status = review(&cluster.client, "nobody's", &[]).await;
    assert_ne!(status["authenticated"], true);
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("invalid bearer token"), "{error}");
}

async fn may(cluster: &Cluster, verb: &str, resource: &str) -> bool {
    let user = format!("system:serviceaccount:{}:agent", cluster.namespace);
    let review: SubjectAccessReview = from(json!({"spec": {
        "user": user,
        "resourceAttributes": {
            "namespace": cluster.namespace, "verb": verb, "resource": resource,
        },
    }}));
    let api: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let answer = create(&api, &review).await.unwrap();
    answer.status.unwrap().allowed
}

async fn roles_give_access(cluster: Cluster) {
    account(&cluster, "agent").await;
    let role: Role = from(json!({"metadata": {"name": "agent"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
    ]}));
    let binding: RoleBinding = from(json!({
        "metadata": {"name": "agent"},
        "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": cluster.namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"},
    }));
    create(&cluster.api(), &role).await.unwrap();
    create(&cluster.api(), &binding).await.unwrap();
    for _ in 0..100 {
        if may(&cluster, "list", "configmaps").await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(may(&cluster, "get", "configmaps").await);
    assert!(!may(&cluster, "delete", "configmaps").await);
    assert!(!may(&cluster, "list", "pods").await);
}

/// A server that knows `agent`, and its client with that name.
async fn as_agent() -> (KubeApi, kube::Client) {
    let options = Options {
        authentication: true,
        tls: true,
        ..Options::default()
    };
    let (server, _) = started(options).await;
    server.add_token("secret", KubeUser::service_account("default", "agent"), &[]);
    let client = client(&server.kubeconfig(Some("secret"))).await;
    (server, client)
}

#[tokio::test]
async fn what_is_not_allowed_is_forbidden() {
    let (server, client) = as_agent().await;
    let user = "system:serviceaccount:default:agent";
    server.allow(user, &["list"], &["configmaps"], Some("default"));
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    api.list(&ListParams::default()).await.unwrap();
    let status = refused(api.get("a").await);
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        status.message,
        format!(
            "configmaps \"a\" is forbidden: User \"{user}\" cannot get resource \"configmaps\" in API \
             group \"\" in the namespace \"default\""
        )
    );
    let everywhere: Api<ConfigMap> = Api::all(client);
    let status = refused(everywhere.list(&ListParams::default()).await);
    let end = "cannot list resource \"configmaps\" in API group \"\" at the cluster scope";
    assert!(status.message.ends_with(end), "{}", status.message);
    assert_eq!(server.take_requests().last().unwrap().user, user);
}

#[tokio::test]
async fn a_token_that_is_not_for_the_server_does_not_open_it() {
    let (server, _) = as_agent().await;
    let agent = KubeUser::service_account("default", "agent");
    server.add_token("orlop's", agent.clone(), &["orlop"]);
    server.add_token("both's", agent, &["orlop", AUDIENCE]);
    server.allow("system:serviceaccounts", &["*"], &["*"], None);
    let code = async |token: Option<&str>| {
        let client = client(&server.kubeconfig(token)).await;
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let answer = api.list(&ListParams::default()).await;
        answer.map_or_else(|error| crate::cluster::refusal(error).code, |_| 200)
    };
    assert_eq!(code(None).await, 401);
    assert_eq!(code(Some("orlop's")).await, 401);
    assert_eq!(code(Some("both's")).await, 200);
    server.revoke_token("both's");
    assert_eq!(code(Some("both's")).await, 401);
}
