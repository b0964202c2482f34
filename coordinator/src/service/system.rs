//! `orlop.v1.System`: how the installation is, and its maintenance.

use std::sync::{Arc, Mutex, PoisonError};

use orlop_core::{Issue, Monitor, Progress, run::RunKind};
use orlop_proto::{
    ProtocolError,
    v1::{
        self, MaintainResponse, maintain_request::Operation, maintain_response::Event,
        system_server::System,
    },
};
use orlop_repository::{CheckOptions, CheckReport, DamageKind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Answers, Context,
    schedules::message as schedule,
    status::{malformed, refused, repository},
};
use crate::runs::{NodeView, Refusal};

/// Most damaged objects in a report.
const MAX_DAMAGE: usize = 10_000;
/// Messages that wait for a slow reader; progress that finds no room is left out.
const WAITING: usize = 4;

/// Serves status and maintenance.
pub(crate) struct SystemService(pub(crate) Context);

#[tonic::async_trait]
impl System for SystemService {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let runs = &self.0.runs;
        let parts = &runs.parts;
        let snapshots = parts.repository.snapshots().await;
        let location = v1::LocationStatus {
            location: parts.location.clone(),
            url: parts.repository.store().description(),
            repository_id: parts.repository.id(),
            available: snapshots.is_ok(),
            message: snapshots
                .as_ref()
                .err()
                .map(ToString::to_string)
                .unwrap_or_default(),
            snapshots: snapshots.map(|all| all.len() as u64).unwrap_or_default(),
        };
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.0.started_ms,
            nodes: runs.nodes().into_iter().map(node_status).collect(),
            locations: vec![location],
            running_backups: runs.unfinished(RunKind::Backup),
            running_restores: runs.unfinished(RunKind::Restore),
            schedules: self.0.schedules.list().into_iter().map(schedule).collect(),
        }))
    }

    type MaintainStream = Answers<MaintainResponse>;

    async fn maintain(
        &self,
        request: Request<v1::MaintainRequest>,
    ) -> Result<Response<Self::MaintainStream>, Status> {
        let v1::MaintainRequest {
            location,
            operation,
        } = request.into_inner();
        let parts = &self.0.runs.parts;
        if !location.is_empty() && location != parts.location {
            let message = format!(
                "location {location} not found; did you mean {}?",
                parts.location
            );
            return Err(refused(Refusal::NotFound {
                kind: "location",
                name: location,
                message,
            }));
        }
        let Some(Operation::Check(check)) = operation else {
            return Err(malformed(ProtocolError::missing("operation")));
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let repo = Arc::clone(&parts.repository);
        let cancel = self.0.shutdown.child_token();
        self.0.tasks.spawn(async move {
            let _stop_with_the_call = cancel.clone().drop_guard();
            let options = CheckOptions {
                read_data: check.read_data,
            };
            let monitor = Arc::new(Forward {
                sender: sender.clone(),
                last: Mutex::default(),
            });
            let report = tokio::select! {
                () = sender.closed() => return,
                report = repo.check(options, monitor, cancel) => report,
            };
            let last = match report {
                Ok(report) => Ok(message(Event::Check(report_message(
                    report,
                    check.read_data,
                )))),
                Err(error) => Err(repository(&error)),
            };
            // An error says that nobody listens any more.
            let _ = sender.send(last).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn message(event: Event) -> MaintainResponse {
    MaintainResponse { event: Some(event) }
}

/// Sends progress as far as there is room.
struct Forward {
    sender: mpsc::Sender<Result<MaintainResponse, Status>>,
    last: Mutex<Progress>,
}

impl Monitor for Forward {
    fn progress(&self, progress: Progress) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != progress {
            *last = progress;
            // Progress that finds no room is replaced by later progress.
            let _ = self
                .sender
                .try_send(Ok(message(Event::Progress(progress.into()))));
        }
    }

    fn issue(&self, _issue: &Issue) {}
}

fn report_message(report: CheckReport, read_data: bool) -> v1::CheckReport {
    let damage = report
        .damage
        .into_iter()
        .take(MAX_DAMAGE)
        .map(|damage| v1::Damage {
            object: damage.object,
            kind: match damage.kind {
                DamageKind::MissingPack => "missing_pack",
                DamageKind::DamagedPack => "damaged_pack",
                DamageKind::DamagedSnapshot => "damaged_snapshot",
                DamageKind::MissingChunk => "missing_chunk",
                DamageKind::DamagedIndex => "damaged_index",
            }
            .to_owned(),
            snapshots: damage.snapshots.iter().map(ToString::to_string).collect(),
            paths: damage.paths.into_iter().map(Into::into).collect(),
            repairable: damage.repairable,
        });
    v1::CheckReport {
        read_data,
        ok: report.ok,
        objects: report.objects,
        bytes: report.bytes,
        damage: damage.collect(),
    }
}

fn node_status(node: NodeView) -> v1::NodeStatus {
    v1::NodeStatus {
        node: node.node,
        version: node.version,
        connected: node.connected,
        last_seen_ms: node.last_seen_ms,
        running_tasks: node.running,
        task_limit: node.limit,
        volumes: node.volumes.iter().map(Into::into).collect(),
    }
}
