//! What a cluster does around the API server in memory: it runs the pods of the installation, whose program works in this
//! process, and those of applications, whose volumes are directories.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use orlop_agent::{
    app::{self, AgentConfig, TokenSource},
    marks,
    volumes::DiscoverOptions,
};
use orlop_controller::{Config, Controller};
use orlop_coordinator::{
    ClusterAccess, Coordinator, CoordinatorConfig, DownloadEndpoint, Limits, StoreAccess,
    SystemClock,
};
use orlop_kubernetes::{client::Connection, identity};
use orlop_runtime::identity::Authority;
use orlop_tests::kube_api::{ExecCall, ExecReply, KubeApi};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NODE: &str = "node-1";
const TOKEN: &str = "the-token";
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long a program may take to end.
const GRACE: Duration = Duration::from_mins(1);

/// A program that runs in a pod.
struct Program {
    pod: String,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Program {
    async fn end(self) {
        self.cancel.cancel();
        for task in self.tasks {
            tokio::time::timeout(GRACE, task)
                .await
                .expect("a program ends when it is told so")
                .unwrap();
        }
    }
}

/// The only node.
pub(crate) struct Kubelet {
    api: Arc<KubeApi>,
    dir: PathBuf,
    grpc: SocketAddr,
    downloads: SocketAddr,
    ca_pem: String,
    coordinator: Option<Program>,
    agent: Option<Program>,
    /// Pods that wait for their volumes, by UID: namespace, name, and the end of the wait.
    waiting: BTreeMap<String, (String, String, JoinHandle<marks::Outcome>)>,
    number: u32,
}

/// The directory of an emptyDir.
fn volume_dir(dir: &Path, uid: &str, volume: &str) -> PathBuf {
    dir.join(format!(
        "kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/{volume}"
    ))
}

fn meta<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], orlop_tests::free_port()))
}

/// Runs a command of a hook here, with the pod's directory in the place of `/data`. A `sleep` before it holds up the answer
/// and nothing else.
fn exec(api: &KubeApi, dir: &Path, call: &ExecCall) -> ExecReply {
    let Some(pod) = api.get("pods", &call.namespace, &call.pod) else {
        return ExecReply::error("the pod is gone");
    };
    let data = volume_dir(dir, meta(&pod, "uid"), "data");
    let mut words: Vec<String> = call
        .command
        .iter()
        .map(|word| word.replace("/data", data.to_str().unwrap()))
        .collect();
    let mut delay = Duration::ZERO;
    if let Some(script) = words.last_mut()
        && let Some(rest) = script.strip_prefix("sleep ")
    {
        let (seconds, rest) = rest.split_once("; ").unwrap_or((rest, "true"));
        delay = Duration::from_secs(seconds.parse().unwrap());
        *script = rest.to_owned();
    }
    let reply = match Command::new(&words[0]).args(&words[1..]).output() {
        Ok(output) => ExecReply::exit(output.status.code().unwrap_or(137))
            .stdout(output.stdout)
            .stderr(output.stderr),
        Err(error) => ExecReply::error(&error.to_string()),
    };
    reply.after(delay)
}

impl Kubelet {
    /// Below `dir` are the node's directories.
    pub(crate) fn new(api: &Arc<KubeApi>, dir: &Path) -> Self {
        for name in ["kubelet/pods", "logs", "stores", "disks"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let (hands, place) = (Arc::downgrade(api), dir.to_owned());
        api.on_exec(move |call| match hands.upgrade() {
            Some(api) => exec(&api, &place, call),
            None => ExecReply::cut(),
        });
        Self {
            api: Arc::clone(api),
            dir: dir.to_owned(),
            grpc: local(),
            downloads: local(),
            ca_pem: String::new(),
            coordinator: None,
            agent: None,
            waiting: BTreeMap::new(),
            number: 0,
        }
    }

    /// Works until `stop`, and ends what runs.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.look().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let programs = [self.agent.take(), self.coordinator.take()];
        for program in programs.into_iter().flatten() {
            program.end().await;
        }
        for (_, _, wait) in self.waiting.into_values() {
            wait.abort();
        }
    }

    async fn look(&mut self) {
        self.run_workload("deployments.apps", "velero").await;
        self.run_workload("daemonsets.apps", "node-agent").await;
        self.run_applications();
        self.finish_waits().await;
    }

