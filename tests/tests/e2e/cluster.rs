//! The cluster, by way of kubectl.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use orlop_tests::{eventually_within, repository_root, require};
use serde_json::{Value, json};

/// Namespace of the installation.
pub(crate) const SPACE: &str = "velero";
/// The directory of the location, on this machine too.
pub(crate) const STORE: &str = "/var/lib/orlop-backups";
/// An image with a shell that the cluster has.
pub(crate) const BUSYBOX: &str = "localhost/busybox:1";
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// Scenarios run side by side, but for those that take the installation away.
static INSTALLATION: RwLock<()> = RwLock::new(());

/// A scenario that needs the installation.
pub(crate) fn shared() -> Option<RwLockReadGuard<'static, ()>> {
    require("cluster").then(|| INSTALLATION.read().unwrap_or_else(PoisonError::into_inner))
}

/// A scenario that replaces the installation.
pub(crate) fn alone() -> Option<RwLockWriteGuard<'static, ()>> {
    require("cluster").then(|| INSTALLATION.write().unwrap_or_else(PoisonError::into_inner))
}

fn run(args: &[&str], input: Option<&[u8]>) -> Output {
    let program = PathBuf::from(std::env::var_os("KUBE_BIN").unwrap()).join("kubectl");
    let mut child = Command::new(&program)
        .args(args)
        .current_dir(repository_root())
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    if let Some(input) = input {
        // One that ends early has said why.
        let _ = child.stdin.take().unwrap().write_all(input);
    }
    child.wait_with_output().unwrap()
}

/// What kubectl prints.
pub(crate) fn kubectl(args: &[&str]) -> String {
    let output = run(args, None);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Creates an object; the answer is the object as it is kept.
pub(crate) fn create(object: &Value) -> Value {
    let output = run(
        &["create", "-o", "json", "-f", "-"],
        Some(object.to_string().as_bytes()),
    );
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "create {object}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An object of the installation's namespace, or `None`.
pub(crate) fn get(kind: &str, name: &str) -> Option<Value> {
    get_in(SPACE, kind, name)
}

/// An object of any namespace, or `None`.
pub(crate) fn get_in(namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let text = kubectl(&[
        "-n",
        namespace,
        "get",
        kind,
        name,
        "-o",
        "json",
        "--ignore-not-found",
    ]);
    (!text.trim().is_empty()).then(|| serde_json::from_str(&text).unwrap())
}

/// The objects of a kind with this label.
pub(crate) fn labelled(kind: &str, label: &str) -> Vec<Value> {
    let text = kubectl(&["-n", SPACE, "get", kind, "-l", label, "-o", "json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// A name that no other run of the scenarios has.
pub(crate) fn own(name: &str) -> String {
    format!("e2e-{name}-{}", std::process::id())
}

/// An object of ours, which does not exist yet.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "velero.io/v1", "kind": kind, "metadata": {"name": name, "namespace": SPACE}, "spec": spec,
    })
}

/// Waits until the object is in one of these phases.
pub(crate) fn phase(kind: &str, name: &str, phases: &[&str]) -> Value {
    phase_within(PATIENCE, kind, name, phases)
}

/// Waits this long until the object is in one of these phases.
pub(crate) fn phase_within(patience: Duration, kind: &str, name: &str, phases: &[&str]) -> Value {
    eventually_within(patience, &format!("{kind} {name} is {phases:?}"), || {
        let found = get(kind, name)?;
        phases
            .contains(&found["status"]["phase"].as_str().unwrap_or_default())
            .then_some(found)
    })
}

/// Waits until there is no such object.
pub(crate) fn gone(kind: &str, name: &str) {
    eventually_within(PATIENCE, &format!("{kind} {name} is gone"), || {
        get(kind, name).is_none().then_some(())
    });
}

/// The final phases of a backup or restore.
pub(crate) const ENDED: [&str; 4] = ["Completed", "PartiallyFailed", "Failed", "FailedValidation"];

/// Makes a backup of one namespace and waits for its end.
pub(crate) fn backup(name: &str, spec: &Value) -> Value {
    create(&object("Backup", name, spec));
    phase("backups.velero.io", name, &ENDED)
}

/// A namespace that is removed with all that is in it.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    /// An empty namespace.
    pub(crate) fn new(name: &str) -> Self {
        kubectl(&["delete", "namespace", name, "--ignore-not-found"]);
        kubectl(&["create", "namespace", name]);
        Self(name.to_owned())
    }

    /// Runs a pod with the emptyDir `data` and waits until it is ready.
    pub(crate) fn pod(&self, name: &str, annotations: &Value) {
        create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.0, "annotations": annotations, "labels": {"app": name}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": BUSYBOX, "imagePullPolicy": "Never",
                    "command": ["sh", "-c", "head -c 1000000 /dev/urandom > /data/random; exec sleep 100000"],
                    "readinessProbe": {"exec": {"command": ["test", "-s", "/data/random"]}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        }));
        let pod = format!("pod/{name}");
        kubectl(&[
            "-n",
            &self.0,
            "wait",
            "--for=condition=Ready",
            &pod,
            "--timeout=120s",
        ]);
    }

    /// What a command in a pod prints.
    pub(crate) fn exec(&self, pod: &str, command: &[&str]) -> String {
        let mut args = vec!["-n", self.0.as_str(), "exec", pod, "--"];
        args.extend(command);
        kubectl(&args)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A failed test may have left a terminating one.
        let _ = run(
            &[
                "delete",
                "namespace",
                &self.0,
                "--ignore-not-found",
                "--wait=false",
            ],
            None,
        );
    }
}
