//! How backups come and go: schedules, time to live, deletion, and an emptied cluster.

use std::{path::Path, process::Command, time::Duration};

use orlop_tests::eventually_within;
use serde_json::json;

use crate::{
    cluster::{
        ENDED, Namespace, SPACE, STORE, alone, backup, create, get, gone, kubectl, labelled,
        object, own, phase, shared,
    },
    downloads,
};

#[test]
fn a_schedule_makes_backups_and_its_pause_holds_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-schedule");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let name = own("schedule");
    let template = json!({"includedNamespaces": [space.0], "ttl": "1h"});
    create(&object(
        "Schedule",
        &name,
        &json!({"schedule": "* * * * *", "template": template}),
    ));
    phase("schedules.velero.io", &name, &["Enabled"]);
    let label = format!("velero.io/schedule-name={name}");
    let completed = || {
        let backups = labelled("backups.velero.io", &label);
        backups
            .into_iter()
            .find(|backup| backup["status"]["phase"] == "Completed")
    };
    let made = eventually_within(
        Duration::from_mins(2),
        "a backup of the schedule",
        completed,
    );
    assert!(
        made["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with(&name)
    );
    kubectl(&[
        "-n",
        SPACE,
        "patch",
        "schedules.velero.io",
        &name,
        "--type=merge",
        "-p",
        r#"{"spec":{"paused":true}}"#,
    ]);
    let count = labelled("backups.velero.io", &label).len();
    std::thread::sleep(Duration::from_secs(65));
    assert!(
        labelled("backups.velero.io", &label).len() <= count + 1,
        "it is paused"
    );
    kubectl(&["-n", SPACE, "delete", "schedules.velero.io", &name]);
}

#[test]
fn a_backup_goes_when_its_time_is_over_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-ttl");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let name = own("ttl");
    let made = backup(
        &name,
        &json!({"includedNamespaces": [space.0], "ttl": "5s"}),
    );
    assert_eq!(made["status"]["phase"], "Completed");
    gone("backups.velero.io", &name);
    assert!(
        !Path::new(STORE)
            .join("backups")
            .join(&name)
            .join("velero-backup.json")
            .exists()
    );
    let volumes = labelled(
        "podvolumebackups.velero.io",
        &format!("velero.io/backup-name={name}"),
    );
    assert!(volumes.is_empty(), "{volumes:?}");
}

#[test]
fn a_deleted_backup_leaves_nothing_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-delete");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let name = own("delete");
    backup(
        &name,
        &json!({"includedNamespaces": [space.0], "ttl": "1h"}),
    );
    let dir = Path::new(STORE).join("backups").join(&name);
    assert!(dir.join("velero-backup.json").exists());
    // As KOTS does it: the request has the backup's name, and no labels.
    create(&object(
        "DeleteBackupRequest",
        &name,
        &json!({"backupName": name}),
    ));
    gone("backups.velero.io", &name);
    assert!(!dir.join("velero-backup.json").exists());
}

#[test]
fn downloads_reach_a_machine_without_a_route_to_services_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-laptop");
    space.pod("app", &json!({}));
    let name = own("laptop");
    backup(
        &name,
        &json!({"includedNamespaces": [space.0], "ttl": "1h"}),
    );
    let url = downloads::url("BackupLog", &name);
    let address = url
        .split('/')
        .nth(2)
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .0
        .to_owned();
    let laptop = Laptop::beside(&address);
    let there = ["ip", "netns", "exec", &laptop.name];
    let services = "http://10.96.0.1:443/";
    assert!(
        downloads::fetch(services, &there).is_err(),
        "the laptop has no way to services"
    );
    assert!(!downloads::fetch(&url, &there).unwrap().is_empty());
    assert!(
        downloads::fetch(&url, &there).is_err(),
        "a URL is good once"
    );
}

/// A machine that reaches one address through this one and nothing else: a network namespace with a pair of devices.
struct Laptop {
    name: String,
}

