//! What somebody asked a run to do.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{RestoreMode, VolumeRef};

/// What to back up. Without namespaces, pods and volumes: every eligible volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSpec {
    /// Only pods of these namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// Only these pods, each `NAMESPACE/POD`; empty for all.
    pub pods: Vec<String>,
    /// Exactly these volumes; then `namespaces` and `pods` are empty.
    pub volumes: Vec<VolumeRef>,
    /// How long it is kept, in seconds; 0 for ever.
    pub ttl_seconds: u64,
    /// Patterns of entries to leave out.
    pub exclude: Vec<String>,
    /// Labels of the snapshots.
    pub tags: Vec<String>,
    /// Read every file again.
    pub force_full: bool,
    /// The schedule that asks for it; empty if none.
    pub schedule: String,
    /// A `velero.io/v1` object as JSON that says instead what is backed up; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub velero_object: String,
}

/// A snapshot and the volume that it is restored into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreVolume {
    /// The snapshot: an id, a prefix of one, or `latest:NAMESPACE/POD/VOLUME`.
    pub snapshot: String,
    /// Where to; `None` for the volume it was made of, after mapping.
    pub target: Option<VolumeRef>,
    /// Instead of `target`: the claim whose volume, in a pod that runs, it is restored into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimRef>,
}

/// A PersistentVolumeClaim. Its text is `NAMESPACE/CLAIM`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub claim: String,
}

impl fmt::Display for ClaimRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.claim)
    }
}

/// What to restore and where to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreSpec {
    /// All snapshots of this backup; empty if `volumes` says which.
    pub from_backup: String,
    /// These snapshots.
    pub volumes: Vec<RestoreVolume>,
    /// Namespace of the backup → namespace of the target.
    pub namespace_mapping: BTreeMap<String, String>,
    /// Pod of the backup → pod of the target.
    pub pod_mapping: BTreeMap<String, String>,
    /// What to do with what the targets hold.
    pub mode: RestoreMode,
    /// Only this entry and what is below it; empty for everything.
    pub path: Vec<u8>,
    /// A `velero.io/v1` object as JSON that says which Kubernetes objects of `from_backup` are made again; the volumes
    /// of their pods follow. Empty if volumes alone are restored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub velero_object: String,
}

impl RestoreSpec {
    /// Whether Kubernetes objects are made again.
    pub fn makes_objects(&self) -> bool {
        !self.velero_object.is_empty()
    }

    /// What is done with what the targets hold. Volumes of pods that are made again may have been written by whatever
    /// came before `restore-wait`, or by an attempt before this one.
    pub fn effective_mode(&self) -> RestoreMode {
        if self.makes_objects() {
            RestoreMode::Overwrite
        } else {
            self.mode
        }
    }

    /// With mode `new-dir`: the directory in each volume that the restore `name` makes and restores into.
    pub fn directory<'a>(&self, name: &'a str) -> Option<&'a str> {
        (self.effective_mode() == RestoreMode::NewDir).then_some(name)
    }

    /// The volume that a snapshot of `source` is restored into when no target is given.
    pub fn target_of(&self, source: &VolumeRef) -> VolumeRef {
        let map = |names: &BTreeMap<String, String>, name: &String| {
            names.get(name).unwrap_or(name).clone()
        };
        VolumeRef {
            namespace: map(&self.namespace_mapping, &source.namespace),
            pod: map(&self.pod_mapping, &source.pod),
            volume: source.volume.clone(),
        }
    }
}

/// What somebody asked a run to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunSpec {
    /// A backup.
    Backup(BackupSpec),
    /// A restore.
    Restore(RestoreSpec),
}

impl RunSpec {
    /// The kind of run that it asks for.
    pub fn kind(&self) -> super::RunKind {
        match self {
            Self::Backup(_) => super::RunKind::Backup,
            Self::Restore(_) => super::RunKind::Restore,
        }
    }
}
