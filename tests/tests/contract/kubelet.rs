//! What a cluster does around the API server in memory: it runs the pods of the installation, whose program works in this
//! process, and those of applications, whose volumes are directories.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orlop_tests::kube_api::{KubeApi, run_on};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    holds::NodeGates,
    kubelet_applications::{Applications, exec},
    kubelet_programs::Programs,
};

pub(super) const NODE: &str = "node-1";
/// How often it looks.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The only node.
pub(crate) struct Kubelet {
    api: Arc<KubeApi>,
    dir: PathBuf,
    gates: Arc<NodeGates>,
    programs: Programs,
    applications: Applications,
    number: u32,
}

/// A text in an object's metadata; empty without.
pub(super) fn meta<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

/// A workload of the installation.
struct Workload {
    kind: &'static str,
    name: &'static str,
    object: Value,
    /// Whether one of its pods runs, made by its present template.
    runs: bool,
}

impl Workload {
    fn template(&self) -> &Value {
        &self.object["spec"]["template"]
    }

    fn is_coordinator(&self) -> bool {
        self.name == "velero"
    }
}

impl Kubelet {
    /// Below `dir` are the node's directories.
    pub(crate) fn new(api: &Arc<KubeApi>, dir: &Path, gates: &Arc<NodeGates>) -> Self {
        for name in ["kubelet/pods", "logs", "stores", "disks"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let (hands, place, hooks) = (Arc::downgrade(api), dir.to_owned(), Arc::clone(gates));
        api.on_exec(move |call| exec(hands.upgrade().as_deref(), &place, &hooks, call));
        Self {
            api: Arc::clone(api),
            dir: dir.to_owned(),
            gates: Arc::clone(gates),
            programs: Programs::new(api, dir),
            applications: Applications::new(api, dir),
            number: 0,
        }
    }

    /// Works until `stop`, and ends what runs.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.run_installation().await;
            self.applications.look().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.programs.end_all().await;
        self.applications.end();
    }

    /// Keeps one pod of each workload running: ends those of before first, all of them, and starts new ones if it may.
    async fn run_installation(&mut self) {
        let mut workloads = Vec::new();
        for (kind, name) in [
            ("deployments.apps", "velero"),
            ("daemonsets.apps", "node-agent"),
        ] {
            workloads.extend(self.end_old(kind, name).await);
        }
        let is_complete = workloads.iter().all(|one| one.runs);
        if !is_complete && self.gates.may_start(!self.programs.any()) {
            for workload in workloads.iter().filter(|one| !one.runs) {
                self.start(workload).await;
            }
        }
        for workload in &workloads {
            let count = usize::from(workload.is_coordinator() || self.programs.is_known());
            self.tell(workload, count);
        }
    }

    /// Ends the pods of a workload that are not made by its present template, and programs whose pods are gone.
    async fn end_old(&mut self, kind: &'static str, name: &'static str) -> Option<Workload> {
        let object = self.api.get(kind, "velero", name)?;
        let mut workload = Workload {
            kind,
            name,
            object,
            runs: false,
        };
        let made = workload.template().to_string();
        let labels = &workload.template()["metadata"]["labels"];
        let mut pods = self.api.list("pods", "velero");
        pods.retain(|pod| pod["metadata"]["labels"] == *labels);
        let is_present = |pod: &Value| pod["metadata"]["annotations"]["tests/template"] == made;
        for old in pods.iter().filter(|pod| !is_present(pod)) {
            self.api.remove("pods", "velero", meta(old, "name"));
        }
        pods.retain(is_present);
        let alive: Vec<&str> = pods.iter().map(|pod| meta(pod, "uid")).collect();
        self.programs.end_if_gone(name, &alive).await;
        workload.runs = !pods.is_empty();
        Some(workload)
    }

    /// Makes the pod of a workload and starts its program.
    async fn start(&mut self, workload: &Workload) {
        // Nobody can dial before the first coordinator has shown its authority.
        if !workload.is_coordinator() && !self.programs.is_known() {
            return;
        }
        let template = workload.template();
        self.number += 1;
        let pod = format!("{}-{:05x}", workload.name, self.number);
        let uid = self.make_pod(&pod, template);
        if workload.is_coordinator() {
            self.mount(template);
            self.programs.start_coordinator(uid).await;
        } else {
            self.programs.start_agent(uid);
        }
    }

    /// A pod is there and ready at once: nobody can remove it in between.
    fn make_pod(&self, name: &str, template: &Value) -> String {
        let mut metadata = template["metadata"].clone();
        metadata["name"] = json!(name);
        metadata["namespace"] = json!("velero");
        metadata["annotations"]["tests/template"] = json!(template.to_string());
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"],
        });
        run_on(&mut pod, NODE);
        meta(&self.api.put(pod), "uid").to_owned()
    }

    /// Writes the status of a workload with `count` pods, all of them new and available.
    fn tell(&self, workload: &Workload, count: usize) {
        let generation = &workload.object["metadata"]["generation"];
        let status = if workload.is_coordinator() {
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
        if workload.object["status"] != status {
            let change = |object: &mut Value| object["status"] = status;
            self.api
                .edit(workload.kind, "velero", workload.name, change);
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
}
