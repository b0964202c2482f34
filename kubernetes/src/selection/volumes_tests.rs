//! Every way a volume is taken or left out, by what its pod and its backup say.

use serde_json::{Value, json};

use super::{
    super::samples::{claim, persistent, pod},
    *,
};

const CSI: &str = r#"{"csi": {"driver": "d", "volumeHandle": "h"}}"#;

fn csi(name: &str) -> PersistentVolume {
    persistent(name, serde_json::from_str(CSI).unwrap())
}

/// The decision about each volume as `NAME` or `NAME: REASON`.
fn decisions(pod: &Pod, options: VolumeOptions<'_>) -> Vec<String> {
    let (claims, volumes) = ([claim("c"), claim("e")], [csi("c"), csi("e")]);
    let objects = PodObjects {
        pod,
        claims: &claims,
        volumes: &volumes,
    };
    let found = pod_volumes(&objects, &options, &mut BTreeSet::new());
    let skipped = found.skipped.iter().map(|skip| {
        format!(
            "{}: {:?} {}",
            skip.volume.volume, skip.severity, skip.reason
        )
    });
    found
        .taken
        .iter()
        .map(|taken| taken.volume.volume.clone())
        .chain(skipped)
        .collect()
}

fn opt_in(names: &str) -> Value {
    json!({"backup.velero.io/backup-volumes": names})
}

const ALL: VolumeOptions<'_> = VolumeOptions {
    all: true,
    claims_excluded: false,
    policies: None,
    host_roots: &[],
};

#[test]
fn kinds_with_data_are_taken_and_the_others_are_not() {
    let cases = [
        (json!({"emptyDir": {}}), None),
        (json!({"emptyDir": {"medium": "Memory"}}), None),
        (json!({"persistentVolumeClaim": {"claimName": "c"}}), None),
        (json!({"csi": {"driver": "inline.example"}}), None),
        (json!({"nfs": {"server": "s", "path": "/p"}}), None),
        (json!({"secret": {}}), Some("Silent a secret is made")),
        (
            json!({"configMap": {}}),
            Some("Silent a config map is made"),
        ),
        (
            json!({"projected": {}}),
            Some("Silent a projected volume is made"),
        ),
        (
            json!({"downwardAPI": {}}),
            Some("Silent a downward API volume is made"),
        ),
        (
            json!({"image": {"reference": "x"}}),
            Some("Silent it is a container image"),
        ),
        (
            json!({"hostPath": {"path": "/etc"}}),
            Some("Info it is a directory of the node"),
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "gone"}}),
            Some("Error its claim gone does not exist"),
        ),
    ];
    for (mut volume, want) in cases {
        volume["name"] = json!("data");
        let found = decisions(&pod(json!({}), json!([volume])), ALL);
        match want {
            None => assert_eq!(found, ["data"], "{volume}"),
            Some(want) => assert!(found[0].starts_with(&format!("data: {want}")), "{found:?}"),
        }
    }
}

#[test]
fn what_is_asked_for_by_name_and_left_out_is_a_warning() {
    for volume in [
        json!({"secret": {}}),
        json!({"hostPath": {"path": "/etc"}}),
        json!({"image": {}}),
    ] {
        let mut volume = volume;
        volume["name"] = json!("data");
        let found = decisions(
            &pod(opt_in("data"), json!([volume])),
            VolumeOptions::default(),
        );
        assert!(found[0].starts_with("data: Warning"), "{found:?}");
    }
}

#[test]
fn annotations_choose_and_spaces_do_no_harm() {
    let volumes = json!([{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}, {"name": "default-token-x", "emptyDir": {}}]);
    let not_named = "Silent the annotation of its pod does not name it";
    let token = "default-token-x: Silent a token is made from Kubernetes objects and holds no data of its own";
    let found = decisions(
        &pod(opt_in(" b , ,b"), volumes.clone()),
        VolumeOptions::default(),
    );
    assert_eq!(
        found,
        ["b".to_owned(), format!("a: {not_named}"), token.to_owned()]
    );
    let found = decisions(&pod(json!({}), volumes.clone()), VolumeOptions::default());
    assert_eq!(
        found[..2],
        [format!("a: {not_named}"), format!("b: {not_named}")]
    );
    let excludes = json!({"backup.velero.io/backup-volumes-excludes": "a", "backup.velero.io/backup-volumes": "a"});
    let found = decisions(&pod(excludes.clone(), volumes.clone()), ALL);
    assert_eq!(
        found[..2],
        ["b", "a: Silent the annotation of its pod excludes it"]
    );
    // Without "all", the annotation that excludes says nothing.
    let found = decisions(&pod(excludes, volumes), VolumeOptions::default());
    assert_eq!(found[0], "a");
}

