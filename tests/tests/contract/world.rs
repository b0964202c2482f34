//! Where rows are tried: a cluster in memory with the installation in this process, or the one of `KUBECONFIG`.

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use orlop_kubernetes::{
    client::Connection,
    exec::{ExecRequest, run},
    install::{InstallChoices, render},
};
use orlop_tests::{
    kube_api::KubeApi,
    require,
    s3::{self, S3Server},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    client::{CORE, Client, VELERO, phase},
    go,
    holds::{Hold, NodeGates},
    kubelet::Kubelet,
};

/// A volume that is small; like all a multiple of the number of its files.
pub(crate) const SMALL: usize = 24 * 5_000;
/// One that takes a while.
pub(crate) const LARGE: usize = 24 * (4 << 20);

/// A command for hooks that waits until [`Application::let_go`].
pub(crate) const HELD: &str = "touch /tmp/held; until test -e /tmp/let-go; do sleep 1; done";

static NUMBER: AtomicU32 = AtomicU32::new(0);
/// In a real cluster those that replace pods of the installation are alone.
static INSTALLATION: RwLock<()> = RwLock::new(());

/// What is in this process when the cluster is in memory.
pub(crate) struct Memory {
    pub(crate) api: Arc<KubeApi>,
    pub(crate) s3: S3Server,
    gates: Arc<NodeGates>,
    kubelet: JoinHandle<()>,
    stop: CancellationToken,
    dir: TempDir,
}

