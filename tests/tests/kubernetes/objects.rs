//! Single objects and lists.

use k8s_openapi::api::core::v1::ConfigMap;
use orlop_kubernetes::{
    client::{ClientError, Connection, Objects},
    velero::Backup,
};
use orlop_tests::kube_api::{KubeFault, KubeUser, Options};
use serde_json::json;

use crate::cluster::{config_map, put_definitions, started};

fn maps(connection: &Connection) -> Objects<ConfigMap> {
    Objects::of(connection, Some("default"))
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1", "b": "2"}}))
        .unwrap()
}

#[tokio::test]
async fn an_object_is_made_read_changed_and_removed() {
    let (_server, connection) = started();
    let maps = maps(&connection);
    assert_eq!(maps.get("m").await.unwrap(), None);
    let made = maps.create(&map("m")).await.unwrap();
    let error = maps.create(&map("m")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::AlreadyExists { .. }),
        "{error:?}"
    );
    let patch = json!({"data": {"a": null, "c": "3"}});
    let changed = maps.merge_patch("m", &patch).await.unwrap();
    let data = changed.data.unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["b", "c"]);
    let old = json!({"metadata": {"resourceVersion": made.metadata.resource_version}});
    let error = maps.merge_patch("m", &old).await.unwrap_err();
    assert!(matches!(error, ClientError::Conflict { .. }), "{error:?}");
    let error = maps.merge_patch("none", &patch).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    assert!(!maps.delete("m", Some("another-uid")).await.unwrap());
    assert!(
        maps.delete("m", made.metadata.uid.as_deref())
            .await
            .unwrap()
    );
    assert!(!maps.delete("m", None).await.unwrap());
}

#[tokio::test]
async fn a_list_has_all_pages_and_only_what_the_selector_means() {
    let (server, connection) = started();
    for number in 0..1100 {
        let labels = json!({"even": (number % 2 == 0).to_string()});
        server.put(config_map("default", &format!("m-{number:04}"), &labels));
    }
    server.put(config_map("velero", "other", &json!({})));
    assert_eq!(maps(&connection).list("").await.unwrap().len(), 1100);
    assert_eq!(
        maps(&connection).list("even=true").await.unwrap().len(),
        550
    );
    let all = Objects::<ConfigMap>::of(&connection, None);
    assert_eq!(all.list("").await.unwrap().len(), 1101);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_breaks_no_list() {
    let (server, connection) = started();
    put_definitions(&server);
    for (name, ttl) in [("good", "720h"), ("bad", "a while")] {
        server.put(json!({
            "apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": {"namespace": "velero", "name": name}, "spec": {"ttl": ttl},
        }));
    }
    let backups = Objects::<Backup>::of(&connection, Some("velero"));
    let listing = backups.list_all("").await.unwrap();
    assert_eq!(listing.objects.len(), 1);
    assert_eq!(listing.unreadable.len(), 1);
    assert_eq!(listing.unreadable[0].name, "bad");
    let error = backups.get("bad").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_busy_server_is_asked_again_but_a_lost_answer_is_told() {
    let (server, connection) = started();
    let maps = maps(&connection);
    let posts = |request: &orlop_tests::kube_api::KubeRequest| request.method == "POST";
    server.faults().next(2, posts, KubeFault::Answer(503));
    maps.create(&map("m")).await.unwrap();
    server.take_requests();
    server.faults().next(1, posts, KubeFault::DropAfter);
    let error = maps.create(&map("n")).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(server.take_requests().len(), 1);
    assert!(maps.get("n").await.unwrap().is_some());
}

#[tokio::test]
async fn who_may_not_is_told_what_is_missing() {
    let server = orlop_tests::kube_api::KubeApi::start(Options {
        authentication: true,
        ..Options::default()
    });
    server.add_token("t", KubeUser::service_account("velero", "orlop"), &[]);
    let connection = Connection::to_url(&server.url(), Some("t")).unwrap();
    let error = maps(&connection).list("").await.unwrap_err();
    assert!(matches!(error, ClientError::Forbidden { .. }), "{error:?}");
    assert!(error.to_string().contains("configmaps"), "{error}");
    let unknown = Connection::to_url(&server.url(), Some("x")).unwrap();
    let error = maps(&unknown).list("").await.unwrap_err();
    assert!(
        matches!(error, ClientError::Unauthorized { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_kubeconfig_leads_to_a_server_over_tls() {
    let server = orlop_tests::kube_api::KubeApi::start(Options {
        tls: true,
        ..Options::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, server.kubeconfig(None)).unwrap();
    let connection = Connection::from_kubeconfig(Some(&path), None)
        .await
        .unwrap();
    assert_eq!(connection.namespace(), "default");
    let version = orlop_kubernetes::cluster_info::server_version(&connection)
        .await
        .unwrap();
    assert_eq!((version.major, version.minor), (1, 33));
    let error = Connection::from_kubeconfig(Some(&path), Some("no such context"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Configuration { .. }),
        "{error:?}"
    );
}
