//! What a walk is told, and whom it tells.

use std::{ops::ControlFlow, sync::Arc};

use orlop_core::Issue;

use super::{
    ahead::LookAhead, directory::Directory, listing::ARENA_BYTES, pattern::Pattern, stat::FileStat,
};

/// How a volume is walked.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// Entries to leave out; what is below a directory that is left out is left out with it.
    pub exclude: Vec<Pattern>,
    /// Do without `openat2`, as on kernels and in sandboxes that have none.
    pub force_fallback: bool,
    /// Names of one directory kept in memory before they are sorted in a temporary file, in bytes.
    pub arena_bytes: usize,
    /// When directories are looked at before the walk comes to them.
    pub look_ahead: LookAhead,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            exclude: Vec::new(),
            force_fallback: false,
            arena_bytes: ARENA_BYTES,
            look_ahead: LookAhead::default(),
        }
    }
}

/// What a walk met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkStats {
    /// Entries given to the visitor.
    pub entries: u64,
    /// Directories listed, the root included.
    pub directories: u64,
    /// Entries left out by a pattern; what was below them is not counted.
    pub excluded: u64,
    /// Issues given to the visitor.
    pub issues: u64,
}

/// Receives the entries of a walk.
pub trait Visitor {
    /// One entry of `dir`, directories included, the root not, in manifest order: all entries of a
    /// directory by name, then the listing of each of its directories. `Break` ends the walk with
    /// `ScanError::Cancelled`.
    fn entry(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()>;

    /// An entry of `dir` on which another file system is mounted: `stat` is that of what is mounted. It is told in place of
    /// [`Visitor::entry`], and nothing below it follows.
    fn covered(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()> {
        self.entry(dir, name, stat)
    }

    /// Something that is not, or not wholly, walked; the walk goes on.
    fn issue(&mut self, issue: Issue);

    /// The listing of a directory could not be read (wholly): called besides [`Visitor::issue`],
    /// after the directory's own entry was given and before those of its listing that were read.
    fn unreadable_directory(&mut self, path: &[u8], errno: i32);
}
