//! Which volumes of a pod a backup takes, and why it leaves the others out.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume,
};
use orlop_core::{Chunking, Lineage, VolumeRef};

use super::{
    annotations, lineage,
    policy::{PolicyAction, VolumeFacts, VolumePolicies},
    skip::{Severity, SkipReason},
};
use crate::velero::labels::{VOLUMES, VOLUMES_EXCLUDED};

/// The volume that a restore adds to pods for its marks.
pub(crate) const RESTORE_MARKS: &str = "orlop-restore";

/// A pod with what its volumes refer to. Objects of other pods among them do no harm.
#[derive(Debug, Clone, Copy)]
pub struct PodObjects<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Claims of its namespace.
    pub claims: &'a [PersistentVolumeClaim],
    /// Persistent volumes.
    pub volumes: &'a [PersistentVolume],
}

/// What the backup says of volumes.
#[derive(Debug, Clone, Copy, Default)]
pub struct VolumeOptions<'a> {
    /// Whether all volumes are taken unless the pod excludes them; else those that the pod names.
    pub all: bool,
    /// Whether the backup leaves out persistent volume claims.
    pub claims_excluded: bool,
    /// Rules that come before annotations.
    pub policies: Option<&'a VolumePolicies>,
    /// Directories of the node below which agents may read persistent volumes of type hostPath.
    pub host_roots: &'a [String],
}

/// The claim of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    /// Its name, in the pod's namespace.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A volume to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenVolume {
    /// The volume.
    pub volume: VolumeRef,
    /// Where its snapshots go on from.
    pub lineage: Lineage,
    /// The node that has it mounted.
    pub node: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// Its claim, if it has one.
    pub claim: Option<ClaimRef>,
    /// The persistent volume of its claim.
    pub persistent_volume: Option<String>,
    /// The directory of the node, if the persistent volume is but that; else it is below the kubelet's.
    pub host_path: Option<String>,
    /// How its large files are cut.
    pub chunking: Chunking,
}

/// A volume that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedVolume {
    /// The volume.
    pub volume: VolumeRef,
    /// Why.
    pub reason: SkipReason,
    /// How much it matters.
    pub severity: Severity,
}

/// The volumes of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodVolumes {
    /// To back up, in the order of the pod's spec.
    pub taken: Vec<TakenVolume>,
    /// Left out.
    pub skipped: Vec<SkippedVolume>,
    /// What else somebody should know, one line each: names in annotations that no volume has.
    pub warnings: Vec<String>,
}

/// The volumes of a pod that a backup takes.
///
/// `taken_claims` has the UIDs of the claims that the backup takes through other pods; those of this pod are added.
pub fn pod_volumes(
    objects: &PodObjects<'_>,
    options: &VolumeOptions<'_>,
    taken_claims: &mut BTreeSet<String>,
) -> PodVolumes {
    let pod = objects.pod;
    let mut found = PodVolumes::default();
    let Some(spec) = &pod.spec else {
        return found;
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let key = if options.all {
        VOLUMES_EXCLUDED
    } else {
        VOLUMES
    };
    let listed = annotations::names(annotations::get(pod, key));
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    for unknown in listed
        .iter()
        .filter(|name| volumes.iter().all(|v| v.name != **name))
    {
        let names: Vec<&str> = volumes.iter().map(|v| v.name.as_str()).collect();
        found.warnings.push(format!(
            "annotation {key} of pod {namespace}/{name}: {}",
            orlop_core::run::not_found("volume", unknown, names)
        ));
    }
    let chunking = annotations::chunking(pod).unwrap_or_else(|error| {
        let key = annotations::CHUNKING;
        let warning = format!("annotation {key} of pod {namespace}/{name}: {error}");
        found.warnings.push(warning);
        Chunking::Auto
    });
    for volume in volumes {
        let is_listed = listed.contains(&volume.name.as_str());
        let reference = VolumeRef::new(namespace, name, &volume.name);
        let look = Look {
            objects,
            options,
            spec,
            volume,
            is_listed,
            chunking,
        };
        match look.decide(&reference, taken_claims) {
            Ok(taken) => {
                taken_claims.extend(taken.claim.iter().map(|claim| claim.uid.clone()));
                found.taken.push(taken);
            }
            Err(reason) => found.skipped.push(SkippedVolume {
                severity: reason.severity(is_listed && !options.all),
                volume: reference,
                reason,
            }),
        }
    }
    found
}

/// One volume and all that matters to it.
struct Look<'a> {
    objects: &'a PodObjects<'a>,
    options: &'a VolumeOptions<'a>,
    spec: &'a PodSpec,
    volume: &'a Volume,
    /// Whether the annotation that counts has its name.
    is_listed: bool,
    chunking: Chunking,
}

