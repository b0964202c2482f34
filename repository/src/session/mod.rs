//! The only public ways in: a write session makes one snapshot, a read session reads one.

mod committer;
mod fetch;
mod known;
mod manifest_writer;
mod packer;
mod pages;
mod parent;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use committer::{
    BeginWrite, CommitRequest, Committer, Location, Parent, ReadGrant, SessionId, WriteGrant,
};
pub use fetch::Wanted;
pub use manifest_writer::ManifestWriter;
pub use parent::{ParentCursor, ParentEntry};
pub use read::{EntryIter, ExtentIter, ReadSession};
pub use write::{CommitInfo, Stored, UploadStats, WriteOptions, WriteSession, Writer};
