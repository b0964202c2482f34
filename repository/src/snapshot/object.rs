//! The object of a snapshot: made, opened, and sealed anew.

use orlop_core::{Lineage, SnapshotId, VolumeRef};
use prost::Message;

use super::{
    OpenedSnapshot, Origin, SnapshotInfo, SnapshotState, SnapshotStats, id_of, open_root,
    renew_capsule, seal_root,
};
use crate::{
    error::{Error, Result},
    keys::KeyRing,
    seal,
    session::CommitRequest,
};

/// The object `s/<domain>/<volume>/<id>`.
#[derive(Clone, PartialEq, Message)]
struct SnapshotObject {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// `RootPart` sealed to the READ key.
    #[prost(bytes = "vec", tag = "2")]
    sealed_root: Vec<u8>,
    /// `RecordPart` under the maintenance key, bound to all else.
    #[prost(bytes = "vec", tag = "3")]
    record: Vec<u8>,
    /// `CapsulePart` under the volume key.
    #[prost(bytes = "vec", tag = "4")]
    capsule: Vec<u8>,
    // 5: signature of the agent, 6: of the coordinator: reserved
}

#[derive(Clone, PartialEq, Message)]
struct RecordPart {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    pod: String,
    #[prost(string, tag = "3")]
    volume: String,
    #[prost(string, tag = "4")]
    lineage: String,
    #[prost(int64, tag = "5")]
    time_ms: i64,
    #[prost(uint32, tag = "6")]
    state: u32,
    #[prost(bytes = "vec", tag = "7")]
    parent: Vec<u8>,
    #[prost(string, tag = "8")]
    backup: String,
    #[prost(string, tag = "9")]
    node: String,
    #[prost(string, repeated, tag = "10")]
    tags: Vec<String>,
    #[prost(message, required, tag = "11")]
    stats: SnapshotStats,
    #[prost(uint64, tag = "12")]
    session: u64,
    // 13: hash of the lineage's snapshot before: reserved
    /// Epoch of the READ key that the root is sealed to.
    #[prost(uint32, tag = "14")]
    epoch: u32,
    #[prost(message, optional, tag = "15")]
    origin: Option<OriginPart>,
}

#[derive(Clone, PartialEq, Message)]
struct OriginPart {
    #[prost(bytes = "vec", tag = "1")]
    repository: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    snapshot: Vec<u8>,
}

impl OriginPart {
    fn read(&self) -> Option<Origin> {
        Some(Origin {
            repository: self.repository.as_slice().try_into().ok()?,
            snapshot: SnapshotId::from_bytes(self.snapshot.as_slice().try_into().ok()?),
        })
    }
}

const RECORD_AAD: &[u8] = b"orlop 2026 v0 snapshot record";

fn record_aad(name: &str, format: u32, sealed_root: &[u8], capsule: &[u8]) -> Vec<u8> {
    let mut aad = RECORD_AAD.to_vec();
    aad.extend_from_slice(&format.to_le_bytes());
    aad.extend_from_slice(blake3::hash(sealed_root).as_bytes());
    aad.extend_from_slice(blake3::hash(capsule).as_bytes());
    aad.extend_from_slice(name.as_bytes());
    aad
}

/// The bytes of the snapshot object `name`, whose root is sealed to the READ key of `epoch`.
pub(crate) fn encode(
    keys: &KeyRing,
    name: &str,
    session: u64,
    epoch: usize,
    request: &CommitRequest,
) -> Result<Vec<u8>> {
    let record = RecordPart {
        namespace: request.volume.namespace.clone(),
        pod: request.volume.pod.clone(),
        volume: request.volume.volume.clone(),
        lineage: request.lineage.0.clone(),
        time_ms: request.time_ms,
        state: request.state.number(),
        parent: request
            .parent
            .map(|id| id.to_bytes().to_vec())
            .unwrap_or_default(),
        backup: request.backup.clone(),
        node: request.node.clone(),
        tags: request.tags.clone(),
        stats: request.stats,
        session,
        epoch: epoch as u32,
        origin: request.origin.map(|origin| OriginPart {
            repository: origin.repository.to_vec(),
            snapshot: origin.snapshot.to_bytes().to_vec(),
        }),
    };
    let format = crate::config::FORMAT;
    let aad = record_aad(name, format, &request.sealed_root, &request.capsule);
    let object = SnapshotObject {
        format,
        sealed_root: request.sealed_root.clone(),
        record: seal::seal(&keys.records(), &aad, &record.encode_to_vec())?,
        capsule: request.capsule.clone(),
    };
    Ok(object.encode_to_vec())
}

