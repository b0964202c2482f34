//! The commit record of one volume at one time.

mod object;

use orlop_core::{Lineage, SnapshotId, VolumeRef};
use prost::Message;
use serde::{Deserialize, Serialize};

pub(crate) use object::{decode, encode, reseal};

use crate::{
    error::{Error, Result},
    keys::KeyRing,
    seal,
    secret::{EpochKeys, Key, Secret},
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
    /// Whether a repair has found that chunks of it are lost; then its state says that it is not whole.
    pub damaged: bool,
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
