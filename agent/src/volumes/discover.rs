//! The walk below the kubelet's directory: `pods/<uid>/volumes/<plugin>/<name>`.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use orlop_core::{Lineage, ParseChunkingError, VolumeRef};
use serde::Deserialize;
use walkdir::{DirEntry, WalkDir};

use super::{
    DiscoverError, DiscoverOptions, FoundVolume, closest,
    files::read_volumes,
    pods::{Pod, Pods, Spec, read_log_dir, read_manifests},
};
use crate::marks;

/// Depth of `<uid>`, `volumes`, `<plugin>` and `<name>` below `pods`.
const VOLUMES_DEPTH: usize = 2;
const NAME_DEPTH: usize = 4;

const EMPTY_DIR: &str = "kubernetes.io/empty-dir";
const CSI: &str = "kubernetes.io/csi";

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// All volumes, by pod and name, those that cannot be backed up included.
    pub volumes: Vec<FoundVolume>,
    /// What a person should know: names in annotations that mean nothing, directories that cannot
    /// be listed.
    pub warnings: Vec<String>,
}

/// The volumes of this node, one of each name; warnings are logged. A pod that was made again has the names of the one
/// before, whose directory may still be there: [`discover_all`] tells both.
///
/// # Errors
/// The directory of pods cannot be listed, or a given file cannot be read or understood.
pub fn discover(options: &DiscoverOptions) -> Result<Vec<FoundVolume>, DiscoverError> {
    let mut found = discover_all(options)?;
    found.volumes.dedup_by(|a, b| a.volume == b.volume);
    for warning in &found.warnings {
        tracing::warn!(warning, "volumes may be missing");
    }
    Ok(found.volumes)
}

/// The volumes of this node, of all pods that have directories, and what is remarkable about them.
///
/// # Errors
/// As for [`discover`].
pub fn discover_all(options: &DiscoverOptions) -> Result<Discovery, DiscoverError> {
    let mut pods = options
        .log_pods_dir
        .as_deref()
        .map(read_log_dir)
        .unwrap_or_default();
    let manifests = match &options.pods_file {
        Some(file) => Some(read_manifests(file, &pods)?),
        None => None,
    };
    let annotated = manifests.is_some();
    pods.extend(manifests.unwrap_or_default());
    let mut found = Discovery::default();
    if let Some(file) = &options.volumes_file {
        found.volumes = read_volumes(file)?;
    }
    let pods_dir = options.kubelet_dir.join("pods");
    let directories = list(
        &pods_dir,
        options.volumes_file.is_some(),
        &mut found.warnings,
    )?;
    // A volume that the operator listed is where the operator says.
    let by_hand: HashSet<VolumeRef> = found.volumes.iter().map(|one| one.volume.clone()).collect();
    for (uid, volumes) in directories {
        let walked = pod_volumes(&uid, volumes, pods.get(&uid), annotated);
        let others = walked
            .into_iter()
            .filter(|one| !by_hand.contains(&one.volume));
        found.volumes.extend(others);
    }
    found.warnings.extend(warnings(&pods));
    found
        .volumes
        .sort_by(|a, b| (&a.volume, &a.path).cmp(&(&b.volume, &b.path)));
    Ok(found)
}

/// A directory that stands for a volume.
struct VolumeDir {
    plugin: String,
    name: String,
    path: PathBuf,
    skip: Option<String>,
}

/// Volume directories by pod uid. Only the kubelet's own directories are opened, never a volume.
fn list(
    pods_dir: &Path,
    may_be_missing: bool,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Vec<VolumeDir>>, DiscoverError> {
    let mut found: BTreeMap<String, Vec<VolumeDir>> = BTreeMap::new();
    let walk = WalkDir::new(pods_dir)
        .max_depth(NAME_DEPTH)
        .follow_links(false)
        .into_iter()
        .filter_entry(|entry| entry.depth() != VOLUMES_DEPTH || entry.file_name() == "volumes");
    for entry in walk {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.depth() == 0 => {
                let missing =
                    error.io_error().map(io::Error::kind) == Some(io::ErrorKind::NotFound);
                if missing && may_be_missing {
                    return Ok(found);
                }
                let path = pods_dir.to_owned();
                return Err(DiscoverError::List {
                    path,
                    source: error.into(),
                });
            }
            // A pod that ends takes its directory away.
            Err(error)
                if error.io_error().map(io::Error::kind) == Some(io::ErrorKind::NotFound) =>
            {
                continue;
            }
            Err(error) => {
                warnings.push(error.to_string());
                continue;
            }
        };
        if entry.depth() == NAME_DEPTH
            && let Some((uid, volume)) = volume_dir(&entry)
        {
            found.entry(uid).or_default().push(volume);
        }
    }
    for volumes in found.values_mut() {
        volumes.sort_by(|a, b| (&a.plugin, &a.name).cmp(&(&b.plugin, &b.name)));
    }
    Ok(found)
}

