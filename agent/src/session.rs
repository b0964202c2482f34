//! The repository's `Committer` over gRPC: the agent's half of a session whose other half holds the keys.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_core::{SnapshotId, TaskId};
use orlop_proto::{
    ProtocolError, reason, receive,
    v1::{self, sessions_client::SessionsClient},
};
use orlop_repository::{
    BeginWrite, ChunkId, ChunkProfile, CommitRequest, Committer, EpochKeys, Error, Key, Location,
    Parent, ReadGrant, Result, Secret, SessionId, SnapshotState, SnapshotStats, WriteGrant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    app::{Client, backoff},
    store::HeldSession,
};

/// A coordinator that cannot be reached for so long fails the task; its next attempt goes on with what was
/// stored.
pub(crate) const PATIENCE: Duration = Duration::from_mins(30);
/// A coordinator that has lost its state database knows the task again when this agent has registered.
pub(crate) const UNKNOWN_PATIENCE: Duration = Duration::from_mins(1);
/// Ending a session is tried for so long only: a session that nobody ends is collected later.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// An answer that takes longer is asked for again.
const ANSWER_PATIENCE: Duration = Duration::from_mins(2);
/// Earlier keys in one answer.
const OLDER_KEYS_MAX: usize = 255;
/// Ids in one message.
const IDS: usize = 32_768;

/// Uses the coordinator's repository in the name of one task.
pub(crate) struct RemoteCommitter {
    client: SessionsClient<Client>,
    task: TaskId,
    held: HeldSession,
    cancel: CancellationToken,
}

impl RemoteCommitter {
    /// A committer for `task`, which tells `held` what it begins; `cancel` ends its waiting.
    pub(crate) fn new(
        client: Client,
        task: TaskId,
        held: HeldSession,
        cancel: CancellationToken,
    ) -> Self {
        let client = SessionsClient::new(client)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        Self {
            client,
            task,
            held,
            cancel,
        }
    }

    /// Calls until there is an answer, an error that will stay, or no patience left; in the name of `session`, 0
    /// for none.
    async fn call<T, F>(
        &self,
        action: &'static str,
        session: SessionId,
        patience: Duration,
        call: impl Fn(SessionsClient<Client>) -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            let answer = tokio::time::timeout(ANSWER_PATIENCE, call(self.client.clone()));
            let status = match answer.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("the coordinator does not answer"),
            };
            let patience = match status.code() {
                Code::PermissionDenied => patience.min(UNKNOWN_PATIENCE),
                _ => patience,
            };
            if !may_pass(&status) || begun.elapsed() > patience {
                return Err(remote(action, session, &status));
            }
            tracing::debug!(task_id = %self.task, attempt, status = %status, "call is repeated");
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::Cancelled),
                () = tokio::time::sleep(backoff(attempt)) => {}
            }
            attempt += 1;
        }
    }
}

/// Whether the same call may succeed later.
fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::Unknown
            // No answer of the coordinator: that is how a stream breaks when its connection does.
            | Code::Internal
            | Code::PermissionDenied
    )
}

/// The error behind a refusal. That the session is over is told apart: its writer begins again.
fn remote(action: &'static str, session: SessionId, status: &Status) -> Error {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    match reason {
        Some(reason::SESSION_ENDED) => return Error::NoSession { session },
        Some(reason::SESSION_FENCED) => return Error::Fenced { session },
        _ => {}
    }
    Error::Remote {
        action,
        message: status.message().to_owned(),
        transient: may_pass(status),
    }
}

fn malformed(action: &'static str) -> impl Fn(ProtocolError) -> Error {
    move |error| Error::Remote {
        action,
        message: error.to_string(),
        transient: false,
    }
}

#[async_trait]
impl Committer for RemoteCommitter {
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant> {
        const ACTION: &str = "begin to write";
        let message = v1::BeginWriteRequest {
            task_id: self.task.to_string(),
            volume: Some((&request.volume).into()),
            lineage: request.lineage.0,
        };
        let answer = self.call(ACTION, 0, PATIENCE, |mut client| {
            let message = message.clone();
            async move { Ok(client.begin_write(message).await?.into_inner()) }
        });
        let grant = write_grant(answer.await?).map_err(malformed(ACTION))?;
        self.held.set(grant.session);
        Ok(grant)
    }

    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant> {
        const ACTION: &str = "begin to read";
        let task_id = self.task.to_string();
        let message = v1::BeginReadRequest {
            task_id,
            snapshot_id: snapshot.to_string(),
        };
        let answer = self.call(ACTION, 0, PATIENCE, |mut client| {
            let message = message.clone();
            async move { Ok(client.begin_read(message).await?.into_inner()) }
        });
        let grant = read_grant(snapshot, &answer.await?).map_err(malformed(ACTION))?;
        self.held.set(grant.session);
        Ok(grant)
    }

