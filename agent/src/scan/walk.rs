//! The walk itself: directory after directory in listing order.

use std::{
    ffi::CStr,
    ops::ControlFlow,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use orlop_core::{Issue, IssueKind};
use orlop_repository::EntryKind;
use rustix::{
    fs::{Mode, OFlags, SeekFrom, openat, seek},
    io::Errno,
};
use tokio_util::sync::CancellationToken;

use super::{
    directory::Directory,
    error::ScanError,
    listing::{ARENA_BYTES, Listing},
    open::{Opener, Want},
    pattern::Pattern,
    stat::{FileStat, Stat},
    subdirs::Subdirs,
};

/// Deeper directories are left out: the format and every restore must bear them.
const DEPTH_MAX: usize = 4096;
/// Longer paths are left out.
const PATH_MAX_BYTES: usize = 256 << 10;
/// Open directories above the current one; parents beyond are opened again on the way back.
const OPEN_PARENTS: usize = 256;
/// Names of directories yet to be entered that are kept in memory, over all levels.
const PENDING_BYTES: usize = 32 << 20;

/// How a volume is walked.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// Entries to leave out; what is below a directory that is left out is left out with it.
    pub exclude: Vec<Pattern>,
    /// Do without `openat2`, as on kernels and in sandboxes that have none.
    pub force_fallback: bool,
    /// Names of one directory kept in memory before they are sorted in a temporary file, in bytes.
    pub arena_bytes: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            exclude: Vec::new(),
            force_fallback: false,
            arena_bytes: ARENA_BYTES,
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
    /// [`ScanError::Cancelled`].
    fn entry(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()>;

    /// Something that is not, or not wholly, walked; the walk goes on.
    fn issue(&mut self, issue: Issue);

    /// The listing of a directory could not be read (wholly): called besides [`Visitor::issue`],
    /// after the directory's own entry was given and before those of its listing that were read.
    fn unreadable_directory(&mut self, path: &[u8], errno: i32);
}

/// Walks the volume below `root`, without entering other file systems mounted in it.
///
/// Memory is bounded whatever the volume holds; the number of open directories as well, besides
/// those of which the visitor keeps clones.
///
/// # Errors
/// `Cancelled`, or `Spill` if the temporary file for large directories fails. What cannot be read
/// is an issue, not an error.
pub fn walk(
    root: &Arc<Directory>,
    options: &WalkOptions,
    visitor: &mut dyn Visitor,
    cancel: &CancellationToken,
) -> Result<WalkStats, ScanError> {
    seek(root.as_fd(), SeekFrom::Start(0)).map_err(ScanError::of_fd)?;
    let mut walk = Walk {
        options,
        opener: root.opener(),
        visitor,
        cancel,
        listing: Listing::new(options.arena_bytes),
        path: Vec::new(),
        stack: Vec::new(),
        pending_bytes: 0,
        stats: WalkStats::default(),
    };
    walk.list(root)?;
    while let Some(frame) = walk.stack.last_mut() {
        match frame.subdirs.next().map_err(ScanError::Spill)? {
            Some(subdir) => {
                walk.path.truncate(frame.path_len);
                walk.enter(&subdir.name, subdir.ino, subdir.dev)?;
            }
            None => walk.leave(),
        }
    }
    Ok(walk.stats)
}

/// A directory on the way down.
struct Frame {
    /// `None` when too many are open: opened again through `..` of its child.
    fd: Option<Arc<OwnedFd>>,
    stat: FileStat,
    path_len: usize,
    subdirs: Subdirs,
}

struct Walk<'a> {
    options: &'a WalkOptions,
    opener: Opener,
    visitor: &'a mut dyn Visitor,
    cancel: &'a CancellationToken,
    listing: Listing,
    /// Path of the directory that is listed or entered.
    path: Vec<u8>,
    stack: Vec<Frame>,
    pending_bytes: usize,
    stats: WalkStats,
}

