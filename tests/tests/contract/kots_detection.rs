//! How KOTS finds the installation: the settings page, and the right to look there.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    client::{APPS, CORE, Client, VELERO, name},
    rows::{Place, Row, Who},
    world::own,
};

/// KOTS gives the installation so long to say its version.
const VERSION_BUDGET: Duration = Duration::from_secs(30);

pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "2.12.1 namespace",
        who: Who::Kots,
        requests: &[
            "GET /api/v1/namespaces/default/configmaps/kotsadm-velero-namespace",
            "GET /apis/apps/v1/deployments",
        ],
        change: "the first Deployment called velero, of any namespace, is ours",
        source: "pkg/snapshot/velero.go",
        place: Place::Anywhere,
        run: |_, client| Box::pin(namespace(client)),
    },
    Row {
        id: "2.12.1 workloads",
        who: Who::Kots,
        requests: &[
            "GET /apis/apps/v1/namespaces/velero/deployments?labelSelector=component%3Dvelero",
            "GET /apis/apps/v1/namespaces/velero/deployments?labelSelector=app.kubernetes.io%2Fname%3Dvelero",
            "GET /apis/apps/v1/namespaces/velero/daemonsets?labelSelector=component%3Dvelero",
            "GET /apis/apps/v1/namespaces/velero/daemonsets?labelSelector=app.kubernetes.io%2Fname%3Dvelero",
        ],
        change: "Deployment and DaemonSet are ready, the image has a tag, and the plugins of all storages are there",
        source: "pkg/snapshot/velero.go, pkg/handlers/snapshots.go",
        place: Place::Anywhere,
        run: |_, client| Box::pin(workloads(client)),
    },
    Row {
        id: "2.12.1 pods",
        who: Who::Kots,
        requests: &[
            "GET /api/v1/namespaces/velero/pods?labelSelector=component%3Dvelero%2Cdeploy%3Dvelero",
            "GET /api/v1/namespaces/velero/pods?labelSelector=component%3Dvelero%2Cname%20in%20%28node-agent%2Crestic%29",
        ],
        change: "there is a running pod of each whose first container is ready",
        source: "pkg/snapshot/velero.go",
        place: Place::Anywhere,
        run: |_, client| {
            Box::pin(async {
                assert!(!coordinator_pod(client).await.is_empty());
                assert!(!agent_pods(client).await.is_empty());
            })
        },
    },
    Row {
        id: "2.12.1 version",
        who: Who::Kots,
        requests: &[
            "POST /apis/velero.io/v1/namespaces/velero/serverstatusrequests application/json",
            "GET /apis/velero.io/v1/namespaces/velero/serverstatusrequests/velero-cli-*",
        ],
        change: "the request is Processed within 30 seconds",
        source: "pkg/snapshot/velero.go, velero: pkg/cmd/cli/serverstatus/server_status.go",
        place: Place::Anywhere,
        run: |_, client| {
            Box::pin(async {
                let status = server_status(client, VERSION_BUDGET).await;
                assert!(status["processedTimestamp"].is_string(), "{status}");
            })
        },
    },
    Row {
        id: "2.12.1 minimal RBAC",
        who: Who::Kots,
        requests: &[
            "GET /apis/velero.io/v1/namespaces/velero/backupstoragelocations",
            "POST /apis/rbac.authorization.k8s.io/v1/namespaces/velero/roles application/json",
            "POST /apis/rbac.authorization.k8s.io/v1/namespaces/velero/rolebindings application/json",
            "POST /api/v1/namespaces/*/configmaps application/json",
            "GET /api/v1/namespaces/*/configmaps/kotsadm-velero-namespace",
            "GET /apis/velero.io/v1/namespaces/velero/backupstoragelocations",
        ],
        change: "the location default proves the namespace, in which Role and RoleBinding stay",
        source: "pkg/snapshot/velero.go, pkg/kotsadm/resources/rbac.go",
        place: Place::Anywhere,
        run: |_, client| Box::pin(minimal_rbac(client)),
    },
    Row {
        id: "2.12.2",
        who: Who::Kots,
        requests: &[
            "POST /apis/velero.io/v1/namespaces/velero/serverstatusrequests application/json",
            "GET /apis/velero.io/v1/namespaces/velero/serverstatusrequests/velero-cli-*",
        ],
        change: "the version is one for which NFS and host paths stay on",
        source: "pkg/snapshot/types/velero_flags.go",
        place: Place::Anywhere,
        run: |_, client| Box::pin(version_keeps_directories(client)),
    },
];

/// Asks which version runs, as KOTS and the CLI do: a look at once and every 250 ms.
pub(crate) async fn server_status(client: &Client, budget: Duration) -> Value {
    let request = json!({
        "kind": "ServerStatusRequest", "apiVersion": "velero.io/v1", "spec": {}, "status": {},
        "metadata": {
            "generateName": "velero-cli-", "namespace": "velero", "resourceVersion": "0", "creationTimestamp": null,
        },
    });
    let path = format!("{VELERO}/serverstatusrequests");
    let made = client.create(&path, &request).await;
    let path = format!("{path}/{}", name(&made));
    let poll = Duration::from_millis(250);
    let is_it = |object: &Value| object["status"]["phase"] == "Processed";
    let answered = client.until_every(poll, "is Processed", &path, is_it);
    let answered = tokio::time::timeout(budget, answered).await;
    answered.expect("an answer within the budget")["status"].clone()
}

