//! What pod manifests and log directories tell of the pods of this node.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use orlop_core::Chunking;
use serde::Deserialize;

use super::{DiscoverError, read_file};

const INCLUDE: &str = "backup.velero.io/backup-volumes";
const EXCLUDE: &str = "backup.velero.io/backup-volumes-excludes";
/// How the large files of a pod's volumes are cut.
const CHUNKING: &str = "orlop.io/chunking";
/// Static pods: the directory is named by this hash, not by the uid of the mirror pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
const EXPECTED: &str =
    "Kubernetes Pod manifests as JSON or YAML, single, as a list or as several documents";

/// One pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    /// `None` if only the names are known.
    pub(super) spec: Option<Spec>,
}

/// What a manifest tells of a pod's volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spec {
    /// Names of volumes that are claims (or generic ephemeral volumes).
    pub(super) claims: Vec<String>,
    /// Names of all others.
    pub(super) inline: Vec<String>,
    /// Names in the opt-in annotation.
    pub(super) include: Option<Vec<String>>,
    /// Names in the opt-out annotation.
    pub(super) exclude: Option<Vec<String>>,
    /// The word of the annotation that says how files are cut.
    pub(super) chunking: Option<String>,
}

impl Spec {
    /// How large files are cut; `None` if nothing is said, or nothing that means anything.
    pub(super) fn chunking(&self) -> Option<Chunking> {
        self.chunking.as_ref()?.parse().ok()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().chain(&self.inline).map(String::as_str)
    }

    /// Whether the annotations want the volume.
    pub(super) fn selects(&self, volume: &str) -> bool {
        let named = |list: &Option<Vec<String>>| {
            list.as_ref()
                .map(|list| list.iter().any(|name| name == volume))
        };
        match (named(&self.include), named(&self.exclude)) {
            (Some(included), excluded) => included && excluded != Some(true),
            (None, Some(excluded)) => !excluded,
            (None, None) => false,
        }
    }

    /// Names in the annotations that the pod has no volume of.
    pub(super) fn unknown(&self) -> Vec<&str> {
        let named = self
            .include
            .iter()
            .chain(&self.exclude)
            .flatten()
            .map(String::as_str);
        named
            .filter(|name| self.names().all(|known| known != *name))
            .collect()
    }
}

/// Pods by the name of their directory.
pub(super) type Pods = HashMap<String, Pod>;

/// Pods by `<namespace>_<pod>_<uid>` in the directory of logs; none if it cannot be listed.
pub(super) fn read_log_dir(dir: &Path) -> Pods {
    let Ok(entries) = fs::read_dir(dir) else {
        return Pods::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let mut parts = name.splitn(3, '_');
            let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
            let filled = ![namespace, pod, uid].contains(&"");
            let pod = Pod {
                namespace: namespace.into(),
                name: pod.into(),
                spec: None,
            };
            filled.then(|| (uid.to_owned(), pod))
        })
        .collect()
}

#[derive(Deserialize)]
struct Manifest {
    kind: Option<String>,
    metadata: Option<Meta>,
    spec: Option<PodSpec>,
    items: Option<Vec<Manifest>>,
}

#[derive(Deserialize)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct PodSpec {
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    persistent_volume_claim: Option<serde::de::IgnoredAny>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

/// Pods of a file of manifests; those without a uid are found by namespace and name in `logs`.
pub(super) fn read_manifests(file: &Path, logs: &Pods) -> Result<Pods, DiscoverError> {
    let text = read_file(file)?;
    let fail = |reason: String| DiscoverError::Parse {
        path: file.to_owned(),
        reason,
        expected: EXPECTED,
    };
    let manifests = parse(&text).map_err(fail)?;
    let mut pods = Pods::new();
    let mut pending = manifests;
    while let Some(manifest) = pending.pop() {
        if let Some(items) = manifest.items {
            pending.extend(items);
            continue;
        }
        if manifest.kind.as_deref().is_some_and(|kind| kind != "Pod") {
            continue;
        }
        let Some((uid, pod)) = pod_of(manifest) else {
            continue;
        };
        if let Some(uid) = uid {
            pods.insert(uid, pod);
            continue;
        }
        let same = |known: &Pod| known.namespace == pod.namespace && known.name == pod.name;
        for uid in logs
            .iter()
            .filter(|(_, known)| same(known))
            .map(|(uid, _)| uid)
        {
            pods.insert(uid.clone(), pod.clone());
        }
    }
    Ok(pods)
}

fn parse(text: &str) -> Result<Vec<Manifest>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    if text.trim_start().starts_with('{') {
        let documents = serde_json::Deserializer::from_str(text).into_iter();
        return documents
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string());
    }
    let documents: Vec<Option<Manifest>> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().flatten().collect())
}

fn pod_of(manifest: Manifest) -> Option<(Option<String>, Pod)> {
    let meta = manifest.metadata?;
    let annotations = meta.annotations.unwrap_or_default();
    let list = |key: &str| -> Option<Vec<String>> {
        let text = annotations.get(key)?;
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        Some(names.map(str::to_owned).collect())
    };
    let mut spec = Spec {
        include: list(INCLUDE),
        exclude: list(EXCLUDE),
        chunking: annotations.get(CHUNKING).map(|word| word.trim().to_owned()),
        ..Spec::default()
    };
    for volume in manifest
        .spec
        .and_then(|spec| spec.volumes)
        .unwrap_or_default()
    {
        if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
            spec.claims.push(volume.name);
        } else {
            spec.inline.push(volume.name);
        }
    }
    let pod = Pod {
        namespace: meta.namespace.unwrap_or_else(|| "default".to_owned()),
        name: meta.name?,
        spec: Some(spec),
    };
    Some((annotations.get(MIRROR).cloned().or(meta.uid), pod))
}
