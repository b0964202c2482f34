//! Plans a backup: reads the objects that it means, puts them aside, and chooses volumes and hooks from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use orlop_core::run::NewPod;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{ClientError, Connection, Objects},
    collect::{CollectError, CollectedObject, ObjectSink, Problem, collect},
    files::{FileError, SpoolWriter, SpooledItem},
    selection::{
        Choice, Filters, InvalidFilters, PodObjects, ResourceKind, Severity, SkippedVolume,
        TakenVolume, VolumeOptions, VolumePolicies, pod_hooks, pod_volumes,
    },
    velero::{Backup, BackupSpec},
};

/// What a backup takes of a cluster.
#[derive(Debug, Default)]
pub struct ClusterPlan {
    /// Volumes to back up.
    pub volumes: Vec<TakenVolume>,
    /// Volumes that are left out.
    pub skipped: Vec<SkippedVolume>,
    /// Pods with hooks.
    pub pods: Vec<NewPod>,
    /// Pods by namespace and name of which each is begun when those before it have ended.
    pub order: Vec<(String, String)>,
    /// What else somebody should know.
    pub problems: Vec<Problem>,
    /// Objects that were put aside.
    pub objects: u64,
}

/// Why a backup cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// What it asks for contradicts itself.
    #[error(transparent)]
    Invalid(#[from] InvalidFilters),
    /// The volume policies that it names are not there, or say something else.
    #[error("resourcePolicy: {0}")]
    Policies(String),
    /// The objects cannot be read or put aside.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// Something that volumes need cannot be read.
    #[error("read what the volumes of pods are")]
    Client(#[from] ClientError),
    /// The objects cannot be put aside.
    #[error("put the objects of the backup aside")]
    Spool(#[source] std::io::Error),
}

/// Plans `backup`, and puts its objects aside in the new file `spool`.
///
/// Directories of nodes are backed up below `host_roots` only. Cancelled it leaves a file that is of no use.
///
/// # Errors
/// See [`PlanError`].
pub async fn plan_backup(
    connection: &Connection,
    backup: &Backup,
    host_roots: &[String],
    spool: &Path,
    cancel: &CancellationToken,
) -> Result<ClusterPlan, PlanError> {
    let filters = Filters::of_backup(&backup.spec)?;
    let policies = policies_of(connection, backup).await?;
    let mut sink = Sink {
        spool: SpoolWriter::create(spool).map_err(PlanError::Spool)?,
        pods: Vec::new(),
        claims: BTreeMap::new(),
        volumes: BTreeMap::new(),
    };
    let report = collect(connection, &filters, &mut sink, cancel).await?;
    let objects = sink.spool.finish().map_err(PlanError::Spool)?;
    let claims = ResourceKind {
        plural: "persistentvolumeclaims".to_owned(),
        singular: "persistentvolumeclaim".to_owned(),
        short_names: vec!["pvc".to_owned()],
        namespaced: true,
        ..ResourceKind::default()
    };
    let spec = &backup.spec;
    let all = spec
        .default_volumes_to_fs_backup
        .or(spec.default_volumes_to_restic);
    let options = VolumeOptions {
        all: all.unwrap_or(false),
        claims_excluded: filters.choose(&claims) == Choice::LeftOut,
        policies: policies.as_ref(),
        host_roots,
    };
    let mut problems = report.problems;
    problems.extend(not_made(spec));
    let mut plan = ClusterPlan {
        problems,
        order: order_of(spec),
        objects,
        ..ClusterPlan::default()
    };
    let mut known = Known {
        connection,
        claims: sink.claims,
        volumes: sink.volumes,
    };
    let mut taken_claims = BTreeSet::new();
    for pod in &sink.pods {
        let (claims, volumes) = known.of_pod(pod).await?;
        let objects = PodObjects {
            pod,
            claims: &claims,
            volumes: &volumes,
        };
        let chosen = pod_volumes(&objects, &options, &mut taken_claims);
        plan.volumes.extend(chosen.taken);
        plan.skipped.extend(chosen.skipped);
        let hooks = pod_hooks(pod, spec);
        for message in chosen.warnings.into_iter().chain(hooks.warnings) {
            plan.problems.push(Problem {
                severity: Severity::Warning,
                message,
            });
        }
        if !hooks.hooks.is_empty() {
            plan.pods.push(NewPod {
                namespace: pod.namespace().unwrap_or_default(),
                pod: pod.name_any(),
                hooks: hooks.hooks,
            });
        }
    }
    Ok(plan)
}

/// The volume policies that a backup names.
async fn policies_of(
    connection: &Connection,
    backup: &Backup,
) -> Result<Option<VolumePolicies>, PlanError> {
    let Some(reference) = &backup.spec.resource_policy else {
        return Ok(None);
    };
    let own = || connection.namespace().to_owned();
    let (namespace, name) = (backup.namespace().unwrap_or_else(own), &reference.name);
    let fail =
        |why: &str| PlanError::Policies(format!("ConfigMap {name} of namespace {namespace} {why}"));
    let maps = Objects::<ConfigMap>::of(connection, Some(&namespace));
    let map = maps
        .get(name)
        .await?
        .ok_or_else(|| fail("does not exist"))?;
    let data = map.data.unwrap_or_default();
    let mut values = data.values();
    let (Some(yaml), None) = (values.next(), values.next()) else {
        return Err(fail("has to have one key, which holds the policies"));
    };
    match VolumePolicies::parse(yaml) {
        Ok(policies) => Ok(Some(policies)),
        Err(error) => Err(fail(&format!("is of no use: {error}"))),
    }
}

/// What a backup asks for that nobody makes here.
fn not_made(spec: &BackupSpec) -> Vec<Problem> {
    let problem = |severity, message: &str| Problem {
        severity,
        message: message.to_owned(),
    };
    let mut problems = Vec::new();
    let (snapshots, moved) = (spec.snapshot_volumes, spec.snapshot_move_data);
    if snapshots == Some(true) || moved == Some(true) {
        let message = "no snapshots of disks are made: volumes are read as files where annotations, a volume policy or \
                       defaultVolumesToFsBackup select them";
        problems.push(problem(Severity::Warning, message));
    }
    let others = |kind: &&String| !is_pods(kind);
    for kind in spec.ordered_resources.keys().filter(others) {
        let message =
            format!("orderedResources: {kind} have no order: all objects are read at once");
        problems.push(problem(Severity::Info, &message));
    }
    problems
}

fn is_pods(kind: &str) -> bool {
    ["pods", "pod", "po"].contains(&kind)
}

/// The pods that are to be backed up one after the other.
fn order_of(spec: &BackupSpec) -> Vec<(String, String)> {
    let lists = spec.ordered_resources.iter();
    let pods = lists.filter(|(kind, _)| is_pods(kind));
    pods.flat_map(|(_, names)| names.split(','))
        .filter_map(|name| name.trim().split_once('/'))
        .map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned()))
        .collect()
}

