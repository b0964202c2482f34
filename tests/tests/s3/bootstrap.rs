//! A new cluster that begins with the backups in a bucket.

use std::{fs, path::Path};

use orlop_tests::{
    Daemon, Orlop, eventually,
    kube_api::KubeApi,
    s3::{ACCESS_KEY, Options, S3Server, SECRET_KEY},
};
use serde_json::json;

struct World {
    directory: tempfile::TempDir,
    store: S3Server,
    cluster: KubeApi,
}

impl World {
    /// A bucket with a repository below `p`, and an empty cluster.
    fn new() -> Self {
        let world = Self {
            directory: tempfile::tempdir().unwrap(),
            store: S3Server::start(Options::default()),
            cluster: KubeApi::new(),
        };
        let keys = format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        );
        fs::write(world.at().join("keys"), keys).unwrap();
        fs::write(
            world.at().join("kubeconfig"),
            world.cluster.kubeconfig(None),
        )
        .unwrap();
        let mut init = Orlop::new(world.at(), ["repo", "init", "-r"])
            .arg(world.store.url("p/kopia/orlop"))
            .env("ORLOP_PASSWORD", "secret");
        for (name, value) in world.store.environment() {
            init = init.env(name, value);
        }
        init.run().exits(0);
        world
    }

    fn at(&self) -> &Path {
        self.directory.path()
    }

    fn bootstrap(&self, password: &str, prefix: &str) -> Orlop {
        Orlop::new(
            self.at(),
            ["bootstrap", "--s3-bucket", "bench", "--s3-prefix", prefix],
        )
        .args([
            "--s3-endpoint",
            &self.store.endpoint(),
            "-o",
            "json",
            "--credentials-file",
        ])
        .arg(self.at().join("keys"))
        .arg("--kubeconfig")
        .arg(self.at().join("kubeconfig"))
        .env("ORLOP_PASSWORD", password)
    }

    fn is_empty(&self) -> bool {
        self.cluster.list("secrets", "velero").is_empty()
            && self.cluster.list("deployments.apps", "velero").is_empty()
    }

    /// Does what the coordinator, the agents and the controller of a real cluster would.
    fn comes_up(&self) {
        eventually("the agents are applied", || {
            self.cluster.get("daemonsets.apps", "velero", "node-agent")
        });
        for (kind, name) in [
            ("deployments.apps", "velero"),
            ("daemonsets.apps", "node-agent"),
        ] {
            self.cluster.edit(kind, "velero", name, |object| {
                object["status"] = json!({
                    "observedGeneration": object["metadata"]["generation"], "updatedReplicas": 1,
                    "availableReplicas": 1, "desiredNumberScheduled": 1, "numberAvailable": 1,
                    "updatedNumberScheduled": 1,
                });
            });
        }
        self.cluster.put(json!({
            "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "b1", "namespace": "velero"},
            "spec": {"storageLocation": "default"},
            "status": {"phase": "Completed", "startTimestamp": "2026-01-02T03:04:05Z"},
        }));
        let locations = "backupstoragelocations.velero.io";
        self.cluster
            .edit(locations, "velero", "default", |location| {
                assert!(
                    location["spec"].get("accessMode").is_none(),
                    "it was proven before"
                );
                location["status"] = json!({
                    "phase": "Available", "lastValidationTime": "2026-01-03T00:00:00Z",
                    "lastSyncedTime": "2026-01-03T00:00:00Z",
                });
            });
    }

    /// Lists the store again and again until the restore is asked for, and ends that.
    fn ends_restore(&self, name: &str, phase: &str) {
        let mut minute = 0;
        eventually("the restore is asked for", || {
            minute += 1;
            let time = format!("2026-01-04T{:02}:{:02}:00Z", minute / 60 % 24, minute % 60);
            let locations = "backupstoragelocations.velero.io";
            self.cluster
                .edit(locations, "velero", "default", |location| {
                    location["status"]["lastSyncedTime"] = json!(time);
                });
            self.cluster.get("restores.velero.io", "velero", name)
        });
        self.cluster
            .edit("restores.velero.io", "velero", name, |restore| {
                assert_eq!(restore["spec"]["backupName"], "b1");
                restore["status"] = json!({"phase": phase, "errors": 2});
            });
    }
}

#[test]
fn a_wrong_password_or_place_installs_nothing() {
    let world = World::new();
    let wrong = world.bootstrap("other", "p").run().exits(1);
    assert!(wrong.stderr.contains("wrong password"), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("nothing was installed"),
        "{}",
        wrong.stderr
    );
    let elsewhere = world.bootstrap("secret", "q").run().exits(4);
    assert!(
        elsewhere.stderr.contains("holds no repository"),
        "{}",
        elsewhere.stderr
    );
    let none = Orlop::new(world.at(), ["bootstrap"]).env("ORLOP_PASSWORD", "x");
    assert!(none.run().exits(2).stderr.contains("--s3-bucket"));
    assert!(world.is_empty());
}

#[test]
fn backups_are_listed_and_one_is_restored() {
    let world = World::new();
    let first: Daemon = world.bootstrap("secret", "p").start();
    world.comes_up();
    let listed = first.wait().exits(0).json();
    assert_eq!(listed["backups"][0]["name"], "b1", "{listed:#}");
    assert!(
        listed["next"][0]
            .as_str()
            .unwrap()
            .contains("--from-backup b1")
    );
    assert!(listed["restore"].is_null());
    let secret = world
        .cluster
        .get("secrets", "velero", "velero-repo-credentials");
    assert_eq!(secret.unwrap()["data"]["repository-password"], "c2VjcmV0");

    // The same again, and a restore that ends with errors.
    let wait = ["--restore", "b1", "--restore-name", "r1", "--wait"];
    let second = world.bootstrap("secret", "p").args(wait).start();
    world.ends_restore("r1", "PartiallyFailed");
    let restored = second.wait().exits(3).json();
    assert_eq!(
        restored["restore"]["phase"], "PartiallyFailed",
        "{restored:#}"
    );

    // A password of somebody else is not overwritten.
    world
        .cluster
        .edit("secrets", "velero", "velero-repo-credentials", |secret| {
            secret["data"]["repository-password"] = json!("b3RoZXI=");
        });
    let refused = world.bootstrap("secret", "p").run().exits(1);
    assert!(
        refused.stderr.contains("not overwritten"),
        "{}",
        refused.stderr
    );
}
