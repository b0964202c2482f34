//! The walk's side: compares each entry with the parent and hands on what it means.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use crossbeam_channel::{Sender, TrySendError};
use orlop_core::Issue;
use orlop_repository::{Entry, EntryKind, Metadata, ParentCursor, ParentEntry, WriteSession};
use std::sync::atomic::Ordering::Relaxed;

use super::{
    BackupError,
    detect::is_unchanged,
    job::{Finished, Further, Future, Item, Job, Member, Promise, promise},
    work::Pool,
};
use crate::scan::{Directory, FileStat, ScanError, Visitor};

/// Items on their way to the assembler.
pub(super) const ITEMS: usize = 8192;
/// Files below this size share bundles, in bytes.
pub(super) const SMALL: u64 = 64 << 10;
/// A bundle ends at a boundary name after this many bytes …
const BUNDLE_MIN: u64 = 768 << 10;
/// … and at this many in any case.
const BUNDLE_MAX: u64 = 2 << 20;
const BUNDLE_FILES: usize = 4096;
/// Directories that one bundle's files may hold open.
const BUNDLE_DIRS: usize = 128;
/// Hardlinked files that are remembered; names of further ones are read again.
const MAX_LINKED: usize = 256 << 10;

/// Small files that will share a bundle.
struct Group {
    members: Vec<Member>,
    result: Promise<Vec<Finished>>,
    bytes: u64,
    dirs: usize,
}

/// Receives the walk.
pub(super) struct Feeder<'a> {
    pub(super) pool: &'a Pool<'a>,
    pub(super) cursor: Option<ParentCursor>,
    jobs: Sender<Job>,
    items: Sender<Item>,
    group: Option<Group>,
    /// Names still to come of files that were given to a worker.
    linked: HashMap<u64, u32>,
    failure: Option<BackupError>,
}

impl<'a> Feeder<'a> {
    pub(super) fn new(
        pool: &'a Pool<'a>,
        cursor: Option<ParentCursor>,
        jobs: Sender<Job>,
        items: Sender<Item>,
    ) -> Self {
        Self {
            pool,
            cursor,
            jobs,
            items,
            group: None,
            linked: HashMap::new(),
            failure: None,
        }
    }

    /// The entry of the root itself.
    pub(super) fn root(&mut self, root: &Arc<Directory>) -> Result<(), BackupError> {
        self.take(root, b"", &root.stat_self())
    }