impl Memory {
    /// Removes the directories of pods that are gone, as the kubelet does.
    pub(crate) fn forget_volumes(&self) {
        let pods = self.api.list("pods", "");
        let is_there = |uid: &str| pods.iter().any(|pod| pod["metadata"]["uid"] == uid);
        for entry in std::fs::read_dir(self.dir.path().join("kubelet/pods")).unwrap() {
            let entry = entry.unwrap();
            if !is_there(entry.file_name().to_str().unwrap()) {
                std::fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }
}

/// A cluster with an installation.
pub(crate) struct World {
    pub(crate) connection: Connection,
    kube: kube::Client,
    memory: Option<Memory>,
}

/// Who may replace pods of the installation.
pub(crate) enum Turn {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

impl Turn {
    pub(crate) fn take(alone: bool) -> Self {
        if alone {
            Self::Alone {
                _guard: INSTALLATION.write().unwrap_or_else(PoisonError::into_inner),
            }
        } else {
            Self::Shared {
                _guard: INSTALLATION.read().unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The file of keys as KOTS writes it.
pub(crate) fn keys(access: &str, secret: &str) -> String {
    format!("[default]\naws_access_key_id     = {access}\naws_secret_access_key = {secret}\n")
}

/// A name that nothing else has.
pub(crate) fn own(name: &str) -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{:x}-{number}", std::process::id())
}

impl World {
    /// The cluster in memory, ready for backups.
    pub(crate) async fn in_memory() -> Self {
        let dir = orlop_tests::quick_dir();
        let api = Arc::new(KubeApi::new());
        let s3 = S3Server::new();
        for object in render(&InstallChoices::default()).unwrap() {
            api.put(object);
        }
        let connection = Connection::to_url(&api.url(), None).unwrap();
        let gates = Arc::new(NodeGates::default());
        let kubelet = Kubelet::new(&api, dir.path(), &gates);
        let stop = CancellationToken::new();
        let kubelet = tokio::spawn(kubelet.run(stop.clone()));
        let config = kube::Config::new(api.url().parse().unwrap());
        let world = Self {
            connection: connection.with_namespace("velero"),
            kube: kube::Client::try_from(config).unwrap(),
            memory: Some(Memory {
                api,
                s3,
                gates,
                kubelet,
                stop,
                dir,
            }),
        };
        let client = world.client();
        let secret = secret(&keys(s3::ACCESS_KEY, s3::SECRET_KEY));
        client.create(&format!("{CORE}/secrets"), &secret).await;
        let location = go::object(
            "BackupStorageLocation",
            &json!({"name": "default"}),
            &world.location_spec("first"),
        );
        client
            .create(&format!("{VELERO}/backupstoragelocations"), &location)
            .await;
        let path = format!("{VELERO}/backupstoragelocations/default");
        // A repository is made, which takes long where a machine is slow; a look that failed is repeated after a minute.
        for _ in 0..5 {
            let tried = client.phase(&path, &["Available", "Unavailable"]).await;
            if phase(&tried) == "Available" {
                break;
            }
            let last = tried["status"]["lastValidationTime"].clone();
            let is_newer = |one: &Value| one["status"]["lastValidationTime"] != last;
            client.until("is tried again", &path, is_newer).await;
        }
        client.phase(&path, &["Available"]).await;
        world
    }

    /// The cluster that `KUBECONFIG` names; `None` if none is at hand.
    pub(crate) async fn real() -> Option<Self> {
        if !require("cluster") {
            return None;
        }
        let connection = Connection::from_kubeconfig(None, None).await.unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_kubeconfig(&options).await.unwrap();
        Some(Self {
            connection: connection.with_namespace("velero"),
            kube: kube::Client::try_from(config).unwrap(),
            memory: None,
        })
    }

    /// Ends what is in this process.
    pub(crate) async fn end(self) {
        if let Some(memory) = self.memory {
            memory.stop.cancel();
            memory.kubelet.await.unwrap();
        }
    }

    /// A client whose requests are remembered.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.kube.clone())
    }

    /// What only a cluster in memory has; `None` elsewhere, where the row does without.
    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// The location as KOTS writes it for an S3-compatible store.
    pub(crate) fn location_spec(&self, prefix: &str) -> Value {
        let memory = self.memory().expect("the store is ours");
        json!({
            "provider": "aws", "default": true,
            "config": {
                "region": "us-east-1", "s3Url": memory.s3.endpoint(), "s3ForcePathStyle": "true",
            },
            "objectStorage": {"bucket": "bench", "prefix": prefix},
        })
    }

    /// Bytes of a volume that takes a while: where uploads cannot be held, so many that it is not read at once.
    pub(crate) fn large(&self) -> usize {
        match self.memory() {
            Some(_) => LARGE,
            None => 16 * LARGE,
        }
    }

    /// Holds uploads of data: a volume that is [`LARGE`] is read in part then, and no backup ends.
    pub(crate) fn hold_uploads(&self) -> Hold<'_> {
        self.memory()
            .map_or_else(Hold::default, |memory| Hold::uploads(&memory.s3))
    }

    /// Forgets what was uploaded, so that [`Self::hold_downloads`] is of what comes.
    pub(crate) fn forget_uploads(&self) {
        if let Some(memory) = self.memory() {
            memory.s3.take_requests();
        }
    }

    /// Holds downloads of the data of large volumes that were uploaded since [`Self::forget_uploads`], pack by pack.
    pub(crate) fn hold_downloads(&self) -> Hold<'_> {
        self.memory()
            .map_or_else(Hold::default, |memory| Hold::downloads(&memory.s3))
    }

    /// Holds new pods of the installation: those of before end, and no others come.
    pub(crate) fn hold_starts(&self) -> Hold<'_> {
        self.memory()
            .map_or_else(Hold::default, |memory| Hold::starts(&memory.gates))
    }

    /// A new namespace with a pod `db-0` of the application `slug`, running, whose volume `data` has so many bytes.
    /// `annotations` are those of the pod.
    pub(crate) async fn application(
        &self,
        slug: &str,
        bytes: usize,
        annotations: &Value,
    ) -> Application<'_> {
        let client = self.client();
        let namespace = own(slug);
        client
            .create(
                "/api/v1/namespaces",
                &json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": namespace}}),
            )
            .await;
        let application = Application {
            world: self,
            namespace,
            slug: slug.to_owned(),
        };
        application.pod("db-0", bytes, annotations).await;
        application
    }
}

/// The Secret of keys as KOTS writes it.
pub(crate) fn secret(keys: &str) -> Value {
    json!({
        "kind": "Secret", "apiVersion": "v1",
        "metadata": {"name": "cloud-credentials", "namespace": "velero", "creationTimestamp": null},
        "data": {"cloud": go::bytes(keys)},
    })
}

/// An application in a namespace of its own.
pub(crate) struct Application<'a> {
    world: &'a World,
    pub(crate) namespace: String,
    pub(crate) slug: String,
}

