//! The guide "Configure Application Snapshots" of KOTS, both variants: the database's volume, and a dump.

use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::{
    cluster::{Namespace, backup, kubectl, labelled, shared},
    downloads,
};

/// Both variants have the same namespace.
pub(crate) static POSTGRES: Mutex<()> = Mutex::new(());

/// PostgreSQL with one row.
pub(crate) fn postgres(variant: &str) -> Namespace {
    let space = Namespace::new("postgres");
    kubectl(&[
        "apply",
        "-k",
        &format!("deploy/examples/postgres/test-cluster/{variant}"),
    ]);
    kubectl(&[
        "-n",
        "postgres",
        "rollout",
        "status",
        "sts/postgresql",
        "--timeout=180s",
    ]);
    sql(
        &space,
        "create table greetings (text varchar(20)); insert into greetings values ('hello!')",
    );
    space
}

pub(crate) fn sql(space: &Namespace, statement: &str) -> String {
    space.exec(
        "postgresql-0",
        &["psql", "-U", "postgres", "-Atc", statement],
    )
}

#[test]
fn the_volume_of_the_guide_is_backed_up_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let _postgres = POSTGRES.lock().unwrap_or_else(PoisonError::into_inner);
    let space = postgres("volume");
    let name = format!("e2e-volume-{}", std::process::id());
    let made = backup(
        &name,
        &json!({"includedNamespaces": ["postgres"], "ttl": "1h"}),
    );
    let status = &made["status"];
    assert_eq!(status["phase"], "Completed", "{status}");
    assert_eq!((status.get("errors"), status.get("warnings")), (None, None));
    let volumes = labelled(
        "podvolumebackups.velero.io",
        &format!("velero.io/backup-name={name}"),
    );
    assert_eq!(volumes.len(), 1);
    let (spec, volume) = (&volumes[0]["spec"], &volumes[0]["status"]);
    assert_eq!(
        (&spec["volume"], &volume["phase"]),
        (&json!("postgresql-vct"), &json!("Completed"))
    );
    let total = volume["progress"]["totalBytes"].as_u64().unwrap();
    assert_eq!(volume["progress"]["bytesDone"].as_u64(), Some(total));
    assert!(total > 20_000_000, "a database has some size: {total}");
    let objects = downloads::objects(&name);
    assert_eq!(status["progress"]["totalItems"], json!(objects.len()));
    for one in [
        "pods/postgres/postgresql-0",
        "statefulsets.apps/postgres/postgresql",
        "namespaces//postgres",
    ] {
        assert!(
            objects.iter().any(|object| object == one),
            "{one} in {objects:?}"
        );
    }
    let results = downloads::json_file("BackupResults", &name);
    for group in ["errors", "warnings"] {
        let count = |part: &str| results[group][part].as_array().map_or(0, Vec::len);
        assert_eq!(count("velero") + count("cluster"), 0, "{results}");
    }
    drop(space);
}

#[test]
fn the_dump_of_the_guide_is_made_by_its_hook_and_nothing_else_is_kept_in_a_cluster() {
    let Some(_installation) = shared() else {
        return;
    };
    let _postgres = POSTGRES.lock().unwrap_or_else(PoisonError::into_inner);
    let space = postgres("dump");
    let name = format!("e2e-dump-{}", std::process::id());
    let made = backup(
        &name,
        &json!({"includedNamespaces": ["postgres"], "ttl": "1h"}),
    );
    let status = &made["status"];
    assert_eq!(status["phase"], "Completed", "{status}");
    assert_eq!(status["hookStatus"]["hooksAttempted"], 1);
    let volumes = labelled(
        "podvolumebackups.velero.io",
        &format!("velero.io/backup-name={name}"),
    );
    assert_eq!(volumes.len(), 1);
    assert_eq!(volumes[0]["spec"]["volume"], "postgresql-backup");
    // Exactly the logical bytes of the one file there.
    let size = space.exec("postgresql-0", &["stat", "-c", "%s", "/backup/backup.sql"]);
    let size: u64 = size.trim().parse().unwrap();
    assert_eq!(volumes[0]["status"]["progress"]["totalBytes"], size);
    let dump = space.exec("postgresql-0", &["cat", "/backup/backup.sql"]);
    assert!(dump.contains("hello!"));
    // What KOTS makes its tab "Scripts" of.
    let log = downloads::log(&name);
    let line = log
        .lines()
        .find(|line| line.contains("running exec hook"))
        .unwrap();
    for field in [
        "hookPhase=pre",
        "name=postgresql-0",
        "namespace=postgres",
        "hookTimeout=",
        "pg_dump",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
}
