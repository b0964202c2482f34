//! Hooks by annotation and by spec, with everything that people write into them.

#![allow(
    clippy::needless_pass_by_value,
    reason = "json!(…) reads better without a reference"
)]

use serde_json::{Value, json};

use super::{super::samples, *};

fn pod(annotations: Value) -> Pod {
    samples::pod(annotations, json!([]))
}

fn spec(resources: Value) -> BackupSpec {
    serde_json::from_value(json!({"hooks": {"resources": resources}})).unwrap()
}

/// The one pre hook of a pod with these annotations, and the warnings.
fn annotated(annotations: Value) -> (Hook, Vec<String>) {
    let plan = pod_hooks(&pod(annotations), &BackupSpec::default());
    assert_eq!(plan.hooks.pre.len(), 1);
    (plan.hooks.pre[0].clone(), plan.warnings)
}

#[test]
fn an_annotation_makes_a_hook_with_velero_s_defaults() {
    let (hook, warnings) = annotated(json!({"pre.hook.backup.velero.io/command": "/bin/sync"}));
    assert_eq!(
        hook,
        Hook {
            name: "<from-annotation>".to_owned(),
            container: "app".to_owned(),
            command: vec!["/bin/sync".to_owned()],
            on_error: None,
            timeout: Duration::from_secs(30),
            kill: false,
            source: HookSource::Annotation,
            phase: HookPhase::Pre,
        }
    );
    assert!(warnings.is_empty());
    assert_eq!(
        pod_hooks(&pod(json!({})), &BackupSpec::default()),
        PodHookPlan::default()
    );
}

