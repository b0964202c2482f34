//! Restores of what was lost: objects, volumes, and a dump that is loaded by a hook.

use serde_json::json;

use crate::{
    cluster::{
        BUSYBOX, ENDED, Namespace, backup, create, get_in, kubectl, labelled, object, own, phase,
        shared,
    },
    downloads,
    guide::{POSTGRES, postgres, sql},
};

/// Restores a backup and waits for the end.
fn restore(name: &str, spec: &serde_json::Value) -> serde_json::Value {
    create(&object("Restore", name, spec));
    phase("restores.velero.io", name, &ENDED)
}

fn completed(restored: &serde_json::Value) {
    let status = &restored["status"];
    assert_eq!(status["phase"], "Completed", "{status}");
    assert_eq!(status.get("errors"), None);
}

#[test]
fn the_database_of_the_guide_comes_back_as_it_was_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let _postgres = POSTGRES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let space = postgres("volume");
    let name = own("volume-back");
    let spec = json!({"includedNamespaces": ["postgres"], "ttl": "1h"});
    assert_eq!(backup(&name, &spec)["status"]["phase"], "Completed");
    sql(&space, "insert into greetings values ('too late')");
    kubectl(&["delete", "namespace", "postgres"]);
    completed(&restore(&name, &json!({"backupName": name})));
    kubectl(&[
        "-n",
        "postgres",
        "rollout",
        "status",
        "sts/postgresql",
        "--timeout=120s",
    ]);
    assert_eq!(sql(&space, "select * from greetings").trim(), "hello!");
    // The StatefulSet has adopted the pod, and nothing of ours is in the volume.
    let pod = get_in("postgres", "pods", "postgresql-0").unwrap();
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
    let files = space.exec(
        "postgresql-0",
        &["ls", "-A", "/var/lib/postgresql/data/pgdata"],
    );
    assert!(
        !files.contains(".velero") && !files.contains("orlop"),
        "{files}"
    );
    let volumes = labelled(
        "podvolumerestores.velero.io",
        &format!("velero.io/restore-name={name}"),
    );
    assert_eq!(volumes.len(), 1);
    assert_eq!(volumes[0]["status"]["phase"], "Completed");
    let results = downloads::json_file("RestoreResults", &name);
    assert_eq!(results["errors"].get("namespaces"), None, "{results}");
}

#[test]
fn the_dump_of_the_guide_is_loaded_as_its_annotation_says_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let _postgres = POSTGRES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let space = postgres("dump");
    // Its annotation says how.
    let name = own("dump-back");
    let spec = json!({"includedNamespaces": ["postgres"], "ttl": "1h"});
    assert_eq!(backup(&name, &spec)["status"]["phase"], "Completed");
    kubectl(&["delete", "namespace", "postgres"]);
    let restored = restore(&name, &json!({"backupName": name}));
    completed(&restored);
    assert_eq!(restored["status"]["hookStatus"]["hooksAttempted"], 1);
    assert_eq!(sql(&space, "select * from greetings").trim(), "hello!");
    // The database's own claim is not in the backup, and that is said.
    let results = downloads::json_file("RestoreResults", &name).to_string();
    assert!(results.contains("the claim comes back empty"), "{results}");
}

#[test]
fn an_ephemeral_volume_and_a_chosen_node_port_come_back_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-ephemeral");
    let name = own("ephemeral");
    create(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": space.0},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [
            {"name": "chosen", "port": 80, "nodePort": 30080}, {"name": "given", "port": 81},
        ]},
    }));
    let claim =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}});
    create(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": space.0},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {"backup.velero.io/backup-volumes": "data"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": BUSYBOX, "imagePullPolicy": "Never",
                    "command": ["sh", "-c", "[ -e /data/born ] || head -c 64 /dev/urandom | md5sum > /data/born; exec sleep 100000"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}],
            },
        }},
    }));
    let ready = || {
        let args = ["rollout", "status", "deploy/web", "--timeout=120s"];
        kubectl(&[["-n", &space.0].as_slice(), args.as_slice()].concat());
        space.exec("deploy/web", &["cat", "/data/born"])
    };
    let born = ready();
    let spec = json!({
        "includedNamespaces": [space.0], "includedClusterScopedResources": ["storageclasses"], "ttl": "1h",
    });
    assert_eq!(backup(&name, &spec)["status"]["phase"], "Completed");
    kubectl(&["delete", "namespace", &space.0]);
    completed(&restore(&name, &json!({"backupName": name})));
    assert_eq!(ready(), born);
    let service = get_in(&space.0, "services", "web").unwrap();
    assert_eq!(service["spec"]["ports"][0]["nodePort"], 30080);
}

#[test]
fn a_namespace_is_restored_beside_the_one_that_is_there_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let space = Namespace::new("e2e-original");
    space.pod("app", &json!({"backup.velero.io/backup-volumes": "data"}));
    space.exec("app", &["sh", "-c", "echo kept > /data/note"]);
    let name = own("beside");
    backup(
        &name,
        &json!({"includedNamespaces": [space.0], "ttl": "1h"}),
    );
    let copy = Namespace::new("e2e-copy");
    let mapping = json!({"backupName": name, "namespaceMapping": {"e2e-original": "e2e-copy"}});
    completed(&restore(&name, &mapping));
    kubectl(&[
        "-n",
        "e2e-copy",
        "wait",
        "--for=condition=Ready",
        "pod/app",
        "--timeout=60s",
    ]);
    assert_eq!(copy.exec("app", &["cat", "/data/note"]).trim(), "kept");
    // What exists is left alone.
    let again = own("again");
    completed(&restore(&again, &json!({"backupName": name})));
    let pods = kubectl(&["-n", "e2e-original", "get", "pods", "-o", "name"]);
    assert_eq!(pods.trim(), "pod/app");
}

#[test]
fn a_restore_of_nothing_is_refused_with_its_reason_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let refused = restore(&own("none"), &json!({"backupName": "nothing-of-that-name"}));
    assert_eq!(refused["status"]["phase"], "FailedValidation");
    let errors = refused["status"]["validationErrors"].to_string();
    assert!(errors.contains("nothing-of-that-name"), "{errors}");
}
