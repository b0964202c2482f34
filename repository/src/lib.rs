//! The storage engine of Orlop: chunks, packs, index, manifests, snapshots, and the stores they are in.
//!
//! `docs/format.md` specifies what is stored. A module may use only modules listed above it, except
//! that `session` and `manifest` share the pages of a snapshot.

mod clock;
mod error;
mod mistake;
mod secret;

pub mod store;

mod chunker;
mod config;
mod entropy;
mod seal;

mod frame;
mod keys;
mod pack;
mod protocol;

mod order;

mod log;

mod index;
mod manifest;
mod session;
mod snapshot;

mod names;

mod repository;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod malformed;

mod check;
mod collect;
mod copy;
mod coverage;
#[cfg(feature = "testing")]
mod frames;
mod mark;
mod reader;
#[cfg(feature = "testing")]
mod scale;
#[cfg(feature = "testing")]
mod stages;
mod stats;
mod throttle;
mod walk;

#[cfg(test)]
mod simulation;

pub use check::{
    CheckDepth, CheckOptions, CheckReport, Covered, Damage, DamageKind, Known, ParseSampleError,
    Sample, scrub_without_key,
};
pub use chunker::{Candidates, Chunker, Cutter, WARM, Window};
pub use collect::{
    CollectOptions, CollectReport, CollectState, LostParts, RepairOptions, RepairReport,
    RepairState, RepairedPack, WaitingSession,
};
pub use config::{ChunkProfile, FORMAT};
pub use copy::{Copier, CopyReport};
pub use error::{AccessError, Error, Result};
pub use frame::FrameKind;
pub use keys::{KeyKind, Unlock};
pub use manifest::{
    Content, Entry, EntryKind, EntryStatus, Extent, ExtentList, ExtentPage, HardlinkGroup,
    Metadata, StatRecord, Xattr, compare_listing, split_path,
};
pub use names::{ContentCheck, OwnedKind, OwnedName};
pub use order::{FileHead, Head, LogHead, Order};
pub use repository::{InitOptions, KeyInfo, Repository, RotateOptions, RotateReport};
#[cfg(feature = "testing")]
pub use scale::MadeUpIndex;
pub use secret::{ChunkId, EpochKeys, Key, Secret};
pub use session::{
    Batch, BeginWrite, Changed, CommitInfo, CommitRequest, Committer, Diff, Difference, EntryIter,
    ExtentIter, FetchLimits, FileSink, Finder, Found, Location, ManifestWriter, Parent,
    ParentCursor, ParentEntry, ReadGrant, ReadSession, Scope, SessionId, Stored, UploadStats,
    Wanted, WriteGrant, WriteOptions, WriteSession, Writer, is_within,
};
pub use snapshot::{Origin, SnapshotInfo, SnapshotState, SnapshotStats};
#[cfg(feature = "testing")]
pub use stages::{Sealed, Stages};
pub use stats::{ObjectCounts, RepositoryStats};
pub use store::{ObjectStore, StoreOptions, open_store, open_store_with, url_below};
pub use throttle::Throttle;
