//! The walk's side: compares each entry with the parent and hands on what it means.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use crossbeam_channel::{Sender, TrySendError};
use orlop_core::{Issue, IssueKind};
use orlop_repository::{
    Content, Entry, EntryKind, EntryStatus, Metadata, ParentCursor, ParentEntry, WriteSession,
};
use std::sync::atomic::Ordering::Relaxed;
use tokio_util::sync::CancellationToken;

use super::{
    BackupError,
    detect::{Clock, is_unchanged},
    job::{Item, Job, Member, Promise, promise},
    report::Tally,
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
    result: Promise<Vec<super::job::Finished>>,
    bytes: u64,
    dirs: usize,
}

/// Receives the walk.
pub(super) struct Feeder<'a> {
    session: &'a WriteSession,
    cursor: Option<ParentCursor>,
    jobs: Sender<Job>,
    items: Sender<Item>,
    clock: Clock,
    tally: &'a Tally,
    stop: &'a CancellationToken,
    group: Option<Group>,
    /// Names still to come of files that were given to a worker.
    linked: HashMap<u64, u32>,
    failure: Option<BackupError>,
}

impl<'a> Feeder<'a> {
    pub(super) fn new(
        session: &'a WriteSession,
        cursor: Option<ParentCursor>,
        jobs: Sender<Job>,
        items: Sender<Item>,
        clock: Clock,
        tally: &'a Tally,
        stop: &'a CancellationToken,
    ) -> Self {
        Self {
            session,
            cursor,
            jobs,
            items,
            clock,
            tally,
            stop,
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
            self.stop.cancel();
            return Err(failure);
        }
        self.close_group()?;
        if let Some(cursor) = self.cursor.take()
            && !self.stop.is_cancelled()
        {
            self.tally.removed.fetch_add(cursor.finish()?, Relaxed);
        }
        Ok(())
    }

    fn take(
        &mut self,
        dir: &Arc<Directory>,
        name: &[u8],
        stat: &FileStat,
    ) -> Result<(), BackupError> {
        self.tally.met(stat);
        let found = match &mut self.cursor {
            Some(cursor) => cursor.find(&dir.path, name)?,
            None => None,
        };
        if let Some(found) = &found
            && is_unchanged(&found.record, stat)
        {
            let is_file = stat.kind == EntryKind::File;
            self.tally.unchanged.fetch_add(u64::from(is_file), Relaxed);
            return self.send(Item::Keep(
                found.clone(),
                if is_file { stat.size } else { 0 },
            ));
        }
        if stat.kind == EntryKind::File {
            return self.take_file(Member {
                dir: Arc::clone(dir),
                name: name.into(),
                stat: *stat,
                found,
            });
        }
        match self.other(dir, name, stat) {
            Ok(entry) => {
                let record = self.clock.record(stat);
                self.send(Item::Ready(Box::new(entry), record))
            }
            Err(error) => {
                self.tally.issue(issue_of(dir.join(name), &error));
                Ok(())
            }
        }
    }

    /// The entry of anything but a regular file.
    fn other(&self, dir: &Directory, name: &[u8], stat: &FileStat) -> Result<Entry, ScanError> {
        let path = dir.join(name);
        let target = match stat.kind {
            EntryKind::Symlink => dir.read_link(name)?,
            _ => Vec::new(),
        };
        let (xattrs, flags) = match dir.attributes(name, stat) {
            Ok(found) => found,
            Err(error @ (ScanError::Vanished | ScanError::Changed)) => return Err(error),
            Err(error) => {
                self.tally.issue(Issue {
                    kind: IssueKind::Metadata,
                    ..issue_of(path.clone(), &error)
                });
                (Vec::new(), 0)
            }
        };
        Ok(Entry {
            path,
            kind: stat.kind,
            meta: Metadata {
                xattrs,
                flags,
                ..metadata(stat)
            },
            size: 0,
            target,
            hardlink: None,
            content: Content::None,
            digest: [0; 16],
            status: EntryStatus::Ok,
        })
    }

    fn take_file(&mut self, member: Member) -> Result<(), BackupError> {
        let counter = if member.found.is_some() {
            &self.tally.changed
        } else {
            &self.tally.new
        };
        counter.fetch_add(1, Relaxed);
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
            }
        }
        let sparse = member.stat.blocks * 512 < member.stat.size;
        if member.stat.size >= SMALL || (sparse && member.stat.size > 4096) {
            let (result, future) = promise();
            self.send(Item::Large(future))?;
            return self.submit(Job::Large(member, result));
        }
        self.add_small(member)
    }

    fn add_small(&mut self, member: Member) -> Result<(), BackupError> {
        let ends = self.group.as_ref().is_some_and(|group| {
            group.bytes + member.stat.size > BUNDLE_MAX
                || group.members.len() >= BUNDLE_FILES
                || group.dirs >= BUNDLE_DIRS
                || (group.bytes >= BUNDLE_MIN && self.session.is_bundle_boundary(&member.name))
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
            return self.send(Item::Next);
        }
        let (result, future) = promise();
        self.group = Some(Group {
            bytes: member.stat.size,
            dirs: 1,
            members: vec![member],
            result,
        });
        self.send(Item::Small(future))
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
    fn send(&mut self, item: Item) -> Result<(), BackupError> {
        match self.items.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(BackupError::Cancelled),
            Err(TrySendError::Full(item)) => {
                // A bundle that ends here must not be continued by the item that waits.
                let item = match item {
                    Item::Next => {
                        let group = self.group.as_mut().expect("an item of a group");
                        let member = group.members.pop().expect("its member");
                        self.close_group()?;
                        let (result, future) = promise();
                        let bytes = member.stat.size;
                        self.group = Some(Group {
                            bytes,
                            dirs: 1,
                            members: vec![member],
                            result,
                        });
                        Item::Small(future)
                    }
                    // The group that this item opens stays open; it cannot be what is waited for.
                    item @ Item::Small(_) => item,
                    item => {
                        self.close_group()?;
                        item
                    }
                };
                self.items.send(item).map_err(|_| BackupError::Cancelled)
            }
        }
    }
}

impl Visitor for Feeder<'_> {
    fn entry(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()> {
        match self.take(dir, name, stat) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure.get_or_insert(error);
                ControlFlow::Break(())
            }
        }
    }

    fn issue(&mut self, issue: Issue) {
        self.tally.issue(issue);
    }

    /// The directory's own entry is on its way already; that its listing is missing is an issue, which
    /// the walk reports.
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
