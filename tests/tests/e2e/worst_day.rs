//! Restores while things go wrong: processes die, the store is away, the image cannot be pulled, and many pods come at once.

use std::{path::Path, time::Duration};

use orlop_tests::eventually_within;
use serde_json::{Value, json};

use crate::{
    cluster::{
        ENDED, Namespace, PATIENCE, SPACE, STORE, alone, backup, create, get, get_in, kubectl,
        object, own, phase, phase_within, shared,
    },
    downloads,
};

/// A backup of a namespace whose pods and claims are gone afterwards.
fn lost(space: &Namespace, name: &str) {
    let spec = json!({"includedNamespaces": [space.0], "ttl": "1h"});
    let made = backup(name, &spec);
    assert_eq!(made["status"]["phase"], "Completed", "{made}");
    kubectl(&["delete", "namespace", &space.0, "--timeout=120s"]);
}

/// Makes a pod whose volume has this many MiB that do not compress; the answer is their digest.
fn filled(space: &Namespace, mebibytes: u32) -> String {
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let make = format!(
        "for n in 1 2 3 4; do head -c {} /dev/urandom > /data/$n; done",
        (mebibytes << 20) / 4
    );
    space.exec("app", &["sh", "-c", &make]);
    digest(space)
}

fn digest(space: &Namespace) -> String {
    space.exec(
        "app",
        &["sh", "-c", "cat /data/1 /data/2 /data/3 /data/4 | md5sum"],
    )
}

#[derive(Clone, Copy)]
enum Of {
    Backup,
    Restore,
}

/// Waits until the volume of a backup or restore has moved some bytes, but not all.
fn under_way(of: Of, name: &str) {
    let (kind, label) = match of {
        Of::Backup => ("podvolumebackups.velero.io", "velero.io/backup-name"),
        Of::Restore => ("podvolumerestores.velero.io", "velero.io/restore-name"),
    };
    eventually_within(PATIENCE, "it is under way", || {
        let text = kubectl(&["-n", SPACE, "get", kind, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let volumes = list["items"].as_array().unwrap();
        volumes
            .iter()
            .filter(|one| one["metadata"]["labels"][label] == name)
            .any(|one| one["status"]["phase"] == "InProgress")
            .then_some(())
    });
}

fn ready(space: &Namespace) {
    kubectl(&[
        "-n",
        &space.0,
        "wait",
        "--for=condition=Ready",
        "pod/app",
        "--timeout=180s",
    ]);
}

/// Restores 400 MiB while `trouble` happens; all is there afterwards.
fn survives(name: &str, trouble: impl FnOnce()) {
    let space = Namespace::new(&format!("e2e-{name}"));
    let before = filled(&space, 400);
    let name = own(name);
    lost(&space, &name);
    create(&object("Restore", &name, &json!({"backupName": name})));
    under_way(Of::Restore, &name);
    trouble();
    let restored = phase("restores.velero.io", &name, &ENDED);
    assert_eq!(restored["status"]["phase"], "Completed", "{restored}");
    ready(&space);
    assert_eq!(digest(&space), before);
}

/// Ends the pods with this label at once, as a machine that loses its power does.
fn kill(label: &str) {
    kubectl(&[
        "-n",
        SPACE,
        "delete",
        "pods",
        "-l",
        label,
        "--force",
        "--grace-period=0",
    ]);
}

#[test]
fn a_restore_goes_on_after_the_end_of_its_agent_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    survives("agent-killed", || kill("role=node-agent"));
}

#[test]
fn a_restore_goes_on_after_the_end_of_the_coordinator_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    survives("coordinator-killed", || kill("deploy=velero"));
}

/// Backs up 1.5 GiB while `trouble` happens; the backup has all of it, and the objects.
fn backup_survives(name: &str, trouble: impl FnOnce()) -> Value {
    let space = Namespace::new(&format!("e2e-{name}"));
    let before = filled(&space, 1536);
    let name = own(name);
    let spec = json!({"includedNamespaces": [space.0], "ttl": "1h"});
    create(&object("Backup", &name, &spec));
    under_way(Of::Backup, &name);
    trouble();
    let made = phase("backups.velero.io", &name, &ENDED);
    assert_eq!(made["status"]["phase"], "Completed", "{made}");
    kubectl(&["delete", "namespace", &space.0, "--timeout=120s"]);
    create(&object("Restore", &name, &json!({"backupName": name})));
    let restored = phase("restores.velero.io", &name, &ENDED);
    assert_eq!(restored["status"]["phase"], "Completed", "{restored}");
    ready(&space);
    assert_eq!(digest(&space), before);
    made
}

#[test]
fn a_backup_goes_on_after_the_end_of_its_agent_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    backup_survives("backup-agent-killed", || kill("role=node-agent"));
}

#[test]
fn a_backup_goes_on_after_the_end_of_the_coordinator_and_its_disk_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    let made = backup_survives("backup-coordinator-killed", || kill("deploy=velero"));
    // The objects were read twice, or at the end: which of it depends on who comes back first.
    assert!(made["status"]["errors"].is_null(), "{made}");
}

