//! From entries to windows: makes directories, clears the way, and decides who writes what.

use std::{
    ffi::CStr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use crossbeam_channel::Sender;
use orlop_core::IssueKind;
use orlop_repository::{
    Content, Entry, EntryKind, EntryStatus, Error, Extent, Metadata, split_path,
};
use rustix::{
    fs::{Mode, OFlags, mkdirat, openat},
    io::Errno,
};
use tokio_util::sync::CancellationToken;

use super::{
    deferred::Late,
    dirs::{self, Dir, DirCache, valid_name},
    error::RestoreError,
    exact,
    file::{PendingFile, Piece},
    links::{Groups, Link, Name},
    shared::Shared,
    source::Source,
    tally::Denied,
    window::{Budget, Local, Window},
};
use crate::scan::{Listing, ScanError};

/// Turns the entries of a snapshot into windows.
pub(super) struct Planner<'a> {
    pub(super) shared: &'a Shared,
    pub(super) source: &'a dyn Source,
    pub(super) budget: Budget,
    pub(super) cancel: &'a CancellationToken,
    pub(super) windows: Sender<Window>,
    cache: DirCache,
    groups: Groups,
    window: Window,
}

/// The planning ended: by an error, or because nobody wants windows any more.
enum End {
    Error(RestoreError),
    Stopped,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Error(error.into())
    }
}

type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, Error>> + Send + 'a>;

