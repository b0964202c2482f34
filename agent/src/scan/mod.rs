//! The walk over a volume that its pod may be changing, or attacking, at the same time.
//!
//! Every object is reached from the file descriptor of the directory that holds it, by a name of one
//! component; links are never followed, other file systems are not entered, and nothing is opened
//! that is not a regular file or a directory.

mod ahead;
mod attributes;
mod directory;
mod error;
mod frame;
mod limits;
mod listing;
mod open;
mod pattern;
mod stat;
mod subdirs;
#[cfg(test)]
mod tests;
mod visit;
mod walk;

pub use ahead::LookAhead;
pub use directory::Directory;
pub(crate) use directory::REPLACED_MAX;
pub use error::ScanError;
pub use limits::raise_open_files;
pub use pattern::{Pattern, PatternError};
pub use stat::FileStat;
pub use visit::{Visitor, WalkOptions, WalkStats};
pub use walk::walk;

pub(crate) use attributes::{KEPT_FLAGS, Subject, read_flags, read_xattrs};
pub(crate) use listing::{ARENA_BYTES, Listing};
pub(crate) use open::{Opener, Want, has_openat2, magic_path};
pub(crate) use stat::Stat;