impl Look<'_> {
    fn decide(
        &self,
        reference: &VolumeRef,
        taken_claims: &BTreeSet<String>,
    ) -> Result<TakenVolume, SkipReason> {
        self.check_kind()?;
        let claim_name = self.claim_name();
        let claim = claim_name.as_deref().and_then(|name| self.claim(name));
        let persistent = claim.and_then(|claim| self.persistent(claim));
        self.check_selection(claim, persistent)?;
        let uid = claim.and_then(|claim| claim.metadata.uid.as_deref());
        if let (Some(name), Some(uid)) = (&claim_name, uid)
            && taken_claims.contains(uid)
        {
            let claim = name.clone();
            return Err(SkipReason::AlreadyTaken { claim });
        }
        self.check_running()?;
        if let Some(claim_name) = &claim_name {
            let claim_name = claim_name.clone();
            if claim.is_none() {
                return Err(SkipReason::ClaimMissing { claim: claim_name });
            }
            if persistent.is_none() {
                return Err(SkipReason::ClaimUnbound { claim: claim_name });
            }
        }
        let host_path = self.check_host_path(persistent)?;
        self.check_mount(claim)?;
        let uid = uid.unwrap_or_default();
        let outlives_pod = claim.is_some() && self.volume.ephemeral.is_none();
        Ok(TakenVolume {
            volume: reference.clone(),
            lineage: if outlives_pod && !uid.is_empty() {
                lineage::of_claim(uid)
            } else {
                lineage::of_pod_volume(self.objects.pod, &self.volume.name)
            },
            node: self.spec.node_name.clone().unwrap_or_default(),
            pod_uid: self.objects.pod.metadata.uid.clone().unwrap_or_default(),
            claim: claim_name.map(|name| ClaimRef {
                name,
                uid: uid.to_owned(),
            }),
            persistent_volume: persistent.and_then(|pv| pv.metadata.name.clone()),
            host_path,
            chunking: self.chunking,
        })
    }

    /// Volumes that hold no data of the pod's own, or none that we can read.
    fn check_kind(&self) -> Result<(), SkipReason> {
        holds_data(self.volume)?;
        if self.options.claims_excluded && self.claim_name().is_some() {
            return Err(SkipReason::ClaimsExcluded);
        }
        Ok(())
    }

    /// Policies first, then the annotation.
    fn check_selection(
        &self,
        claim: Option<&PersistentVolumeClaim>,
        persistent: Option<&PersistentVolume>,
    ) -> Result<(), SkipReason> {
        let facts = VolumeFacts {
            volume: self.volume,
            claim,
            persistent,
        };
        let policy = self
            .options
            .policies
            .and_then(|policies| policies.action(&facts));
        match (policy, self.options.all, self.is_listed) {
            (Some(PolicyAction::FsBackup), _, _) | (None, false, true) | (None, true, false) => {
                Ok(())
            }
            (Some(action), _, _) => Err(SkipReason::Policy(action)),
            (None, false, false) => Err(SkipReason::NotSelected),
            (None, true, true) => Err(SkipReason::Excluded),
        }
    }

    fn check_running(&self) -> Result<(), SkipReason> {
        let status = self.objects.pod.status.as_ref();
        let phase = status
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default();
        if phase == "Running" {
            return Ok(());
        }
        Err(SkipReason::NotRunning {
            phase: phase.to_owned(),
        })
    }

    /// The directory of the node, if the persistent volume is one that may be read.
    fn check_host_path(
        &self,
        persistent: Option<&PersistentVolume>,
    ) -> Result<Option<String>, SkipReason> {
        let source = persistent.and_then(|pv| pv.spec.as_ref()?.host_path.as_ref());
        let Some(source) = source else {
            return Ok(None);
        };
        let path = source.path.clone();
        if self
            .options
            .host_roots
            .iter()
            .any(|root| is_below(&path, root))
        {
            Ok(Some(path))
        } else {
            Err(SkipReason::OutsideHostRoots { path })
        }
    }

    /// A native sidecar counts as a container: it runs as long as they do.
    fn check_mount(&self, claim: Option<&PersistentVolumeClaim>) -> Result<(), SkipReason> {
        let name = &self.volume.name;
        let init = self.spec.init_containers.iter().flatten();
        let device = |container: &Container| {
            let mut devices = container.volume_devices.iter().flatten();
            devices.any(|device| device.name == *name)
        };
        let mount = |container: &Container| {
            let mut mounts = container.volume_mounts.iter().flatten();
            mounts.any(|mount| mount.name == *name)
        };
        let mode = claim.and_then(|claim| claim.spec.as_ref()?.volume_mode.as_deref());
        let mut all = self.spec.containers.iter().chain(init);
        if mode == Some("Block") || all.any(device) {
            return Err(SkipReason::Block);
        }
        if running_containers(self.spec).any(mount) {
            Ok(())
        } else {
            Err(SkipReason::NotMounted)
        }
    }

    /// The claim's name; that of an ephemeral volume is made of the pod's and the volume's.
    fn claim_name(&self) -> Option<String> {
        if let Some(source) = &self.volume.persistent_volume_claim {
            return Some(source.claim_name.clone());
        }
        self.volume.ephemeral.as_ref()?;
        let pod = self.objects.pod.metadata.name.as_deref()?;
        Some(format!("{pod}-{}", self.volume.name))
    }

    fn claim(&self, name: &str) -> Option<&PersistentVolumeClaim> {
        let namespace = &self.objects.pod.metadata.namespace;
        self.objects.claims.iter().find(|claim| {
            claim.metadata.name.as_deref() == Some(name) && claim.metadata.namespace == *namespace
        })
    }

    fn persistent(&self, claim: &PersistentVolumeClaim) -> Option<&PersistentVolume> {
        let name = claim.spec.as_ref()?.volume_name.as_deref()?;
        let mut volumes = self.objects.volumes.iter();
        volumes.find(|pv| pv.metadata.name.as_deref() == Some(name))
    }
}

