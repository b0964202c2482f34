//! The examples: what their annotations name is there, and can be understood.

use orlop_core::retention::RetentionPolicy;
use orlop_kubernetes::{selection::Filters, velero::Restore};
use serde_json::Value;

use super::{Object, all, list, named};

fn databases() -> Vec<Object> {
    let found: Vec<Object> = all()
        .into_iter()
        .filter(|object| object.kind() == "StatefulSet")
        .collect();
    assert_eq!(found.len(), 2);
    found
}

#[test]
fn annotations_stand_on_pods_and_name_volumes_that_are_mounted() {
    for object in databases() {
        assert_eq!(object.value["metadata"]["annotations"], Value::Null);
        let template = object.template().unwrap();
        let annotations = &template["metadata"]["annotations"];
        let wanted = annotations["backup.velero.io/backup-volumes"]
            .as_str()
            .unwrap();
        let mounts = &template["spec"]["containers"][0]["volumeMounts"];
        for name in wanted.split(',') {
            named(mounts, name);
        }
    }
}

#[test]
fn the_first_variant_backs_up_a_claim_that_is_mounted_in_part() {
    let databases = databases();
    let object = databases
        .iter()
        .find(|one| one.file.ends_with("volume/statefulset.yaml"))
        .unwrap();
    let template = object.template().unwrap();
    let annotations = template["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(annotations.len(), 1);
    assert_eq!(
        annotations["backup.velero.io/backup-volumes"],
        "postgresql-vct"
    );
    let container = &template["spec"]["containers"][0];
    assert_eq!(container["image"], "postgres:9.6");
    let mount = named(&container["volumeMounts"], "postgresql-vct");
    assert_eq!(mount["subPath"], "postgresql-db");
    let claims: Vec<&Value> = list(&object.value["spec"]["volumeClaimTemplates"]).collect();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0]["metadata"]["name"], "postgresql-vct");
}

#[test]
fn the_second_variant_dumps_into_a_volume_of_its_own() {
    let databases = databases();
    let object = databases
        .iter()
        .find(|one| one.file.ends_with("dump/statefulset.yaml"))
        .unwrap();
    let template = object.template().unwrap();
    let annotations = &template["metadata"]["annotations"];
    assert_eq!(
        annotations["backup.velero.io/backup-volumes"],
        "postgresql-backup"
    );
    assert_eq!(annotations["pre.hook.backup.velero.io/timeout"], "3m");
    let command = annotations["pre.hook.backup.velero.io/command"]
        .as_str()
        .unwrap();
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(words[..2], ["/bin/bash", "-c"]);
    assert!(words[2].contains("pg_dump"), "{words:?}");
    let volume = named(&template["spec"]["volumes"], "postgresql-backup");
    assert!(volume["emptyDir"].is_object(), "{volume}");
    let mounts = &template["spec"]["containers"][0]["volumeMounts"];
    let path = named(mounts, "postgresql-backup")["mountPath"]
        .as_str()
        .unwrap();
    assert!(
        words[2].ends_with(&format!("> {path}/backup.sql")),
        "{words:?}"
    );
    // After a restore the same file is loaded, whole or not at all.
    let load = annotations["orlop.io/load-command"].as_str().unwrap();
    let words: Vec<String> = serde_json::from_str(load).unwrap();
    let file = format!("-f {path}/backup.sql");
    for part in ["psql", "ON_ERROR_STOP=1", "--single-transaction", &file] {
        assert!(words[2].contains(part), "{part} in {words:?}");
    }
}

#[test]
fn the_schedule_says_which_backups_to_keep() {
    let schedule = all()
        .into_iter()
        .find(|object| object.kind() == "Schedule")
        .unwrap();
    let rules = schedule.value["metadata"]["annotations"]["orlop.io/keep"]
        .as_str()
        .unwrap();
    let policy: RetentionPolicy = rules.parse().unwrap();
    assert_eq!(policy.to_string(), rules);
}

#[test]
fn the_restore_is_of_the_backup_and_can_be_read() {
    let all = all();
    let of_kind = |kind: &str| all.iter().find(|object| object.kind() == kind).unwrap();
    let restore: Restore = serde_json::from_value(of_kind("Restore").value.clone()).unwrap();
    assert_eq!(restore.spec.backup_name, of_kind("Backup").name());
    assert!(Filters::of_restore(&restore.spec).is_ok());
}
