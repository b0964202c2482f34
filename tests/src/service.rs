//! Servers that run on loopback, and what a client asks of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{Daemon, Node, Orlop, Output, Pod, eventually, free_port};

/// A machine with a kubelet's directories and the data directory of a server.
pub struct Machine {
    root: PathBuf,
    port: u16,
    node: Node,
}

impl Machine {
    /// A machine in the directory `root`, on a port of its own.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            port: free_port(),
            node: Node::new(root),
        }
    }

    /// The kubelet's directories.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The data directory of the server.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn home(&self) -> PathBuf {
        let home = self.root.join("home");
        fs::create_dir_all(&home).expect("the home directory can be made");
        home
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts `orlop standalone`.
    pub fn standalone(&self) -> Daemon {
        self.standalone_with(&[])
    }

    /// Starts `orlop standalone` with further options.
    pub fn standalone_with(&self, options: &[&str]) -> Daemon {
        let daemon = Orlop::new(
            &self.home(),
            ["standalone", "--node", "node-1", "--data-dir"],
        )
        .arg(self.data())
        .arg("--kubelet-dir")
        .arg(self.node.kubelet())
        .args(["--listen", &self.address()])
        .args(options)
        .start();
        self.listening(daemon)
    }

    /// Starts `orlop coordinator`.
    pub fn coordinator(&self) -> Daemon {
        self.coordinator_with(&[])
    }

    /// Starts `orlop coordinator` with further options.
    pub fn coordinator_with(&self, options: &[&str]) -> Daemon {
        let daemon = Orlop::new(&self.home(), ["coordinator", "--data-dir"])
            .arg(self.data())
            .args(["--listen", &self.address()])
            .args(options)
            .start();
        self.listening(daemon)
    }

    fn listening(&self, mut daemon: Daemon) -> Daemon {
        daemon.listens(&self.address());
        daemon
    }

    /// Starts `orlop agent`.
    pub fn agent(&self) -> Daemon {
        self.agent_command().start()
    }

    /// Starts `orlop agent` as on another node, where the repository's directory is empty. Needs root.
    pub fn agent_elsewhere(&self) -> Daemon {
        self.agent_command()
            .with_hidden(&self.data().join("repo"))
            .start()
    }

    fn agent_command(&self) -> Orlop {
        self.client(["agent", "--node", "node-1", "--kubelet-dir"])
            .arg(self.node.kubelet())
    }

    /// A command that asks this server.
    pub fn client<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Orlop {
        Orlop::new(&self.home(), args)
            .env("ORLOP_SERVER", self.address())
            .env("ORLOP_TOKEN_FILE", self.data().join("token"))
            .env("ORLOP_CA_FILE", self.data().join("tls/ca.pem"))
    }

    /// Waits until a connected agent has told the server of the pod's volume.
    ///
    /// # Panics
    /// It does not within a minute.
    pub fn knows(&self, pod: &Pod) {
        eventually(&format!("the server knows {}", pod.volume), || {
            let output = self.client(["status", "-o", "json"]).run();
            let status: Value = serde_json::from_str(&output.stdout).ok()?;
            let known = status["nodes"].as_array()?.iter().any(|node| {
                node["connected"] == true
                    && node["volumes"].as_array().is_some_and(|volumes| {
                        volumes.iter().any(|volume| {
                            let part = |key: &str| volume[key].as_str().unwrap_or("?").to_owned();
                            let name = [part("namespace"), part("pod"), part("volume")].join("/");
                            name == pod.volume
                        })
                    })
            });
            known.then_some(())
        });
    }

    /// Backs up a pod's volume and waits for the end.
    pub fn backup(&self, name: &str, pod: &Pod) -> Value {
        let args = [
            "backup",
            "create",
            name,
            "--volume",
            &pod.volume,
            "--wait",
            "-q",
            "-o",
            "json",
        ];
        let backup = self.client(args).run().exits(0).json();
        assert_eq!(backup["phase"], "completed", "{backup:#}");
        backup
    }

    /// The snapshot that a backup of one volume made.
    ///
    /// # Panics
    /// There is none.
    pub fn snapshot_of(&self, backup: &str) -> String {
        let list = self
            .client(["snapshot", "ls", "-o", "json"])
            .run()
            .exits(0)
            .json();
        let list = list.as_array().expect("a list of snapshots");
        let found = list.iter().find(|snapshot| snapshot["backup"] == backup);
        let id = found.and_then(|snapshot| snapshot["id"].as_str());
        id.unwrap_or_else(|| panic!("no snapshot of {backup} in {list:#?}"))
            .to_owned()
    }

    /// Restores a backup's snapshot into a pod's volume, with further options, and waits for the end.
    pub fn restore_with(&self, backup: &str, pod: &Pod, options: &[&str]) -> Output {
        let what = format!("{}={}", self.snapshot_of(backup), pod.volume);
        let args = [
            "restore",
            "create",
            "--snapshot",
            &what,
            "--wait",
            "-q",
            "-o",
            "json",
        ];
        self.client(args).args(options).run()
    }

    /// Restores a backup's snapshot into a pod's volume and waits for the end.
    pub fn restore(&self, backup: &str, pod: &Pod) -> Output {
        self.restore_with(backup, pod, &[])
    }

    /// Starts what a pod's init container runs.
    pub fn restore_wait(&self, pod: &Pod) -> Daemon {
        Orlop::new(&self.home(), ["restore-wait", "--poll-ms", "20", "--dir"])
            .arg(pod.marks())
            .start()
    }
}
