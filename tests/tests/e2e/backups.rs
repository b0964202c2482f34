//! Backups of small pods, and what goes wrong with them.

use serde_json::json;

use crate::{
    cluster::{Namespace, backup, labelled, shared},
    downloads,
};

fn spec(space: &Namespace) -> serde_json::Value {
    json!({"includedNamespaces": [space.0], "ttl": "1h"})
}

#[test]
fn a_name_that_is_no_volume_is_a_warning_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-typo");
    space.pod(
        "app",
        &json!({"backup.velero.io/backup-volumes": "data, nothere"}),
    );
    let name = format!("e2e-typo-{}", std::process::id());
    let made = backup(&name, &spec(&space));
    let status = &made["status"];
    assert_eq!(
        (&status["phase"], &status["warnings"]),
        (&json!("Completed"), &json!(1))
    );
    let results = downloads::json_file("BackupResults", &name).to_string();
    assert!(results.contains("nothere"), "{results}");
    let volumes = labelled(
        "podvolumebackups.velero.io",
        &format!("velero.io/backup-name={name}"),
    );
    assert_eq!(volumes.len(), 1, "the name with a space before it is found");
    assert_eq!(volumes[0]["status"]["progress"]["totalBytes"], 1_000_000);
}

#[test]
fn hooks_that_fail_or_hang_are_errors_that_say_why_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-hooks");
    let hooks = |command: &str, on_error: &str| {
        json!({
            "backup.velero.io/backup-volumes": "data",
            "pre.hook.backup.velero.io/command": json!(["sh", "-c", command]).to_string(),
            "pre.hook.backup.velero.io/on-error": on_error,
            "pre.hook.backup.velero.io/timeout": "3s",
        })
    };
    space.pod("fails", &hooks("echo no room >&2; exit 3", "Fail"));
    space.pod("hangs", &hooks("sleep 1000", "Continue"));
    let name = format!("e2e-hooks-{}", std::process::id());
    let made = backup(&name, &spec(&space));
    let status = &made["status"];
    assert_eq!(status["phase"], "PartiallyFailed", "{status}");
    assert_eq!(status["hookStatus"]["hooksFailed"], 2);
    let log = downloads::log(&name);
    assert!(
        log.contains("no room") && log.contains("timed out after 3s"),
        "{log}"
    );
    let volumes = labelled(
        "podvolumebackups.velero.io",
        &format!("velero.io/backup-name={name}"),
    );
    let phase_of = |pod: &str| {
        let volume = volumes.iter().find(|one| one["spec"]["pod"]["name"] == pod);
        volume.unwrap()["status"]["phase"].clone()
    };
    assert_eq!(phase_of("hangs"), "Completed");
    assert_eq!(phase_of("fails"), "Failed", "on-error says so");
}

#[test]
fn backups_at_the_same_time_all_end_well_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-many");
    for pod in ["a", "b"] {
        space.pod(pod, &json!({"backup.velero.io/backup-volumes": "data"}));
    }
    let ends: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (name, spec) = (
                    format!("e2e-many-{}-{number}", std::process::id()),
                    spec(&space),
                );
                scope.spawn(move || {
                    backup(&name, &spec)["status"]["phase"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(ends, ["Completed"; 4]);
}
