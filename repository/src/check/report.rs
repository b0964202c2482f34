//! What a check looks for and what it says.

use orlop_core::SnapshotId;
use serde::Serialize;

/// How deep a check looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// Read every pack whole, compare its bytes with its name and its table with the index, read every
    /// manifest, and decrypt every chunk that one names.
    pub read_data: bool,
}

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    /// A pack that the index names does not exist.
    MissingPack,
    /// A pack's bytes are not those that were stored.
    DamagedPack,
    /// A snapshot's root, refset or manifest cannot be read.
    DamagedSnapshot,
    /// An index segment cannot be read; what it held is found in the packs' own tables.
    DamagedIndex,
    /// A snapshot needs a chunk that no index names.
    MissingChunk,
}

/// One damaged object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub kind: DamageKind,
    /// Snapshots that need it, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Some of the paths that are hit (at most 100), as `SNAPSHOT:/path`.
    pub paths: Vec<String>,
    /// Whether the next backup of the volumes can make it good.
    pub repairable: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// `structure` or `data`.
    pub depth: &'static str,
    /// Whether nothing is damaged.
    pub ok: bool,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read of packs.
    pub bytes: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
}