    /// Keeps one pod of a workload running, made by its present template.
    async fn run_workload(&mut self, kind: &str, name: &str) {
        let Some(workload) = self.api.get(kind, "velero", name) else {
            return;
        };
        let template = &workload["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        let made = template.to_string();
        let ours = |pod: &Value| pod["metadata"]["labels"] == *labels;
        let mut pods = self.api.list("pods", "velero");
        pods.retain(ours);
        let is_present = |pod: &Value| pod["metadata"]["annotations"]["tests/template"] == made;
        for old in pods.iter().filter(|pod| !is_present(pod)) {
            self.api.remove("pods", "velero", meta(old, "name"));
        }
        pods.retain(is_present);
        let is_coordinator = name == "velero";
        let place = if is_coordinator {
            &mut self.coordinator
        } else {
            &mut self.agent
        };
        let alive = |program: &Program| pods.iter().any(|pod| meta(pod, "uid") == program.pod);
        if place.as_ref().is_some_and(|program| !alive(program))
            && let Some(program) = place.take()
        {
            program.end().await;
        }
        // Nobody can dial before the first coordinator has shown its authority.
        if pods.is_empty() && (is_coordinator || !self.ca_pem.is_empty()) {
            self.number += 1;
            let pod = format!("{name}-{:05x}", self.number);
            let uid = self.make_pod(&pod, template, &made);
            if is_coordinator {
                self.mount(template);
                self.start_coordinator(uid).await;
            } else {
                self.start_agent(uid);
            }
        }
        let count = usize::from(is_coordinator || !self.ca_pem.is_empty());
        self.tell(kind, &workload, count);
    }

    fn make_pod(&self, name: &str, template: &Value, made: &str) -> String {
        let mut metadata = template["metadata"].clone();
        metadata["name"] = json!(name);
        metadata["namespace"] = json!("velero");
        metadata["annotations"]["tests/template"] = json!(made);
        self.api.put(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"],
        }));
        let pod = self.api.run_pod("velero", name, NODE);
        meta(&pod, "uid").to_owned()
    }

    /// Writes the status of a workload with `count` pods, all of them new and available.
    fn tell(&self, kind: &str, workload: &Value, count: usize) {
        let generation = &workload["metadata"]["generation"];
        let status = if kind.starts_with("deployments") {
            json!({
                "observedGeneration": generation, "replicas": count, "updatedReplicas": count,
                "readyReplicas": count, "availableReplicas": count,
            })
        } else {
            json!({
                "observedGeneration": generation, "desiredNumberScheduled": count, "currentNumberScheduled": count,
                "updatedNumberScheduled": count, "numberReady": count, "numberAvailable": count, "numberMisscheduled": 0,
            })
        };
        if workload["status"] != status {
            self.api
                .edit(kind, "velero", meta(workload, "name"), |object| {
                    object["status"] = status;
                });
        }
    }

    /// Puts the directories of locations where the coordinator's container would see them.
    fn mount(&self, template: &Value) {
        let stores = self.dir.join("stores");
        for old in fs::read_dir(&stores).unwrap() {
            fs::remove_file(old.unwrap().path()).unwrap();
        }
        let spec = &template["spec"];
        let mounts = spec["containers"][0]["volumeMounts"].as_array();
        for mount in mounts.into_iter().flatten() {
            let Some(place) = mount["mountPath"]
                .as_str()
                .filter(|path| path.starts_with(stores.to_str().unwrap()))
            else {
                continue;
            };
            let mut volumes = spec["volumes"].as_array().unwrap().iter();
            let volume = volumes.find(|one| one["name"] == mount["name"]).unwrap();
            let disk = blake3::hash(volume.to_string().as_bytes()).to_hex();
            let disk = self.dir.join("disks").join(&disk[..16]);
            fs::create_dir_all(&disk).unwrap();
            std::os::unix::fs::symlink(disk, place).unwrap();
        }
    }

    /// As `orlop coordinator --in-cluster` does it, with an empty data directory.
    async fn start_coordinator(&mut self, pod: String) {
        let connection = Connection::to_url(&self.api.url(), None).unwrap();
        let connection = connection.with_namespace("velero");
        let data_dir = self.dir.join(format!("data-{pod}"));
        let tls = data_dir.join("tls");
        fs::create_dir_all(&data_dir).unwrap();
        let files = Authority::FILES;
        identity::recall(&connection, &tls, &files).await.unwrap();
        let authority = Authority::load_or_create(&tls, &[]).unwrap();
        identity::remember(&connection, &tls, &files).await.unwrap();
        self.ca_pem.clone_from(&authority.ca_pem);
        let coordinator = Coordinator::bind(CoordinatorConfig {
            listen: self.grpc,
            home: None,
            unlock: None,
            store_access: StoreAccess::Auto,
            own_node: None,
            state_db: data_dir.join("state.db"),
            data_dir,
            identity: authority.clone(),
            downloads: Some(DownloadEndpoint {
                listen: self.downloads,
                url: Some(format!("http://{}", self.downloads)),
            }),
            cluster: Some(ClusterAccess {
                connection: connection.clone(),
                host_roots: Vec::new(),
            }),
            token: TOKEN.to_owned(),
            limits: Limits::default(),
            clock: Arc::new(SystemClock::default()),
        })
        .await
        .unwrap();
        let server = format!("https://{}", self.grpc);
        let calls =
            orlop_controller::Coordinator::at(&server, TOKEN, Some(&authority.ca_pem)).unwrap();
        let config = Config {
            stores: self.dir.join("stores").display().to_string(),
            ..Config::default()
        };
        let controller = Controller::new(config, connection, calls);
        let cancel = CancellationToken::new();
        let (one, other) = (cancel.clone(), cancel.clone());
        let tasks = vec![
            tokio::spawn(async move { controller.run(one).await.unwrap() }),
            tokio::spawn(async move { coordinator.run(other).await.unwrap() }),
        ];
        self.coordinator = Some(Program { pod, cancel, tasks });
    }

    fn start_agent(&mut self, pod: String) {
        let config = AgentConfig {
            server: format!("https://{}", self.grpc),
            ca_pem: self.ca_pem.clone(),
            token: TokenSource::Fixed(TOKEN.to_owned()),
            node: NODE.to_owned(),
            discover: DiscoverOptions {
                kubelet_dir: self.dir.join("kubelet"),
                log_pods_dir: Some(self.dir.join("logs")),
                ..DiscoverOptions::default()
            },
            memory_bytes: 256 << 20,
            limits: orlop_agent::backup::Limits::default(),
        };
        let cancel = CancellationToken::new();
        let own = cancel.clone();
        let tasks = vec![tokio::spawn(
            async move { app::run(config, own).await.unwrap() },
        )];
        self.agent = Some(Program { pod, cancel, tasks });
    }

    /// Takes new pods of applications onto the node.
    fn run_applications(&mut self) {
        for pod in self.api.list("pods", "") {
            let (namespace, name) = (meta(&pod, "namespace"), meta(&pod, "name"));
            let is_new = pod["spec"]["nodeName"].is_null() && pod["status"]["phase"] != "Failed";
            if namespace == "velero" || !is_new {
                continue;
            }
            let uid = meta(&pod, "uid");
            let logs = format!("logs/{namespace}_{name}_{uid}");
            fs::create_dir_all(self.dir.join(logs)).unwrap();
            let volumes = pod["spec"]["volumes"].as_array();
            for volume in volumes.into_iter().flatten() {
                if volume["emptyDir"].is_object() {
                    let volume = volume["name"].as_str().unwrap();
                    fs::create_dir_all(volume_dir(&self.dir, uid, volume)).unwrap();
                }
            }
            if pod["spec"]["initContainers"][0]["name"] == "restore-wait" {
                self.wait(&pod);
            } else {
                self.begin(&pod);
            }
        }
    }

    /// Starts the first init container of a restored pod.
    fn wait(&mut self, pod: &Value) {
        let (namespace, name, uid) = (
            meta(pod, "namespace").to_owned(),
            meta(pod, "name").to_owned(),
            meta(pod, "uid").to_owned(),
        );
        let dir = volume_dir(&self.dir, &uid, marks::VOLUME);
        self.api.edit("pods", &namespace, &name, |pod| {
            pod["spec"]["nodeName"] = json!(NODE);
            pod["status"] = json!({
                "phase": "Pending",
                "initContainerStatuses": [{
                    "name": "restore-wait", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
                }],
            });
        });
        let waits = tokio::task::spawn_blocking(move || {
            let cancel = CancellationToken::new();
            marks::wait(&dir, LOOK, Some(GRACE), None, &mut |_| {}, &cancel).unwrap()
        });
        self.waiting.insert(uid, (namespace, name, waits));
    }

    async fn finish_waits(&mut self) {
        let over = |(_, _, wait): &(String, String, JoinHandle<_>)| wait.is_finished();
        let mut waiting = std::mem::take(&mut self.waiting);
        let ended: Vec<String> = waiting
            .iter()
            .filter(|(_, one)| over(one))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in ended {
            let Some((namespace, name, wait)) = waiting.remove(&uid) else {
                continue;
            };
            let outcome = wait.await.unwrap();
            let Some(pod) = self.api.get("pods", &namespace, &name) else {
                continue;
            };
            if meta(&pod, "uid") == uid {
                assert!(
                    matches!(outcome, marks::Outcome::Success),
                    "{namespace}/{name}: {outcome:?}"
                );
                self.begin(&pod);
            }
        }
        self.waiting = waiting;
    }

    /// Starts the containers of a pod: their command fills `data` with as many bytes as `SIZE` says, unless that was restored.
    fn begin(&self, pod: &Value) {
        let data = volume_dir(&self.dir, meta(pod, "uid"), "data");
        let mut env = pod["spec"]["containers"][0]["env"]
            .as_array()
            .into_iter()
            .flatten();
        let size = env.find(|one| one["name"] == "SIZE");
        if let Some(size) = size
            && !data.join("random.0").exists()
        {
            let size: usize = size["value"].as_str().unwrap().parse().unwrap();
            for number in 0..24 {
                let file = format!("random.{number}");
                let bytes = noise(size / 24, &format!("{}/{file}", meta(pod, "uid")));
                fs::write(data.join(file), bytes).unwrap();
            }
        }
        self.api
            .run_pod(meta(pod, "namespace"), meta(pod, "name"), NODE);
    }
}

/// Bytes that do not compress.
fn noise(len: usize, seed: &str) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
