//! Pods of applications: directories are their volumes, and commands run in this machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use orlop_agent::marks;
use orlop_tests::kube_api::{ExecCall, ExecReply, KubeApi, run_on};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    holds::NodeGates,
    kubelet::{LOOK, NODE, meta},
    world::HELD,
};

/// How long a pod waits for its volumes before it says that it waits in vain.
const PATIENCE: Duration = Duration::from_mins(1);

/// A pod that waits for its volumes.
struct Waiting {
    namespace: String,
    name: String,
    cancel: CancellationToken,
    ends: JoinHandle<marks::Outcome>,
}

/// The pods of applications on the node.
pub(super) struct Applications {
    api: Arc<KubeApi>,
    dir: PathBuf,
    /// By UID.
    waiting: BTreeMap<String, Waiting>,
}

/// The directory of an emptyDir.
fn volume_dir(dir: &Path, uid: &str, volume: &str) -> PathBuf {
    dir.join(format!(
        "kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/{volume}"
    ))
}

/// Runs a command of a hook here, with the pod's directory in the place of `/data`.
pub(super) fn exec(
    api: Option<&KubeApi>,
    dir: &Path,
    gates: &NodeGates,
    call: &ExecCall,
) -> ExecReply {
    let Some(api) = api else {
        return ExecReply::cut();
    };
    let Some(pod) = api.get("pods", &call.namespace, &call.pod) else {
        return ExecReply::error("the pod is gone");
    };
    if call.command.last().is_some_and(|script| script == HELD) {
        return ExecReply::exit(0).held(gates.hook(&call.namespace, &call.pod));
    }
    let data = volume_dir(dir, meta(&pod, "uid"), "data");
    let words: Vec<String> = call
        .command
        .iter()
        .map(|word| word.replace("/data", data.to_str().unwrap()))
        .collect();
    match Command::new(&words[0]).args(&words[1..]).output() {
        Ok(output) => ExecReply::exit(output.status.code().unwrap_or(137))
            .stdout(output.stdout)
            .stderr(output.stderr),
        Err(error) => ExecReply::error(&error.to_string()),
    }
}

impl Applications {
    pub(super) fn new(api: &Arc<KubeApi>, dir: &Path) -> Self {
        Self {
            api: Arc::clone(api),
            dir: dir.to_owned(),
            waiting: BTreeMap::new(),
        }
    }

    /// Takes new pods onto the node, and starts those that have waited for their volumes.
    pub(super) async fn look(&mut self) {
        self.take_new();
        self.finish_waits().await;
    }

    /// Waits for nobody any more.
    pub(super) fn end(self) {
        for waiting in self.waiting.into_values() {
            waiting.cancel.cancel();
        }
    }

    fn take_new(&mut self) {
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

    /// Changes a pod, unless it is gone or another one has its name by now.
    fn edit(&self, pod: &Value, change: impl FnOnce(&mut Value)) {
        let (namespace, name) = (meta(pod, "namespace"), meta(pod, "name"));
        self.api.edit_if_there("pods", namespace, name, |found| {
            if meta(found, "uid") == meta(pod, "uid") {
                change(found);
            }
        });
    }

    /// Starts the first init container of a restored pod.
    fn wait(&mut self, pod: &Value) {
        let uid = meta(pod, "uid");
        let dir = volume_dir(&self.dir, uid, marks::VOLUME);
        self.edit(pod, |pod| {
            pod["spec"]["nodeName"] = json!(NODE);
            pod["status"] = json!({
                "phase": "Pending",
                "initContainerStatuses": [{
                    "name": "restore-wait", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
                }],
            });
        });
        let cancel = CancellationToken::new();
        let own = cancel.clone();
        let ends = tokio::task::spawn_blocking(move || {
            marks::wait(&dir, LOOK, Some(PATIENCE), None, &mut |_| {}, &own).unwrap()
        });
        let waiting = Waiting {
            namespace: meta(pod, "namespace").to_owned(),
            name: meta(pod, "name").to_owned(),
            cancel,
            ends,
        };
        self.waiting.insert(uid.to_owned(), waiting);
    }

    async fn finish_waits(&mut self) {
        let over = self
            .waiting
            .iter()
            .filter(|(_, one)| one.ends.is_finished());
        let over: Vec<String> = over.map(|(uid, _)| uid.clone()).collect();
        for uid in over {
            let Some(waiting) = self.waiting.remove(&uid) else {
                continue;
            };
            let (namespace, name) = (waiting.namespace, waiting.name);
            let outcome = waiting.ends.await.unwrap();
            let pod = self.api.get("pods", &namespace, &name);
            if let Some(pod) = pod.filter(|pod| meta(pod, "uid") == uid) {
                assert!(
                    matches!(outcome, marks::Outcome::Success),
                    "{namespace}/{name}: {outcome:?}"
                );
                self.begin(&pod);
            }
        }
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
        self.edit(pod, |pod| run_on(pod, NODE));
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