/// The object, authenticated, and its record part.
fn parse(keys: &KeyRing, name: &str, bytes: &[u8]) -> Result<(SnapshotObject, RecordPart)> {
    let fail = |reason: &str| Error::damaged(name, reason);
    let object = SnapshotObject::decode(bytes).map_err(|e| fail(&e.to_string()))?;
    if object.encoded_len() != bytes.len() {
        return Err(fail("it holds bytes that belong to nothing"));
    }
    if object.format > crate::config::FORMAT {
        return Err(fail("it is of a newer format: use a newer orlop"));
    }
    let aad = record_aad(name, object.format, &object.sealed_root, &object.capsule);
    let record = seal::open_vec(&keys.records(), &aad, &object.record)
        .ok_or_else(|| fail("it cannot be opened: some of its bytes were changed"))?;
    let record = RecordPart::decode(record.as_slice()).map_err(|e| fail(&e.to_string()))?;
    Ok((object, record))
}

/// What takes the place of the snapshot object `name` under the name `new`: the same, with root and capsule
/// sealed for the current epoch. `None` if they are already.
pub(crate) fn reseal(
    keys: &KeyRing,
    name: &str,
    new: &str,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>> {
    let (mut object, mut record) = parse(keys, name, bytes)?;
    let epoch = keys.current();
    if record.epoch as usize >= epoch {
        return Ok(None);
    }
    let volume = VolumeRef::new(&*record.namespace, &*record.pod, &*record.volume);
    let (root, _) = open_root(keys, &object.sealed_root, &volume)
        .ok_or_else(|| Error::damaged(name, "its root cannot be opened"))?;
    object.sealed_root = seal_root(&keys.read_public(), &root, &volume)?;
    let lineage = Lineage(record.lineage.clone());
    object.capsule = renew_capsule(&keys.volume(&record.namespace, &lineage), object.capsule)?;
    record.epoch = epoch as u32;
    let aad = record_aad(new, object.format, &object.sealed_root, &object.capsule);
    object.record = seal::seal(&keys.records(), &aad, &record.encode_to_vec())?;
    Ok(Some(object.encode_to_vec()))
}

/// Opens the snapshot object `name`.
pub(crate) fn decode(keys: &KeyRing, name: &str, bytes: &[u8]) -> Result<OpenedSnapshot> {
    let fail = |reason: &str| Error::damaged(name, reason);
    let (object, record) = parse(keys, name, bytes)?;
    let id = id_of(name).ok_or_else(|| fail("its name is no snapshot id"))?;
    let volume = VolumeRef::new(record.namespace, record.pod, record.volume);
    let (root, epoch) = open_root(keys, &object.sealed_root, &volume)
        .filter(|(_, epoch)| *epoch == record.epoch as usize)
        .ok_or_else(|| fail("its root cannot be opened"))?;
    let parent = match record.parent.as_slice() {
        [] => None,
        bytes => Some(SnapshotId::from_bytes(
            bytes
                .try_into()
                .map_err(|_| fail("its parent is no snapshot id"))?,
        )),
    };
    let origin = record.origin.as_ref().map(OriginPart::read);
    let origin = origin.map_or(Some(None), |origin| origin.map(Some));
    let info = SnapshotInfo {
        id,
        volume,
        lineage: Lineage(record.lineage),
        time_ms: record.time_ms,
        state: SnapshotState::from_number(record.state)
            .ok_or_else(|| fail("its state is unknown"))?,
        damaged: false,
        parent,
        backup: record.backup,
        node: record.node,
        tags: record.tags,
        stats: record.stats,
        session: record.session,
        origin: origin.ok_or_else(|| fail("what it is a copy of is no snapshot"))?,
    };
    Ok(OpenedSnapshot {
        info,
        root,
        capsule: object.capsule,
        epoch,
    })
}
