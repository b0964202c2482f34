//! What clients ask for, checked on receipt.

use orlop_core::{
    RestoreMode,
    run::{BackupSpec, ClaimRef, RestoreSpec, RestoreVolume},
};

use crate::{
    receive::{self, ProtocolError, Result},
    v1,
};

/// Most pods or volumes that a request may name.
const MAX_NAMED: usize = 10_000;

/// Longest Kubernetes object in a request, in bytes.
const MAX_OBJECT_BYTES: usize = 1 << 20;

impl TryFrom<v1::CreateBackupRequest> for BackupSpec {
    type Error = ProtocolError;

    /// Everything of the request but its name and location.
    fn try_from(request: v1::CreateBackupRequest) -> Result<Self> {
        let v1::CreateBackupRequest {
            namespaces,
            pods,
            volumes,
            exclude,
            tags,
            ..
        } = request;
        let names = receive::MAX_NAME_BYTES;
        receive::at_most("volumes", &volumes, MAX_NAMED)?;
        let volumes = volumes
            .into_iter()
            .enumerate()
            .map(|(i, volume)| receive::volume(&format!("volumes[{i}]"), Some(volume)))
            .collect::<Result<Vec<_>>>()?;
        let spec = Self {
            namespaces: receive::texts("namespaces", namespaces, 1000, names)?,
            pods: receive::texts("pods", pods, MAX_NAMED, 2 * names + 1)?,
            volumes,
            ttl_seconds: request.ttl_seconds,
            exclude: receive::texts("exclude", exclude, 1000, 4096)?,
            tags: receive::texts("tags", tags, 100, names)?,
            force_full: request.force_full,
            schedule: receive::text("schedule", request.schedule, names)?,
            velero_object: object("velero_object", &request.velero_object)?,
        };
        let named = !spec.namespaces.is_empty()
            || !spec.pods.is_empty()
            || !spec.volumes.is_empty()
            || !spec.exclude.is_empty();
        if named && !spec.velero_object.is_empty() {
            return Err(ProtocolError::new(
                "velero_object",
                "excludes `namespaces`, `pods`, `volumes` and `exclude`",
            ));
        }
        let by_pod = !spec.namespaces.is_empty() || !spec.pods.is_empty();
        if by_pod && !spec.volumes.is_empty() {
            return Err(ProtocolError::new(
                "volumes",
                "excludes `namespaces` and `pods`",
            ));
        }
        if let Some(pod) = spec.pods.iter().find(|pod| pod.matches('/').count() != 1) {
            return Err(ProtocolError::new(
                "pods",
                format!("{pod:?} is not NAMESPACE/POD"),
            ));
        }
        Ok(spec)
    }
}

impl TryFrom<v1::CreateRestoreRequest> for RestoreSpec {
    type Error = ProtocolError;

    /// Everything of the request but its name.
    fn try_from(request: v1::CreateRestoreRequest) -> Result<Self> {
        let velero_object = restore_object(&request)?;
        receive::at_most("volumes", &request.volumes, MAX_NAMED)?;
        if request.from_backup.is_empty() == request.volumes.is_empty() {
            let reason = "exactly one of `from_backup` and `volumes` is required";
            return Err(ProtocolError::new("from_backup", reason));
        }
        let from_backup = if request.from_backup.is_empty() {
            String::new()
        } else {
            receive::run_name("from_backup", request.from_backup)?
        };
        let volume = |(i, volume): (usize, v1::RestoreVolume)| {
            let outer = format!("volumes[{i}]");
            let target = volume
                .target
                .map(|target| receive::volume("target", Some(target)))
                .transpose()
                .map_err(|error| error.within(&outer))?;
            let snapshot = receive::some_text("snapshot", volume.snapshot, 1024)
                .map_err(|error| error.within(&outer))?;
            let claim = volume.claim.map(claim).transpose();
            let claim = claim.map_err(|error| error.within("claim").within(&outer))?;
            if claim.is_some() && target.is_some() {
                let error = ProtocolError::new("claim", "excludes `target`");
                return Err(error.within(&outer));
            }
            Ok(RestoreVolume {
                snapshot,
                target,
                claim,
            })
        };
        receive::at_most(
            "namespace_mapping",
            &Vec::from_iter(&request.namespace_mapping),
            1000,
        )?;
        receive::at_most(
            "pod_mapping",
            &Vec::from_iter(&request.pod_mapping),
            MAX_NAMED,
        )?;
        for (field, map) in [
            ("namespace_mapping", &request.namespace_mapping),
            ("pod_mapping", &request.pod_mapping),
        ] {
            let names = map.iter().flat_map(|(from, to)| [from, to]);
            if let Some(name) = names.into_iter().find(|name| !is_plain(name)) {
                let reason = format!("maps names, and {name:?} is none");
                return Err(ProtocolError::new(field, reason));
            }
        }
        Ok(Self {
            from_backup,
            volumes: request
                .volumes
                .into_iter()
                .enumerate()
                .map(volume)
                .collect::<Result<_>>()?,
            namespace_mapping: request.namespace_mapping.into_iter().collect(),
            pod_mapping: request.pod_mapping.into_iter().collect(),
            mode: restore_mode("mode", request.mode)?,
            path: receive::blob("path", request.path, 4096)?.to_vec(),
            velero_object,
        })
    }
}

/// Whether a text may be the name of a namespace or pod.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= receive::MAX_NAME_BYTES && !name.contains(['/', ':'])
}

fn claim(claim: v1::ClaimRef) -> Result<ClaimRef> {
    let name = |field: &str, name: String| {
        let name = receive::some_text(field, name, receive::MAX_NAME_BYTES)?;
        if name.contains('/') {
            return Err(ProtocolError::new(field, "must not contain a slash"));
        }
        Ok(name)
    };
    Ok(ClaimRef {
        namespace: name("namespace", claim.namespace)?,
        claim: name("claim", claim.claim)?,
    })
}

/// The object that says what of a cluster is made again; empty if there is none.
fn restore_object(request: &v1::CreateRestoreRequest) -> Result<String> {
    let field = "velero_object";
    let text = object(field, &request.velero_object)?;
    if text.is_empty() {
        return Ok(text);
    }
    if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        let reason = format!("is not a JSON object: {error}");
        return Err(ProtocolError::new(field, reason));
    }
    if request.from_backup.is_empty() {
        let reason = "is required with `velero_object`";
        return Err(ProtocolError::new("from_backup", reason));
    }
    let named = !request.volumes.is_empty()
        || !request.namespace_mapping.is_empty()
        || !request.pod_mapping.is_empty()
        || request.mode != i32::from(v1::RestoreMode::Unspecified)
        || !request.path.is_empty();
    if named {
        let reason = "excludes `volumes`, `namespace_mapping`, `pod_mapping`, `mode` and `path`";
        return Err(ProtocolError::new(field, reason));
    }
    Ok(text)
}

/// A Kubernetes object as JSON; what is in it is looked at by who understands it.
fn object(field: &str, bytes: &bytes::Bytes) -> Result<String> {
    let bytes = receive::blob(field, bytes.clone(), MAX_OBJECT_BYTES)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtocolError::new(field, "is not UTF-8"))
}

fn restore_mode(field: &str, mode: i32) -> Result<RestoreMode> {
    v1::RestoreMode::try_from(mode)
        .map(RestoreMode::from)
        .map_err(|_| {
            ProtocolError::new(
                field,
                format!("{mode} is not a mode that this version knows"),
            )
        })
}
