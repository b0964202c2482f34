//! One object on its way in: asked for when there is room, hashed while it comes, stored when it is whole.

use bytes::Bytes;
use orlop_core::TaskId;
use orlop_proto::{
    ProtocolError, receive,
    store::{DATA_BYTES, MAX_OBJECT_BYTES, MAX_OBJECT_NAME_BYTES},
    v1::{self, put_request::Piece, put_response::Answer},
};
use orlop_repository::{
    OwnedName, SessionId,
    store::{Durability, Put},
};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, Streaming};

use super::{
    Shared,
    access::Rules,
    errors::{busy, forbidden, idle, store},
};
use crate::service::status::malformed;

/// What a client asks to put, checked on receipt.
struct Header {
    task: TaskId,
    session: SessionId,
    name: String,
    size: u64,
}

impl TryFrom<v1::PutHeader> for Header {
    type Error = ProtocolError;

    fn try_from(header: v1::PutHeader) -> Result<Self, ProtocolError> {
        if header.size > MAX_OBJECT_BYTES {
            let reason = format!("is {} where {MAX_OBJECT_BYTES} are allowed", header.size);
            return Err(ProtocolError::new("header.size", reason));
        }
        Ok(Self {
            task: receive::task_id("header.task_id", &header.task_id)?,
            session: header.session,
            name: receive::some_text("header.name", header.name, MAX_OBJECT_NAME_BYTES)?,
            size: header.size,
        })
    }
}

/// A put of one client.
pub(super) struct Receiver<'a> {
    /// What all calls share.
    pub(super) shared: &'a Shared,
    /// The client's node.
    pub(super) node: &'a str,
    /// Where answers go.
    pub(super) answers: &'a mpsc::Sender<Result<v1::PutResponse, Status>>,
}

impl Receiver<'_> {
    /// Takes the object in and stores it. Dropped before it ends, it leaves nothing in memory, and in the store
    /// the whole object or nothing.
    pub(super) async fn run(&self, requests: &mut Streaming<v1::PutRequest>) -> Result<(), Status> {
        let first = self.next(requests, None).await?;
        let Some(Piece::Header(header)) = first else {
            return Err(malformed(ProtocolError::missing("header")));
        };
        let header = Header::try_from(header).map_err(malformed)?;
        let access = self.shared.admit(self.node, header.task, header.session)?;
        let own = access
            .rules
            .put(&header.name)
            .map_err(|allowed| forbidden(&header.name, allowed))?;
        let limits = &self.shared.limits;
        let room = self.shared.budget.to_put(self.node, header.size);
        let room = tokio::time::timeout(limits.idle * 2, room).await;
        let _room = room
            .map_err(|_| busy("has no room for another object"))?
            .ok_or_else(|| too_large(header.size))?;
        self.answer(Answer::Ready(v1::PutReady {})).await?;
        let parts = self.body(requests, &header, own.as_ref()).await?;
        if let Rules::Write(writer) = &access.rules {
            let open = writer.check_open().await;
            open.map_err(|error| store(&error, &*access.store))?;
        }
        // Durable at once: a coordinator that restarts before a barrier would not know what to make durable.
        let put = access.store.put(&header.name, parts, Durability::Now).await;
        let created = put.map_err(|error| store(&error, &*access.store))? == Put::Created;
        self.answer(Answer::Done(v1::PutDone { created })).await
    }

    /// The object's bytes as they came, proven to be those of its name.
    async fn body(
        &self,
        requests: &mut Streaming<v1::PutRequest>,
        header: &Header,
        own: Option<&OwnedName>,
    ) -> Result<Vec<Bytes>, Status> {
        let wrong = |reason: String| malformed(ProtocolError::new("data", reason));
        let deadline = Instant::now() + self.shared.limits.patience(header.size);
        let mut check = own.map(OwnedName::check);
        let mut parts = Vec::with_capacity(header.size.div_ceil(DATA_BYTES as u64) as usize);
        let mut missing = header.size;
        while missing > 0 {
            let expected = missing.min(DATA_BYTES as u64);
            match self.next(requests, Some(deadline)).await? {
                // Smaller pieces would cost more memory than their bytes.
                Some(Piece::Data(data)) if data.len() as u64 == expected => {
                    missing -= expected;
                    if let Some(check) = &mut check {
                        check.update(&data);
                    }
                    parts.push(data);
                }
                Some(Piece::Data(data)) => {
                    let reason = format!("has {} bytes where {expected} are expected", data.len());
                    return Err(wrong(reason));
                }
                Some(Piece::Header(_)) => {
                    return Err(malformed(ProtocolError::new("header", "is repeated")));
                }
                None => return Err(wrong(format!("ends {missing} bytes early"))),
            }
        }
        if self.next(requests, Some(deadline)).await?.is_some() {
            return Err(wrong("goes on after the end of the object".to_owned()));
        }
        if check.is_some_and(|check| !check.holds()) {
            return Err(wrong(format!(
                "has not the hash of its name {}",
                header.name
            )));
        }
        Ok(parts)
    }

    /// The next piece; `None` after the last.
    async fn next(
        &self,
        requests: &mut Streaming<v1::PutRequest>,
        deadline: Option<Instant>,
    ) -> Result<Option<Piece>, Status> {
        let silent = Instant::now() + self.shared.limits.idle;
        let until = deadline.map_or(silent, |deadline| deadline.min(silent));
        let message = tokio::time::timeout_at(until, requests.message());
        let Some(message) = message.await.map_err(|_| idle())?? else {
            return Ok(None);
        };
        let piece = receive::required("piece", message.piece).map_err(malformed)?;
        Ok(Some(piece))
    }

    async fn answer(&self, answer: Answer) -> Result<(), Status> {
        let response = v1::PutResponse {
            answer: Some(answer),
        };
        let sent = self.answers.send(Ok(response)).await;
        sent.map_err(|_| Status::cancelled("the client is gone"))
    }
}

fn too_large(size: u64) -> Status {
    let reason = format!("is {size}: larger than the share of a node");
    malformed(ProtocolError::new("header.size", reason))
}
