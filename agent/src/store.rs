//! The coordinator's store as one more object store: for tasks that have no way of their own to it.

mod attempt;
mod errors;
mod pieces;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_core::TaskId;
use orlop_proto::{
    store::MAX_OBJECT_BYTES,
    v1::{self, store_client::StoreClient},
};
use orlop_repository::{
    Error, ObjectStore, OwnedName, Result, SessionId,
    store::{Durability, ObjectInfo, Put},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::errors::{Refusal, read};
use crate::{
    app::{AgentConfig, AppError, Client, backoff, connect},
    session::PATIENCE,
};

/// Calls of this agent at once: fewer than the coordinator lets one node have.
const CALLS: usize = 48;
/// An answer that takes longer is asked for again; objects get longer by their size.
const ANSWER_PATIENCE: Duration = Duration::from_mins(2);
/// Bytes a second that an object is given time for.
const SLOWEST: u64 = 64 << 10;

/// The session in whose name a task uses the store: that which it has begun last.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldSession(Arc<AtomicU64>);

impl HeldSession {
    /// The task has begun a session.
    pub(crate) fn set(&self, session: SessionId) {
        self.0.store(session, Ordering::SeqCst);
    }

    fn get(&self) -> SessionId {
        self.0.load(Ordering::SeqCst)
    }
}

/// The way to the coordinator's stores, for all tasks of an agent.
#[derive(Clone)]
pub(crate) struct Gateway {
    client: StoreClient<Client>,
    calls: Arc<Semaphore>,
}

impl Gateway {
    /// The way over a connection.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client: StoreClient::new(client),
            calls: Arc::new(Semaphore::new(CALLS)),
        }
    }

    /// The store of a task, in the name of the sessions that it begins; `cancel` ends its waiting.
    pub(crate) fn store(
        &self,
        task: TaskId,
        session: HeldSession,
        cancel: CancellationToken,
    ) -> GatewayStore {
        GatewayStore {
            gateway: self.clone(),
            task,
            session,
            cancel,
            away: Mutex::default(),
        }
    }
}

/// The store of one task, reached through the coordinator. What may pass is tried again, until the task is
/// cancelled or the coordinator was away for half an hour.
pub struct GatewayStore {
    gateway: Gateway,
    task: TaskId,
    session: HeldSession,
    cancel: CancellationToken,
    /// Since when the coordinator cannot be reached.
    away: Mutex<Option<Instant>>,
}

impl GatewayStore {
    /// The store that a session of a task uses, over a connection of its own. It dials when it is needed.
    ///
    /// # Errors
    /// The coordinator's address, certificate or token is not one.
    pub fn connect(
        config: &AgentConfig,
        task: TaskId,
        session: SessionId,
        cancel: CancellationToken,
    ) -> Result<Self, AppError> {
        let held = HeldSession::default();
        held.set(session);
        Ok(Gateway::new(connect(config)?).store(task, held, cancel))
    }

    /// Calls until there is an answer, an error that will stay, or no patience left.
    async fn call<T, F>(
        &self,
        action: &'static str,
        name: &str,
        bytes: u64,
        attempt: impl Fn(StoreClient<Client>, SessionId) -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let mut trouble = Trouble::default();
        // What is put says itself whose it is: an upload may outlive the session that began it.
        let of_name = OwnedName::parse(name).filter(|_| action == PUT);
        let session = of_name.map_or_else(|| self.session.get(), |name| name.session);
        let limit = ANSWER_PATIENCE + Duration::from_secs(bytes / SLOWEST);
        let mut failures = 0;
        loop {
            let once = async {
                let calls = self.gateway.calls.acquire().await;
                let _call = calls.map_err(|_| Status::cancelled("the agent ends"))?;
                let answer = attempt(self.gateway.client.clone(), session);
                let answer = tokio::time::timeout(limit, answer).await;
                answer.unwrap_or_else(|_| {
                    Err(Status::deadline_exceeded("the coordinator does not answer"))
                })
            };
            let answer = tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::Cancelled),
                answer = once => answer,
            };
            let status = match answer {
                Ok(answer) => {
                    self.was_reached(true);
                    return Ok(answer);
                }
                Err(status) => status,
            };
            let Refusal {
                error,
                patience,
                answered,
            } = read(action, name, session, &status);
            let away = self.was_reached(answered);
            if trouble.lasts(patience) || away >= patience {
                return Err(error);
            }
            let task_id = self.task;
            tracing::debug!(%task_id, name, attempt = failures, status = %status, "call is repeated");
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::Cancelled),
                () = tokio::time::sleep(backoff(failures)) => {}
            }
            failures += 1;
        }
    }

    /// Notes whether the coordinator has answered, and says for how long it has not.
    fn was_reached(&self, reached: bool) -> Duration {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if reached {
            *away = None;
        } else {
            away.get_or_insert_with(Instant::now);
        }
        away.map_or(Duration::ZERO, |since| since.elapsed())
    }

    async fn fetch(&self, name: &str, range: Option<v1::ObjectRange>) -> Result<Bytes> {
        let most = range.map_or(MAX_OBJECT_BYTES, |range| range.len);
        self.call(GET, name, most, |client, session| {
            let request = v1::GetRequest {
                task_id: self.task.to_string(),
                session,
                name: name.to_owned(),
                range,
            };
            attempt::get(client, request, most)
        })
        .await
    }
}

