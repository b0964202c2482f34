//! What is refused on receipt, and what survives the way there and back.

use orlop_core::SnapshotId;

use super::*;

#[test]
fn outcomes_survive_the_wire() {
    let completed = Outcome::Completed(TaskResult {
        snapshot: SnapshotId::from_bytes([7; 16]),
        logical_bytes: 1,
        transferred_bytes: 2,
        entries: 3,
        warnings: 4,
        errors: 5,
    });
    let failed = Outcome::Failed {
        message: "disk full".to_owned(),
        retry: true,
    };
    for outcome in [completed, failed, Outcome::Canceled] {
        let wire = v1::task_finished::Outcome::from(&outcome);
        assert_eq!(Outcome::try_from(wire), Ok(outcome));
    }
}

#[test]
fn issues_survive_the_wire_with_any_path() {
    let issue = Issue {
        path: vec![0xff, b'/', 1],
        kind: IssueKind::Unreadable,
        errno: 13,
        message: "permission denied".to_owned(),
    };
    assert_eq!(Issue::try_from(v1::Issue::from(&issue)), Ok(issue));
    assert_eq!(
        Issue::try_from(v1::Issue::default()).unwrap_err().field,
        "kind"
    );
}

#[test]
fn volumes_exclude_namespaces() {
    let request = v1::CreateBackupRequest {
        name: "b".to_owned(),
        namespaces: vec!["ns".to_owned()],
        volumes: vec![(&VolumeRef::new("ns", "p", "v")).into()],
        ..Default::default()
    };
    assert_eq!(BackupSpec::try_from(request).unwrap_err().field, "volumes");
}

#[test]
fn a_restore_names_one_source() {
    let none = v1::CreateRestoreRequest::default();
    assert!(RestoreSpec::try_from(none).is_err());
    let volume = v1::RestoreVolume {
        snapshot: "latest:a/b/c".to_owned(),
        ..Default::default()
    };
    let one = v1::CreateRestoreRequest {
        volumes: vec![volume.clone()],
        ..Default::default()
    };
    assert_eq!(RestoreSpec::try_from(one).unwrap().volumes.len(), 1);
    let both = v1::CreateRestoreRequest {
        from_backup: "b".to_owned(),
        volumes: vec![volume],
        ..Default::default()
    };
    assert!(RestoreSpec::try_from(both).is_err());
}

#[test]
fn a_snapshot_goes_into_one_volume_that_a_pod_or_a_claim_names() {
    let into = |target: Option<v1::VolumeRef>, namespace: &str| v1::CreateRestoreRequest {
        volumes: vec![v1::RestoreVolume {
            snapshot: "s".to_owned(),
            target,
            claim: Some(v1::ClaimRef {
                namespace: namespace.to_owned(),
                claim: "data".to_owned(),
            }),
        }],
        mode: v1::RestoreMode::NewDir.into(),
        ..Default::default()
    };
    let spec = RestoreSpec::try_from(into(None, "shop")).unwrap();
    let claim = spec.volumes[0].claim.as_ref().unwrap();
    assert_eq!(claim.to_string(), "shop/data");
    assert_eq!(spec.directory("r"), Some("r"));
    let target = Some((&VolumeRef::new("shop", "p", "v")).into());
    let both = RestoreSpec::try_from(into(target, "shop")).unwrap_err();
    assert_eq!(both.field, "volumes[0].claim");
    let slash = RestoreSpec::try_from(into(None, "a/b")).unwrap_err();
    assert_eq!(slash.field, "volumes[0].claim.namespace");
}

#[test]
fn a_restore_of_objects_says_all_else_in_its_object() {
    let object = |text: &'static str| v1::CreateRestoreRequest {
        from_backup: "b".to_owned(),
        velero_object: text.as_bytes().into(),
        ..Default::default()
    };
    let spec = RestoreSpec::try_from(object(r#"{"spec": {}}"#)).unwrap();
    assert_eq!(spec.velero_object, r#"{"spec": {}}"#);
    assert_eq!(spec.effective_mode(), RestoreMode::Overwrite);
    let refused =
        |request: v1::CreateRestoreRequest| RestoreSpec::try_from(request).unwrap_err().field;
    for text in ["[]", "{", "7", "{} {}"] {
        assert_eq!(refused(object(text)), "velero_object", "{text}");
    }
    let large = v1::CreateRestoreRequest {
        velero_object: format!(r#"{{"a": "{}"}}"#, "x".repeat(1 << 20)).into(),
        ..object("{}")
    };
    assert_eq!(refused(large), "velero_object");
    let bytes = v1::CreateRestoreRequest {
        velero_object: vec![b'{', 0xff].into(),
        ..object("{}")
    };
    assert_eq!(refused(bytes), "velero_object");
    let nowhere = v1::CreateRestoreRequest {
        from_backup: String::new(),
        ..object("{}")
    };
    assert_eq!(refused(nowhere), "from_backup");
    let pair = || [("a".to_owned(), "b".to_owned())].into();
    let with = [
        v1::CreateRestoreRequest {
            volumes: vec![v1::RestoreVolume::default()],
            ..object("{}")
        },
        v1::CreateRestoreRequest {
            namespace_mapping: pair(),
            ..object("{}")
        },
        v1::CreateRestoreRequest {
            pod_mapping: pair(),
            ..object("{}")
        },
        v1::CreateRestoreRequest {
            mode: v1::RestoreMode::Overwrite.into(),
            ..object("{}")
        },
        v1::CreateRestoreRequest {
            path: "x".into(),
            ..object("{}")
        },
    ];
    for (number, request) in with.into_iter().enumerate() {
        assert_eq!(refused(request), "velero_object", "{number}");
    }
}

#[test]
fn a_bad_volume_of_an_inventory_is_named() {
    let good = v1::FoundVolume {
        volume: Some((&VolumeRef::new("ns", "p", "v")).into()),
        lineage: "l".to_owned(),
        ..Default::default()
    };
    let bad = v1::FoundVolume {
        lineage: String::new(),
        ..good.clone()
    };
    let known = inventory("n", vec![good.clone()]).unwrap();
    assert_eq!(v1::FoundVolume::from(&known[0]), good);
    assert_eq!(
        inventory("n", vec![good, bad]).unwrap_err().field,
        "volumes[1].lineage"
    );
}

#[test]
fn long_messages_are_cut_between_characters() {
    let long = "ü".repeat(3000);
    assert_eq!(clip(&long).len(), 4096);
    assert_eq!(clip("short"), "short");
}

#[test]
fn a_backup_that_expires_says_when() {
    let run = Run::new(orlop_core::run::RunKind::Backup, "b", "default", 1000);
    let spec = BackupSpec {
        ttl_seconds: 60,
        ..BackupSpec::default()
    };
    assert_eq!(backup(&run, &spec).expires_ms, 61_000);
    assert_eq!(backup(&run, &BackupSpec::default()).expires_ms, 0);
}