impl Laptop {
    fn beside(address: &str) -> Self {
        let laptop = Self {
            name: format!("laptop{}", std::process::id()),
        };
        let name = laptop.name.as_str();
        let ip = |words: &str| {
            let done = Command::new("ip").args(words.split(' ')).output().unwrap();
            let errors = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "ip {words}: {errors}");
        };
        ip(&format!("netns add {name}"));
        ip("link add lapa type veth peer name lapb");
        ip(&format!("link set lapb netns {name}"));
        ip("addr add 10.210.0.1/30 dev lapa");
        ip("link set lapa up");
        ip(&format!("-n {name} addr add 10.210.0.2/30 dev lapb"));
        ip(&format!("-n {name} link set lapb up"));
        ip(&format!("-n {name} route add {address}/32 via 10.210.0.1"));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        // The node answers to this machine only.
        let rule = [
            "-t",
            "nat",
            "-A",
            "POSTROUTING",
            "-s",
            "10.210.0.2/32",
            "-j",
            "MASQUERADE",
        ];
        assert!(
            Command::new("iptables")
                .args(rule)
                .status()
                .unwrap()
                .success()
        );
        laptop
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        let rule = [
            "-t",
            "nat",
            "-D",
            "POSTROUTING",
            "-s",
            "10.210.0.2/32",
            "-j",
            "MASQUERADE",
        ];
        let _ = Command::new("iptables").args(rule).status();
        let _ = Command::new("ip").args(["link", "del", "lapa"]).status();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

#[test]
fn a_store_that_is_gone_is_said_and_waited_for_in_a_cluster() {
    let Some(_installation) = alone() else {
        return;
    };
    let space = Namespace::new("e2e-gone");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let (there, away) = (
        Path::new(STORE).join("kopia"),
        Path::new(STORE).join("away"),
    );
    std::fs::rename(&there, &away).unwrap();
    let spec = json!({"includedNamespaces": [space.0], "ttl": "1h"});
    let name = own("gone");
    create(&object("Backup", &name, &spec));
    let location = phase(
        "backupstoragelocations.velero.io",
        "default",
        &["Unavailable"],
    );
    let message = location["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("holds no repository any more"),
        "{message}"
    );
    // Whatever was put into the place meanwhile is not the repository.
    let _ = std::fs::remove_dir_all(&there);
    std::fs::rename(&away, &there).unwrap();
    phase(
        "backupstoragelocations.velero.io",
        "default",
        &["Available"],
    );
    phase("backups.velero.io", &name, &ENDED);
    let next = backup(&own("gone-again"), &spec);
    assert_eq!(next["status"]["phase"], "Completed", "{next}");
}

#[test]
fn an_emptied_cluster_learns_its_backups_from_the_store_in_a_cluster() {
    let Some(_installation) = alone() else { return };
    let space = Namespace::new("e2e-emptied");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    let name = own("emptied");
    let before = backup(
        &name,
        &json!({"includedNamespaces": [space.0], "ttl": "1h"}),
    );
    let secret = get("secrets", "velero-repo-credentials").unwrap();
    // Their finalizers are taken away by who runs there.
    kubectl(&[
        "-n",
        SPACE,
        "delete",
        "restores.velero.io",
        "--all",
        "--timeout=60s",
    ]);
    kubectl(&["delete", "namespace", SPACE, "--timeout=120s"]);
    kubectl(&["create", "namespace", SPACE]);
    create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "velero-repo-credentials", "namespace": SPACE},
        "data": secret["data"],
    }));
    kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "-k",
        "deploy/overlays/hostpath",
    ]);
    let after = phase("backups.velero.io", &name, &["Completed"]);
    for field in [
        "phase",
        "startTimestamp",
        "completionTimestamp",
        "expiration",
    ] {
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert!(!downloads::objects(&name).is_empty());
    let volumes = labelled(
        "podvolumebackups.velero.io",
        &format!("velero.io/backup-name={name}"),
    );
    assert_eq!(volumes.len(), 1);
    // Agents are there again, and what they upload finds its old chunks.
    let again = own("emptied-again");
    let next = backup(
        &again,
        &json!({"includedNamespaces": [space.0], "ttl": "1h"}),
    );
    assert_eq!(next["status"]["phase"], "Completed", "{next}");
}
