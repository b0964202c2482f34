//! What must hold of all that has pods, and of the Services before them.

use std::{collections::BTreeSet, fs};

use orlop_tests::repository_root;
use serde_json::Value;

use super::{Object, all, includes, list, named, one, texts};

/// All objects with pods that are whole: patches of overlays leave out what they do not change.
fn workloads() -> Vec<Object> {
    let found: Vec<Object> = all()
        .into_iter()
        .filter(|object| object.template().is_some() && !object.file.starts_with("overlays"))
        .collect();
    assert_eq!(found.len(), 4, "coordinator, agent, and two databases");
    found
}

/// The tag of an image: what follows the last colon of its last part.
fn tag(image: &str) -> Option<&str> {
    let last = image.rsplit('/').next()?;
    let (name, tag) = last.split_once(':')?;
    (!name.is_empty() && !tag.is_empty() && tag != "latest").then_some(tag)
}

#[test]
fn a_tag_is_told_from_a_port() {
    assert_eq!(tag("localhost/orlop:0.1.0"), Some("0.1.0"));
    assert_eq!(tag("registry.example:5000/a/orlop:v1"), Some("v1"));
    assert_eq!(tag("registry.example:5000/orlop"), None);
    assert_eq!(tag("orlop:latest"), None);
    assert_eq!(tag("orlop:"), None);
}

#[test]
fn every_image_has_a_tag() {
    for object in all() {
        for container in object.containers() {
            let Some(image) = container["image"].as_str() else {
                assert!(object.file.starts_with("overlays"), "{}", object.title());
                continue;
            };
            assert!(tag(image).is_some(), "{}: {image}", object.title());
            assert_ne!(container["imagePullPolicy"], "Always", "{}", object.title());
        }
        for image in list(&object.value["images"]) {
            let tag = image["newTag"].as_str();
            assert!(tag.is_some_and(|tag| tag != "latest"), "{image}");
        }
    }
}

#[test]
fn our_image_is_of_this_version_everywhere() {
    let manifest = fs::read_to_string(repository_root().join("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .unwrap();
    let image = format!("localhost/orlop:{version}");
    for object in [one("Deployment", "velero"), one("DaemonSet", "node-agent")] {
        for container in object.containers() {
            assert_eq!(container["image"], *image, "{}", object.title());
        }
    }
    let kustomization = all()
        .into_iter()
        .find(|object| object.file.ends_with("base/kustomization.yaml"))
        .unwrap();
    assert_eq!(kustomization.value["images"][0]["newTag"], version);
}

#[test]
fn selectors_match_the_labels_of_their_pods() {
    for object in workloads() {
        let selector = &object.value["spec"]["selector"]["matchLabels"];
        let labels = &object.template().unwrap()["metadata"]["labels"];
        assert!(includes(labels, selector), "{}: {selector}", object.title());
    }
}

#[test]
fn every_volume_is_mounted_and_every_mount_has_a_volume() {
    for object in workloads() {
        let spec = &object.template().unwrap()["spec"];
        let claims = list(&object.value["spec"]["volumeClaimTemplates"])
            .map(|claim| claim["metadata"]["name"].as_str().unwrap());
        let volumes: BTreeSet<&str> = list(&spec["volumes"])
            .map(|volume| volume["name"].as_str().unwrap())
            .chain(claims)
            .collect();
        let containers = object.containers();
        let mounts: BTreeSet<&str> = containers
            .iter()
            .flat_map(|container| list(&container["volumeMounts"]))
            .map(|mount| mount["name"].as_str().unwrap())
            .collect();
        assert_eq!(volumes, mounts, "{}", object.title());
    }
}

#[test]
fn services_lead_to_named_ports_of_pods() {
    let workloads = workloads();
    let services: Vec<Object> = all()
        .into_iter()
        .filter(|object| object.kind() == "Service")
        .collect();
    assert_eq!(services.len(), 3);
    for service in &services {
        let selector = &service.value["spec"]["selector"];
        let namespace = &service.value["metadata"]["namespace"];
        let behind: Vec<&Object> = workloads
            .iter()
            .filter(|one| {
                one.value["metadata"]["namespace"] == *namespace
                    && includes(&one.template().unwrap()["metadata"]["labels"], selector)
            })
            .collect();
        assert!(!behind.is_empty(), "{} leads nowhere", service.title());
        for port in list(&service.value["spec"]["ports"]) {
            let name = port["targetPort"].as_str().unwrap();
            for object in &behind {
                let containers = object.containers();
                let ports = containers.iter().flat_map(|one| list(&one["ports"]));
                let numbers: Vec<&Value> = ports
                    .filter(|port| port["name"] == name)
                    .map(|port| &port["containerPort"])
                    .collect();
                assert_eq!(numbers, [&port["port"]], "{}", service.title());
            }
        }
    }
    let grpc = one("Service", "orlop").value;
    assert_eq!(grpc["spec"]["ports"][0]["port"], 7070);
    let downloads = one("Service", "orlop-downloads").value;
    assert_eq!(downloads["spec"]["type"], "NodePort");
}

#[test]
fn agents_dial_a_name_that_the_coordinators_certificate_has() {
    let coordinator = one("Deployment", "velero").value;
    let names = texts(&coordinator["spec"]["template"]["spec"]["containers"][0]["args"]);
    let agent = one("DaemonSet", "node-agent").value;
    let args = texts(&agent["spec"]["template"]["spec"]["containers"][0]["args"]);
    let server = args
        .iter()
        .find_map(|arg| arg.strip_prefix("--server="))
        .unwrap();
    let name = server.strip_suffix(":7070").unwrap();
    assert!(
        names.contains(&format!("--tls-name={name}").as_str()),
        "{name} is none of {names:?}"
    );
    // The Service's name, in whatever namespace.
    assert_eq!(name, "orlop.$(VELERO_NAMESPACE).svc");
}

#[test]
fn downloads_are_served_where_their_service_looks_for_them() {
    let coordinator = one("Deployment", "velero").value;
    let container = &coordinator["spec"]["template"]["spec"]["containers"][0];
    let args = texts(&container["args"]);
    let port = &one("Service", "orlop-downloads").value["spec"]["ports"][0];
    let listen = format!("--downloads-listen=0.0.0.0:{}", port["port"]);
    assert!(args.contains(&listen.as_str()), "{listen}: {args:?}");
    // `coordinator/src/cluster/kube.rs` asks for this name.
    assert_eq!(port["name"], "downloads");
}

#[test]
fn memory_is_limited_as_promised() {
    for object in [one("Deployment", "velero"), one("DaemonSet", "node-agent")] {
        let spec = &object.template().unwrap()["spec"];
        let container = &spec["containers"][0];
        let resources = &container["resources"];
        assert_eq!(resources["limits"]["memory"], "256Mi", "{}", object.title());
        assert_eq!(
            resources["requests"]["memory"],
            "128Mi",
            "{}",
            object.title()
        );
        assert_eq!(resources["requests"]["cpu"], "50m", "{}", object.title());
        // Temporary files lie on a volume, for the root is read-only.
        let scratch = &named(&container["env"], "TMPDIR")["value"];
        let mount = named(&container["volumeMounts"], "scratch");
        assert_eq!(*scratch, mount["mountPath"], "{}", object.title());
    }
}
