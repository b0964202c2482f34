//! Directories of locations as volumes of our own Deployment: what its template lacks, and whether it has rolled out.

use serde_json::{Value, json};

/// What the names of such volumes begin with. All of them are ours: those that no location wants are removed, since
/// a server that is gone would keep our pod from starting.
const PREFIX: &str = "orlop-store-";
/// Longest name of a volume.
const NAME_MAX: usize = 63;

/// A directory to mount for a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The location.
    pub(crate) location: String,
    /// Where it is mounted.
    pub(crate) path: String,
    /// What is mounted.
    pub(crate) source: Source,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory of a server.
    Nfs {
        /// The server's name or address.
        server: String,
        /// The directory there.
        path: String,
    },
    /// A directory of the node.
    HostPath {
        /// The directory.
        path: String,
    },
    /// A claim of our own.
    Claim {
        /// How large it is made.
        size: String,
        /// Its storage class; the cluster's default one if `None`.
        class: Option<String>,
    },
}

impl Mount {
    /// The name of the volume, and of the claim.
    pub(crate) fn name(&self) -> String {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let location = &self.location;
        if location.chars().all(plain) && location.len() <= NAME_MAX - PREFIX.len() {
            return format!("{PREFIX}{location}");
        }
        let kept: String = location.chars().take(38).collect();
        let kept = kept.replace(|c| !plain(c), "-");
        format!("{PREFIX}{kept}-{:08x}", fnv(location))
    }

    fn volume(&self) -> Value {
        let name = self.name();
        match &self.source {
            Source::Nfs { server, path } => {
                json!({"name": name, "nfs": {"server": server, "path": path}})
            }
            Source::HostPath { path } => {
                json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
            }
            Source::Claim { .. } => {
                json!({"name": name, "persistentVolumeClaim": {"claimName": name}})
            }
        }
    }

    /// The claim to make, if it is one.
    pub(crate) fn claim(&self) -> Option<Value> {
        let Source::Claim { size, class } = &self.source else {
            return None;
        };
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        });
        if let Some(class) = class {
            spec["storageClassName"] = json!(class);
        }
        Some(json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": self.name(), "labels": {"component": "velero"}},
            "spec": spec,
        }))
    }
}

/// What differs when other directories are mounted.
pub(crate) fn fingerprint(mounts: &[Mount]) -> String {
    let volumes: Vec<Value> = mounts.iter().map(Mount::volume).collect();
    format!("{:08x}", fnv(&json!(volumes).to_string()))
}

/// FNV-1a: names that differ where they were cut or replaced stay different.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// How far our Deployment is from having all directories mounted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rollout {
    /// Its template lacks some, or has some that nobody wants: the patch that mends it. Our pod is replaced then.
    Patch(Value),
    /// Its template is right, and its pod is not made by it yet.
    Underway,
    /// The pod that runs has them.
    Done,
}

/// Compares a Deployment with the directories that are wanted.
pub(crate) fn rollout(deployment: &Value, wanted: &[Mount]) -> Rollout {
    let pod = &deployment["spec"]["template"]["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ours = |value: &Value| {
        let name = value["name"].as_str();
        name.is_some_and(|name| name.starts_with(PREFIX))
    };
    let volumes = list(&pod["volumes"]);
    let mut containers = list(&pod["containers"]);
    let had: Vec<Value> = volumes.iter().filter(|v| ours(v)).cloned().collect();
    let want: Vec<Value> = wanted.iter().map(Mount::volume).collect();
    let mounts = containers
        .first()
        .map(|main| list(&main["volumeMounts"]))
        .unwrap_or_default();
    let had_mounts: Vec<Value> = mounts.iter().filter(|m| ours(m)).cloned().collect();
    let want_mounts: Vec<Value> = wanted
        .iter()
        .map(|mount| json!({"name": mount.name(), "mountPath": mount.path}))
        .collect();
    if same(&had, &want) && same(&had_mounts, &want_mounts) {
        return if rolled_out(deployment) {
            Rollout::Done
        } else {
            Rollout::Underway
        };
    }
    let keep = |all: Vec<Value>, more: Vec<Value>| -> Vec<Value> {
        all.into_iter()
            .filter(|one| !ours(one))
            .chain(more)
            .collect()
    };
    if let Some(main) = containers.first_mut() {
        main["volumeMounts"] = keep(mounts, want_mounts).into();
    }
    Rollout::Patch(json!({
        "metadata": {"resourceVersion": deployment["metadata"]["resourceVersion"]},
        "spec": {"template": {"spec": {"volumes": keep(volumes, want), "containers": containers}}},
    }))
}

/// Whether two lists hold the same in any order. What the API server adds to an entry does not count.
fn same(had: &[Value], want: &[Value]) -> bool {
    let holds = |entry: &Value| want.iter().any(|wanted| within(wanted, entry));
    had.len() == want.len() && had.iter().all(holds)
}

/// Whether all that `small` says is in `large` too.
fn within(small: &Value, large: &Value) -> bool {
    match (small, large) {
        (Value::Object(small), Value::Object(large)) => small
            .iter()
            .all(|(key, value)| large.get(key).is_some_and(|other| within(value, other))),
        _ => small == large,
    }
}

