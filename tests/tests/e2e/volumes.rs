//! Restores into volumes that are too small, read-only or hostile: the pod says why, and goes on when the cause is gone.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use orlop_tests::eventually_within;
use serde_json::{Value, json};

use crate::cluster::{
    BUSYBOX, ENDED, Namespace, backup, create, get_in, kubectl, object, own, phase, shared,
};

/// A file system in memory with a size, as a persistent volume of the node.
struct Disk {
    name: String,
    path: PathBuf,
    /// Another mount of it, by which the file system as a whole is changed and not only one mount.
    handle: PathBuf,
}

impl Disk {
    /// Makes one and binds the claim `data` of this namespace to it.
    fn new(space: &Namespace, size: &str) -> Self {
        let name = own(&space.0);
        let path = Path::new("/var/lib/orlop-e2e").join(&name);
        let handle = path.with_extension("handle");
        for dir in [&path, &handle] {
            fs::create_dir_all(dir).unwrap();
        }
        let options = format!("size={size},mode=0777");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &handle);
        mount(&["--bind", handle.to_str().unwrap()], &path);
        let disk = Self { name, path, handle };
        let node = kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        create(&json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": disk.name},
            "spec": {
                "capacity": {"storage": "64Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": disk.path},
                "claimRef": {"name": "data", "namespace": space.0},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}},
            },
        }));
        create(&json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": space.0},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": disk.name,
                "resources": {"requests": {"storage": "64Mi"}}},
        }));
        disk
    }

    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], &self.handle);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for dir in [&self.path, &self.handle] {
            let _ = Command::new("umount").arg("-l").arg(dir).status();
            let _ = fs::remove_dir(dir);
        }
        kubectl(&[
            "delete",
            "pv",
            &self.name,
            "--ignore-not-found",
            "--wait=false",
        ]);
    }
}

fn mount(words: &[&str], path: &Path) {
    let done = Command::new("mount")
        .args(words)
        .arg(path)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "mount {words:?}: {errors}");
}

/// A pod with the claim `data`, made of 4 MB that do not compress.
fn app(space: &Namespace) {
    create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "app", "namespace": space.0,
            "annotations": {"backup.velero.io/backup-volumes": "data"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": BUSYBOX, "imagePullPolicy": "Never",
                "command": ["sh", "-c", "exec sleep 100000"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }));
    wait_ready(space);
}

fn wait_ready(space: &Namespace) {
    eventually_within(Duration::from_mins(1), "the pod is there", || {
        get_in(&space.0, "pods", "app")
    });
    kubectl(&[
        "-n",
        &space.0,
        "wait",
        "--for=condition=Ready",
        "pod/app",
        "--timeout=420s",
    ]);
}

/// Backs up a pod and restores it into a namespace whose claim is `target` already; the answer is the name of the restore.
struct Trouble {
    _space: Namespace,
    _disk: Disk,
    copy: Namespace,
    target: Disk,
    digest: String,
    name: String,
}

impl Trouble {
    fn new(name: &str, size: &str, prepare: impl FnOnce(&Disk)) -> Self {
        let space = Namespace::new(&format!("e2e-{name}-from"));
        let disk = Disk::new(&space, "64m");
        app(&space);
        let make = "mkdir /data/sub && head -c 4000000 /dev/urandom > /data/sub/random && md5sum /data/sub/random";
        let digest = space.exec("app", &["sh", "-c", make]);
        let copy = Namespace::new(&format!("e2e-{name}-to"));
        let target = Disk::new(&copy, size);
        prepare(&target);
        let name = own(name);
        let made = backup(
            &name,
            &json!({"includedNamespaces": [space.0], "ttl": "1h"}),
        );
        assert_eq!(made["status"]["phase"], "Completed", "{made}");
        let mapping = json!({"backupName": name, "namespaceMapping": {space.0.as_str(): copy.0}});
        create(&object("Restore", &name, &mapping));
        Self {
            _space: space,
            _disk: disk,
            copy,
            target,
            digest,
            name,
        }
    }

    /// What `kubectl describe pod` says of the waiting container once it says this.
    fn says(&self, wanted: &str) -> String {
        let what = format!("the pod says {wanted:?}");
        eventually_within(Duration::from_mins(1), &what, || {
            let pod = get_in(&self.copy.0, "pods", "app")?;
            let containers = pod["status"]["initContainerStatuses"].as_array()?.clone();
            let state = containers
                .into_iter()
                .find(|one| one["name"] == "restore-wait")?;
            let message = |state: &Value| {
                let text = state["terminated"]["message"].as_str()?;
                text.contains(wanted).then(|| text.to_owned())
            };
            message(&state["state"]).or_else(|| message(&state["lastState"]))
        })
    }

    fn recovers(&self) {
        wait_ready(&self.copy);
        let now = self.copy.exec("app", &["md5sum", "/data/sub/random"]);
        assert_eq!(now, self.digest);
    }

    fn ended(&self) -> Value {
        phase("restores.velero.io", &self.name, &ENDED)
    }
}

#[test]
fn a_volume_that_is_too_small_is_named_and_goes_on_when_it_is_larger_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let trouble = Trouble::new("small", "1m", |_| ());
    let reason = trouble.says("data");
    assert!(reason.contains("space"), "{reason}");
    trouble.target.remount("size=64m");
    trouble.recovers();
    trouble.ended();
}

#[test]
fn a_read_only_volume_is_named_and_goes_on_when_it_is_writable_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let trouble = Trouble::new("readonly", "64m", |disk| disk.remount("ro"));
    let reason = trouble.says("data");
    assert!(reason.contains("read-only"), "{reason}");
    trouble.target.remount("rw");
    trouble.recovers();
    trouble.ended();
}

#[test]
fn links_that_lead_out_of_a_volume_are_not_followed_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let outside = Path::new("/var/lib/orlop-e2e").join(own("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("random"), "mine").unwrap();
    let trouble = Trouble::new("hostile", "64m", |disk| {
        symlink(&outside, disk.path.join("sub")).unwrap();
    });
    trouble.recovers();
    let kept = fs::read_to_string(outside.join("random")).unwrap();
    assert_eq!(kept, "mine", "nothing outside of the volume is written");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let sub = trouble.target.path.join("sub");
    assert!(!fs::symlink_metadata(&sub).unwrap().is_symlink());
    assert_eq!(trouble.ended()["status"]["phase"], "Completed");
    fs::remove_dir_all(&outside).unwrap();
}
