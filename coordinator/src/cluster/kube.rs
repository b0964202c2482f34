//! The cluster as the Kubernetes API tells it.

use std::path::PathBuf;

use async_trait::async_trait;
use orlop_core::{
    hook::{Hook, HookOutcome},
    run::{self, BackupSpec, KnownVolume, Place, RestoreSpec},
};
use orlop_kubernetes::{
    api::{Deployment, Pod},
    client::{ClientError, Connection, Objects},
    cluster_info::service_address,
    events::{EventRecorder, EventWriter, Occurrence, events},
    exec::{self, ExecExit, ExecRequest},
    plan::{PlanError, plan_backup},
    restore::{
        NotLocated, RestoreError, RestoreRequest, container_state, finish_volumes, locate_claim,
        locate_volume, pod_state, restore_objects,
    },
    selection::{Severity, SkippedVolume, TakenVolume},
    velero::{Backup, Restore},
};
use orlop_proto::v1::LogLevel;
use rand::Rng as _;
use tokio_util::sync::CancellationToken;

use super::{
    BackupPlan, Cluster, ContainerState, Directory, HookEnd, Located, ObjectsRequest,
    PlannedObjects, PlannedVolume, PodState, RestoreSink, RestoredPod, Target, lost::lost_volumes,
};
use crate::{
    artifacts::UNFINISHED,
    runs::{Refusal, with_sources},
};

/// The Service of the endpoint of downloads, and its port; `deploy/base/services.yaml` makes it.
const DOWNLOADS: &str = "orlop-downloads";
const DOWNLOADS_PORT: &str = "downloads";
/// Our own Deployment, by Velero's name.
const DEPLOYMENT: &str = "velero";
/// Who tells of events.
const COMPONENT: &str = "orlop";

/// The cluster that a coordinator runs in.
pub(crate) struct KubeCluster {
    connection: Connection,
    /// Directories of nodes below which agents read persistent volumes.
    host_roots: Vec<String>,
    /// Where objects are put aside.
    spool_dir: PathBuf,
    /// What agents report: it is shown, and decides nothing.
    found: Directory,
    /// Tells of occurrences.
    events: EventRecorder,
}

impl KubeCluster {
    /// The cluster at the other end of `connection`, and what writes the events that it tells of: who has it runs it.
    pub(crate) fn new(
        connection: Connection,
        host_roots: Vec<String>,
        spool_dir: PathBuf,
    ) -> (Self, EventWriter) {
        let (recorder, writer) = events(&connection, COMPONENT);
        let cluster = Self {
            connection,
            host_roots,
            spool_dir,
            found: Directory::default(),
            events: recorder,
        };
        (cluster, writer)
    }

    /// The image of the coordinator itself, which is that of the container that waits in restored pods.
    async fn image(&self) -> Result<String, Refusal> {
        let namespace = self.connection.namespace();
        let deployments = Objects::<Deployment>::of(&self.connection, Some(namespace));
        let found = deployments.get(DEPLOYMENT).await;
        let found = found.map_err(|error| Refusal::Unavailable(with_sources(&error)))?;
        let image = found
            .and_then(|one| {
                one.spec?
                    .template
                    .spec?
                    .containers
                    .into_iter()
                    .next()?
                    .image
            })
            .filter(|image| !image.is_empty());
        image.ok_or_else(|| {
            Refusal::Precondition(format!(
                "the image for restored pods is not known: there is no Deployment {DEPLOYMENT} in namespace {namespace}"
            ))
        })
    }

