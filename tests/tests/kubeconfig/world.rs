//! A cluster in memory with the coordinator in a process of its own, and a laptop.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use orlop_kubernetes::install::{InstallChoices, render};
use orlop_tests::{
    Daemon, Node, Orlop, Output, eventually, free_port,
    kube_api::{ExecReply, KubeApi, KubeUser, Options},
    quick_dir, repository_root,
};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const SPACE: &str = "velero";
/// The token of the coordinator's own account.
const COORDINATOR: &str = "token-of-the-coordinator";
/// The token of somebody who has the role that the documentation shows.
pub(crate) const ANN: &str = "token-of-ann";
/// The token of somebody who may do everything.
pub(crate) const ROOT: &str = "token-of-root-who-may-everything";

pub(crate) struct World {
    pub(crate) api: KubeApi,
    pub(crate) dir: TempDir,
    node: Node,
    port: u16,
}

/// The objects in the blocks of code of a page that have this text.
fn documented(page: &str, word: &str) -> String {
    let text = fs::read_to_string(repository_root().join(page)).unwrap();
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(code) => blocks.last_mut().unwrap().extend([code, "\n"]),
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| block.contains("apiVersion:") && block.contains(word));
    assert!(!blocks.is_empty(), "{page} shows no {word}");
    blocks.join("---\n")
}