/// Whether a volume of a pod may hold data of its own.
pub(crate) fn holds_data(volume: &Volume) -> Result<(), SkipReason> {
    let derived = [
        (volume.secret.is_some(), "a secret"),
        (volume.name.starts_with("default-token"), "a token"),
        (volume.config_map.is_some(), "a config map"),
        (volume.projected.is_some(), "a projected volume"),
        (volume.downward_api.is_some(), "a downward API volume"),
    ];
    if let Some((_, what)) = derived.iter().find(|(is, _)| *is) {
        return Err(SkipReason::Derived(what));
    }
    if volume.host_path.is_some() {
        return Err(SkipReason::HostPath);
    }
    if volume.image.is_some() {
        return Err(SkipReason::Image);
    }
    if volume.name == RESTORE_MARKS && volume.empty_dir.is_some() {
        return Err(SkipReason::RestoreMarks);
    }
    Ok(())
}

/// The containers that run while the pod does: the regular ones and native sidecars.
pub(crate) fn running_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    spec.containers.iter().chain(sidecars)
}

/// Whether `path` is truly below `root`, both absolute and free of `..`.
pub(crate) fn is_below(path: &str, root: &str) -> bool {
    let parts = |path: &str| -> Option<Vec<String>> {
        let parts = path.strip_prefix('/')?.split('/');
        let parts: Vec<String> = parts
            .filter(|part| !matches!(*part, "" | "."))
            .map(str::to_owned)
            .collect();
        (!parts.iter().any(|part| part == "..")).then_some(parts)
    };
    match (parts(path), parts(root)) {
        (Some(path), Some(root)) => path.len() > root.len() && path.starts_with(&root),
        _ => false,
    }
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