    async fn locate(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>> {
        const ACTION: &str = "look chunks up";
        let message = |ids: &[ChunkId]| v1::LookupRequest {
            task_id: self.task.to_string(),
            session,
            chunk_ids: ids
                .iter()
                .flat_map(|id| *id.as_bytes())
                .collect::<Vec<u8>>()
                .into(),
            fresh,
        };
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS) {
            let message = message(ids);
            let answer = self.call(ACTION, session, PATIENCE, |mut client| {
                let message = message.clone();
                async move {
                    let request = tokio_stream::once(message);
                    let mut answers = client.lookup(request).await?.into_inner();
                    let answer = answers.message().await?;
                    answer.ok_or_else(|| Status::unavailable("the answer is missing"))
                }
            });
            found.extend(locations(answer.await?, ids.len()).map_err(malformed(ACTION))?);
        }
        Ok(found)
    }

    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId> {
        const ACTION: &str = "commit the snapshot";
        let message = commit_request(self.task, session, request);
        let answer = self.call(ACTION, session, PATIENCE, |mut client| {
            let message = message.clone();
            async move { Ok(client.commit(message).await?.into_inner()) }
        });
        let id = answer.await?.snapshot_id;
        receive::snapshot_id("snapshot_id", &id).map_err(malformed(ACTION))
    }

    async fn end(&self, session: SessionId) -> Result<()> {
        let message = v1::EndRequest {
            task_id: self.task.to_string(),
            session,
        };
        let answer = self.call("end the session", session, END_PATIENCE, |mut client| {
            let message = message.clone();
            async move { Ok(client.end(message).await?.into_inner()) }
        });
        answer.await.map(|_| ())
    }
}

fn commit_request(task: TaskId, session: SessionId, request: CommitRequest) -> v1::CommitRequest {
    let state = match request.state {
        SnapshotState::Complete => v1::SnapshotState::Complete,
        SnapshotState::Partial => v1::SnapshotState::Partial,
        SnapshotState::Inconsistent => v1::SnapshotState::Inconsistent,
    };
    let stats = request.stats;
    v1::CommitRequest {
        task_id: task.to_string(),
        session,
        volume: Some((&request.volume).into()),
        lineage: request.lineage.0,
        time_ms: request.time_ms,
        tags: request.tags,
        parent: request.parent.map(|id| id.to_string()).unwrap_or_default(),
        state: state.into(),
        sealed_root: request.sealed_root.into(),
        capsule: request.capsule.into(),
        refs_root: Bytes::copy_from_slice(request.refs_root.as_bytes()),
        segments: request.segments,
        stats: Some(v1::SnapshotStats {
            files: stats.files,
            dirs: stats.dirs,
            others: stats.others,
            logical_bytes: stats.logical_bytes,
            uploaded_bytes: stats.uploaded_bytes,
            warnings: stats.warnings,
            errors: stats.errors,
        }),
    }
}

/// Keys of epochs before the newest.
fn older_keys(field: &'static str, keys: &[Bytes]) -> receive::Result<Vec<Key>> {
    if keys.len() > OLDER_KEYS_MAX {
        let reason = format!("has {} items, more than {OLDER_KEYS_MAX}", keys.len());
        return Err(ProtocolError::new(field, reason));
    }
    let key = |bytes: &Bytes| receive::array32(field, bytes).map(Key::from_bytes);
    keys.iter().map(key).collect()
}