fn volume_dir(entry: &DirEntry) -> Option<(String, VolumeDir)> {
    let name = entry.file_name().to_str()?.to_owned();
    let plugin_dir = entry.path().parent()?;
    let plugin = plugin_dir.file_name()?.to_str()?.replace('~', "/");
    let uid = plugin_dir
        .parent()?
        .parent()?
        .file_name()?
        .to_str()?
        .to_owned();
    if entry.file_type().is_file() {
        return None;
    }
    let mut skip = ineligible(&plugin, &name);
    if entry.file_type().is_symlink() {
        skip = Some("its directory is a symbolic link, which is not followed".to_owned());
    }
    let mut path = entry.path().to_owned();
    if plugin == CSI {
        if skip.is_none() && !has_mount(&path) {
            skip = Some("its driver has not mounted it (no directory \"mount\")".to_owned());
        }
        path.push("mount");
    }
    Some((
        uid,
        VolumeDir {
            plugin,
            name,
            path,
            skip,
        },
    ))
}

/// Whether the listing shows `mount`: the mounted volume itself is not looked at.
fn has_mount(dir: &Path) -> bool {
    fs::read_dir(dir)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() == "mount"))
}

fn ineligible(plugin: &str, name: &str) -> Option<String> {
    let what = match plugin.rsplit('/').next().unwrap_or(plugin) {
        "secret" => "a secret",
        "configmap" => "a config map",
        "projected" => "a projected volume",
        "downward-api" => "a downward API volume",
        "empty-dir" if name == marks::VOLUME => {
            return Some("it holds the marks of a restore".to_owned());
        }
        _ => return None,
    };
    Some(format!(
        "{what} is made from Kubernetes objects and holds no data of its own"
    ))
}

fn pod_volumes(
    uid: &str,
    dirs: Vec<VolumeDir>,
    pod: Option<&Pod>,
    annotated: bool,
) -> Vec<FoundVolume> {
    let names = volume_names(&dirs, pod);
    let of_pod = |(dir, name): (VolumeDir, String)| {
        let (namespace, pod_name) = match pod {
            Some(pod) => (pod.namespace.as_str(), pod.name.as_str()),
            None => ("unknown", uid),
        };
        let volume = VolumeRef::new(namespace, pod_name, &name);
        let spec = pod.and_then(|pod| pod.spec.as_ref());
        let skip = dir.skip.clone().or_else(|| {
            pod.is_none()
                .then(|| format!("the name of its pod (uid {uid}) is not known"))
        });
        let wanted = if annotated {
            spec.is_some_and(|spec| spec.selects(&name))
        } else {
            true
        };
        let inline = spec.is_some_and(|spec| spec.inline.contains(&name));
        FoundVolume {
            lineage: lineage(&dir, inline, &volume),
            volume,
            pod_uid: uid.to_owned(),
            directory: dir.name,
            plugin: dir.plugin,
            unfit: dir.skip.is_some(),
            path: dir.path,
            base: None,
            selected: wanted && skip.is_none(),
            skip,
            chunking: spec.and_then(Spec::chunking).unwrap_or_default(),
        }
    };
    dirs.into_iter().zip(names).map(of_pod).collect()
}

/// The pod's name of each directory: the same name; or that of the only claim, if but one claim and
/// one directory of a persistent volume are left over; or the directory's own name.
fn volume_names(dirs: &[VolumeDir], pod: Option<&Pod>) -> Vec<String> {
    let mut names: Vec<String> = dirs.iter().map(|dir| dir.name.clone()).collect();
    let Some(spec) = pod.and_then(|pod| pod.spec.as_ref()) else {
        return names;
    };
    let claims: Vec<&String> = spec
        .claims
        .iter()
        .filter(|claim| dirs.iter().all(|dir| dir.name != **claim))
        .collect();
    let left: Vec<usize> = dirs
        .iter()
        .enumerate()
        .filter(|(_, dir)| {
            dir.skip.is_none()
                && dir.plugin != EMPTY_DIR
                && spec.names().all(|name| name != dir.name)
        })
        .map(|(at, _)| at)
        .collect();
    if let ([claim], [at]) = (claims.as_slice(), left.as_slice()) {
        names[*at].clone_from(claim);
    }
    names
}

fn lineage(dir: &VolumeDir, inline: bool, volume: &VolumeRef) -> Lineage {
    let pod_scoped = inline
        || dir.plugin == EMPTY_DIR
        || dir.skip.is_some()
        || (dir.plugin == CSI && is_ephemeral_csi(&dir.path));
    if pod_scoped {
        volume.default_lineage()
    } else {
        Lineage(format!("pv:{}", dir.name))
    }
}

/// What the kubelet notes beside the mount of a CSI volume.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeData {
    volume_lifecycle_mode: Option<String>,
}

fn is_ephemeral_csi(mount: &Path) -> bool {
    fs::read(mount.with_file_name("vol_data.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<VolumeData>(&bytes).ok())
        .is_some_and(|data| data.volume_lifecycle_mode.as_deref() == Some("Ephemeral"))
}

fn warnings(pods: &Pods) -> Vec<String> {
    let mut warnings = Vec::new();
    for pod in pods.values() {
        let Some(spec) = &pod.spec else { continue };
        if let Some(word) = &spec.chunking
            && spec.chunking().is_none()
        {
            warnings.push(format!(
                "pod {}/{}: {}",
                pod.namespace,
                pod.name,
                ParseChunkingError(word.clone())
            ));
        }
        for name in spec.unknown() {
            let near = closest(spec.names(), name);
            let hint = match near.first() {
                Some(near) => format!("; did you mean {near:?}?"),
                None => String::new(),
            };
            warnings.push(format!(
                "pod {}/{}: an annotation names the volume {name:?}, which the pod does not have{hint}",
                pod.namespace, pod.name
            ));
        }
    }
    warnings.sort();
    warnings
}
