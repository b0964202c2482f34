//! All entries of one volume, in pages that are shared between snapshots.
//!
//! Three trees of equal shape are written in step: the manifest (domain key: what a restore reads),
//! the stat sidecar (volume key: what the next incremental reads) and the reference pages (refs key:
//! which chunks are needed, for collection and check). Page boundaries depend on entries' paths alone,
//! so that a change rewrites one leaf and the way to the root (a prolly tree, after Noms).

mod decode;
mod entry;
mod extents;
mod order;
mod page;
mod refs;
mod sidecar;
mod tree;

pub(crate) use decode::decode_manifest;
pub use entry::{
    Content, Entry, EntryKind, EntryStatus, Extent, ExtentPage, HardlinkGroup, Metadata, Xattr,
    split_path,
};
pub use extents::ExtentList;
pub(crate) use extents::decode_page as decode_extent_page;
pub use order::compare_listing;
pub(crate) use page::ManifestPage;
pub(crate) use refs::RefsPage;
pub use sidecar::StatRecord;
pub(crate) use sidecar::{SidecarLeaf, SidecarPage, decode_sidecar};
pub(crate) use tree::{ChildRef, PageSink, TreeBuilder};
