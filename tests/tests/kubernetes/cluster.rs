//! The server that is asked, and what is in it.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _};
use orlop_kubernetes::{
    client::{Change, Connection},
    crds,
};
use orlop_tests::kube_api::KubeApi;
use serde_json::{Value, json};

/// How long a test waits for what is to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, and a connection to it that is at home in the namespace `velero`.
pub(crate) fn started() -> (KubeApi, Connection) {
    let server = KubeApi::new();
    server.namespace("velero");
    let connection = Connection::to_url(&server.url(), None).unwrap();
    (server, connection.with_namespace("velero"))
}

/// Makes the server know Velero's kinds.
pub(crate) fn put_definitions(server: &KubeApi) {
    for definition in crds::all() {
        server.put(serde_json::to_value(definition).unwrap());
    }
}

pub(crate) fn config_map(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
    })
}

/// Waits for something, but not for ever.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.expect("it should have happened by now")
}

/// Waits until something is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A watch's next change.
pub(crate) async fn next<K>(
    watch: &mut Pin<Box<dyn Stream<Item = Change<K>> + Send>>,
) -> Change<K> {
    soon(watch.next()).await.expect("a watch never ends")
}
