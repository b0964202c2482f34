//! The commit record of one volume at one time.

use orlop_core::{Lineage, SnapshotId, VolumeRef};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    keys::KeyRing,
    seal,
    secret::{EpochKeys, Key, Secret},
    session::CommitRequest,
};

/// How whole a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// Everything was read.
    Complete,
    /// A checkpoint of a backup that has not finished: never restored by default.
    Partial,
    /// Some entries could not be read or changed while they were read, or a repair found that chunks are lost.
    Inconsistent,
}

impl SnapshotState {
    fn number(self) -> u32 {
        match self {
            Self::Complete => 1,
            Self::Partial => 2,
            Self::Inconsistent => 3,
        }
    }

    /// The state of a snapshot that lacks chunks by now, if it does.
    pub(crate) fn with_damage(self, damaged: bool) -> Self {
        match self {
            Self::Complete if damaged => Self::Inconsistent,
            state => state,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [Self::Complete, Self::Partial, Self::Inconsistent]
            .into_iter()
            .find(|s| s.number() == number)
    }
}

/// Counts of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SnapshotStats {
    /// Regular files, each name of a hardlinked one.
    #[prost(uint64, tag = "1")]
    pub files: u64,
    /// Directories, the root included.
    #[prost(uint64, tag = "2")]
    pub dirs: u64,
    /// Links, pipes, sockets and devices.
    #[prost(uint64, tag = "3")]
    pub others: u64,
    /// Bytes of regular files, a hardlinked one counted once.
    #[prost(uint64, tag = "4")]
    pub logical_bytes: u64,
    /// Bytes that the backup sent to the store.
    #[prost(uint64, tag = "5")]
    pub uploaded_bytes: u64,
    /// Entries with a warning.
    #[prost(uint64, tag = "6")]
    pub warnings: u64,
    /// Entries with an error.
    #[prost(uint64, tag = "7")]
    pub errors: u64,
}

/// The snapshot that a copy was made of, in its first repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Random id of that repository.
    pub repository: [u8; 16],
    /// Its id there.
    pub snapshot: SnapshotId,
}

/// What can be known of a snapshot without the READ key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// The volume as its pod named it.
    pub volume: VolumeRef,
    /// The lineage.
    pub lineage: Lineage,
    /// When the walk began, milliseconds since 1970.
    pub time_ms: i64,
    /// Whether it is whole.
    pub state: SnapshotState,
    /// The snapshot that it built upon.
    pub parent: Option<SnapshotId>,
    /// The backup that holds it; empty for none.
    pub backup: String,
    /// Node on which it was made; empty if unknown.
    pub node: String,
    /// Labels, sorted.
    pub tags: Vec<String>,
    /// Counts.
    pub stats: SnapshotStats,
    /// Number of the session that made it: of two snapshots the one with the larger number was begun later,
    /// whatever the clocks say.
    pub session: u64,
    /// What it is a copy of, if it was copied from another repository.
    pub origin: Option<Origin>,
}

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

/// Root of the manifest, sealed by the agent.
#[derive(Clone, PartialEq, Message)]
struct RootPart {
    #[prost(bytes = "vec", tag = "1")]
    root: Vec<u8>,
    /// NAMESPACE/POD/VOLUME, so that a root cannot be passed off as another volume's.
    #[prost(string, tag = "2")]
    volume: String,
}

/// What the next backup of the lineage needs of this one.
#[derive(Clone, PartialEq, Message)]
struct CapsulePart {
    #[prost(bytes = "vec", tag = "1")]
    manifest: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    sidecar: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    refs: Vec<u8>,
}

const ROOT_AAD: &[u8] = b"orlop 2026 v0 root";
const CAPSULE_AAD: &[u8] = b"orlop 2026 v0 capsule";
const RECORD_AAD: &[u8] = b"orlop 2026 v0 snapshot record";
const REFSET_AAD: &[u8] = b"orlop 2026 v0 refset";

/// Roots of the three trees of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeRoots {
    /// Of the manifest.
    pub manifest: Secret,
    /// Of the stat sidecar.
    pub sidecar: Secret,
    /// Of the reference pages.
    pub refs: Secret,
}

/// Seals the manifest's root to the READ key.
///
/// # Errors
/// The public key is unusable.
pub(crate) fn seal_root(
    read_public: &[u8; 32],
    root: &Secret,
    volume: &VolumeRef,
) -> Result<Vec<u8>> {
    let part = RootPart {
        root: root.as_bytes().to_vec(),
        volume: volume.to_string(),
    };
    seal::seal_to(read_public, ROOT_AAD, &part.encode_to_vec())
}

/// Seals the roots for the next backup of the lineage.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn seal_capsule(volume_key: &Key, roots: &TreeRoots) -> Result<Vec<u8>> {
    let part = CapsulePart {
        manifest: roots.manifest.as_bytes().to_vec(),
        sidecar: roots.sidecar.as_bytes().to_vec(),
        refs: roots.refs.as_bytes().to_vec(),
    };
    seal::seal(volume_key, CAPSULE_AAD, &part.encode_to_vec())
}

