//! `orlop.v1.Store`: the gateway to the stores of repositories, for agents that have no way of their own.
//!
//! Every call passes the doorkeeper (whose session is it, which store has its repository, which names are for it) and
//! the budget (streams, bytes in memory), and ends when its client stands still.

mod access;
mod budget;
mod errors;
mod get;
mod put;

use std::sync::Arc;

#[cfg(feature = "testing")]
pub(crate) use access::Rules;
pub(crate) use access::{Access, Doorkeeper, for_sessions};
use orlop_core::TaskId;
use orlop_proto::{
    receive,
    store::{LISTED, MAX_OBJECT_NAME_BYTES},
    v1::{self, store_server::Store},
};
use orlop_repository::SessionId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use self::{
    budget::{Budget, Share},
    errors::{busy, closing, forbidden},
};
use super::{
    Answers,
    sessions::node,
    status::{malformed, refused},
};
use crate::{config::GatewayLimits, tasks::Tasks};

/// Largest message in: a piece of an object with its frame.
pub(crate) const MAX_MESSAGE_BYTES: usize = 512 << 10;

/// Serves stores.
pub(crate) struct StoreService {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
    shutdown: CancellationToken,
}

/// What all calls share.
struct Shared {
    doorkeeper: Doorkeeper,
    budget: Budget,
    limits: GatewayLimits,
}

impl Shared {
    fn admit(&self, node: &str, task: TaskId, session: SessionId) -> Result<Access, Status> {
        (self.doorkeeper)(node, task, session).map_err(refused)
    }

    fn stream(&self, node: &str) -> Result<Share, Status> {
        let share = self.budget.stream(node);
        share.ok_or_else(|| busy("serves as many streams as it may"))
    }

    /// Who calls, with a place for the call.
    fn enter(&self, metadata: &MetadataMap) -> Result<(String, Share), Status> {
        let node = node(metadata)?;
        let share = self.stream(&node)?;
        Ok((node, share))
    }
}

impl StoreService {
    /// Serves what `doorkeeper` lets pass.
    pub(crate) fn new(
        doorkeeper: Doorkeeper,
        limits: GatewayLimits,
        tasks: Arc<Tasks>,
        shutdown: CancellationToken,
    ) -> Self {
        let budget = Budget::new(&limits);
        Self {
            shared: Arc::new(Shared {
                doorkeeper,
                budget,
                limits,
            }),
            tasks,
            shutdown,
        }
    }

    /// Answers by what `work` sends, until it ends, the client goes, or the coordinator shuts down.
    fn answer<T, F>(
        &self,
        waiting: usize,
        work: impl FnOnce(Arc<Shared>, mpsc::Sender<Result<T, Status>>) -> F,
    ) -> Response<Answers<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(waiting);
        let work = work(Arc::clone(&self.shared), sender.clone());
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let ended = tokio::select! {
                () = sender.closed() => return,
                () = shutdown.cancelled() => Err(closing()),
                ended = work => ended,
            };
            if let Err(status) = ended {
                // An error says that the client is gone.
                let _ = tokio::select! {
                    sent = sender.send(Err(status)) => sent,
                    () = shutdown.cancelled() => return,
                };
            }
        });
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl Store for StoreService {
    type PutStream = Answers<v1::PutResponse>;

    async fn put(
        &self,
        request: Request<Streaming<v1::PutRequest>>,
    ) -> Result<Response<Self::PutStream>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let (node, share) = self.shared.enter(&metadata)?;
        // Ready and done.
        Ok(self.answer(2, |shared, answers| async move {
            let _share = share;
            let receiver = put::Receiver {
                shared: &shared,
                node: &node,
                answers: &answers,
            };
            receiver.run(&mut requests).await
        }))
    }

    type GetStream = Answers<v1::GetResponse>;

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let wanted = get::Wanted::try_from(request).map_err(malformed)?;
        let (node, share) = self.shared.enter(&metadata)?;
        Ok(self.answer(get::WAITING, |shared, answers| async move {
            let _share = share;
            let sender = get::Sender {
                shared: &shared,
                node: &node,
                answers: &answers,
            };
            sender.run(&wanted).await
        }))
    }

    type ListStream = Answers<v1::ListResponse>;

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let (node, share) = self.shared.enter(&metadata)?;
        let task = receive::task_id("task_id", &request.task_id).map_err(malformed)?;
        let prefix = receive::text("prefix", request.prefix, MAX_OBJECT_NAME_BYTES);
        let prefix = prefix.map_err(malformed)?;
        let access = self.shared.admit(&node, task, request.session)?;
        let allowed = access.rules.list(&prefix);
        allowed.map_err(|allowed| forbidden(&prefix, allowed))?;
        Ok(self.answer(1, |_, answers| async move {
            let _share = share;
            let found = access.store.list(&prefix).await;
            let found = found.map_err(|error| errors::store(&error, &*access.store))?;
            for some in found.chunks(LISTED) {
                let objects = some.iter().map(|one| v1::ObjectInfo {
                    name: one.name.clone(),
                    size: one.size,
                });
                let response = v1::ListResponse {
                    objects: objects.collect(),
                };
                if answers.send(Ok(response)).await.is_err() {
                    break;
                }
            }
            Ok(())
        }))
    }

    async fn stat(
        &self,
        request: Request<v1::StatRequest>,
    ) -> Result<Response<v1::StatResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let (node, _share) = self.shared.enter(&metadata)?;
        let task = receive::task_id("task_id", &request.task_id).map_err(malformed)?;
        let name = receive::some_text("name", request.name, MAX_OBJECT_NAME_BYTES);
        let name = name.map_err(malformed)?;
        let access = self.shared.admit(&node, task, request.session)?;
        let allowed = access.rules.get(&name);
        allowed.map_err(|allowed| forbidden(&name, allowed))?;
        let found = access.store.stat(&name).await;
        let found = found.map_err(|error| errors::store(&error, &*access.store))?;
        Ok(Response::new(v1::StatResponse {
            object: found.map(|one| v1::ObjectInfo {
                name: one.name,
                size: one.size,
            }),
        }))
    }
}