#[test]
fn a_name_that_no_volume_has_is_told_with_near_misses() {
    let pod = pod(
        opt_in("data,dta"),
        json!([{"name": "data", "emptyDir": {}}]),
    );
    let objects = PodObjects {
        pod: &pod,
        claims: &[],
        volumes: &[],
    };
    let found = pod_volumes(&objects, &VolumeOptions::default(), &mut BTreeSet::new());
    assert_eq!(found.taken.len(), 1);
    assert_eq!(
        found.warnings,
        [
            "annotation backup.velero.io/backup-volumes of pod shop/db-0: volume dta not found; did you mean data?"
        ]
    );
}

#[test]
fn a_claim_is_taken_through_one_pod_only() {
    let pod = pod(
        opt_in("d"),
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]),
    );
    let (claims, volumes) = ([claim("c")], [csi("c")]);
    let objects = PodObjects {
        pod: &pod,
        claims: &claims,
        volumes: &volumes,
    };
    let mut taken = BTreeSet::new();
    let first = pod_volumes(&objects, &VolumeOptions::default(), &mut taken);
    assert_eq!(
        first.taken[0].claim,
        Some(ClaimRef {
            name: "c".into(),
            uid: "uid-c".into()
        })
    );
    assert_eq!(first.taken[0].persistent_volume.as_deref(), Some("pv-c"));
    let second = pod_volumes(&objects, &VolumeOptions::default(), &mut taken);
    assert_eq!(second.skipped[0].severity, Severity::Info);
    assert_eq!(
        second.skipped[0].reason,
        SkipReason::AlreadyTaken {
            claim: "c".to_owned()
        }
    );
}

#[test]
fn volumes_of_pods_that_do_not_run_are_a_warning() {
    for phase in [json!("Pending"), json!("Succeeded"), json!(null)] {
        let mut pod = pod(opt_in("d"), json!([{"name": "d", "emptyDir": {}}]));
        pod.status = serde_json::from_value(json!({"phase": phase})).unwrap();
        let found = decisions(&pod, VolumeOptions::default());
        assert!(found[0].starts_with("d: Warning its pod is"), "{found:?}");
    }
}

#[test]
fn block_devices_and_volumes_that_nobody_mounts_are_a_warning() {
    let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]);
    let with = |containers: Value, init: Value| {
        let mut pod = pod(opt_in("d"), volumes.clone());
        let spec = pod.spec.as_mut().unwrap();
        spec.containers = serde_json::from_value(containers).unwrap();
        spec.init_containers = serde_json::from_value(init).unwrap();
        decisions(&pod, VolumeOptions::default())
    };
    let mount = json!([{"name": "d", "mountPath": "/x"}]);
    let block = with(
        json!([{"name": "a", "volumeDevices": [{"name": "d", "devicePath": "/dev/x"}]}]),
        json!([]),
    );
    assert_eq!(
        block,
        ["d: Warning it is a block device; only file systems are backed up"]
    );
    let unmounted = "d: Warning no container of its pod has it mounted";
    assert_eq!(
        with(
            json!([{"name": "a"}]),
            json!([{"name": "i", "volumeMounts": mount}])
        ),
        [unmounted]
    );
    let sidecar = json!([{"name": "i", "restartPolicy": "Always", "volumeMounts": mount}]);
    assert_eq!(with(json!([{"name": "a"}]), sidecar), ["d"]);
}