/// Opens a capsule.
///
/// # Errors
/// It is not one of this volume.
pub(crate) fn open_capsule(
    volume_keys: &[Key],
    snapshot: SnapshotId,
    capsule: &[u8],
) -> Result<TreeRoots> {
    let parse = || -> Option<TreeRoots> {
        let mut keys = volume_keys.iter();
        let plain = keys.find_map(|key| seal::open_vec(key, CAPSULE_AAD, capsule))?;
        let part = CapsulePart::decode(plain.as_slice()).ok()?;
        Some(TreeRoots {
            manifest: Secret::from_slice(&part.manifest)?,
            sidecar: Secret::from_slice(&part.sidecar)?,
            refs: Secret::from_slice(&part.refs)?,
        })
    };
    parse().ok_or_else(|| {
        Error::damaged(
            format!("snapshot {snapshot}"),
            "its capsule cannot be opened",
        )
    })
}

/// A snapshot object opened with the repository's keys.
#[derive(Debug)]
pub(crate) struct OpenedSnapshot {
    pub(crate) info: SnapshotInfo,
    pub(crate) root: Secret,
    pub(crate) capsule: Vec<u8>,
    /// Epoch of the READ key that the root is sealed to.
    pub(crate) epoch: usize,
}

fn record_aad(name: &str, format: u32, sealed_root: &[u8], capsule: &[u8]) -> Vec<u8> {
    let mut aad = RECORD_AAD.to_vec();
    aad.extend_from_slice(&format.to_le_bytes());
    aad.extend_from_slice(blake3::hash(sealed_root).as_bytes());
    aad.extend_from_slice(blake3::hash(capsule).as_bytes());
    aad.extend_from_slice(name.as_bytes());
    aad
}

/// The id in the name of a snapshot object.
pub(crate) fn id_of(name: &str) -> Option<SnapshotId> {
    // An object that took the place of another one has the session that did it behind the id.
    name.rsplit('/').next()?.split('-').next()?.parse().ok()
}

/// A capsule under the newest of these keys; as it is if none of them opens it: then the next backup finds
/// out that it is damaged.
pub(crate) fn renew_capsule(keys: &EpochKeys, capsule: Vec<u8>) -> Result<Vec<u8>> {
    if seal::open_vec(keys.newest(), CAPSULE_AAD, &capsule).is_some() {
        return Ok(capsule);
    }
    let mut older = keys.older().iter();
    match older.find_map(|key| seal::open_vec(key, CAPSULE_AAD, &capsule)) {
        Some(plain) => seal::seal(keys.newest(), CAPSULE_AAD, &plain),
        None => Ok(capsule),
    }
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

/// The root page's secret, if it was sealed for this volume, and the epoch of the key that opens it.
pub(crate) fn open_root(
    keys: &KeyRing,
    sealed: &[u8],
    volume: &VolumeRef,
) -> Option<(Secret, usize)> {
    let mut keys = keys.read_privates().into_iter();
    let (plain, epoch) =
        keys.find_map(|(epoch, key)| Some((seal::open_from(&key, ROOT_AAD, sealed)?, epoch)))?;
    let part = RootPart::decode(plain.as_slice()).ok()?;
    let root = Secret::from_slice(&part.root)?;
    (part.volume == volume.to_string()).then_some((root, epoch))
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

#[derive(Clone, PartialEq, Message)]
struct RefsetPart {
    #[prost(bytes = "vec", tag = "1")]
    root: Vec<u8>,
    #[prost(string, tag = "2")]
    lineage: String,
    #[prost(string, tag = "3")]
    namespace: String,
    // 4: bitmap of packs: reserved
}

/// The bytes of the refset object `name`: from it collection and check find every chunk of the
/// snapshot with the maintenance key alone.
pub(crate) fn encode_refset(
    keys: &KeyRing,
    name: &str,
    namespace: &str,
    lineage: &Lineage,
    root: &Secret,
) -> Result<Vec<u8>> {
    let part = RefsetPart {
        root: root.as_bytes().to_vec(),
        lineage: lineage.0.clone(),
        namespace: namespace.to_owned(),
    };
    let aad = [REFSET_AAD, name.as_bytes()].concat();
    seal::seal(&keys.records(), &aad, &part.encode_to_vec())
}

/// The refs key and the root reference page of the refset object `name`.
pub(crate) fn decode_refset(keys: &KeyRing, name: &str, bytes: &[u8]) -> Result<(Key, Secret)> {
    let aad = [REFSET_AAD, name.as_bytes()].concat();
    let parse = || {
        let plain = seal::open_vec(&keys.records(), &aad, bytes)?;
        let part = RefsetPart::decode(plain.as_slice()).ok()?;
        let key = keys.refs(&part.namespace, &Lineage(part.lineage));
        Some((key, Secret::from_slice(&part.root)?))
    };
    parse().ok_or_else(|| Error::damaged(name, "it cannot be opened"))
}
