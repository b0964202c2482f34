//! The walk itself: directory after directory in listing order.

use std::{collections::VecDeque, ffi::CStr, os::fd::AsFd, sync::Arc, thread};

use orlop_core::{Issue, IssueKind};
use orlop_repository::EntryKind;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::{
    ahead::{Closing, Crew, Found, HELPERS, Job, Listed, LookAhead, Pace, Stats, Ticket},
    directory::Directory,
    error::ScanError,
    frame::{Frame, open_parent},
    listing::Listing,
    open::{Opener, Want},
    stat::Stat,
    subdirs::{Subdir, Subdirs},
    visit::{Visitor, WalkOptions, WalkStats},
};

/// Deeper directories are left out: the format and every restore must bear them.
const DEPTH_MAX: usize = 4096;
/// Longer paths are left out.
const PATH_MAX_BYTES: usize = 256 << 10;
/// Open directories above the current one; parents beyond are opened again on the way back.
const OPEN_PARENTS: usize = 256;
/// Names of directories yet to be entered that are kept in memory, over all levels.
const PENDING_BYTES: usize = 32 << 20;
/// Names that are taken, or looked at by one helper, at a time.
const BATCH: usize = 256;
/// Batches of one directory that are looked at ahead.
const BATCHES: usize = 16;
/// Names of one directory that a helper keeps in memory, in bytes.
const HELPER_ARENA_BYTES: usize = 1 << 20;

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
    let crew = Crew::new(root.opener());
    let help = || crew.help(options.arena_bytes.min(HELPER_ARENA_BYTES));
    thread::scope(|scope| {
        let _closing = Closing(&crew);
        let mut hire = || {
            for _ in 0..HELPERS {
                scope.spawn(help);
            }
        };
        let mut walk = Walk {
            options,
            opener: root.opener(),
            crew: &crew,
            hire: &mut hire,
            is_ahead: false,
            pace: Pace::default(),
            visitor,
            cancel,
            listing: Listing::new(options.arena_bytes),
            path: Vec::new(),
            stack: Vec::new(),
            pending_bytes: 0,
            stats: WalkStats::default(),
        };
        if options.look_ahead == LookAhead::Always {
            walk.look_ahead();
        }
        walk.list(root, None)?;
        while let Some(frame) = walk.stack.last_mut() {
            let crew = walk.is_ahead.then_some(walk.crew);
            match frame.next(crew).map_err(ScanError::Spill)? {
                Some((subdir, ticket)) => {
                    walk.path.truncate(frame.path_len);
                    walk.enter(&subdir, ticket)?;
                }
                None => walk.leave(),
            }
        }
        Ok(walk.stats)
    })
}

