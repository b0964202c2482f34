//! One object on its way out, a window of it in memory at a time.

use bytes::Bytes;
use orlop_core::TaskId;
use orlop_proto::{
    ProtocolError, receive,
    store::{DATA_BYTES, MAX_OBJECT_BYTES, MAX_OBJECT_NAME_BYTES},
    v1,
};
use orlop_repository::SessionId;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Shared,
    errors::{busy, forbidden, idle, store},
};
use crate::service::status::malformed;

/// Pieces that wait for the network.
pub(super) const WAITING: usize = 2;

/// What a client asks for, checked on receipt.
pub(super) struct Wanted {
    /// Its task.
    pub(super) task: TaskId,
    /// Its session.
    pub(super) session: SessionId,
    /// Name of the object.
    pub(super) name: String,
    /// Of the first byte.
    offset: u64,
    /// Bytes; of a whole object one more than it may have.
    len: u64,
    /// An object that ends before is an error.
    exact: bool,
}

impl TryFrom<v1::GetRequest> for Wanted {
    type Error = ProtocolError;

    fn try_from(request: v1::GetRequest) -> Result<Self, ProtocolError> {
        let range = request.range;
        if let Some(range) = range.filter(|range| range.len > MAX_OBJECT_BYTES) {
            let reason = format!("is {} where {MAX_OBJECT_BYTES} are allowed", range.len);
            return Err(ProtocolError::new("range.len", reason));
        }
        Ok(Self {
            task: receive::task_id("task_id", &request.task_id)?,
            session: request.session,
            name: receive::some_text("name", request.name, MAX_OBJECT_NAME_BYTES)?,
            offset: range.map_or(0, |range| range.offset),
            len: range.map_or(MAX_OBJECT_BYTES + 1, |range| range.len),
            exact: range.is_some_and(|range| !range.up_to),
        })
    }
}

/// A get of one client.
pub(super) struct Sender<'a> {
    /// What all calls share.
    pub(super) shared: &'a Shared,
    /// The client's node.
    pub(super) node: &'a str,
    /// Where the bytes go.
    pub(super) answers: &'a mpsc::Sender<Result<v1::GetResponse, Status>>,
}

impl Sender<'_> {
    /// Sends what is wanted.
    pub(super) async fn run(&self, wanted: &Wanted) -> Result<(), Status> {
        let name = &wanted.name;
        let access = self.shared.admit(self.node, wanted.task, wanted.session)?;
        access
            .rules
            .get(name)
            .map_err(|allowed| forbidden(name, allowed))?;
        let from = &*access.store;
        let (mut offset, mut left) = (wanted.offset, wanted.len);
        let window = self.shared.budget.get_window_bytes();
        loop {
            let len = left.min(window);
            let room = self.shared.budget.to_get(self.node, len);
            let room = tokio::time::timeout(self.shared.limits.idle * 2, room).await;
            let room = room.ok().flatten();
            let _room = room.ok_or_else(|| busy("has no room for another object"))?;
            let bytes = if wanted.exact {
                from.get_range(name, offset, len).await
            } else {
                from.get_up_to(name, offset, len).await
            };
            let bytes = bytes.map_err(|error| store(&error, from))?;
            let got = bytes.len() as u64;
            if wanted.len > MAX_OBJECT_BYTES && left == got {
                return Err(too_large());
            }
            self.send(bytes).await?;
            (offset, left) = (offset.saturating_add(got), left.saturating_sub(got));
            if left == 0 || got < len {
                return Ok(());
            }
        }
    }

    /// Hands bytes over, and waits until they have left the memory that was reserved for them.
    async fn send(&self, mut bytes: Bytes) -> Result<(), Status> {
        let limit = self.shared.limits.idle;
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(DATA_BYTES));
            let response = v1::GetResponse { data };
            let sent = self.answers.send_timeout(Ok(response), limit).await;
            sent.map_err(|_| idle())?;
        }
        let taken = tokio::time::timeout(limit, self.answers.reserve_many(WAITING)).await;
        taken.map_err(|_| idle())?.map(drop).map_err(|_| idle())
    }
}

fn too_large() -> Status {
    let reason = "names an object that is too large to get whole: get ranges of it";
    malformed(ProtocolError::new("name", reason))
}