/// The name of the coordinator's pod that is ready; empty without.
pub(crate) async fn coordinator_pod(client: &Client) -> String {
    let mut pods = ready_pods(client, "component=velero,deploy=velero").await;
    pods.pop().unwrap_or_default()
}

/// The names of the agents' pods that are ready.
pub(crate) async fn agent_pods(client: &Client) -> Vec<String> {
    ready_pods(client, "component=velero,name in (node-agent,restic)").await
}

async fn ready_pods(client: &Client, labels: &str) -> Vec<String> {
    let mut pods = client.list(&format!("{CORE}/pods"), labels).await;
    pods.retain(|pod| {
        pod["status"]["phase"] == "Running"
            && pod["status"]["containerStatuses"][0]["ready"] == true
    });
    pods.iter().map(|pod| name(pod).to_owned()).collect()
}

async fn namespace(client: &Client) {
    let path = "/api/v1/namespaces/default/configmaps/kotsadm-velero-namespace";
    assert_eq!(client.find(path).await, None);
    let all = client.list("/apis/apps/v1/deployments", "").await;
    let found = all.iter().find(|one| name(one) == "velero").unwrap();
    assert_eq!(found["metadata"]["namespace"], "velero");
}

/// The two lists in which KOTS looks for a workload.
async fn candidates(client: &Client, kind: &str) -> Vec<Value> {
    let path = format!("{APPS}/{kind}");
    let mut found = client.list(&path, "component=velero").await;
    found.extend(client.list(&path, "app.kubernetes.io/name=velero").await);
    found
}

/// The tag of an image, as the expression of KOTS finds it: what follows `:` or `@` after the last `/`.
fn tag(workload: &Value) -> String {
    let image = workload["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap();
    let last = image.rsplit('/').next().unwrap();
    last.split_once(['@', ':']).expect("a tag").1.to_owned()
}

async fn workloads(client: &Client) {
    let deployments = candidates(client, "deployments").await;
    let deployment = deployments.first().expect("a Deployment");
    assert!(!tag(deployment).is_empty());
    assert!(
        deployment["status"]["availableReplicas"]
            .as_i64()
            .unwrap_or(0)
            > 0
    );
    let plugins: Vec<&str> = deployment["spec"]["template"]["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    for wanted in [
        "velero-plugin-for-aws",
        "velero-plugin-for-gcp",
        "velero-plugin-for-microsoft-azure",
        "local-volume-provider",
    ] {
        assert!(
            plugins.iter().any(|plugin| plugin.contains(wanted)),
            "{wanted}: {plugins:?}"
        );
    }
    let sets = candidates(client, "daemonsets").await;
    let set = sets.first().expect("a DaemonSet");
    assert!(!tag(set).is_empty());
    let number = |field: &str| set["status"][field].as_i64().unwrap_or(0);
    assert!(number("numberAvailable") > 0 && number("numberUnavailable") == 0);
}

async fn minimal_rbac(client: &Client) {
    let locations = format!("{VELERO}/backupstoragelocations");
    let has_default = async || {
        let found = client.list(&locations, "").await;
        found.iter().any(|one| name(one) == "default")
    };
    assert!(has_default().await);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/velero";
    let space = own("kotsadm");
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": space}});
    client.create("/api/v1/namespaces", &namespace).await;
    let metadata =
        |name: &str| json!({"name": name, "namespace": "velero", "creationTimestamp": null});
    let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let role = json!({
        "kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": metadata("kotsadm-role"), "rules": rules,
    });
    client.create(&format!("{rbac}/roles"), &role).await;
    let binding = json!({
        "kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": metadata("kotsadm-rolebinding"),
        "subjects": [{"kind": "ServiceAccount", "name": "kotsadm", "namespace": space}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kotsadm-role"},
    });
    client
        .create(&format!("{rbac}/rolebindings"), &binding)
        .await;
    let map = json!({
        "kind": "ConfigMap", "apiVersion": "v1", "data": {"veleroNamespace": "velero"},
        "metadata": {
            "name": "kotsadm-velero-namespace", "namespace": space, "creationTimestamp": null,
            "labels": {"kots.io/kotsadm": "true", "kots.io/backup": "velero"},
        },
    });
    let maps = format!("/api/v1/namespaces/{space}/configmaps");
    client.create(&maps, &map).await;
    // What the settings page asks then.
    let map = client
        .get(&format!("{maps}/kotsadm-velero-namespace"))
        .await;
    assert_eq!(map["data"]["veleroNamespace"], "velero");
    assert!(has_default().await);
    for path in ["roles/kotsadm-role", "rolebindings/kotsadm-rolebinding"] {
        let path = format!("{rbac}/{path}");
        client.get(&path).await;
        assert!(client.delete(&path).await);
    }
    client.delete(&format!("/api/v1/namespaces/{space}")).await;
}

/// The numbers of a semantic version; `None` if it is none.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let core = version.split(['-', '+']).next()?;
    let parts: Option<Vec<u64>> = core.split('.').map(|part| part.parse().ok()).collect();
    parts.filter(|parts| parts.len() == 3)
}

async fn version_keeps_directories(client: &Client) {
    let status = server_status(client, VERSION_BUDGET).await;
    let version = status["serverVersion"].as_str().unwrap();
    // One that is no version would keep them too, but the CLI would complain of it.
    let numbers = numbers(version).expect("a semantic version");
    assert!(numbers < vec![1, 17, 0], "{version}");
}
