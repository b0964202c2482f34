//! The half of a session that holds the repository's keys: in this process for `repo` verbs, behind
//! gRPC for agents.

use async_trait::async_trait;
use orlop_core::{Lineage, SnapshotId, VolumeRef};

use crate::{
    config::ChunkProfile,
    error::Result,
    secret::{ChunkId, EpochKeys, Key, Secret},
    snapshot::{Origin, SnapshotState, SnapshotStats},
};

/// A session's number: unique in the repository, in order of their beginning.
pub type SessionId = u64;

/// Where the frame of a chunk is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// Name of the pack object.
    pub pack: String,
    /// Offset of the frame in the pack in bytes.
    pub offset: u32,
    /// Length of the frame in bytes.
    pub len: u32,
    /// Collection is about to remove the pack: the chunk can still be read there, and must be stored
    /// again by whoever wants to refer to it.
    pub condemned: bool,
}

/// What a writer wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginWrite {
    /// The volume as its pod names it.
    pub volume: VolumeRef,
    /// The identity by which its earlier snapshots are found.
    pub lineage: Lineage,
}

/// What a writer gets: keys of its own domain and volume, never those of the repository.
#[derive(Clone)]
pub struct WriteGrant {
    /// The session.
    pub session: SessionId,
    /// Content secrets and chunker of the dedup domain.
    pub domain_keys: EpochKeys,
    /// Sidecar and parent capsule of the volume.
    pub volume_keys: EpochKeys,
    /// Reference pages of the volume.
    pub refs_key: Key,
    /// Frame tables and index segments of this session.
    pub session_key: Key,
    /// The X25519 public key to which snapshot roots are sealed.
    pub read_public_key: [u8; 32],
    /// Minimum, average and maximum of chunks.
    pub chunks: ChunkProfile,
    /// Size at which a pack is closed, in bytes.
    pub pack_bytes: u32,
    /// Snapshots of the lineage to build upon, the newest first. All but the last are partial, and the last
    /// may be: where the listing of one ends, the next one goes on.
    pub parents: Vec<Parent>,
}

/// The snapshot that a backup builds upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub snapshot: SnapshotId,
    /// The capsule, sealed under the newest of [`WriteGrant::volume_keys`].
    pub capsule: Vec<u8>,
    /// Whether it is a checkpoint, which ends somewhere in the listing.
    pub partial: bool,
}

/// What a reader gets: the way into one snapshot.
#[derive(Clone)]
pub struct ReadGrant {
    /// The session.
    pub session: SessionId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Secret of the root page of its manifest.
    pub root: Secret,
    /// Content secrets of the dedup domain: proves that what was decrypted is what was backed up.
    pub domain_keys: EpochKeys,
    /// Regular files, directories and others in it, and their logical bytes.
    pub stats: SnapshotStats,
    /// Whether it is a checkpoint: it ends somewhere in the listing.
    pub partial: bool,
}

/// Everything that makes a snapshot, besides the packs and segments that are stored already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// The volume as its pod names it.
    pub volume: VolumeRef,
    /// The lineage.
    pub lineage: Lineage,
    /// When the walk began, milliseconds since 1970.
    pub time_ms: i64,
    /// Node on which it ran; empty if unknown.
    pub node: String,
    /// The backup that holds the snapshot; empty for none.
    pub backup: String,
    /// Labels for people and retention, sorted.
    pub tags: Vec<String>,
    /// The snapshot that it built upon.
    pub parent: Option<SnapshotId>,
    /// Whether it is whole.
    pub state: SnapshotState,
    /// Root page secret and volume identity, sealed to the READ key (RFC 9180 base mode).
    pub sealed_root: Vec<u8>,
    /// Root secrets for the next incremental, sealed under the volume key.
    pub capsule: Vec<u8>,
    /// Secret of the root reference page (under the volume's refs key).
    pub refs_root: Secret,
    /// Names of the index segments that this session stored.
    pub segments: Vec<String>,
    /// Counts.
    pub stats: SnapshotStats,
    /// What it is a copy of, if it is copied from another repository.
    pub origin: Option<Origin>,
}

/// Grants sessions and makes their results durable.
///
/// Every call may be repeated after a lost answer: `commit` of a session that is committed answers
/// with the same snapshot.
#[async_trait]
pub trait Committer: Send + Sync {
    /// Begins a session that may write packs and index segments and then commit one snapshot.
    ///
    /// # Errors
    /// The log cannot be read or appended to.
    async fn begin_write(&self, request: BeginWrite) -> Result<WriteGrant>;

    /// Begins a session that may read one snapshot.
    ///
    /// # Errors
    /// There is no such snapshot, or it cannot be opened.
    async fn begin_read(&self, snapshot: SnapshotId) -> Result<ReadGrant>;

    /// Where chunks are, in the order of `ids`; `None` for those that the index does not hold. With
    /// `fresh` what others have added and moved is read first: for a reader that finds a pack gone.
    ///
    /// # Errors
    /// The session has ended or the index cannot be read.
    async fn locate(
        &self,
        session: SessionId,
        ids: &[ChunkId],
        fresh: bool,
    ) -> Result<Vec<Option<Location>>>;

    /// Makes the session's packs and segments part of the repository and its snapshot visible: after
    /// `Ok` the snapshot is durable; after an error it is either wholly there or not at all.
    ///
    /// # Errors
    /// The session has ended, a segment is missing, or the log cannot be appended to.
    async fn commit(&self, session: SessionId, request: CommitRequest) -> Result<SnapshotId>;

    /// Ends the session without a snapshot; what it wrote is garbage. Ending twice is no error.
    ///
    /// # Errors
    /// The log cannot be appended to.
    async fn end(&self, session: SessionId) -> Result<()>;
}