#[test]
fn every_part_of_an_annotation_is_read() {
    let (hook, warnings) = annotated(json!({
        "pre.hook.backup.velero.io/command": r#"["/bin/bash", "-c", "pg_dump > /x"]"#,
        "pre.hook.backup.velero.io/container": "side",
        "pre.hook.backup.velero.io/on-error": "Fail",
        "pre.hook.backup.velero.io/timeout": "1m30s",
    }));
    assert_eq!(hook.command, ["/bin/bash", "-c", "pg_dump > /x"]);
    assert_eq!(
        (hook.container.as_str(), hook.on_error),
        ("side", Some(OnError::Fail))
    );
    assert_eq!(hook.timeout, Duration::from_secs(90));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn what_is_odd_is_told_and_taken_as_velero_takes_it() {
    let command = "pre.hook.backup.velero.io/command";
    let cases = [
        (json!({command: "/bin/sh -c x"}), "no shell splits it"),
        (json!({command: "[/bin/sh, -c]"}), "no JSON list"),
        (json!({command: "[]"}), "no JSON list"),
        (json!({command: "[1, 2]"}), "no JSON list"),
        (
            json!({command: "x", "pre.hook.backup.velero.io/timeout": "3 minutes"}),
            "it is 30s",
        ),
        (
            json!({command: "x", "pre.hook.backup.velero.io/timeout": "-3m"}),
            "is negative",
        ),
        (
            json!({command: "x", "pre.hook.backup.velero.io/on-error": "fail"}),
            "neither Fail nor Continue",
        ),
        (
            json!({command: "x", "pre.hook.backup.velero.io/container": "nobody"}),
            "does not have",
        ),
    ];
    for (annotations, want) in cases {
        let text = annotations[command].as_str().unwrap().to_owned();
        let (hook, warnings) = annotated(annotations);
        assert!(
            warnings.len() == 1 && warnings[0].contains(want),
            "{text}: {warnings:?}"
        );
        assert!(warnings[0].starts_with("pod shop/db-0: "));
        assert_eq!((hook.command, hook.on_error), (vec![text], None));
        assert_eq!(hook.timeout, DEFAULT_TIMEOUT);
    }
}

#[test]
fn the_older_annotations_count_where_there_are_no_newer_ones() {
    let old = "hook.backup.velero.io/command";
    let (hook, _) = annotated(json!({old: "/old", "hook.backup.velero.io/timeout": "5s"}));
    assert_eq!(
        (hook.command, hook.timeout),
        (vec!["/old".to_owned()], Duration::from_secs(5))
    );
    let (hook, _) = annotated(json!({
        old: "/old", "hook.backup.velero.io/timeout": "5s", "pre.hook.backup.velero.io/command": "/new",
    }));
    assert_eq!(
        (hook.command, hook.timeout),
        (vec!["/new".to_owned()], DEFAULT_TIMEOUT)
    );
}

#[test]
fn our_annotation_makes_failures_count_that_nobody_speaks_of() {
    let command = "pre.hook.backup.velero.io/command";
    let (hook, _) = annotated(json!({command: "x", "orlop.io/on-error": "Fail"}));
    assert!(hook.fails_pod());
    let says = "pre.hook.backup.velero.io/on-error";
    let (hook, _) = annotated(json!({command: "x", says: "Continue", "orlop.io/on-error": "Fail"}));
    assert_eq!(hook.on_error, Some(OnError::Continue));
}

#[test]
fn hooks_of_the_spec_run_in_order_for_the_pods_they_are_meant_for() {
    let exec = |command: &str| json!({"exec": {"command": [command], "timeout": "2m0s"}});
    let spec = spec(json!([
        {"name": "one", "includedNamespaces": ["sh*"], "pre": [exec("a"), exec("b")], "post": [exec("z")]},
        {"name": "two", "labelSelector": {"matchLabels": {"app": "db"}}, "includedResources": ["pods"], "pre": [exec("c")]},
        {"name": "three", "excludedNamespaces": ["shop"], "pre": [exec("no")]},
        {"name": "four", "labelSelector": {"matchLabels": {"app": "web"}}, "pre": [exec("no")]},
        {"name": "five", "includedResources": ["deployments"], "pre": [exec("no")]},
        {"name": "six", "pre": [{"exec": {"command": []}}]},
    ]));
    let plan = pod_hooks(&pod(json!({})), &spec);
    let found: Vec<(&str, &str)> = plan
        .hooks
        .pre
        .iter()
        .map(|hook| (hook.name.as_str(), hook.command[0].as_str()))
        .collect();
    assert_eq!(found, [("one", "a"), ("one", "b"), ("two", "c")]);
    assert_eq!(plan.hooks.post[0].command, ["z"]);
    let first = &plan.hooks.pre[0];
    assert_eq!(
        (first.source, first.timeout),
        (HookSource::Spec, Duration::from_mins(2))
    );
    assert_eq!(
        plan.warnings,
        ["pod shop/db-0: the hook \"six\" of the backup has no command"]
    );
}

#[test]
fn an_annotation_replaces_the_spec_for_its_phase_only() {
    let exec = json!([{"exec": {"command": ["spec"], "onError": "Fail"}}]);
    let spec = spec(json!([{"name": "all", "pre": exec, "post": exec}]));
    let plan = pod_hooks(
        &pod(json!({"pre.hook.backup.velero.io/command": "mine"})),
        &spec,
    );
    assert_eq!(plan.hooks.pre[0].command, ["mine"]);
    assert_eq!(plan.hooks.post[0].command, ["spec"]);
    assert_eq!(plan.hooks.post[0].on_error, Some(OnError::Fail));
}

#[test]
fn a_native_sidecar_can_run_a_hook_and_an_init_container_cannot() {
    let mut pod = pod(json!({
        "pre.hook.backup.velero.io/command": "x", "pre.hook.backup.velero.io/container": "mesh",
    }));
    pod.spec.as_mut().unwrap().init_containers =
        serde_json::from_value(json!([{"name": "mesh", "restartPolicy": "Always"}])).unwrap();
    assert!(pod_hooks(&pod, &BackupSpec::default()).warnings.is_empty());
    pod.spec.as_mut().unwrap().init_containers =
        serde_json::from_value(json!([{"name": "mesh"}])).unwrap();
    assert_eq!(pod_hooks(&pod, &BackupSpec::default()).warnings.len(), 1);
}

#[test]
fn a_pod_that_has_ended_has_no_hooks() {
    for phase in ["Succeeded", "Failed"] {
        let mut pod = pod(json!({"pre.hook.backup.velero.io/command": "x"}));
        pod.status.as_mut().unwrap().phase = Some(phase.to_owned());
        assert_eq!(
            pod_hooks(&pod, &BackupSpec::default()),
            PodHookPlan::default()
        );
    }
}