impl World {
    /// Orlop's objects, and no coordinator yet.
    pub(crate) fn new() -> Self {
        let api = KubeApi::start(Options {
            authentication: true,
            ..Options::default()
        });
        for object in render(&InstallChoices::default()).unwrap() {
            api.put(object);
        }
        api.put_yaml(&documented("docs/operations.md", "serviceaccounts/token"));
        api.add_token(COORDINATOR, KubeUser::service_account(SPACE, "velero"), &[]);
        api.add_token(ANN, KubeUser::new("ann"), &[]);
        api.add_token(ROOT, KubeUser::new("root").in_group("system:masters"), &[]);
        api.namespace("shop");
        api.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"},
            "data": {"colour": "red"},
        }));
        let dir = quick_dir();
        fs::create_dir(dir.path().join("laptop")).unwrap();
        let node = Node::new(&dir.path().join("node"));
        Self {
            api,
            dir,
            node,
            port: free_port(),
        }
    }

    /// The same with a coordinator that is ready.
    pub(crate) fn running() -> (Self, Daemon) {
        let world = Self::new();
        let coordinator = world.coordinator("velero-0");
        (world, coordinator)
    }

    /// Starts a coordinator, whose pod has this name.
    pub(crate) fn coordinator(&self, pod: &str) -> Daemon {
        let address = self.address();
        let key = self.dir.path().join("repository.key");
        Orlop::write_key(&key);
        let mut daemon = Orlop::new(&self.dir.path().join("node"), ["coordinator", "--data-dir"])
            .arg(self.data())
            .args(["--listen", &address, "--tls-name", "orlop.velero.svc"])
            .args(["--cluster-namespace", SPACE, "--no-controller"])
            .arg("--kubeconfig")
            .arg(self.kubeconfig(COORDINATOR))
            .arg("--repository")
            .arg(self.dir.path().join("repo"))
            .arg("--key-file")
            .arg(key)
            .start();
        daemon.listens(&address);
        self.pod(pod, self.port);
        daemon
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the agent of the only node, and waits until the coordinator knows it.
    pub(crate) fn agent(&self) -> Daemon {
        let agent = Orlop::new(&self.dir.path().join("node"), ["agent", "--node", "node-1"])
            .args(["--server", &self.address()])
            .arg("--token-file")
            .arg(self.data().join("token"))
            .arg("--ca-file")
            .arg(self.data().join("tls/ca.pem"))
            .arg("--kubelet-dir")
            .arg(self.node.kubelet())
            .start();
        eventually("the agent is connected", || {
            let status = self.ann(["status", "-o", "json"]);
            let status: Value = serde_json::from_str(&status.stdout).ok()?;
            (status["nodes"][0]["connected"] == true).then_some(())
        });
        agent
    }

    /// A pod in `shop` with these annotations, and its volume's directory on the node.
    pub(crate) fn db(&self, annotations: &Value) -> PathBuf {
        let mut annotations = annotations.clone();
        annotations["backup.velero.io/backup-volumes"] = json!("data");
        let pod = self.api.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "db", "namespace": "shop", "annotations": annotations},
            "spec": {
                "containers": [{
                    "name": "main", "image": "localhost/busybox:1",
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        }));
        self.api.run_pod("shop", "db", "node-1");
        let pods = self.node.kubelet().join("pods");
        let own = pods.join(pod["metadata"]["uid"].as_str().unwrap());
        let volume = own.join("volumes/kubernetes.io~empty-dir/data");
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join("app.conf"), "colour = red\n").unwrap();
        volume
    }

    /// Puts a coordinator's pod into the cluster that is ready.
    pub(crate) fn pod(&self, name: &str, port: u16) {
        self.api.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": SPACE, "labels": {"deploy": "velero", "component": "velero"}},
            "spec": {"containers": [{
                "name": "velero", "image": "localhost/orlop:1", "ports": [{"name": "grpc", "containerPort": port}],
            }]},
        }));
        self.api.run_pod(SPACE, name, "node-1");
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A kubeconfig of somebody.
    pub(crate) fn kubeconfig(&self, token: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{token}.kubeconfig"));
        fs::write(&path, self.api.kubeconfig(Some(token))).unwrap();
        path
    }

    /// A command on the laptop, which knows of nothing.
    pub(crate) fn laptop<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Orlop {
        let home = self.dir.path().join("laptop");
        Orlop::new(&home, args).without("KUBECONFIG")
    }

    /// A command on the laptop with the kubeconfig of somebody.
    pub(crate) fn with<'a>(&self, token: &str, args: impl IntoIterator<Item = &'a str>) -> Orlop {
        self.laptop(args)
            .arg("--kubeconfig")
            .arg(self.kubeconfig(token))
    }

    /// The same for Ann, to its end.
    pub(crate) fn ann<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        self.with(ANN, args).run()
    }

    /// The only line that a failing command says.
    pub(crate) fn refusal<'a>(
        &self,
        token: &str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> String {
        let output = self.with(token, args).run().exits(1);
        output.one_line().to_owned()
    }

    /// How many tokens were given out since the last look at the requests.
    pub(crate) fn tokens_asked(&self) -> usize {
        let requests = self.api.take_requests().into_iter();
        requests
            .filter(|one| one.path.ends_with("/serviceaccounts/orlop-client/token"))
            .count()
    }

    /// An agent, and a pod in `shop` whose backup is held up by a hook, once.
    pub(crate) fn held_up(&self) -> Daemon {
        self.db(&json!({
            "pre.hook.backup.velero.io/command": "[\"freeze-now\"]",
            "pre.hook.backup.velero.io/timeout": "2m",
        }));
        let hung = AtomicBool::new(false);
        self.api.on_exec(move |call| {
            let freezes = call.command.iter().any(|word| word.contains("freeze-now"));
            if freezes && !hung.swap(true, Ordering::SeqCst) {
                return ExecReply::hang();
            }
            ExecReply::exit(0)
        });
        self.agent()
    }

    /// Waits until the hook runs.
    pub(crate) fn hook_runs(&self) {
        eventually("the hook runs", || {
            let calls = self.api.take_execs();
            let freezes = |word: &String| word.contains("freeze-now");
            calls
                .iter()
                .any(|call| call.command.iter().any(freezes))
                .then_some(())
        });
    }
}

/// Waits for the end of a command, but not for longer than a person would.
pub(crate) fn soon(mut daemon: Daemon) -> Output {
    orlop_tests::eventually_within(Duration::from_secs(20), "the command ends", || {
        daemon.ended().map(drop)
    });
    daemon.wait()
}

/// The elements of a list, by name.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    let all = list.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap()).collect()
}