/// Whether all pods of the Deployment are made by its present template.
fn rolled_out(deployment: &Value) -> bool {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let status = &deployment["status"];
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    number(&status["observedGeneration"]) >= number(&deployment["metadata"]["generation"])
        && number(&status["updatedReplicas"]) == wanted
        && number(&status["replicas"]) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nfs(location: &str, path: &str) -> Mount {
        Mount {
            location: location.to_owned(),
            path: format!("/stores/{location}"),
            source: Source::Nfs {
                server: "s".to_owned(),
                path: path.to_owned(),
            },
        }
    }

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "velero", "resourceVersion": "7", "generation": 2},
            "spec": {"replicas": 1, "template": {"spec": {
                "volumes": [{"name": "plugins", "emptyDir": {}}],
                "containers": [
                    {"name": "velero", "image": "i", "volumeMounts": [{"name": "plugins", "mountPath": "/plugins"}]},
                    {"name": "side"},
                ],
            }}},
            "status": {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1},
        })
    }

    #[test]
    fn other_directories_have_another_fingerprint() {
        let of = |mounts: &[Mount]| fingerprint(mounts);
        let one = [nfs("default", "/a")];
        assert_eq!(of(&one), of(&one.clone()));
        assert_ne!(of(&one), of(&[nfs("default", "/b")]));
        assert_ne!(of(&one), of(&[]));
    }

    fn apply(mut deployment: Value, patch: &Value) -> Value {
        let change = &patch["spec"]["template"]["spec"];
        for part in ["volumes", "containers"] {
            deployment["spec"]["template"]["spec"][part] = change[part].clone();
        }
        deployment
    }

    #[test]
    fn a_directory_that_is_missing_is_added_beside_all_that_is_there() {
        let wanted = [nfs("default", "/a")];
        let Rollout::Patch(patch) = rollout(&deployment(), &wanted) else {
            panic!("nothing is mounted yet");
        };
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7"}, "spec": {"template": {"spec": {
                "volumes": [
                    {"name": "plugins", "emptyDir": {}},
                    {"name": "orlop-store-default", "nfs": {"server": "s", "path": "/a"}},
                ],
                "containers": [
                    {"name": "velero", "image": "i", "volumeMounts": [
                        {"name": "plugins", "mountPath": "/plugins"},
                        {"name": "orlop-store-default", "mountPath": "/stores/default"},
                    ]},
                    {"name": "side"},
                ],
            }}}})
        );
        let mut patched = apply(deployment(), &patch);
        assert_eq!(rollout(&patched, &wanted), Rollout::Done);
        patched["metadata"]["generation"] = json!(3);
        assert_eq!(rollout(&patched, &wanted), Rollout::Underway);
        patched["status"]["observedGeneration"] = json!(3);
        patched["status"]["updatedReplicas"] = json!(0);
        assert_eq!(rollout(&patched, &wanted), Rollout::Underway);
    }

    #[test]
    fn a_directory_that_moved_is_replaced_and_one_that_nobody_wants_removed() {
        let Rollout::Patch(first) = rollout(&deployment(), &[nfs("a", "/1"), nfs("b", "/2")])
        else {
            panic!("nothing is mounted yet");
        };
        let mounted = apply(deployment(), &first);
        let Rollout::Patch(second) = rollout(&mounted, &[nfs("a", "/9")]) else {
            panic!("it must change");
        };
        let volumes = &second["spec"]["template"]["spec"]["volumes"];
        assert_eq!(volumes[1]["nfs"]["path"], "/9");
        assert_eq!(volumes.as_array().unwrap().len(), 2);
        let Rollout::Patch(last) = rollout(&mounted, &[]) else {
            panic!("it must change");
        };
        assert_eq!(apply(mounted, &last)["spec"], deployment()["spec"]);
    }

    #[test]
    fn what_the_server_adds_is_no_difference() {
        let wanted = [Mount {
            location: "default".to_owned(),
            path: "/stores/default".to_owned(),
            source: Source::HostPath {
                path: "/a".to_owned(),
            },
        }];
        let Rollout::Patch(patch) = rollout(&deployment(), &wanted) else {
            panic!("nothing is mounted yet");
        };
        let mut mounted = apply(deployment(), &patch);
        let spec = &mut mounted["spec"]["template"]["spec"];
        spec["volumes"][1]["hostPath"]["extra"] = json!("x");
        spec["containers"][0]["volumeMounts"][1]["recursiveReadOnly"] = json!("Disabled");
        assert_eq!(rollout(&mounted, &wanted), Rollout::Done);
    }

    #[test]
    fn a_claim_is_made_with_the_size_that_is_asked_for() {
        let mount = Mount {
            location: "default".to_owned(),
            path: "/stores/default".to_owned(),
            source: Source::Claim {
                size: "50Gi".to_owned(),
                class: Some("fast".to_owned()),
            },
        };
        let claim = mount.claim().unwrap();
        assert_eq!(claim["metadata"]["name"], "orlop-store-default");
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "50Gi");
        assert_eq!(claim["spec"]["storageClassName"], "fast");
        assert_eq!(nfs("a", "/").claim(), None);
    }

    #[test]
    fn volumes_of_different_locations_have_different_names() {
        let names: Vec<String> = ["a.b", "a-b", &"x".repeat(60), &"x".repeat(61), "default"]
            .into_iter()
            .map(|location| nfs(location, "/").name())
            .collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        assert!(
            names
                .iter()
                .all(|name| name.len() <= NAME_MAX && !name.contains('.'))
        );
    }
}