fn write_grant(answer: v1::BeginWriteResponse) -> receive::Result<WriteGrant> {
    let key = |field, bytes: &Bytes| receive::array32(field, bytes).map(Key::from_bytes);
    let parents = answer.parents.into_iter().map(|parent| {
        let snapshot = receive::snapshot_id("parents.snapshot_id", &parent.snapshot_id)?;
        Ok(Parent {
            snapshot,
            capsule: parent.capsule.to_vec(),
            partial: parent.partial,
        })
    });
    let chunks = ChunkProfile {
        min: answer.chunk_min_bytes,
        avg: answer.chunk_avg_bytes,
        max: answer.chunk_max_bytes,
    };
    Ok(WriteGrant {
        session: answer.session,
        domain_keys: EpochKeys::new(
            key("domain_key", &answer.domain_key)?,
            older_keys("older_domain_keys", &answer.older_domain_keys)?,
        ),
        volume_keys: EpochKeys::new(
            key("volume_key", &answer.volume_key)?,
            older_keys("older_volume_keys", &answer.older_volume_keys)?,
        ),
        refs_key: key("refs_key", &answer.refs_key)?,
        session_key: key("session_key", &answer.session_key)?,
        read_public_key: receive::array32("read_public_key", &answer.read_public_key)?,
        chunks: chunks
            .validate()
            .map_err(|e| ProtocolError::new("chunk_min_bytes", e.to_string()))?,
        pack_bytes: answer.pack_bytes,
        parents: parents.collect::<receive::Result<_>>()?,
    })
}

fn read_grant(snapshot: SnapshotId, answer: &v1::BeginReadResponse) -> receive::Result<ReadGrant> {
    let stats = receive::required("stats", answer.stats)?;
    Ok(ReadGrant {
        session: answer.session,
        snapshot,
        root: Secret::from_bytes(receive::array32("root", &answer.root)?),
        domain_keys: EpochKeys::new(
            Key::from_bytes(receive::array32("domain_key", &answer.domain_key)?),
            older_keys("older_domain_keys", &answer.older_domain_keys)?,
        ),
        stats: SnapshotStats {
            files: stats.files,
            dirs: stats.dirs,
            others: stats.others,
            logical_bytes: stats.logical_bytes,
            uploaded_bytes: stats.uploaded_bytes,
            warnings: stats.warnings,
            errors: stats.errors,
        },
        partial: answer.partial,
    })
}

fn locations(answer: v1::LookupResponse, wanted: usize) -> receive::Result<Vec<Option<Location>>> {
    let v1::LookupResponse { packs, locations } = answer;
    if locations.len() != wanted {
        let reason = format!("has {} items where {wanted} are wanted", locations.len());
        return Err(ProtocolError::new("locations", reason));
    }
    let location = |location: v1::Location| {
        if location.len == 0 {
            return Ok(None);
        }
        let pack = packs.get(location.pack as usize);
        let pack = pack.ok_or_else(|| ProtocolError::new("locations.pack", "is out of range"))?;
        Ok(Some(Location {
            pack: pack.clone(),
            offset: location.offset,
            len: location.len,
            condemned: location.condemned,
        }))
    };
    locations.into_iter().map(location).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn locations_are_put_together_again() {
        let at = |pack, offset, len| v1::Location {
            pack,
            offset,
            len,
            condemned: true,
        };
        let answer = v1::LookupResponse {
            packs: vec!["a".to_owned(), "b".to_owned()],
            locations: vec![at(1, 5, 6), at(0, 0, 0)],
        };
        let expected = Location {
            pack: "b".to_owned(),
            offset: 5,
            len: 6,
            condemned: true,
        };
        assert_eq!(
            locations(answer.clone(), 2).unwrap(),
            [Some(expected), None]
        );
        assert_eq!(locations(answer.clone(), 3).unwrap_err().field, "locations");
        let bad = v1::LookupResponse {
            locations: vec![at(2, 1, 1)],
            ..answer
        };
        assert_eq!(locations(bad, 1).unwrap_err().field, "locations.pack");
    }

    #[test]
    fn a_short_key_is_refused_by_name() {
        let error = write_grant(v1::BeginWriteResponse::default())
            .err()
            .unwrap();
        assert_eq!(error.field, "domain_key");
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        assert!(may_pass(&Status::unavailable("")));
        assert!(!may_pass(&Status::failed_precondition("")));
        assert!(remote("x", 0, &Status::data_loss("")).is_permanent());
    }

    #[test]
    fn the_end_of_a_session_is_told_apart() {
        let of = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "orlop.io", HashMap::new());
            let status = Status::with_error_details(Code::FailedPrecondition, "over", details);
            remote("x", 7, &status)
        };
        let ended = of(reason::SESSION_ENDED);
        assert!(matches!(ended, Error::NoSession { session: 7 }), "{ended}");
        let fenced = of(reason::SESSION_FENCED);
        assert!(matches!(fenced, Error::Fenced { session: 7 }), "{fenced}");
        assert!(matches!(of("REPOSITORY"), Error::Remote { .. }));
    }
}
