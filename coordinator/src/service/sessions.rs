//! `orlop.v1.Sessions`: the repository's `Committer` for agents, for nothing but their tasks.

use std::collections::HashMap;

use bytes::Bytes;
use orlop_core::{
    Lineage, TaskId,
    run::{RunKind, RunSpec},
};
use orlop_proto::{
    receive::{self, ProtocolError},
    v1::{self, sessions_server::Sessions},
};
use orlop_repository::{
    BeginWrite, ChunkId, CommitRequest, EpochKeys, Key, Location, Secret, SnapshotState,
    SnapshotStats,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    Answers, Context,
    status::{malformed, refused, session as session_error},
};
use crate::runs::{Holder, Refusal};

/// Metadata that names the caller's node.
const NODE: &str = "orlop-node";
/// Most ids in one lookup.
const MAX_IDS: usize = 65_536;
/// Largest sealed root or capsule.
const MAX_SEALED_BYTES: usize = 64 << 10;
/// Most index segments of a session.
const MAX_SEGMENTS: usize = 100_000;
/// Answers of lookups that wait for the network.
const WAITING: usize = 4;

/// Serves sessions.
pub(crate) struct SessionsService(pub(crate) Context);

pub(super) fn node(metadata: &MetadataMap) -> Result<String, Status> {
    let node = metadata.get(NODE).and_then(|node| node.to_str().ok());
    node.map(str::to_owned)
        .ok_or_else(|| malformed(ProtocolError::missing(NODE)))
}

fn task_id(text: &str) -> Result<TaskId, Status> {
    receive::task_id("task_id", text).map_err(malformed)
}

impl SessionsService {
    fn holder(&self, metadata: &MetadataMap, task: &str, kind: RunKind) -> Result<Holder, Status> {
        let task = task_id(task)?;
        let holder = self
            .0
            .runs
            .holder(&node(metadata)?, task)
            .map_err(refused)?;
        if holder.spec.kind() != kind {
            let message = format!("task {task} is not of a {kind}");
            return Err(refused(Refusal::Forbidden(message)));
        }
        Ok(holder)
    }
}

/// The keys of the epochs before the newest.
fn older(keys: &EpochKeys) -> Vec<Bytes> {
    let bytes = |key: &Key| Bytes::copy_from_slice(key.as_bytes());
    keys.older().iter().map(bytes).collect()
}