struct Walk<'a> {
    options: &'a WalkOptions,
    opener: Opener,
    crew: &'a Arc<Crew>,
    /// Begins the helpers.
    hire: &'a mut dyn FnMut(),
    /// They have begun.
    is_ahead: bool,
    pace: Pace,
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
    /// From here on directories are looked at before the walk comes to them.
    fn look_ahead(&mut self) {
        self.is_ahead = true;
        (self.hire)();
    }

    fn enter(&mut self, subdir: &Subdir, ticket: Option<Ticket>) -> Result<(), ScanError> {
        let frame = self
            .stack
            .last()
            .expect("a directory is entered from its parent");
        let (parent, expected) = (frame.fd.clone(), frame.expected(subdir));
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(subdir.name.to_bytes());
        let (mut opened, mut listed) = match (ticket.and_then(Ticket::take), &parent) {
            (Some(Ok(Found::Directory { opened, listed })), _) => (opened, listed),
            (_, Some(parent)) => {
                let (dir, name) = (parent.as_fd(), &*subdir.name);
                let want = Want::Directory;
                (self.opener.open(dir, name, want, Some(&expected)), None)
            }
            (_, None) => (
                Err(ScanError::Unreadable(Errno::STALE.raw_os_error())),
                None,
            ),
        };
        if let (Err(ScanError::Changed | ScanError::Vanished), Some(parent)) = (&opened, &parent) {
            // Another directory may have its name by now: that one is walked.
            (opened, listed) = (self.opener.open_present(parent.as_fd(), &subdir.name), None);
        }
        match opened {
            Ok((fd, stat)) => {
                let dir = Directory::new(self.path.clone(), Arc::new(fd), stat.file, self.opener);
                self.list(&Arc::new(dir), listed)
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
        self.pending_bytes -= child.held_bytes();
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
    fn list(&mut self, dir: &Arc<Directory>, listed: Option<Listed>) -> Result<(), ScanError> {
        self.stats.directories += 1;
        let limit = PENDING_BYTES.saturating_sub(self.pending_bytes).max(4096);
        let mut subdirs = Subdirs::new(limit);
        let (stats, read) = match listed {
            Some((stats, read)) => (Some(stats), read),
            None => (None, self.listing.read(dir.as_fd())),
        };
        match read {
            Ok(()) => {}
            Err(error @ (ScanError::Spill(_) | ScanError::Cancelled)) => return Err(error),
            Err(error) => self.unreadable(&error),
        }
        if let Some(stats) = stats {
            self.all(dir, stats, &mut subdirs)?;
        } else {
            let listing = std::mem::replace(&mut self.listing, Listing::empty());
            let result = self.names(dir, &listing, &mut subdirs);
            self.listing = listing;
            result?;
        }
        subdirs.finish().map_err(ScanError::Spill)?;
        self.pending_bytes += subdirs.held_bytes();
        let (fd, stat) = (dir.shared_fd(), dir.stat_self());
        self.stack
            .push(Frame::new(fd, stat, self.path.len(), subdirs));
        if let Some(far) = self.stack.len().checked_sub(OPEN_PARENTS + 1) {
            self.stack[far].fd = None;
        }
        Ok(())
    }

    /// Takes the names of a listing, if stats take long some batches ahead.
    fn names(
        &mut self,
        dir: &Arc<Directory>,
        listing: &Listing,
        subdirs: &mut Subdirs,
    ) -> Result<(), ScanError> {
        let mut names = listing.names();
        let mut batches: VecDeque<Ticket> = VecDeque::new();
        loop {
            if self.cancel.is_cancelled() {
                return Err(ScanError::Cancelled);
            }
            while self.is_ahead && batches.len() < BATCHES && listing.len() > BATCH {
                let names = names.take(BATCH)?;
                if names.is_empty() {
                    break;
                }
                let dir = dir.shared_fd();
                batches.push_back(self.crew.ask(Job::Names { dir, names }));
            }
            if let Some(batch) = batches.pop_front() {
                let found = match batch.take() {
                    Some(Ok(found)) => found,
                    Some(Err(job)) => job.run(self.opener, &mut Listing::empty()),
                    None => return Err(ScanError::Cancelled),
                };
                if let Found::Names(stats) = found {
                    self.all(dir, stats, subdirs)?;
                }
                continue;
            }
            for _ in 0..BATCH {
                let Some(name) = names.next()? else {
                    return Ok(());
                };
                let (opener, fd) = (self.opener, dir.as_fd());
                let (stat, is_slow) = self.pace.stat(|| opener.stat(fd, name));
                if is_slow && !self.is_ahead && self.options.look_ahead == LookAhead::WhenSlow {
                    self.look_ahead();
                }
                self.one(dir, name, stat, subdirs)?;
            }
        }
    }

    /// Takes names whose stats are there.
    fn all(
        &mut self,
        dir: &Arc<Directory>,
        stats: Stats,
        subdirs: &mut Subdirs,
    ) -> Result<(), ScanError> {
        if self.cancel.is_cancelled() {
            return Err(ScanError::Cancelled);
        }
        for (name, stat) in stats {
            self.one(dir, &name, stat, subdirs)?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        dir: &Arc<Directory>,
        name: &CStr,
        stat: Result<Stat, Errno>,
        subdirs: &mut Subdirs,
    ) -> Result<(), ScanError> {
        let bytes = name.to_bytes();
        let stat = match stat {
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
        }
        self.stats.entries += 1;
        let flow = if inside {
            self.visitor.entry(dir, bytes, &stat.file)
        } else {
            self.visitor.covered(dir, bytes, &stat.file)
        };
        if flow.is_break() {
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