/// What a call has met so far.
#[derive(Default)]
struct Trouble {
    /// The first of all.
    since: Option<Instant>,
    /// The first of this kind, and how long the kind is borne.
    same_since: Option<(Duration, Instant)>,
}

impl Trouble {
    /// Whether trouble that is borne for `patience` has lasted for so long. Each kind has a time of its own (a
    /// coordinator that comes back after ten minutes may then not know the task for one more), and all together
    /// have twice the longest.
    fn lasts(&mut self, patience: Duration) -> bool {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let same_since = match self.same_since {
            Some((same, since)) if same == patience => since,
            _ => now,
        };
        self.same_since = Some((patience, same_since));
        now - same_since >= patience || now - since >= 2 * PATIENCE
    }
}

const PUT: &str = "write to the coordinator's store";
const GET: &str = "read from the coordinator's store";
const LIST: &str = "list the coordinator's store";

#[async_trait]
impl ObjectStore for GatewayStore {
    /// Durable when it returns, whatever is asked for: a coordinator that restarts before a barrier would not
    /// know what to make durable.
    async fn put(&self, name: &str, parts: Vec<Bytes>, _durability: Durability) -> Result<Put> {
        let size = parts.iter().map(|part| part.len() as u64).sum();
        let parts = parts.as_slice();
        self.call(PUT, name, size, |client, session| {
            let header = v1::PutHeader {
                task_id: self.task.to_string(),
                session,
                name: name.to_owned(),
                size,
            };
            attempt::put(client, header, parts)
        })
        .await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.fetch(name, None).await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        let up_to = false;
        let range = v1::ObjectRange { offset, len, up_to };
        self.fetch(name, Some(range)).await
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        let range = v1::ObjectRange {
            offset,
            // No object that comes this way is larger.
            len: max_len.min(MAX_OBJECT_BYTES),
            up_to: true,
        };
        self.fetch(name, Some(range)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.call(LIST, prefix, 0, |mut client, session| {
            let request = v1::ListRequest {
                task_id: self.task.to_string(),
                session,
                prefix: prefix.to_owned(),
            };
            async move {
                let mut answers = client.list(request).await?.into_inner();
                let mut found = Vec::new();
                while let Some(some) = answers.message().await? {
                    found.extend(some.objects.into_iter().map(info));
                }
                Ok(found)
            }
        })
        .await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.call(GET, name, 0, |mut client, session| {
            let request = v1::StatRequest {
                task_id: self.task.to_string(),
                session,
                name: name.to_owned(),
            };
            async move { Ok(client.stat(request).await?.into_inner().object.map(info)) }
        })
        .await
    }

    /// Refused: who may only add cannot destroy.
    async fn delete(&self, name: &str) -> Result<()> {
        let message = format!("cannot delete {name}: the coordinator's gateway deletes nothing");
        Err(Error::Invalid(message))
    }

    /// Every put that has returned is durable already.
    async fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn description(&self) -> String {
        errors::PLACE.to_owned()
    }
}

fn info(object: v1::ObjectInfo) -> ObjectInfo {
    ObjectInfo {
        name: object.name,
        size: object.size,
    }
}
