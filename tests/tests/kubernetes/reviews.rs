//! Who somebody is and what they may do.

use orlop_kubernetes::{
    access::{Reviewer, Right},
    client::Connection,
};
use orlop_tests::kube_api::{KubeApi, KubeUser, Options};
use serde_json::json;

/// A server that knows us, and us.
fn started() -> (KubeApi, Reviewer) {
    let server = KubeApi::start(Options {
        authentication: true,
        ..Options::default()
    });
    server.add_token(
        "admin",
        KubeUser::new("admin").in_group("system:masters"),
        &[],
    );
    let connection = Connection::to_url(&server.url(), Some("admin")).unwrap();
    (server, Reviewer::new(&connection))
}

#[tokio::test]
async fn a_token_tells_the_pod_and_the_node_and_only_to_its_audience() {
    let (server, reviewer) = started();
    let user = KubeUser::service_account("velero", "agent").in_pod("agent-1", "uid-1", "node-1");
    server.add_token("t", user, &["orlop"]);
    let who = reviewer.identity("t", "orlop").await.unwrap().unwrap();
    assert_eq!(who.service_account(), Some(("velero", "agent")));
    assert_eq!(who.pod_name.as_deref(), Some("agent-1"));
    assert_eq!(who.pod_uid.as_deref(), Some("uid-1"));
    assert_eq!(
        reviewer.node_of(&who).await.unwrap().as_deref(),
        Some("node-1")
    );
    assert!(
        who.groups
            .contains(&"system:serviceaccounts:velero".to_owned())
    );
    assert_eq!(reviewer.identity("t", "another").await.unwrap(), None);
    assert_eq!(reviewer.identity("unknown", "orlop").await.unwrap(), None);
}

#[tokio::test]
async fn an_older_servers_token_tells_the_node_through_its_pod() {
    let (server, reviewer) = started();
    server.namespace("velero");
    let pod = server.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "velero", "name": "agent-1"},
        "spec": {"containers": [{"name": "agent"}]},
    }));
    server.run_pod("velero", "agent-1", "node-7");
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let account = || KubeUser::service_account("velero", "agent");
    server.add_token("now", account().in_pod("agent-1", uid, ""), &["orlop"]);
    server.add_token("old", account().in_pod("agent-1", "gone", ""), &["orlop"]);
    let who = reviewer.identity("now", "orlop").await.unwrap().unwrap();
    assert_eq!(
        reviewer.node_of(&who).await.unwrap().as_deref(),
        Some("node-7")
    );
    let who = reviewer.identity("old", "orlop").await.unwrap().unwrap();
    assert_eq!(reviewer.node_of(&who).await.unwrap(), None);
}

#[tokio::test]
async fn rights_are_those_of_the_servers_rules_and_are_asked_for_once() {
    let (server, reviewer) = started();
    server.add_token("t", KubeUser::new("eve"), &["orlop"]);
    server.allow(
        "eve",
        &["create"],
        &["backups.velero.io", "pods/exec"],
        Some("velero"),
    );
    let who = reviewer.identity("t", "orlop").await.unwrap().unwrap();
    let right = |verb: &str, resource: &str, group: &str, namespace: &str| Right {
        verb: verb.to_owned(),
        resource: resource.to_owned(),
        group: group.to_owned(),
        namespace: namespace.to_owned(),
        name: String::new(),
    };
    let create = right("create", "backups", "velero.io", "velero");
    assert!(reviewer.allows(&who, &create).await.unwrap());
    assert!(
        reviewer
            .allows(&who, &right("create", "pods/exec", "", "velero"))
            .await
            .unwrap()
    );
    for no in [
        right("delete", "backups", "velero.io", "velero"),
        right("create", "backups", "velero.io", "other"),
        right("create", "pods", "", "velero"),
    ] {
        assert!(!reviewer.allows(&who, &no).await.unwrap(), "{no:?}");
    }
    server.take_requests();
    assert!(reviewer.clone().allows(&who, &create).await.unwrap());
    assert!(reviewer.identity("t", "orlop").await.unwrap().is_some());
    assert!(server.take_requests().is_empty());
}