    /// Ends the feed: what is left of the last bundle goes to the workers.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        if let Some(failure) = self.failure.take() {
            self.pool.stop.cancel();
            return Err(failure);
        }
        self.close_group()?;
        if let Some(cursor) = self.cursor.take()
            && !self.pool.stop.is_cancelled()
        {
            self.pool.tally.removed.fetch_add(cursor.finish()?, Relaxed);
        }
        Ok(())
    }

    fn take(
        &mut self,
        dir: &Arc<Directory>,
        name: &[u8],
        stat: &FileStat,
    ) -> Result<(), BackupError> {
        let logical_bytes = self.pool.tally.met(stat);
        let found = match &mut self.cursor {
            Some(cursor) => cursor.find(&dir.path, name)?,
            None => None,
        };
        if let Some(found) = &found
            && is_unchanged(&found.record, stat)
        {
            let is_file = stat.kind == EntryKind::File;
            self.pool
                .tally
                .unchanged
                .fetch_add(u64::from(is_file), Relaxed);
            return self.send(Item::Keep(found.clone(), logical_bytes));
        }
        if stat.kind == EntryKind::File {
            return self.take_file(Member {
                dir: Arc::clone(dir),
                name: name.into(),
                stat: *stat,
                found,
            });
        }
        self.take_other(dir, name, *stat)
    }

    pub(super) fn take_file(&mut self, member: Member) -> Result<(), BackupError> {
        let tally = self.pool.tally;
        let counter = if member.found.is_some() {
            &tally.changed
        } else {
            &tally.new
        };
        counter.fetch_add(1, Relaxed);
        let mut further = Further::None;
        if member.stat.nlink > 1 {
            if let Some(left) = self.linked.get_mut(&member.stat.ino) {
                *left -= 1;
                if *left == 0 {
                    self.linked.remove(&member.stat.ino);
                }
                return self.send(Item::Link(Box::new(member)));
            }
            if self.linked.len() < MAX_LINKED {
                self.linked.insert(member.stat.ino, member.stat.nlink - 1);
                further = Further::Links;
            }
        }
        let sparse = member.stat.blocks * 512 < member.stat.size;
        if member.stat.size >= SMALL || (sparse && member.stat.size > 4096) {
            let (result, future) = promise();
            self.send(Item::Large(future, further))?;
            return self.submit(Job::Large(member, result));
        }
        self.add_small(member, further)
    }

    fn add_small(&mut self, member: Member, further: Further) -> Result<(), BackupError> {
        let ends = self.group.as_ref().is_some_and(|group| {
            group.bytes + member.stat.size > BUNDLE_MAX
                || group.members.len() >= BUNDLE_FILES
                || group.dirs >= BUNDLE_DIRS
                || (group.bytes >= BUNDLE_MIN && self.pool.session.is_bundle_boundary(&member.name))
        });
        if ends {
            self.close_group()?;
        }
        if let Some(group) = &mut self.group {
            let same_dir = group
                .members
                .last()
                .is_some_and(|last| Arc::ptr_eq(&last.dir, &member.dir));
            group.dirs += usize::from(!same_dir);
            group.bytes += member.stat.size;
            group.members.push(member);
            return self.send(Item::Next(further));
        }
        let future = self.open_group(member);
        self.send(Item::Small(future, further))
    }

    /// Begins a bundle with its first file.
    fn open_group(&mut self, member: Member) -> Future<Vec<Finished>> {
        let (result, future) = promise();
        self.group = Some(Group {
            bytes: member.stat.size,
            dirs: 1,
            members: vec![member],
            result,
        });
        future
    }

    /// Ends the walk after a failure, which [`Self::finish`] gives.
    fn go_on(&mut self, taken: Result<(), BackupError>) -> ControlFlow<()> {
        match taken {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure.get_or_insert(error);
                ControlFlow::Break(())
            }
        }
    }

    fn close_group(&mut self) -> Result<(), BackupError> {
        match self.group.take() {
            Some(group) => self.submit(Job::Small(group.members, group.result)),
            None => Ok(()),
        }
    }

    fn submit(&self, job: Job) -> Result<(), BackupError> {
        self.jobs.send(job).map_err(|_| BackupError::Cancelled)
    }

    /// Hands an item to the assembler. Before it waits for room, the open bundle is given to the
    /// workers: the assembler may be waiting for just that.
    pub(super) fn send(&mut self, item: Item) -> Result<(), BackupError> {
        let bytes = item.waiting_bytes();
        let item = if self.pool.room.is_full() && !matches!(item, Item::Keep(..)) {
            let item = self.before_waiting(item)?;
            self.pool.room.wait(self.pool.stop);
            item
        } else {
            item
        };
        self.pool.room.take(bytes);
        match self.items.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(BackupError::Cancelled),
            Err(TrySendError::Full(item)) => {
                let item = self.before_waiting(item)?;
                self.items.send(item).map_err(|_| BackupError::Cancelled)
            }
        }
    }

    /// Gives to the workers what the assembler may be waiting for; the item takes its place after that.
    fn before_waiting(&mut self, item: Item) -> Result<Item, BackupError> {
        match item {
            // A bundle that ends here must not be continued by the item that waits.
            Item::Next(further) => {
                let group = self.group.as_mut().expect("an item of a group");
                let member = group.members.pop().expect("its member");
                self.close_group()?;
                Ok(Item::Small(self.open_group(member), further))
            }
            // The group that this item opens stays open; it cannot be what is waited for.
            item @ Item::Small(..) => Ok(item),
            item => {
                self.close_group()?;
                Ok(item)
            }
        }
    }
}

impl Visitor for Feeder<'_> {
    fn entry(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()> {
        let taken = self.take(dir, name, stat);
        self.go_on(taken)
    }

    fn covered(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()> {
        let taken = self.take_covered(dir, name, stat);
        self.go_on(taken)
    }

    fn issue(&mut self, issue: Issue) {
        self.pool.tally.issue(issue);
    }

    /// The directory's own entry is on its way already; those that cannot be opened were marked by
    /// then. What fails only later is an error of the walk, and a restore of a snapshot with errors
    /// removes nothing.
    fn unreadable_directory(&mut self, _path: &[u8], _errno: i32) {}
}

/// What the system tells of an entry without opening it.
pub(super) fn metadata(stat: &FileStat) -> Metadata {
    Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        flags: 0,
        rdev: stat.rdev,
        xattrs: Vec::new(),
    }
}

/// An entry as it is told of without opening it: nothing of its content is known.
pub(super) fn bare(path: Vec<u8>, stat: &FileStat) -> Entry {
    Entry::bare(path, stat.kind, metadata(stat))
}

/// One entry's trouble.
pub(super) fn issue_of(path: Vec<u8>, error: &ScanError) -> Issue {
    Issue {
        path,
        kind: error.issue_kind(),
        errno: error.errno(),
        message: error.to_string(),
    }
}

/// Whether an entry of the parent can tell that content is the same.
pub(super) fn parent_of(session: &WriteSession, found: Option<&ParentEntry>) -> Option<Entry> {
    let found = found.filter(|f| f.record.kind == EntryKind::File)?;
    match session.parent_entry(found) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::warn!(%error, "the parent's entry cannot be read, so the file counts as new");
            None
        }
    }
}
