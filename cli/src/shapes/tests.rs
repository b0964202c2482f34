//! The JSON shapes, field by field and in order: programs read them, so they may only grow.

use orlop_agent::backup::{BackupReport, FileCounts};
use orlop_core::{Issue, IssueKind, Lineage, SnapshotId, VolumeRef};
use orlop_proto::v1;
use orlop_repository::{
    CheckDepth, CheckReport, Covered, Damage, DamageKind, LostParts, ObjectCounts, RepairReport,
    RepairState, RepairedPack, RepositoryStats, SnapshotInfo, SnapshotState, SnapshotStats,
};

use super::{
    BackupRunShape, BackupShape, BootstrapShape, CheckShape, RepairShape, RestoreRunShape,
    ScheduleShape, SnapshotShape,
};

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

fn volume() -> v1::VolumeRef {
    v1::VolumeRef {
        namespace: "ns".into(),
        pod: "pod".into(),
        volume: "vol".into(),
    }
}

#[test]
fn a_snapshot_has_the_same_shape_from_repository_and_server() {
    let info = SnapshotInfo {
        id: SnapshotId::from_bytes([0; 16]),
        volume: VolumeRef::new("ns", "pod", "vol"),
        lineage: Lineage("ns/pod/vol".to_owned()),
        time_ms: 1_500,
        state: SnapshotState::Complete,
        damaged: false,
        parent: None,
        backup: String::new(),
        node: "n".to_owned(),
        tags: vec!["t".to_owned()],
        stats: SnapshotStats {
            files: 1,
            dirs: 2,
            others: 3,
            logical_bytes: 4,
            uploaded_bytes: 5,
            warnings: 6,
            errors: 7,
        },
        session: 8,
        origin: None,
    };
    let expected = r#"{"id":"00000000000000000000000000","namespace":"ns","pod":"pod","volume":"vol","lineage":"ns/pod/vol","time":"1970-01-01T00:00:01.5Z","state":"complete","parent":null,"backup":null,"node":"n","tags":["t"],"files":1,"dirs":2,"others":3,"logical_bytes":4,"uploaded_bytes":5,"warnings":6,"errors":7}"#;
    assert_eq!(json(&SnapshotShape::from(&info)), expected);
    let wire = v1::Snapshot {
        snapshot_id: info.id.to_string(),
        volume: Some(volume()),
        lineage: "ns/pod/vol".into(),
        time_ms: 1_500,
        state: v1::SnapshotState::Complete.into(),
        node: "n".into(),
        tags: vec!["t".into()],
        stats: Some(v1::SnapshotStats {
            files: 1,
            dirs: 2,
            others: 3,
            logical_bytes: 4,
            uploaded_bytes: 5,
            warnings: 6,
            errors: 7,
        }),
        ..Default::default()
    };
    assert_eq!(json(&SnapshotShape::from(wire)), expected);
}

