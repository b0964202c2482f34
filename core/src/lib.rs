//! Domain words and pure decisions of Orlop: no I/O, no clock, no wire.
//!
//! A module may use only modules listed above it.

pub mod cause;
pub mod chunking;
pub mod id;
pub mod time;
pub mod volume;

pub mod hook;
pub mod issue;
pub mod location;
pub mod progress;
pub mod rate;
pub mod restore;
pub mod retention;
pub mod run;
pub mod schedule;

pub use cause::with_causes;
pub use chunking::{Chunking, ParseChunkingError};
pub use id::{ParseIdError, SnapshotId, TaskId};
pub use issue::{Issue, IssueKind};
pub use location::{LocationSpec, RepositorySecret, S3Keys};
pub use progress::{Monitor, NoMonitor, Progress};
pub use rate::Rate;
pub use restore::RestoreMode;
pub use time::Timestamp;
pub use volume::{Lineage, ParseVolumeError, VolumeRef};