impl Application<'_> {
    /// The path of a pod.
    pub(crate) fn path(&self, pod: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{pod}", self.namespace)
    }

    /// Runs a pod with the emptyDir `data`.
    pub(crate) async fn pod(&self, name: &str, bytes: usize, annotations: &Value) {
        let labels = json!({"kots.io/app-slug": self.slug, "app": name});
        self.labelled_pod(name, bytes, annotations, &labels).await;
    }

    /// The same, with these labels.
    pub(crate) async fn labelled_pod(
        &self,
        name: &str,
        bytes: usize,
        annotations: &Value,
        labels: &Value,
    ) {
        let client = self.world.client();
        let command = "test -s /data/random.0 || for i in $(seq 0 23); do head -c $((SIZE / 24)) /dev/urandom > /data/random.$i; done; exec sleep 100000";
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": name, "namespace": self.namespace, "annotations": annotations, "labels": labels,
            },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "Never",
                    "command": ["sh", "-c", command],
                    "env": [{"name": "SIZE", "value": bytes.to_string()}],
                    "readinessProbe": {"exec": {"command": ["test", "-s", "/data/random.23"]}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        });
        let pods = format!("/api/v1/namespaces/{}/pods", self.namespace);
        client.create(&pods, &pod).await;
        self.ready(name).await;
    }

    /// Waits until a pod is ready.
    pub(crate) async fn ready(&self, name: &str) -> Value {
        let is_ready = |pod: &Value| {
            pod["status"]["phase"] == "Running"
                && pod["status"]["containerStatuses"][0]["ready"] == true
        };
        self.world
            .client()
            .until("is ready", &self.path(name), is_ready)
            .await
    }

    /// Takes everything away that has the application's label, as KOTS does before a restore.
    pub(crate) async fn undeploy(&self) {
        let client = self.world.client();
        let pods = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let label = format!("kots.io/app-slug={}", self.slug);
        for pod in client.list(&pods, &label).await {
            let path = format!("{pods}/{}", super::client::name(&pod));
            client.delete(&path).await;
            client.gone(&path).await;
        }
    }

    /// Waits until a hook of `db-0` waits in [`HELD`].
    pub(crate) async fn held(&self) {
        match self.world.memory() {
            Some(memory) => memory.gates.hook(&self.namespace, "db-0").met().await,
            None => drop(self.exec("until test -e /tmp/held; do sleep 1; done").await),
        }
    }

    /// Lets hooks of `db-0` go that are [`HELD`], this one and those to come.
    pub(crate) async fn let_go(&self) {
        match self.world.memory() {
            Some(memory) => memory.gates.hook(&self.namespace, "db-0").open(),
            None => drop(self.exec("touch /tmp/let-go").await),
        }
    }

    /// What a command in `db-0` prints.
    pub(crate) async fn exec(&self, script: &str) -> String {
        let request = ExecRequest {
            namespace: self.namespace.clone(),
            pod: "db-0".to_owned(),
            container: "main".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(30),
            kill: false,
        };
        let report = run(&self.world.connection, &request).await;
        assert_eq!(report.error(), None, "{script}");
        report.stdout.text()
    }

    /// A fingerprint of what is in the volume.
    pub(crate) async fn fingerprint(&self) -> String {
        self.exec("cat /data/random.* | md5sum").await
    }

    /// Removes the namespace, whose end is not waited for.
    pub(crate) async fn remove(self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.world.client().delete(&path).await;
    }
}