/// Puts all objects aside, and remembers those that volumes and hooks are chosen from.
struct Sink {
    spool: SpoolWriter,
    pods: Vec<Pod>,
    /// By namespace and name.
    claims: BTreeMap<(String, String), PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
}

impl ObjectSink for Sink {
    fn object(&mut self, object: &CollectedObject<'_>) -> Result<(), FileError> {
        let item = SpooledItem {
            resource: object.item.resource.clone(),
            version: object.kind.version.clone(),
            api_version: object.kind.api_version(),
            kind: object.kind.kind.clone(),
            namespace: object.item.namespace.clone(),
            name: object.item.name.clone(),
        };
        // A name that cannot be a file's is found out now, not when the backup ends.
        item.path().file(&crate::files::tarball::Layout::Plain)?;
        self.spool.add(&item, object.json)?;
        match item.resource.as_str() {
            "pods" => self.pods.extend(typed(object)),
            "persistentvolumeclaims" => {
                if let Some(claim) = typed(object) {
                    let namespace = item.namespace.unwrap_or_default();
                    self.claims.insert((namespace, item.name), claim);
                }
            }
            "persistentvolumes" => {
                if let Some(volume) = typed(object) {
                    self.volumes.insert(item.name, volume);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn typed<T: DeserializeOwned>(object: &CollectedObject<'_>) -> Option<T> {
    // What the server has sent as a pod is one.
    serde_json::from_value(object.object.clone()).ok()
}

/// Claims and persistent volumes, read when they are not among the backup's objects.
struct Known<'a> {
    connection: &'a Connection,
    claims: BTreeMap<(String, String), PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
}

impl Known<'_> {
    /// The claims of a pod, and their volumes.
    async fn of_pod(
        &mut self,
        pod: &Pod,
    ) -> Result<(Vec<PersistentVolumeClaim>, Vec<PersistentVolume>), ClientError> {
        let namespace = pod.namespace().unwrap_or_default();
        let (mut claims, mut volumes) = (Vec::new(), Vec::new());
        for name in claim_names(pod) {
            let key = (namespace.clone(), name.clone());
            if !self.claims.contains_key(&key) {
                let objects = Objects::of(self.connection, Some(&namespace));
                if let Some(claim) = objects.get(&name).await? {
                    self.claims.insert(key.clone(), claim);
                }
            }
            let Some(claim) = self.claims.get(&key).cloned() else {
                continue;
            };
            let volume = claim
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_name.clone());
            if let Some(volume) = volume {
                if !self.volumes.contains_key(&volume) {
                    let objects = Objects::<PersistentVolume>::of(self.connection, None);
                    if let Some(found) = objects.get(&volume).await? {
                        self.volumes.insert(volume.clone(), found);
                    }
                }
                volumes.extend(self.volumes.get(&volume).cloned());
            }
            claims.push(claim);
        }
        Ok((claims, volumes))
    }
}

fn claim_names(pod: &Pod) -> Vec<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let name = |volume: &k8s_openapi::api::core::v1::Volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(claim.claim_name.clone());
        }
        // The claim of an ephemeral volume has the pod's name before the volume's.
        let ephemeral = volume.ephemeral.as_ref();
        ephemeral.map(|_| format!("{}-{}", pod.name_any(), volume.name))
    };
    volumes.filter_map(name).collect()
}