impl<'a> Planner<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        source: &'a dyn Source,
        budget: Budget,
        cancel: &'a CancellationToken,
        windows: Sender<Window>,
    ) -> Self {
        let (cache, groups, window) = (shared.cache(), Groups::default(), Window::default());
        Self {
            shared,
            source,
            budget,
            cancel,
            windows,
            cache,
            groups,
            window,
        }
    }

    /// Plans everything below `below` (all for the empty path).
    pub(super) fn run(mut self, below: &[u8]) -> Result<(), RestoreError> {
        match self.everything(below) {
            Ok(()) | Err(End::Stopped) => Ok(()),
            Err(End::Error(error)) => Err(error),
        }
    }

    fn everything(&mut self, below: &[u8]) -> Result<(), End> {
        let mut entries = self.source.entries(below);
        let Some(first) = entries.next().transpose()? else {
            let path = String::from_utf8_lossy(below).into_owned();
            return Err(End::Error(RestoreError::NotInSnapshot { path }));
        };
        let mut next = if first.path.is_empty() {
            self.root(first);
            entries.next().transpose()?
        } else {
            self.parents(&first);
            let dir = self.cache.get(first.parent());
            self.entry(dir.as_ref().map_err(ScanError::errno), first)?;
            entries.next().transpose()?
        };
        while let Some(entry) = next {
            next = self.children(entry, &mut entries)?;
        }
        self.flush()
    }

    fn root(&mut self, entry: Entry) {
        self.shared.existed(b"");
        self.shared.tally.dirs.fetch_add(1, Relaxed);
        let late = Late::Directory {
            path: Vec::new(),
            meta: entry.meta,
            existed: true,
        };
        // What is restored must not inherit from what the target was.
        let root = &self.shared.root;
        if root.default_acl
            && rustix::fs::fremovexattr(&**root, dirs::ACL_DEFAULT).is_ok()
            && let Ok(fd) = openat(
                &**root,
                c".",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        {
            let fresh = Arc::new(Dir::new(fd));
            self.cache = DirCache::new(fresh, self.shared.opener);
        }
        self.shared.defer(&late);
    }

    /// Makes the directories above the entry, plainly.
    fn parents(&mut self, entry: &Entry) {
        let parent = entry.parent();
        let ends = parent
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at);
        for end in ends.chain([parent.len()]).filter(|end| *end > 0) {
            let (above, name) = split_path(&parent[..end]);
            // A failure shows when the entry itself is to be made.
            if let (Ok(above), Some(name)) = (self.cache.get(above), valid_name(name)) {
                let _ = mkdirat(&*above, &name, Mode::from_raw_mode(0o755));
            }
        }
    }

    /// All entries of the directory of `first`; returns the first entry of another directory.
    fn children(&mut self, first: Entry, entries: &mut Entries<'_>) -> Result<Option<Entry>, End> {
        let parent = first.parent().to_vec();
        let dir = self.cache.get(&parent);
        let dir = dir.as_ref().map_err(ScanError::errno);
        // In mode `exact`: the names that are there, to be merged with those of the snapshot.
        let mut listing = Listing::empty();
        if self.shared.visit(&parent)
            && let Ok(dir) = &dir
        {
            listing = exact::list_present(self.shared, dir, &parent);
        }
        let mut present = listing.names();
        let mut there = present.next().ok().flatten().map(CStr::to_owned);
        let mut previous: Option<Vec<u8>> = None;
        let mut next = Some(first);
        while let Some(entry) = next.take() {
            if entry.parent() != parent {
                next = Some(entry);
                break;
            }
            let name = entry.name().to_vec();
            while let Some(found) = there.take_if(|found| found.to_bytes() <= &*name) {
                if found.to_bytes() != name {
                    exact::remove(self.shared, dir, &parent, &found);
                }
                there = present.next().ok().flatten().map(CStr::to_owned);
            }
            if previous.as_ref().is_some_and(|previous| *previous >= name) {
                let message =
                    "cannot restore it: the snapshot holds its name twice or out of order";
                let kind = IssueKind::Unreadable;
                self.shared
                    .tally
                    .issue(&entry.path, kind, 0, message.to_owned());
            } else {
                previous = Some(name);
                self.entry(dir, entry)?;
            }
            next = entries.next().transpose()?;
        }
        while let Some(found) = there {
            exact::remove(self.shared, dir, &parent, &found);
            there = present.next().ok().flatten().map(CStr::to_owned);
        }
        Ok(next)
    }

    fn entry(&mut self, dir: Result<&Arc<Dir>, i32>, entry: Entry) -> Result<(), End> {
        if self.cancel.is_cancelled() || self.shared.tally.is_stopped() {
            return Err(End::Stopped);
        }
        let dir = match dir {
            Ok(dir) => dir,
            Err(errno) => {
                self.shared
                    .tally
                    .trouble(&entry.path, errno, "open the directory that holds it");
                return Ok(());
            }
        };
        if valid_name(entry.name()).is_none() {
            let errno = Errno::INVAL.raw_os_error();
            self.shared
                .tally
                .trouble(&entry.path, errno, "restore an entry of such a name");
            return Ok(());
        }
        match entry.kind {
            EntryKind::Directory => self.directory(dir, entry),
            EntryKind::File => self.file(dir, entry)?,
            _ => {
                self.window.count_entry(dir);
                let dir = Arc::clone(dir);
                self.window.locals.push(Local::Other {
                    dir,
                    entry: Box::new(entry),
                });
            }
        }
        self.flush_if_full()
    }

    fn directory(&mut self, dir: &Dir, entry: Entry) {
        let Some(name) = valid_name(entry.name()) else {
            return;
        };
        let is_read = self.is_read(&entry);
        match dirs::make(self.shared, dir, &name) {
            Ok(existed) => {
                // One that could not be read is not empty: nothing is removed from it.
                if !existed {
                    self.cache.forget(&entry.path);
                } else if is_read {
                    self.shared.existed(&entry.path);
                }
                self.shared.tally.dirs.fetch_add(1, Relaxed);
                self.shared.tally.tick();
                self.shared.defer(&Late::Directory {
                    path: entry.path,
                    meta: entry.meta,
                    existed,
                });
            }
            Err(errno) => self.shared.tally.trouble(&entry.path, errno, "make it"),
        }
    }

    /// Whether the snapshot has what is in the file or directory; an issue if not.
    fn is_read(&self, entry: &Entry) -> bool {
        let EntryStatus::Unreadable(errno) = entry.status else {
            return true;
        };
        let message = "left out: it could not be read when the snapshot was made".to_owned();
        let tally = &self.shared.tally;
        tally.issue(&entry.path, IssueKind::Skipped, errno, message);
        false
    }

    fn file(&mut self, dir: &Arc<Dir>, mut entry: Entry) -> Result<(), End> {
        if matches!(entry.content, Content::None) && !self.is_read(&entry) {
            return Ok(());
        }
        self.window.count_entry(dir);
        if let Some(group) = entry.hardlink {
            match self.groups.name(group, &entry) {
                Name::First => {}
                Name::Unknown => self.shared.tally.denied(Denied::Group, &entry.path, 0),
                Name::Further(first) => {
                    self.window.links.push(Link {
                        dir: Arc::clone(dir),
                        first,
                        entry,
                    });
                    return Ok(());
                }
            }
        }
        let (source, meta) = (self.source, std::mem::take(&mut entry.meta));
        let (path, size) = (entry.path.clone(), entry.size);
        if let Content::Extents(extents) = entry.content {
            let sparse = extents
                .iter()
                .any(|extent| matches!(extent, Extent::Hole(_)));
            let file = planned(dir, path, meta, size, sparse);
            return self.extents(&file, extents.into_iter().map(Ok));
        }
        self.extents(
            &planned(dir, path, meta, size, true),
            source.extents(&entry),
        )
    }

    /// Plans the extents of one file, over several windows if need be.
    fn extents(
        &mut self,
        file: &Arc<PendingFile>,
        extents: impl Iterator<Item = Result<Extent, Error>>,
    ) -> Result<(), End> {
        let (mut offset, mut pieces) = (0_u64, 0_usize);
        for extent in extents {
            let extent = match extent {
                Ok(extent) => extent,
                Err(error) if error.is_cancelled() => return Err(error.into()),
                Err(error) => {
                    file.fail(self.shared, 0, &format!("read where its data is: {error}"));
                    break;
                }
            };
            let len = extent.len();
            if !matches!(extent, Extent::Hole(_)) {
                pieces += 1;
                if pieces == 2 {
                    self.window.count_open_file();
                }
            }
            self.window.add(file, offset, extent);
            offset = offset.saturating_add(len);
            if self.window.is_full(self.budget) {
                self.flush()?;
                // It stays open in the next window, too.
                self.window.count_open_file();
            }
        }
        if offset != file.size {
            file.fail(
                self.shared,
                0,
                "restore it: its extents do not add up to its size",
            );
        }
        if pieces == 0 {
            self.window.add_piece(file, 0, Piece::Inline(Vec::new()));
        }
        file.piece_done(self.shared);
        Ok(())
    }

    fn flush_if_full(&mut self) -> Result<(), End> {
        if self.window.is_full(self.budget) {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), End> {
        let window = std::mem::take(&mut self.window);
        if window.is_empty() {
            return Ok(());
        }
        self.windows.send(window).map_err(|_| End::Stopped)
    }

    /// A window that writes the entries in full, for links that could not be made.
    pub(super) fn copies(mut self, links: Vec<Link>) -> Result<(), RestoreError> {
        for Link { dir, mut entry, .. } in links {
            entry.hardlink = None;
            match self.entry(Ok(&dir), entry) {
                Ok(()) => {}
                Err(End::Stopped) => return Ok(()),
                Err(End::Error(error)) => return Err(error),
            }
        }
        match self.flush() {
            Ok(()) | Err(End::Stopped) => Ok(()),
            Err(End::Error(error)) => Err(error),
        }
    }
}

/// A file that nothing was planned of yet; `sparse` if it may have holes.
fn planned(
    dir: &Arc<Dir>,
    path: Vec<u8>,
    meta: Metadata,
    size: u64,
    sparse: bool,
) -> Arc<PendingFile> {
    let name = valid_name(split_path(&path).1).expect("the name was checked before");
    Arc::new(PendingFile::new(
        Arc::clone(dir),
        name,
        path,
        meta,
        size,
        sparse,
    ))
}
