//! What a check looks for and what it says.

use std::{fmt, str::FromStr, time::Duration};

use orlop_core::SnapshotId;
use serde::Serialize;

use super::sample::Sample;

/// How deep a check looks; each depth includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckDepth {
    /// Log, keys, index, snapshots and references: each can be read, and what snapshots need is indexed.
    Structure,
    /// Each pack that is needed is there and long enough.
    #[default]
    Existence,
    /// Packs hold the bytes that their names promise. For that no key is needed.
    Scrub,
    /// Chunks are decrypted and are what was backed up.
    Data,
}

impl CheckDepth {
    /// All, from the shallowest.
    pub const ALL: [Self; 4] = [Self::Structure, Self::Existence, Self::Scrub, Self::Data];

    /// The name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Existence => "existence",
            Self::Scrub => "scrub",
            Self::Data => "data",
        }
    }

    /// Whether bytes of packs are read.
    pub fn reads_data(self) -> bool {
        self >= Self::Scrub
    }
}

impl fmt::Display for CheckDepth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CheckDepth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|depth| depth.as_str() == text);
        found
            .ok_or_else(|| format!("{text:?} is no depth: use structure, existence, scrub or data"))
    }
}

/// What a check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// How deep it looks.
    pub depth: CheckDepth,
    /// Which packs are read, at the depths that read them.
    pub sample: Sample,
    /// Go on with the last check of the same depth and sample, if that was cut short: what it has read is not
    /// read again.
    pub resume: bool,
    /// Read at most so many bytes of packs a second; 0 for as many as there can be.
    pub bytes_per_second: u64,
}

impl CheckOptions {
    /// Everything, whole.
    pub fn data() -> Self {
        Self {
            depth: CheckDepth::Data,
            ..Self::default()
        }
    }

    /// One round of many that together read all bytes in `rounds` rounds: those first that were read longest
    /// ago. A round that was cut short is gone on with.
    pub fn round(rounds: u32, bytes_per_second: u64) -> Self {
        Self {
            depth: CheckDepth::Scrub,
            sample: Sample::Share {
                part: 1,
                of: rounds.max(1),
            },
            resume: true,
            bytes_per_second,
        }
    }

    /// What is read, as records of checks have it.
    pub(super) fn what(&self) -> String {
        format!("{} {}", self.depth, self.sample)
    }

    /// How long `bytes` may take at least.
    pub(super) fn takes(&self, bytes: u64) -> Duration {
        match self.bytes_per_second {
            0 => Duration::ZERO,
            rate => Duration::from_millis(bytes.saturating_mul(1000) / rate),
        }
    }
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
    /// An entry of the log is not the one that was written.
    DamagedLog,
    /// A wrapped key cannot be used; others open the repository.
    DamagedKey,
    /// A record of earlier checks cannot be read.
    DamagedRecord,
}

impl DamageKind {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingPack => "missing_pack",
            Self::DamagedPack => "damaged_pack",
            Self::DamagedSnapshot => "damaged_snapshot",
            Self::DamagedIndex => "damaged_index",
            Self::MissingChunk => "missing_chunk",
            Self::DamagedLog => "damaged_log",
            Self::DamagedKey => "damaged_key",
            Self::DamagedRecord => "damaged_record",
        }
    }
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
    /// Whether `orlop repo repair` and the next backup of the volumes can make it good.
    pub repairable: bool,
}

/// How much of all packs' bytes was read, by all checks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Covered {
    /// Bytes of all packs that the index names and that are there.
    pub total_bytes: u64,
    /// Bytes of those of them that were read at least once, and were right when they were read last.
    pub read_bytes: u64,
    /// All was read at this time or later, milliseconds since 1970; `None` if some was never read.
    pub since_ms: Option<i64>,
    /// Packs in which damage was found and that were not right since.
    pub damaged_packs: u64,
}

/// What is known of earlier checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What they have read together.
    pub covered: Covered,
    /// When the last one of the kind that was asked for ended, milliseconds since 1970; `None` if there was none,
    /// or if it was cut short.
    pub ended_ms: Option<i64>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// How deep it looked.
    pub depth: CheckDepth,
    /// Whether nothing is damaged.
    pub ok: bool,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read of packs.
    pub bytes: u64,
    /// Bytes of packs that were not read again, as an earlier check that was cut short had read them.
    pub resumed_bytes: u64,
    /// What is damaged; at most 10,000 objects.
    pub damage: Vec<Damage>,
    /// Damaged objects that are not listed.
    pub more_damage: u64,
    /// What this check and those before it have read.
    pub covered: Covered,
}
