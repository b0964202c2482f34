//! `orlop.v1.System`: how the installation is, and its maintenance.

use std::sync::Arc;

use orlop_core::run::RunKind;
use orlop_proto::v1::{self, MaintainResponse, system_server::System};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Answers, Context,
    locations::message as location,
    maintain::{Forward, Work},
    schedules::message as schedule,
    status::{malformed, refused},
};
use crate::runs::NodeView;

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
        let locations = runs.locations().list().into_iter();
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.0.started_ms,
            nodes: runs.nodes().into_iter().map(node_status).collect(),
            locations: locations.map(|view| location(&self.0, view)).collect(),
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
        let request = request.into_inner();
        let (place, operation) = (request.location, request.operation);
        let locations = self.0.runs.locations();
        let name = locations.name_of(&place).map_err(refused)?;
        let work = Work::try_from(operation).map_err(malformed)?;
        let repository = if work.writes() {
            locations.writable(&name)
        } else {
            locations.repository(&name)
        };
        let repository = repository.map_err(refused)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let cancel = self.0.shutdown.child_token();
        let maintenance = Arc::clone(&self.0.maintenance);
        self.0.tasks.spawn(async move {
            let _stop_with_the_call = cancel.clone().drop_guard();
            let monitor = Arc::new(Forward::to(sender.clone()));
            let last = tokio::select! {
                () = sender.closed() => return,
                last = work.run(&name, &repository, &maintenance, monitor, cancel) => last,
            };
            // An error says that nobody listens any more.
            let _ = sender.send(last).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
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
