//! The volumes of the pods of this node, found without the Kubernetes API and without touching them:
//! a dead NFS mount must not hang the search.

mod discover;
mod files;
mod open;
mod pods;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

use orlop_core::{Chunking, Lineage, VolumeRef};

pub use discover::{Discovery, discover, discover_all};

/// Where volumes are found.
#[derive(Debug, Clone, Default)]
pub struct DiscoverOptions {
    /// The kubelet's directory, usually `/var/lib/kubelet`.
    pub kubelet_dir: PathBuf,
    /// Directories `<namespace>_<pod>_<uid>` tell the names of pods; usually `/var/log/pods`. It may
    /// be missing.
    pub log_pods_dir: Option<PathBuf>,
    /// Pod manifests: JSON or YAML, single, as a list or as several documents. With them the
    /// annotations decide which volumes are selected.
    pub pods_file: Option<PathBuf>,
    /// Further volumes: JSON objects with `namespace`, `pod`, `volume` and `path`, or lines
    /// `NAMESPACE/POD/VOLUME PATH`.
    pub volumes_file: Option<PathBuf>,
    /// Directories of the node below which persistent volumes of type hostPath may be opened.
    pub host_roots: Vec<HostRoot>,
}

/// A directory of the node, and where it is seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot {
    /// Its path on the node.
    pub node: PathBuf,
    /// Where it is mounted; the same path if the agent runs in no container.
    pub mounted: PathBuf,
}

/// A volume on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVolume {
    /// The volume as its pod names it; by the directory's name where that is not known.
    pub volume: VolumeRef,
    /// The pod's uid, which is the name of its directory; empty for listed volumes.
    pub pod_uid: String,
    /// Name of its directory below those of its pod and plugin; empty for listed volumes.
    pub directory: String,
    /// The plugin that mounted it, such as `kubernetes.io/csi`; `path` for listed volumes.
    pub plugin: String,
    /// By which its earlier snapshots are found.
    pub lineage: Lineage,
    /// Its root.
    pub path: PathBuf,
    /// Directory below which it must be, if that is not its pod's.
    pub base: Option<PathBuf>,
    /// Whether a backup of the pod takes it.
    pub selected: bool,
    /// Why it cannot be backed up, if so.
    pub skip: Option<String>,
    /// Whether that is for what it is, and not because the name of its pod is not known.
    pub unfit: bool,
    /// How its pod wants large files to be cut.
    pub chunking: Chunking,
}

/// The search for volumes failed as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoverError {
    /// A directory cannot be listed.
    #[error("cannot list {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file holds something else than what is wanted.
    #[error("{}: {reason}; expected {expected}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What it should hold.
        expected: &'static str,
    },
}

/// Up to three of `names` that are near to `wanted`, the nearest first: for messages that say what
/// may have been meant.
pub fn closest<'a>(names: impl IntoIterator<Item = &'a str>, wanted: &str) -> Vec<&'a str> {
    let limit = (wanted.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| {
            let contained = name.contains(wanted) || wanted.contains(name);
            let distance = distance(name, wanted);
            (
                if contained {
                    distance.min(limit)
                } else {
                    distance
                },
                name,
            )
        })
        .filter(|(distance, name)| *distance <= limit && !name.is_empty())
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Insertions, deletions and exchanges that make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (above + 1)
                .min(row[j] + 1)
                .min(diagonal + usize::from(x != *y));
            diagonal = above;
        }
    }
    row[b.len()]
}

fn read_file(path: &Path) -> Result<String, DiscoverError> {
    std::fs::read_to_string(path).map_err(|source| DiscoverError::Read {
        path: path.to_owned(),
        source,
    })
}
