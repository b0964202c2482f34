//! From entries to windows: makes directories, clears the way, and decides who writes what.

use std::{
    ffi::CStr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use crossbeam_channel::Sender;
use orlop_core::IssueKind;
use orlop_repository::{Entry, EntryKind, Error};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};
use tokio_util::sync::CancellationToken;

use super::{
    deferred::Late,
    dirs::{self, Dir, DirCache, valid_name},
    error::RestoreError,
    exact,
    existing::Candidate,
    links::{Groups, Link},
    parents::Parents,
    select::{Chooser, Selection},
    shared::Shared,
    source::Source,
    window::{Budget, Local, Ready, Window},
};
use crate::scan::{Listing, ScanError};

/// Turns the entries of a snapshot into windows.
pub(super) struct Planner<'a> {
    pub(super) shared: &'a Shared,
    pub(super) source: &'a dyn Source,
    pub(super) workers: usize,
    pub(super) budget: Budget,
    pub(super) cancel: &'a CancellationToken,
    windows: Sender<Ready<'a>>,
    cache: DirCache,
    parents: Parents,
    pub(super) groups: Groups,
    /// Some entries are lost, directories perhaps among them.
    lossy: bool,
    /// Files whose names may be taken, and which are not in the window yet.
    pub(super) candidates: Vec<Candidate>,
    /// Further names, of files that may be among the candidates: a window with one of them must not be done before
    /// the file is.
    pub(super) names: Vec<Link>,
    pub(super) window: Window,
}

/// The planning ended: by an error, or because nobody wants windows any more.
pub(super) enum End {
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
        workers: usize,
        budget: Budget,
        cancel: &'a CancellationToken,
        windows: Sender<Ready<'a>>,
    ) -> Self {
        Self {
            shared,
            source,
            workers,
            budget,
            cancel,
            windows,
            cache: shared.cache(),
            parents: Parents::default(),
            groups: Groups::default(),
            lossy: false,
            candidates: Vec::new(),
            names: Vec::new(),
            window: Window::default(),
        }
    }

    /// Plans everything that is selected.
    pub(super) fn run(mut self, selection: &Selection) -> Result<(), RestoreError> {
        let mut chooser = Chooser::new(selection);
        match self.everything(selection, &mut chooser) {
            Ok(()) => chooser.finish(self.source, &self.shared.tally),
            Err(End::Stopped) => Ok(()),
            Err(End::Error(error)) => Err(error),
        }
    }

    fn everything(&mut self, selection: &Selection, chooser: &mut Chooser<'_>) -> Result<(), End> {
        let mut entries = self.source.entries(selection.scope());
        let mut next = self.next(&mut entries)?;
        if let Some(root) = next.take_if(|entry| entry.path.is_empty()) {
            if chooser.chooses(&root) {
                self.root(root);
            }
            next = self.next(&mut entries)?;
        }
        while let Some(entry) = next {
            next = self.children(entry, &mut entries, chooser)?;
        }
        self.flush()
    }

    /// The next entry. Lost ones are an issue, and those behind them are restored, unless what the snapshot
    /// does not hold is to be removed: nobody knows then what that is.
    fn next(&mut self, entries: &mut Entries<'_>) -> Result<Option<Entry>, End> {
        loop {
            match entries.next().transpose() {
                Err(Error::LostEntries { first, source }) if !self.shared.removes() => {
                    self.lossy = true;
                    let message = format!("lost, with those behind it in the listing: {source}");
                    let tally = &self.shared.tally;
                    tally.issue(&first, IssueKind::Unreadable, 0, message);
                }
                other => return Ok(other?),
            }
        }
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

    /// The first entry of `first`'s directory from `first` on that is restored, or of another
    /// directory.
    fn pass(
        &mut self,
        first: Entry,
        entries: &mut Entries<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<Option<Entry>, End> {
        let parent = first.parent().to_vec();
        let mut next = Some(first);
        while let Some(entry) =
            next.take_if(|entry| entry.parent() == parent && !chooser.chooses(entry))
        {
            self.parents.pass(entry);
            next = self.next(entries)?;
        }
        Ok(next)
    }

    /// All entries of the directory of `first`; returns the first entry of another directory.
    fn children(
        &mut self,
        first: Entry,
        entries: &mut Entries<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<Option<Entry>, End> {
        let parent = first.parent().to_vec();
        let mut next = self.pass(first, entries, chooser)?;
        if next.as_ref().is_none_or(|entry| entry.parent() != parent) {
            return Ok(next);
        }
        if self.lossy || !chooser.is_all() {
            self.parents
                .make(self.shared, self.source, &mut self.cache, &parent)?;
        }
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
        while let Some(entry) = next.take_if(|entry| entry.parent() == parent) {
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
            next = self.next(entries)?;
            if let Some(entry) = next.take() {
                next = if entry.parent() == parent {
                    self.pass(entry, entries, chooser)?
                } else {
                    Some(entry)
                };
            }
        }
        while let Some(found) = there {
            exact::remove(self.shared, dir, &parent, &found);
            there = present.next().ok().flatten().map(CStr::to_owned);
        }
        Ok(next)
    }

    pub(super) fn entry(&mut self, dir: Result<&Arc<Dir>, i32>, entry: Entry) -> Result<(), End> {
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
                self.window.count_entry(dir, &entry);
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
        let is_read = self.shared.tally.is_read(&entry, IssueKind::Skipped);
        match dirs::make(self.shared, dir, &name) {
            Ok(existed) => {
                // One that could not be read is not empty: nothing is removed from it.
                if !existed {
                    self.cache.forget(&entry.path);
                } else if is_read {
                    self.shared.existed(&entry.path);
                }
                self.shared.tally.dir();
                self.shared.defer(&Late::Directory {
                    path: entry.path,
                    meta: entry.meta,
                    existed,
                });
            }
            Err(errno) => self.shared.tally.trouble(&entry.path, errno, "make it"),
        }
    }

    fn flush_if_full(&mut self) -> Result<(), End> {
        if self.window.is_full(self.budget) {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), End> {
        self.settle()?;
        self.send()
    }

    /// Sends what is planned to be executed.
    pub(super) fn send(&mut self) -> Result<(), End> {
        let window = std::mem::take(&mut self.window);
        if window.is_empty() {
            return Ok(());
        }
        let ready = window.seal(self.shared, self.cancel);
        self.windows.send(ready).map_err(|_| End::Stopped)
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
