//! What is asked: the server of the tests, or a real one.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, Pod},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{NamespaceResourceScope, Status},
};
use orlop_tests::kube_api::{KubeApi, KubeUser, Options};
use serde_json::{Value, json};

/// Runs checks against both servers: each name is an `async fn(Cluster)`.
macro_rules! on_each_server {
    ($($check:ident),* $(,)?) => {
        mod here {
            $(#[tokio::test]
            async fn $check() {
                super::$check(crate::cluster::Cluster::here().await).await;
            })*
        }
        mod real {
            $(#[tokio::test]
            async fn $check() {
                crate::cluster::on_real(super::$check).await;
            })*
        }
    };
}

/// A server with a namespace for one test.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// The server of the tests ends with the last who knows it.
    server: Option<Arc<KubeApi>>,
}

/// A client that uses a kubeconfig, and tries nothing again.
pub(crate) async fn client(kubeconfig: &str) -> Client {
    let config = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(config, &options).await;
    let mut config = config.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// A server that knows an administrator, and a client of his.
pub(crate) async fn started(options: Options) -> (KubeApi, Client) {
    let api = KubeApi::start(options);
    let admin = KubeUser::new("admin").in_group("system:masters");
    api.add_token("admin", admin, &[]);
    let client = client(&api.kubeconfig(Some("admin"))).await;
    (api, client)
}

/// Runs a check on the real server, if there is one, and removes the namespace.
pub(crate) async fn on_real<F: Future<Output = ()> + Send + 'static>(
    check: impl FnOnce(Cluster) -> F,
) {
    let Ok(path) = std::env::var("ORLOP_TEST_KUBECONFIG") else {
        println!("skipped: ORLOP_TEST_KUBECONFIG names no cluster");
        return;
    };
    let client = client(&std::fs::read_to_string(path).unwrap()).await;
    let cluster = Cluster::new(client).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let name = cluster.namespace.clone();
    let done = tokio::spawn(check(cluster)).await;
    namespaces
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    done.unwrap();
}

impl Cluster {
    /// The server of the tests, which ends with the test.
    pub(crate) async fn here() -> Self {
        let options = Options {
            authentication: true,
            ..Options::default()
        };
        let (api, client) = started(options).await;
        let mut cluster = Self::new(client).await;
        cluster.server = Some(Arc::new(api));
        cluster
    }

    async fn new(client: Client) -> Self {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace: Namespace = from(json!({"metadata": {"generateName": "orlop-tests-"}}));
        let made = create(&namespaces, &namespace).await.unwrap();
        let namespace = made.name_any();
        Self {
            client,
            namespace,
            server: None,
        }
    }

    /// Objects of a kind in the test's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn config_map(&self, name: &str, labels: Value) -> ConfigMap {
        let map = from(json!({
            "metadata": {"name": name, "labels": labels}, "data": {"a": "1", "b": "2"},
        }));
        create(&self.api::<ConfigMap>(), &map).await.unwrap()
    }

    /// A pod that no node runs.
    pub(crate) async fn pod(&self, name: &str) -> Pod {
        create(&self.api::<Pod>(), &pod(name)).await.unwrap()
    }

    /// Defines a kind `Task` with this schema of its spec, and waits until it is served.
    pub(crate) async fn define(&self, spec: Value, subresources: Value) -> Kind {
        let group = format!("{}.orlop.io", self.namespace);
        let name = format!("tasks.{group}");
        let definition: CustomResourceDefinition = from(json!({
            "metadata": {"name": name},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": "tasks", "kind": "Task", "shortNames": ["tk"]},
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "subresources": subresources,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": spec,
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }}},
                }],
            },
        }));
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        create(&definitions, &definition).await.unwrap();
        let resource = ApiResource {
            group: group.clone(),
            version: "v1".to_owned(),
            api_version: format!("{group}/v1"),
            kind: "Task".to_owned(),
            plural: "tasks".to_owned(),
        };
        let api = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let mut left = 100;
        while api.list(&ListParams::default()).await.is_err() {
            left -= 1;
            assert!(left > 0, "{name} is not served");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Kind {
            api,
            definitions,
            definition: name,
            resource,
        }
    }
}

/// A kind of the test's own.
pub(crate) struct Kind {
    pub(crate) api: Api<DynamicObject>,
    pub(crate) definitions: Api<CustomResourceDefinition>,
    pub(crate) definition: String,
    pub(crate) resource: ApiResource,
}

impl Kind {
    pub(crate) fn task(&self, name: &str, rest: Value) -> DynamicObject {
        DynamicObject::new(name, &self.resource).data(rest)
    }

    pub(crate) async fn create(&self, name: &str, rest: Value) -> Result<DynamicObject, Status> {
        let made = create(&self.api, &self.task(name, rest)).await;
        made.map_err(refusal)
    }

    /// Definitions belong to no namespace, so each test removes its own.
    pub(crate) async fn remove(self) {
        let options = DeleteParams::default();
        self.definitions
            .delete(&self.definition, &options)
            .await
            .unwrap();
    }
}

/// Creates an object as most tests do.
pub(crate) async fn create<K>(api: &Api<K>, object: &K) -> kube::Result<K>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.create(&PostParams::default(), object).await
}

/// A typed object from JSON.
pub(crate) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn pod(name: &str) -> Pod {
    from(json!({
        "metadata": {"name": name},
        "spec": {
            "containers": [
                {"name": "main", "image": "registry.invalid/main", "env": [{"name": "A", "value": "1"}]},
            ],
            "nodeSelector": {"orlop.io/nowhere": "true"},
        },
    }))
}

/// What the server said when it refused.
pub(crate) fn refusal(error: kube::Error) -> Status {
    match error {
        kube::Error::Api(status) => *status,
        other => panic!("no refusal but {other:?}"),
    }
}

/// The same of a result.
pub(crate) fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> Status {
    refusal(result.unwrap_err())
}