#[test]
fn persistent_volumes_of_host_directories_are_taken_below_the_roots_only() {
    let roots = ["/opt/local-path/".to_owned(), "/data".to_owned()];
    let options = VolumeOptions {
        host_roots: &roots,
        ..ALL
    };
    let cases = [
        ("/opt/local-path/pvc-1", true),
        ("/data/a/b", true),
        ("/data//a/.", true),
        ("/data", false),
        ("/database/a", false),
        ("/data/../etc", false),
        ("/etc", false),
        ("data/a", false),
    ];
    for (path, want) in cases {
        let pod = pod(
            json!({}),
            json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]),
        );
        let volumes = [persistent("c", json!({"hostPath": {"path": path}}))];
        let objects = PodObjects {
            pod: &pod,
            claims: &[claim("c")],
            volumes: &volumes,
        };
        let found = pod_volumes(&objects, &options, &mut BTreeSet::new());
        if want {
            assert_eq!(found.taken[0].host_path.as_deref(), Some(path));
        } else {
            let reason = &found.skipped[0].reason;
            assert_eq!(
                *reason,
                SkipReason::OutsideHostRoots {
                    path: path.to_owned()
                }
            );
            assert!(reason.to_string().contains("--host-roots"));
        }
    }
}

#[test]
fn a_claim_without_a_volume_is_an_error() {
    let pod = pod(
        json!({}),
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]),
    );
    let objects = PodObjects {
        pod: &pod,
        claims: &[claim("c")],
        volumes: &[],
    };
    let found = pod_volumes(&objects, &ALL, &mut BTreeSet::new());
    assert_eq!(found.skipped[0].severity, Severity::Error);
    assert_eq!(
        found.skipped[0].reason,
        SkipReason::ClaimUnbound {
            claim: "c".to_owned()
        }
    );
}

#[test]
fn a_backup_without_claims_still_takes_volumes_of_pods() {
    let pod = pod(
        json!({}),
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "emptyDir": {}}]),
    );
    let found = decisions(
        &pod,
        VolumeOptions {
            claims_excluded: true,
            ..ALL
        },
    );
    assert_eq!(
        found,
        [
            "e",
            "d: Info the backup leaves out persistent volume claims"
        ]
    );
}

#[test]
fn policies_come_before_annotations() {
    let policies = VolumePolicies::parse(
        "version: v1\nvolumePolicies:\n- {conditions: {volumeTypes: [emptyDir]}, action: {type: fs-backup}}\n\
         - {conditions: {volumeTypes: [csi]}, action: {type: snapshot}}\n",
    );
    let policies = policies.unwrap();
    let options = VolumeOptions {
        policies: Some(&policies),
        ..VolumeOptions::default()
    };
    let volumes = json!([{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "c", "nfs": {"server": "s", "path": "/"}}]);
    let found = decisions(&pod(opt_in("b,c"), volumes), options);
    assert_eq!(
        found,
        ["a", "c", "b: Info the volume policy says \"snapshot\""]
    );
}

#[test]
fn a_claim_gives_its_volume_a_lineage_and_an_ephemeral_one_its_pod() {
    let pod = pod(
        json!({}),
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "e", "ephemeral": {}}, {"name": "f", "emptyDir": {}}, {"name": "orlop-restore", "emptyDir": {}}]),
    );
    let claims = [claim("c"), claim("db-0-e")];
    let volumes = [csi("c"), csi("db-0-e")];
    let objects = PodObjects {
        pod: &pod,
        claims: &claims,
        volumes: &volumes,
    };
    let found = pod_volumes(&objects, &ALL, &mut BTreeSet::new());
    let lineages: Vec<&str> = found
        .taken
        .iter()
        .map(|taken| taken.lineage.0.as_str())
        .collect();
    assert_eq!(lineages, ["pvc:uid-c", "shop/db-0/e", "shop/db-0/f"]);
    assert_eq!(found.taken[1].claim.as_ref().unwrap().name, "db-0-e");
    assert!(
        found
            .taken
            .iter()
            .all(|taken| taken.node == "n1" && taken.pod_uid == "pod-uid")
    );
    assert_eq!(found.skipped[0].reason, SkipReason::RestoreMarks);
}

#[test]
fn an_annotation_says_how_large_files_are_cut() {
    for (word, chunking, warns) in [
        ("", Chunking::Auto, false),
        ("page", Chunking::Page, false),
        (" content ", Chunking::Content, false),
        ("tiny", Chunking::Auto, true),
    ] {
        let pod = pod(
            json!({"orlop.io/chunking": word}),
            json!([{"name": "data", "emptyDir": {}}]),
        );
        let objects = PodObjects {
            pod: &pod,
            claims: &[],
            volumes: &[],
        };
        let found = pod_volumes(&objects, &ALL, &mut BTreeSet::new());
        assert_eq!(found.taken[0].chunking, chunking, "{word:?}");
        assert_eq!(found.warnings.len(), usize::from(warns), "{word:?}");
    }
}