impl Walk<'_> {
    fn enter(&mut self, name: &CStr, ino: u64, dev: (u32, u32)) -> Result<(), ScanError> {
        let frame = self
            .stack
            .last()
            .expect("a directory is entered from its parent");
        let parent = frame.fd.clone();
        let expected = FileStat {
            kind: EntryKind::Directory,
            ino,
            dev,
            ..frame.stat
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
        let opened = match &parent {
            Some(parent) => {
                self.opener
                    .open(parent.as_fd(), name, Want::Directory, Some(&expected))
            }
            None => Err(ScanError::Changed),
        };
        match opened {
            Ok((fd, stat)) => {
                let dir = Directory::new(self.path.clone(), Arc::new(fd), stat.file, self.opener);
                self.list(&Arc::new(dir))
            }
            Err(error) => {
                self.unreadable(&error);
                Ok(())
            }
        }
    }

    fn leave(&mut self) {
        let Some(child) = self.stack.pop() else {
            return;
        };
        self.pending_bytes -= child.subdirs.held_bytes();
        let Some(parent) = self.stack.last_mut() else {
            return;
        };
        if parent.fd.is_none()
            && let Some(child) = child.fd
        {
            parent.fd = open_parent(&child, &parent.stat).map(Arc::new);
        }
    }

    /// Gives the entries of `dir` to the visitor and puts it on the stack.
    fn list(&mut self, dir: &Arc<Directory>) -> Result<(), ScanError> {
        self.stats.directories += 1;
        match self.listing.read(dir.as_fd()) {
            Ok(()) => {}
            Err(error @ (ScanError::Spill(_) | ScanError::Cancelled)) => return Err(error),
            Err(error) => self.unreadable(&error),
        }
        let limit = PENDING_BYTES.saturating_sub(self.pending_bytes).max(4096);
        let mut subdirs = Subdirs::new(limit);
        let listing = std::mem::replace(&mut self.listing, Listing::empty());
        let mut until_check = 0_u32;
        let result = listing.for_each(|name| {
            if until_check == 0 {
                until_check = 256;
                if self.cancel.is_cancelled() {
                    return Err(ScanError::Cancelled);
                }
            }
            until_check -= 1;
            self.one(dir, name, &mut subdirs)
        });
        self.listing = listing;
        result?;
        subdirs.finish().map_err(ScanError::Spill)?;
        self.pending_bytes += subdirs.held_bytes();
        self.stack.push(Frame {
            fd: Some(dir.shared_fd()),
            stat: dir.stat_self(),
            path_len: self.path.len(),
            subdirs,
        });
        if let Some(far) = self.stack.len().checked_sub(OPEN_PARENTS + 1) {
            self.stack[far].fd = None;
        }
        Ok(())
    }

    fn one(
        &mut self,
        dir: &Arc<Directory>,
        name: &CStr,
        subdirs: &mut Subdirs,
    ) -> Result<(), ScanError> {
        let bytes = name.to_bytes();
        let stat = match self.opener.stat(dir.as_fd(), name) {
            Ok(stat) => stat,
            Err(Errno::NODATA) => {
                self.skipped(bytes, IssueKind::Skipped, "its type is unknown");
                return Ok(());
            }
            Err(errno) => {
                let error = ScanError::of_name(errno);
                self.issue(dir.join(bytes), &error, error.to_string());
                return Ok(());
            }
        };
        let is_directory = stat.file.kind == EntryKind::Directory;
        if !self.options.exclude.is_empty() && self.is_excluded(bytes, is_directory) {
            self.stats.excluded += 1;
            return Ok(());
        }
        if self.path.len() + 1 + bytes.len() > PATH_MAX_BYTES {
            let why = "its path is longer than 256 KiB";
            self.skipped(bytes, IssueKind::Unreadable, why);
            return Ok(());
        }
        let inside = self.opener.is_inside(&stat) && !stat.automount;
        if !inside && !is_directory {
            let why = "it is mounted from another file system";
            self.skipped(bytes, IssueKind::Skipped, why);
            return Ok(());
        }
        self.stats.entries += 1;
        if self.visitor.entry(dir, bytes, &stat.file).is_break() {
            return Err(ScanError::Cancelled);
        }
        if is_directory {
            self.plan_descent(bytes, &stat, inside, subdirs)?;
        }
        Ok(())
    }

    fn plan_descent(
        &mut self,
        name: &[u8],
        stat: &Stat,
        inside: bool,
        subdirs: &mut Subdirs,
    ) -> Result<(), ScanError> {
        if !inside {
            let why = "another file system is mounted on it, which is not entered";
            self.skipped(name, IssueKind::Skipped, why);
        } else if self.stack.len() + 1 >= DEPTH_MAX {
            // An error: the snapshot's directory looks empty and is not.
            let why = "what is below it is deeper than 4096 directories";
            self.skipped(name, IssueKind::Unreadable, why);
        } else {
            subdirs.push(name, &stat.file).map_err(ScanError::Spill)?;
        }
        Ok(())
    }

    fn is_excluded(&mut self, name: &[u8], is_directory: bool) -> bool {
        let len = self.path.len();
        if len > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let excluded = self
            .options
            .exclude
            .iter()
            .any(|p| p.matches(&self.path, is_directory));
        self.path.truncate(len);
        excluded
    }

    /// The directory at `self.path` cannot be listed, or not wholly.
    fn unreadable(&mut self, error: &ScanError) {
        let path = self.path.clone();
        let errno = if error.errno() == 0 {
            Errno::STALE.raw_os_error()
        } else {
            error.errno()
        };
        self.visitor.unreadable_directory(&path, errno);
        self.issue(
            path,
            error,
            format!("the directory was not walked: {error}"),
        );
    }

    fn skipped(&mut self, name: &[u8], kind: IssueKind, why: &str) {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.stats.issues += 1;
        self.visitor.issue(Issue {
            path,
            kind,
            errno: 0,
            message: format!("left out: {why}"),
        });
    }

    fn issue(&mut self, path: Vec<u8>, error: &ScanError, message: String) {
        self.stats.issues += 1;
        self.visitor.issue(Issue {
            path,
            kind: error.issue_kind(),
            errno: error.errno(),
            message,
        });
    }
}

/// The parent of an open directory, if it still is the one that it was entered from.
fn open_parent(child: &OwnedFd, expected: &FileStat) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(child, c"..", flags, Mode::empty()).ok()?;
    let stat = Stat::of_fd(&fd).ok()?;
    stat.file.same_object(expected).then_some(fd)
}