#[test]
fn a_restore_waits_for_a_store_that_is_away_for_a_minute_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    let (there, away) = (
        Path::new(STORE).join("kopia"),
        Path::new(STORE).join("away"),
    );
    survives("store-away", || {
        std::fs::rename(&there, &away).unwrap();
        std::thread::sleep(Duration::from_mins(1));
        // Whatever was put into the place meanwhile is not the repository.
        let _ = std::fs::remove_dir_all(&there);
        std::fs::rename(&away, &there).unwrap();
    });
    phase(
        "backupstoragelocations.velero.io",
        "default",
        &["Available"],
    );
}

#[test]
fn fifty_pods_come_back_at_once_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-fifty");
    let count = 50;
    for number in 0..count {
        let command = format!("echo pod {number} > /data/note; exec sleep 100000");
        create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("app-{number}"), "namespace": space.0, "labels": {"app": "many"},
                "annotations": {"backup.velero.io/backup-volumes": "data"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": crate::cluster::BUSYBOX, "imagePullPolicy": "Never",
                    "command": ["sh", "-c", "[ -s /data/note ] || { ".to_owned() + &command + "; }; exec sleep 100000"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        }));
    }
    let all_ready = || {
        kubectl(&[
            "-n",
            &space.0,
            "wait",
            "--for=condition=Ready",
            "pod",
            "-l",
            "app=many",
            "--timeout=240s",
        ])
    };
    all_ready();
    let name = own("fifty");
    lost(&space, &name);
    create(&object("Restore", &name, &json!({"backupName": name})));
    let patience = Duration::from_mins(10);
    let restored = phase_within(patience, "restores.velero.io", &name, &ENDED);
    assert_eq!(restored["status"]["phase"], "Completed", "{restored}");
    assert_eq!(all_ready().lines().count(), count);
    for number in [0, 7, 49] {
        let note = space.exec(&format!("app-{number}"), &["cat", "/data/note"]);
        assert_eq!(note.trim(), format!("pod {number}"));
    }
}

/// A ConfigMap of the installation that goes also when its scenario fails.
struct Config(String);

impl Drop for Config {
    fn drop(&mut self) {
        kubectl(&[
            "-n",
            SPACE,
            "delete",
            "configmap",
            &self.0,
            "--ignore-not-found",
        ]);
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_said_and_waited_for_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    let space = Namespace::new("e2e-image");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let name = own("image");
    lost(&space, &name);
    let config = Config(own("restore-helper"));
    create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": config.0, "namespace": SPACE,
            "labels": {"velero.io/plugin-config": "", "velero.io/pod-volume-restore": "RestoreItemAction"}},
        "data": {"image": "localhost/nothing-of-that-name:1"},
    }));
    create(&object("Restore", &name, &json!({"backupName": name})));
    let reason = eventually_within(Duration::from_mins(1), "the reason is said", || {
        let text = kubectl(&["-n", SPACE, "get", "events", "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let events = list["items"].as_array().unwrap();
        let of_restore = events
            .iter()
            .filter(|event| event["involvedObject"]["name"] == name.as_str());
        of_restore
            .filter_map(|event| event["message"].as_str())
            .find(|message| message.contains("nothing-of-that-name"))
            .map(str::to_owned)
    });
    assert!(reason.contains("app"), "{reason}");
    let image = get_in(SPACE, "deployments", "velero").unwrap();
    let image = &image["spec"]["template"]["spec"]["containers"][0]["image"];
    let image = format!("restore-wait={}", image.as_str().unwrap());
    kubectl(&["-n", &space.0, "set", "image", "pod/app", &image]);
    drop(config);
    let restored = phase("restores.velero.io", &name, &ENDED);
    assert_eq!(restored["status"]["phase"], "Completed", "{restored}");
    ready(&space);
}

#[test]
fn definitions_go_back_and_forth_without_loss_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    let space = Namespace::new("e2e-definitions");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let spec = json!({"includedNamespaces": [space.0], "ttl": "1h"});
    let before = backup(&own("definitions"), &spec);
    // A definition that checks and knows none of the fields.
    let old = json!([
        {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
            "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    ]);
    let definition = "backups.velero.io";
    let patch = old.to_string();
    kubectl(&["patch", "crd", definition, "--type=json", "-p", &patch]);
    let between = backup(&own("definitions-old"), &spec);
    assert_eq!(between["status"]["phase"], "Completed");
    kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "deploy/crds/velero.yaml",
    ]);
    let after = backup(&own("definitions-new"), &spec);
    assert_eq!(after["status"]["phase"], "Completed");
    for one in [&before, &between] {
        let name = one["metadata"]["name"].as_str().unwrap();
        let now = get(definition, name).unwrap();
        assert_eq!(now["status"], one["status"], "{name}");
        assert!(!downloads::objects(name).is_empty());
    }
}