#[tonic::async_trait]
impl Sessions for SessionsService {
    async fn begin_write(
        &self,
        request: Request<v1::BeginWriteRequest>,
    ) -> Result<Response<v1::BeginWriteResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let holder = self.holder(&metadata, &request.task_id, RunKind::Backup)?;
        let volume = receive::volume("volume", request.volume).map_err(malformed)?;
        if volume != holder.task.volume {
            let message = format!("task {} is not of volume {volume}", holder.task.id);
            return Err(refused(Refusal::Forbidden(message)));
        }
        let lineage = lineage(request.lineage)?;
        same_lineage(&holder, &lineage)?;
        let committer = self.0.runs.committer_of(&holder).map_err(refused)?;
        let grant = committer.begin_write(BeginWrite { volume, lineage }).await;
        let grant = grant.map_err(|error| session_error(&error))?;
        self.0.runs.bind_session(&holder, grant.session);
        let key = |key: &[u8; 32]| Bytes::copy_from_slice(key);
        Ok(Response::new(v1::BeginWriteResponse {
            session: grant.session,
            domain_key: key(grant.domain_keys.newest().as_bytes()),
            older_domain_keys: older(&grant.domain_keys),
            volume_key: key(grant.volume_keys.newest().as_bytes()),
            older_volume_keys: older(&grant.volume_keys),
            refs_key: key(grant.refs_key.as_bytes()),
            session_key: key(grant.session_key.as_bytes()),
            read_public_key: key(&grant.read_public_key),
            chunk_min_bytes: grant.chunks.min,
            chunk_avg_bytes: grant.chunks.avg,
            chunk_max_bytes: grant.chunks.max,
            pack_bytes: grant.pack_bytes,
            parents: grant
                .parents
                .into_iter()
                .map(|parent| v1::Parent {
                    snapshot_id: parent.snapshot.to_string(),
                    capsule: parent.capsule.into(),
                    partial: parent.partial,
                })
                .collect(),
        }))
    }

    async fn begin_read(
        &self,
        request: Request<v1::BeginReadRequest>,
    ) -> Result<Response<v1::BeginReadResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let holder = self.holder(&metadata, &request.task_id, RunKind::Restore)?;
        let wanted = &request.snapshot_id;
        let snapshot = receive::snapshot_id("snapshot_id", wanted).map_err(malformed)?;
        if holder.task.snapshot != Some(snapshot) {
            let message = format!("task {} does not restore {snapshot}", holder.task.id);
            return Err(refused(Refusal::Forbidden(message)));
        }
        let committer = self.0.runs.committer_of(&holder).map_err(refused)?;
        let grant = committer.begin_read(snapshot).await;
        let grant = grant.map_err(|error| session_error(&error))?;
        self.0.runs.bind_session(&holder, grant.session);
        Ok(Response::new(v1::BeginReadResponse {
            session: grant.session,
            root: Bytes::copy_from_slice(grant.root.as_bytes()),
            stats: Some(super::listing::stats(grant.stats)),
            domain_key: Bytes::copy_from_slice(grant.domain_keys.newest().as_bytes()),
            older_domain_keys: older(&grant.domain_keys),
            partial: grant.partial,
        }))
    }

    type LookupStream = Answers<v1::LookupResponse>;

    async fn lookup(
        &self,
        request: Request<Streaming<v1::LookupRequest>>,
    ) -> Result<Response<Self::LookupStream>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let node = node(&metadata)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let context = self.0.clone();
        self.0.tasks.spawn(async move {
            loop {
                let request = tokio::select! {
                    () = context.shutdown.cancelled() => return,
                    () = sender.closed() => return,
                    request = requests.message() => request,
                };
                let answer = match request {
                    Ok(Some(request)) => look_up(&context, &node, &request).await,
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let failed = answer.is_err();
                if sender.send(answer).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let (task, session) = (task_id(&request.task_id)?, request.session);
        let holder = self.0.runs.session_holder(&node(&metadata)?, task, session);
        let (holder, _) = holder.map_err(refused)?;
        let commit = commit_request(request, &holder).map_err(malformed)?;
        if commit.volume != holder.task.volume || !matches!(holder.spec, RunSpec::Backup(_)) {
            let message = format!("task {task} does not back up volume {}", commit.volume);
            return Err(refused(Refusal::Forbidden(message)));
        }
        same_lineage(&holder, &commit.lineage)?;
        // The repository refuses a session that was begun for another volume.
        let committer = self.0.runs.committer_of(&holder).map_err(refused)?;
        let snapshot = committer.commit(session, commit).await;
        let snapshot_id = snapshot.map_err(|error| session_error(&error))?.to_string();
        Ok(Response::new(v1::CommitResponse { snapshot_id }))
    }

    async fn end(
        &self,
        request: Request<v1::EndRequest>,
    ) -> Result<Response<v1::EndResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let task = task_id(&request.task_id)?;
        let holder = self
            .0
            .runs
            .session_holder(&node(&metadata)?, task, request.session);
        let (holder, unknown) = holder.map_err(refused)?;
        if unknown {
            let message = format!(
                "session {} is not known: it is collected in time",
                request.session
            );
            return Err(refused(Refusal::Precondition(message)));
        }
        let committer = self.0.runs.committer_of(&holder).map_err(refused)?;
        let ended = committer.end(request.session).await;
        ended.map_err(|error| session_error(&error))?;
        Ok(Response::new(v1::EndResponse {}))
    }
}

async fn look_up(
    context: &Context,
    node: &str,
    request: &v1::LookupRequest,
) -> Result<v1::LookupResponse, Status> {
    let task = task_id(&request.task_id)?;
    // What a lookup tells is no secret of the session.
    let (holder, _) = context
        .runs
        .session_holder(node, task, request.session)
        .map_err(refused)?;
    context.runs.looks_up(&holder);
    let (ids, rest) = request.chunk_ids.as_chunks::<32>();
    if !rest.is_empty() || ids.len() > MAX_IDS {
        let reason = format!("must be up to {MAX_IDS} ids of 32 bytes");
        return Err(malformed(ProtocolError::new("chunk_ids", reason)));
    }
    let ids: Vec<ChunkId> = ids.iter().map(|id| ChunkId::from_bytes(*id)).collect();
    let committer = context.runs.committer_of(&holder).map_err(refused)?;
    let found = committer.locate(request.session, &ids, request.fresh).await;
    Ok(locations(&found.map_err(|error| session_error(&error))?))
}

/// Pack names are sent once each.
fn locations(found: &[Option<Location>]) -> v1::LookupResponse {
    let mut packs = Vec::new();
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut locations = Vec::with_capacity(found.len());
    for location in found {
        locations.push(
            location
                .as_ref()
                .map_or_else(v1::Location::default, |location| {
                    let next = packs.len() as u32;
                    let pack = *numbers.entry(&location.pack).or_insert_with(|| {
                        packs.push(location.pack.clone());
                        next
                    });
                    v1::Location {
                        pack,
                        offset: location.offset,
                        len: location.len,
                        condemned: location.condemned,
                    }
                }),
        );
    }
    v1::LookupResponse { packs, locations }
}

fn lineage(text: String) -> Result<Lineage, Status> {
    let text = receive::some_text("lineage", text, receive::MAX_LINEAGE_BYTES);
    text.map(Lineage).map_err(malformed)
}

/// The lineage is that of the inventory from which the backup was planned: no agent chooses whose keys it gets.
fn same_lineage(holder: &Holder, told: &Lineage) -> Result<(), Status> {
    if holder.task.lineage.as_ref() == Some(told) {
        return Ok(());
    }
    let message = format!(
        "volume {} is another one than when the backup was accepted: start another backup",
        holder.task.volume
    );
    Err(refused(Refusal::Precondition(message)))
}

/// The node and the backup are those of the task, whatever the agent says.
fn commit_request(
    request: v1::CommitRequest,
    holder: &Holder,
) -> Result<CommitRequest, ProtocolError> {
    let state = match request.state() {
        v1::SnapshotState::Complete => SnapshotState::Complete,
        v1::SnapshotState::Partial => SnapshotState::Partial,
        v1::SnapshotState::Inconsistent => SnapshotState::Inconsistent,
        v1::SnapshotState::Unspecified => return Err(ProtocolError::missing("state")),
    };
    let parent = match request.parent.as_str() {
        "" => None,
        id => Some(receive::snapshot_id("parent", id)?),
    };
    let stats = receive::required("stats", request.stats)?;
    let sealed = |field, bytes| receive::blob(field, bytes, MAX_SEALED_BYTES).map(|b| b.to_vec());
    let lineage = receive::some_text("lineage", request.lineage, receive::MAX_LINEAGE_BYTES)?;
    Ok(CommitRequest {
        volume: receive::volume("volume", request.volume)?,
        lineage: Lineage(lineage),
        time_ms: request.time_ms,
        node: holder.task.node.clone(),
        backup: holder.run.clone(),
        tags: receive::texts("tags", request.tags, 100, receive::MAX_NAME_BYTES)?,
        parent,
        state,
        sealed_root: sealed("sealed_root", request.sealed_root)?,
        capsule: sealed("capsule", request.capsule)?,
        refs_root: Secret::from_bytes(receive::array32("refs_root", &request.refs_root)?),
        segments: receive::texts("segments", request.segments, MAX_SEGMENTS, 1024)?,
        stats: SnapshotStats {
            files: stats.files,
            dirs: stats.dirs,
            others: stats.others,
            logical_bytes: stats.logical_bytes,
            uploaded_bytes: stats.uploaded_bytes,
            warnings: stats.warnings,
            errors: stats.errors,
        },
        // Agents back up volumes; they copy nothing.
        origin: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_named_once_for_all_its_chunks() {
        let at = |pack: &str, offset| {
            Some(Location {
                pack: pack.to_owned(),
                offset,
                len: 9,
                condemned: false,
            })
        };
        let answer = locations(&[at("a", 1), None, at("b", 2), at("a", 3)]);
        assert_eq!(answer.packs, ["a", "b"]);
        let seen: Vec<_> = answer
            .locations
            .iter()
            .map(|l| (l.pack, l.offset, l.len))
            .collect();
        assert_eq!(seen, [(0, 1, 9), (0, 0, 0), (1, 2, 9), (0, 3, 9)]);
    }
}