#[test]
fn a_backup_of_a_repository_reports_everything_it_did() {
    let report = BackupReport {
        snapshot: SnapshotId::from_bytes([0; 16]),
        parent: Some(SnapshotId::from_bytes([0; 16])),
        resumed_from: None,
        state: SnapshotState::Inconsistent,
        duration_ms: 1,
        files: FileCounts {
            total: 2,
            new: 3,
            changed: 4,
            unchanged: 5,
            removed: 6,
            opened: 7,
        },
        dirs: 8,
        others: 9,
        logical_bytes: 10,
        read_bytes: 11,
        new_bytes: 12,
        uploaded_bytes: 13,
        objects_put: 14,
        chunks_new: 15,
        chunks_reused: 16,
        issues_total: 17,
        errors: 1,
        issues: vec![
            Issue {
                path: b"a/b".to_vec(),
                kind: IssueKind::Vanished,
                errno: 0,
                message: "gone".into(),
            },
            Issue {
                path: b"\xe9".to_vec(),
                kind: IssueKind::Unreadable,
                errno: 13,
                message: "no".into(),
            },
        ],
    };
    let shape = BackupShape::new(
        &VolumeRef::new("ns", "pod", "vol"),
        &Lineage("l".into()),
        &report,
    );
    let text = json(&shape);
    let (front, rss) = text.split_once(r#","peak_rss_bytes":"#).unwrap();
    assert_eq!(
        front,
        r#"{"id":"00000000000000000000000000","namespace":"ns","pod":"pod","volume":"vol","lineage":"l","parent":"00000000000000000000000000","resumed_from":null,"state":"inconsistent","duration_ms":1,"files":{"total":2,"new":3,"changed":4,"unchanged":5,"removed":6,"opened":7},"dirs":8,"others":9,"logical_bytes":10,"read_bytes":11,"new_bytes":12,"uploaded_bytes":13,"objects_put":14,"chunks":{"new":15,"reused":16},"issues_total":17,"issues":[{"path":"a/b","kind":"vanished","errno":null,"message":"gone"},{"path":"�","path_b64":"6Q==","kind":"unreadable","errno":13,"message":"no"}]"#
    );
    assert!(rss.trim_end_matches('}').parse::<u64>().unwrap() > 0);
}

#[test]
fn stats_and_check_have_the_promised_fields() {
    let stats = RepositoryStats {
        repository_id: "r".into(),
        format: 0,
        snapshots: 1,
        lineages: 2,
        logical_bytes: 3,
        unique_bytes: 4,
        stored_bytes: 5,
        dead_bytes: 6,
        chunks: 7,
        objects: ObjectCounts::default(),
        dedup_ratio: 1.5,
        compression_ratio: 2.0,
    };
    assert_eq!(
        json(&stats),
        r#"{"repository_id":"r","format":0,"snapshots":1,"lineages":2,"logical_bytes":3,"unique_bytes":4,"stored_bytes":5,"dead_bytes":6,"chunks":7,"objects":{"data_packs":0,"meta_packs":0,"index":0,"snapshots":0,"refsets":0,"checkpoints":0,"log":0},"dedup_ratio":1.5,"compression_ratio":2.0}"#
    );
    let report = CheckReport {
        depth: CheckDepth::Data,
        ok: false,
        objects: 1,
        bytes: 2,
        resumed_bytes: 3,
        damage: vec![Damage {
            object: "p".into(),
            kind: DamageKind::MissingPack,
            snapshots: vec![SnapshotId::from_bytes([0; 16])],
            paths: vec!["x:/a".into()],
            repairable: true,
        }],
        more_damage: 4,
        covered: Covered {
            total_bytes: 5,
            read_bytes: 6,
            since_ms: Some(1_000),
            damaged_packs: 7,
        },
    };
    assert_eq!(
        json(&CheckShape::from(report)),
        r#"{"depth":"data","ok":false,"objects":1,"bytes":2,"resumed_bytes":3,"damage":[{"object":"p","kind":"missing_pack","snapshots":["00000000000000000000000000"],"paths":["x:/a"],"repairable":true}],"more_damage":4,"covered":{"total_bytes":5,"read_bytes":6,"since":"1970-01-01T00:00:01Z","damaged_packs":7}}"#
    );
}

#[test]
fn a_repair_has_the_promised_fields() {
    let report = RepairReport {
        dry_run: true,
        state: RepairState::Planned,
        index: vec!["i".into()],
        refsets: vec!["r".into()],
        records: vec!["v".into()],
        packs: vec![RepairedPack {
            object: "p".into(),
            missing: true,
            saved: 1,
            lost: 2,
        }],
        lost: vec![LostParts {
            snapshot: SnapshotId::from_bytes([0; 16]),
            volume: "ns/pod/vol".into(),
            unreadable: false,
            paths: vec!["/a".into()],
            paths_total: 3,
        }],
        whole: vec![SnapshotId::from_bytes([0; 16])],
        fenced: vec![4],
        waiting: Vec::new(),
    };
    let shape = RepairShape::from(report);
    assert!(!shape.is_sound());
    assert_eq!(
        json(&shape),
        r#"{"dry_run":true,"state":"planned","index":["i"],"refsets":["r"],"records":["v"],"packs":[{"object":"p","missing":true,"saved":1,"lost":2}],"lost":[{"snapshot":"00000000000000000000000000","volume":"ns/pod/vol","unreadable":false,"paths":["/a"],"paths_total":3}],"whole":["00000000000000000000000000"],"fenced":[4],"waiting":[]}"#
    );
    assert!(shape.table().contains("nothing was changed"));
}

#[test]
fn a_backup_run_has_the_promised_fields() {
    let backup = v1::Backup {
        name: "b1".into(),
        phase: v1::RunPhase::PartiallyFailed.into(),
        created_ms: 1_000,
        location: "default".into(),
        volumes: Some(v1::VolumeCounts {
            total: 1,
            done: 2,
            failed: 3,
            skipped: 4,
        }),
        objects: None,
        tasks: vec![v1::Task {
            task_id: "t".into(),
            node: "n".into(),
            volume: Some(volume()),
            phase: v1::TaskPhase::Completed.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(
        json(&BackupRunShape::from(backup)),
        r#"{"name":"b1","phase":"partially_failed","created":"1970-01-01T00:00:01Z","started":null,"completed":null,"expires":null,"location":"default","schedule":null,"volumes":{"total":1,"done":2,"failed":3,"skipped":4},"objects":{"total":0,"done":0},"logical_bytes":0,"uploaded_bytes":0,"warnings":0,"errors":0,"failure_reason":null,"tasks":[{"task":"t","node":"n","namespace":"ns","pod":"pod","volume":"vol","phase":"completed","snapshot":null,"bytes_done":0,"bytes_total":0,"started":null,"completed":null,"message":null}]}"#
    );
}

#[test]
fn a_restore_run_is_shaped_as_a_backup_run() {
    let restore = v1::Restore {
        name: "r1".into(),
        phase: v1::RunPhase::Completed.into(),
        from_backup: "b1".into(),
        ..Default::default()
    };
    assert_eq!(
        json(&RestoreRunShape::from(restore)),
        r#"{"name":"r1","phase":"completed","created":null,"started":null,"completed":null,"from_backup":"b1","location":null,"mode":"empty","volumes":{"total":0,"done":0,"failed":0,"skipped":0},"objects":{"total":0,"done":0},"logical_bytes":0,"fetched_bytes":0,"warnings":0,"errors":0,"failure_reason":null,"tasks":[],"directory":null}"#
    );
    let aside = v1::Restore {
        name: "r2".into(),
        mode: v1::RestoreMode::NewDir.into(),
        directory: "r2".into(),
        ..Default::default()
    };
    let text = json(&RestoreRunShape::from(aside));
    assert!(text.contains(r#""mode":"new-dir""#), "{text}");
    assert!(text.ends_with(r#""tasks":[],"directory":"r2"}"#), "{text}");
}

#[test]
fn a_schedule_has_the_promised_fields() {
    let schedule = v1::Schedule {
        name: "nightly".into(),
        spec: Some(v1::ScheduleSpec {
            cron: "0 2 * * *".into(),
            time_zone: "Europe/Vienna".into(),
            backup: Some(v1::CreateBackupRequest {
                namespaces: vec!["shop".into()],
                volumes: vec![volume()],
                ttl_seconds: 3_600,
                ..Default::default()
            }),
            keep: "daily=7,weekly=4".into(),
            starting_deadline_seconds: 60,
        }),
        version: 2,
        created_ms: 1_000,
        updated_ms: 2_000,
        next_ms: 3_000,
        last_backup: "nightly-19700101000000".into(),
        last_phase: v1::RunPhase::Completed.into(),
        last_ms: 4_000,
        last_success_ms: 5_000,
        skipped_ms: 6_000,
        skipped_reason: "late".into(),
        skipped_count: 7,
        ..Default::default()
    };
    assert_eq!(
        json(&ScheduleShape::from(schedule)),
        r#"{"name":"nightly","cron":"0 2 * * *","time_zone":"Europe/Vienna","paused":false,"health":"ok","next":"1970-01-01T00:00:03Z","last_backup":"nightly-19700101000000","last_phase":"completed","last":"1970-01-01T00:00:04Z","last_success":"1970-01-01T00:00:05Z","skipped":"1970-01-01T00:00:06Z","skipped_reason":"late","skipped_count":7,"waiting":null,"keep":"daily=7,weekly=4","ttl_seconds":3600,"starting_deadline_seconds":60,"location":null,"namespaces":["shop"],"pods":[],"volumes":["ns/pod/vol"],"exclude":[],"tags":[],"force_full":false,"version":2,"created":"1970-01-01T00:00:01Z","updated":"1970-01-01T00:00:02Z"}"#
    );
    let empty = v1::Schedule {
        name: "n".into(),
        waiting: "no agent".into(),
        ..Default::default()
    };
    let text = json(&ScheduleShape::from(empty));
    for part in [
        r#""time_zone":"UTC""#,
        r#""health":"waiting""#,
        r#""next":null,"last_backup":null,"last_phase":null"#,
        r#""waiting":"no agent","keep":null,"ttl_seconds":null"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_bootstrap_lists_backups_and_what_may_follow() {
    let backup = |name: &str, phase: &str| -> orlop_kubernetes::velero::Backup {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name}, "spec": {"includedNamespaces": ["shop"], "storageLocation": "default"},
            "status": {
                "phase": phase, "startTimestamp": "1970-01-01T00:00:01Z", "completionTimestamp": "1970-01-01T00:00:02Z",
                "warnings": 1, "errors": 2,
            },
        }))
        .unwrap()
    };
    let backups = [backup("b1", "Completed"), backup("b2", "Failed")];
    let shape = BootstrapShape::new("velero", &backups, None);
    assert_eq!(
        json(&shape),
        r#"{"namespace":"velero","backups":[{"name":"b1","phase":"Completed","started":"1970-01-01T00:00:01Z","completed":"1970-01-01T00:00:02Z","expires":null,"namespaces":["shop"],"warnings":1,"errors":2},{"name":"b2","phase":"Failed","started":"1970-01-01T00:00:01Z","completed":"1970-01-01T00:00:02Z","expires":null,"namespaces":["shop"],"warnings":1,"errors":2}],"restore":null,"next":["velero -n velero restore create --from-backup b1 --wait","orlop restore create --from-backup b1 --wait","kubectl kots restore --from-backup b1     # of a KOTS instance"]}"#
    );
    assert!(shape.text().contains("--from-backup b1"));
    let restore = serde_json::json!({
        "metadata": {"name": "r"}, "spec": {"backupName": "b1"}, "status": {"phase": "Completed"},
    });
    let restore = serde_json::from_value(restore).unwrap();
    let text = json(&BootstrapShape::new("velero", &[], Some(&restore)));
    assert!(
        text.contains(r#""restore":{"name":"r","from_backup":"b1","phase":"Completed","warnings":0,"errors":0,"failure_reason":null}"#),
        "{text}"
    );
}