    fn backup_of(name: &str, spec: &BackupSpec) -> Result<Backup, Refusal> {
        let invalid = |field, message| Refusal::Invalid { field, message };
        if spec.velero_object.is_empty() {
            if !spec.pods.is_empty() || !spec.volumes.is_empty() {
                let message = "in a cluster a backup is of namespaces: its pods' annotations name the volumes";
                return Err(invalid("pods", message.to_owned()));
            }
            let mut backup = Backup::default();
            backup.metadata.name = Some(name.to_owned());
            backup.spec.included_namespaces.clone_from(&spec.namespaces);
            return Ok(backup);
        }
        serde_json::from_str(&spec.velero_object)
            .map_err(|error| invalid("velero_object", error.to_string()))
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    fn report(&self, node: &str, volumes: Vec<KnownVolume>) {
        self.found.report(node, volumes);
    }

    fn volumes(&self) -> Vec<KnownVolume> {
        self.found.volumes()
    }

    fn volumes_of(&self, node: &str) -> Vec<KnownVolume> {
        self.found.volumes_of(node)
    }

    async fn plan_backup(&self, name: &str, spec: &BackupSpec) -> Result<BackupPlan, Refusal> {
        let backup = Self::backup_of(name, spec)?;
        std::fs::create_dir_all(&self.spool_dir).map_err(|error| {
            Refusal::Unavailable(format!("make {}: {error}", self.spool_dir.display()))
        })?;
        let file = self
            .spool_dir
            .join(format!("{UNFINISHED}{:016x}", rand::rng().random::<u64>()));
        let kept = Kept(Some(file.clone()));
        // The call that asks for the backup drops this future when its client goes.
        let cancel = CancellationToken::new();
        let _cancel = cancel.clone().drop_guard();
        let roots = &self.host_roots;
        let plan = plan_backup(&self.connection, &backup, roots, &file, &cancel).await;
        let plan = plan.map_err(|error| match error {
            PlanError::Invalid(_) | PlanError::Policies(_) => Refusal::Invalid {
                field: "velero_object",
                message: error.to_string(),
            },
            error => Refusal::Unavailable(with_sources(&error)),
        })?;
        let mut notes: Vec<(LogLevel, String)> = Vec::new();
        let mut skipped = Vec::new();
        for one in plan.skipped {
            match level(one.severity) {
                Some(LogLevel::Warning) => skipped.push((one.volume, one.reason.to_string())),
                Some(level) => notes.push((level, left_out(&one))),
                None => {}
            }
        }
        for problem in plan.problems {
            notes.extend(level(problem.severity).map(|level| (level, problem.message)));
        }
        let counts = run::Objects {
            total: plan.objects,
            done: plan.objects,
        };
        let volumes: Vec<PlannedVolume> = plan.volumes.into_iter().map(planned).collect();
        let lost = lost_volumes(&self.connection, &backup, &volumes).await?;
        kept.keep();
        Ok(BackupPlan {
            volumes,
            lost,
            skipped,
            pods: plan.pods,
            order: plan.order,
            objects: Some(PlannedObjects { file, counts }),
            notes,
        })
    }

    async fn locate(&self, target: &Target) -> Result<Located, Refusal> {
        let (connection, roots) = (&self.connection, &self.host_roots);
        let found = match target {
            Target::Volume(volume) => locate_volume(connection, volume, roots).await,
            Target::Claim(claim) => locate_claim(connection, claim, roots).await,
        };
        let found = found.map_err(|error| match error {
            NotLocated::Missing {
                kind,
                name,
                message,
            } => Refusal::NotFound {
                kind,
                name,
                message,
            },
            NotLocated::Unfit(reason) => Refusal::Precondition(reason),
            error => Refusal::Unavailable(with_sources(&error)),
        })?;
        Ok(Located {
            volume: found.volume,
            node: found.node,
            place: Some(found.place),
            runs: found.runs,
        })
    }

    async fn run_hook(&self, namespace: &str, pod: &str, hook: &Hook) -> HookEnd {
        let request = ExecRequest {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: hook.container.clone(),
            command: hook.command.clone(),
            timeout: hook.timeout,
            kill: hook.kill,
        };
        let report = exec::run(&self.connection, &request).await;
        let mut message = report.error().unwrap_or_default();
        if let ExecExit::TimedOut {
            may_still_run: true,
        } = report.exit
        {
            message.push_str("; the command may still run in its container");
        }
        for warning in &report.warnings {
            tracing::warn!(namespace, pod, warning, "a hook could not be run as asked");
        }
        HookEnd {
            outcome: match report.exit {
                ExecExit::Succeeded => HookOutcome::Succeeded,
                _ => HookOutcome::Failed,
            },
            stdout: report.stdout.text(),
            stderr: report.stderr.text(),
            message,
        }
    }

    async fn downloads_url(&self) -> Result<Option<String>, Refusal> {
        let address = service_address(&self.connection, DOWNLOADS, DOWNLOADS_PORT).await;
        let address = address.map_err(|error| Refusal::Unavailable(with_sources(&error)))?;
        Ok(address.map(|address| format!("http://{address}")))
    }

    fn restore_object(&self, name: &str, spec: &RestoreSpec) -> Result<Restore, Refusal> {
        let read = serde_json::from_str::<Restore>(&spec.velero_object);
        let mut restore = read.map_err(|error| Refusal::Invalid {
            field: "velero_object",
            message: error.to_string(),
        })?;
        restore.metadata.name = Some(name.to_owned());
        Ok(restore)
    }

    async fn restore_objects(
        &self,
        request: &ObjectsRequest<'_>,
        sink: &mut dyn RestoreSink,
        cancel: &CancellationToken,
    ) -> Result<(), Refusal> {
        let image = self.image().await?;
        let request = of_objects(request, &image);
        let done = restore_objects(&self.connection, &request, sink, cancel).await;
        done.map_err(|error| match error {
            RestoreError::Invalid(_) | RestoreError::Unsupported { .. } => Refusal::Invalid {
                field: "velero_object",
                message: with_sources(&error),
            },
            RestoreError::Tarball(_) => Refusal::Precondition(with_sources(&error)),
            error => Refusal::Unavailable(with_sources(&error)),
        })
    }

    async fn pod_state(&self, pod: &RestoredPod) -> Result<PodState, Refusal> {
        let state = pod_state(&self.connection, pod, &self.host_roots).await;
        state.map_err(|error| Refusal::Unavailable(with_sources(&error)))
    }

    fn tell(&self, occurrence: Occurrence) {
        self.events.record(occurrence);
    }

    async fn delete_pod(&self, namespace: &str, pod: &str, uid: &str) -> Result<(), Refusal> {
        let pods = Objects::<Pod>::of(&self.connection, Some(namespace));
        match pods.delete(pod, Some(uid)).await {
            // Another one has its name by now.
            Ok(_) | Err(ClientError::Conflict { .. }) => Ok(()),
            Err(error) => Err(Refusal::Unavailable(with_sources(&error))),
        }
    }

    async fn container_state(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<ContainerState, Refusal> {
        let state = container_state(&self.connection, namespace, pod, container).await;
        state.map_err(|error| Refusal::Unavailable(with_sources(&error)))
    }

    async fn finish_volumes(
        &self,
        request: &ObjectsRequest<'_>,
        cancel: &CancellationToken,
    ) -> Vec<String> {
        // It makes no pods.
        let request = of_objects(request, "");
        finish_volumes(&self.connection, &request, cancel).await
    }
}

fn of_objects<'a>(request: &ObjectsRequest<'a>, image: &'a str) -> RestoreRequest<'a> {
    RestoreRequest {
        restore: request.restore,
        backup: request.backup,
        tarball: request.tarball,
        volumes: request.volumes,
        image,
    }
}

fn planned(taken: TakenVolume) -> PlannedVolume {
    let claim = taken.claim.as_ref();
    let persistent = taken.persistent_volume.clone().unwrap_or_default();
    let directory = if persistent.is_empty() {
        taken.volume.volume.clone()
    } else {
        persistent.clone()
    };
    PlannedVolume {
        lineage: taken.lineage,
        node: taken.node,
        place: Some(Place {
            pod_uid: taken.pod_uid,
            directory,
            host_path: taken.host_path.unwrap_or_default(),
            claim: claim.map(|claim| claim.name.clone()).unwrap_or_default(),
            claim_uid: claim.map(|claim| claim.uid.clone()).unwrap_or_default(),
            persistent_volume: persistent,
            chunking: taken.chunking,
        }),
        volume: taken.volume,
    }
}

/// The level at which the log says it; `None` if it does not.
fn level(severity: Severity) -> Option<LogLevel> {
    match severity {
        Severity::Silent => None,
        Severity::Info => Some(LogLevel::Info),
        Severity::Warning => Some(LogLevel::Warning),
        Severity::Error => Some(LogLevel::Error),
    }
}

fn left_out(one: &SkippedVolume) -> String {
    format!("{}: left out: {}", one.volume, one.reason)
}

/// A file that is removed unless somebody keeps it.
struct Kept(Option<PathBuf>);

impl Kept {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // It may not have been made.
            let _ = std::fs::remove_file(file);
        }
    }
}
