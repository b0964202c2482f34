//! The only public ways in: a write session makes one snapshot, a read session reads one.

mod committer;
mod diff;
mod entries;
mod fetch;
mod finder;
mod known;
mod manifest_writer;
mod near;
mod packer;
mod pages;
mod parent;
mod ranges;
mod read;
mod requests;
mod scope;
mod small;
mod stream;
#[cfg(test)]
mod tests;
mod write;
mod writer;

pub use committer::{
    BeginWrite, CommitRequest, Committer, Location, Parent, ReadGrant, SessionId, WriteGrant,
};
pub use diff::{Changed, Diff, Difference};
pub use entries::{EntryIter, ExtentIter};
pub use fetch::{Batch, FetchLimits, Wanted};
pub use finder::{Finder, Found};
pub use manifest_writer::ManifestWriter;
pub use parent::{ParentCursor, ParentEntry};
pub use read::ReadSession;
pub use scope::{Scope, is_within};
pub use stream::FileSink;
pub(crate) use write::WriteKeys;
pub use write::{CommitInfo, UploadStats, WriteOptions, WriteSession};
pub use writer::{Stored, Writer};
