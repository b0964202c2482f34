//! The manifest's side: takes entries in listing order, waits for those that are being read.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem::size_of,
    time::Duration,
};

use crossbeam_channel::Receiver;
use orlop_repository::{
    Entry, EntryKind, EntryStatus, ManifestWriter, StatRecord, WriteSession, Writer,
};

use super::{
    BackupError,
    checkpoint::Checkpoints,
    job::{Finished, Further, Item, Member},
    room::bytes_of,
    work::Pool,
};
use crate::scan::FileStat;

/// First names that are remembered, in bytes; names of further files are read again.
const LINKED_BYTES: u64 = 16 << 20;

/// While it waits for a file the assembler looks this often whether a checkpoint is due.
const LOOK: Duration = Duration::from_secs(1);

/// A file that further names will refer to.
struct Linked {
    entry: Entry,
    record: StatRecord,
    left: u32,
    bytes: u64,
}

impl Linked {
    /// Whether the name that was met later is still the same content: the file may have been removed
    /// since, and its inode number given to another one.
    fn is(&self, stat: &FileStat) -> bool {
        self.record.size == stat.size
            && self.record.mtime == stat.mtime
            && self.record.ctime == stat.ctime
    }
}

/// Builds the manifest until the walk has ended.
pub(super) fn run<'s>(
    session: &'s WriteSession,
    pool: &Pool<'_>,
    checkpoints: Checkpoints<'_>,
    items: Receiver<Item>,
) -> Result<ManifestWriter<'s>, BackupError> {
    let mut assembler = Assembler {
        session,
        pool,
        manifest: session.manifest()?,
        checkpoints,
        writer: session.writer()?,
        results: Vec::new().into_iter(),
        linked: HashMap::new(),
        linked_bytes: 0,
    };
    for item in items {
        assembler.take(item)?;
        assembler.checkpoint()?;
    }
    if pool.stop.is_cancelled() {
        return Err(pool.cause());
    }
    Ok(assembler.manifest)
}

struct Assembler<'s, 'p> {
    session: &'s WriteSession,
    pool: &'p Pool<'p>,
    manifest: ManifestWriter<'s>,
    checkpoints: Checkpoints<'p>,
    writer: Writer<'s>,
    results: std::vec::IntoIter<Finished>,
    linked: HashMap<u64, Linked>,
    linked_bytes: u64,
}

impl Assembler<'_, '_> {
    fn take(&mut self, item: Item) -> Result<(), BackupError> {
        self.pool.room.give(item.waiting_bytes());
        match item {
            Item::Keep(found, bytes) => {
                self.manifest.keep(&found)?;
                self.done(found.record.kind, bytes);
                Ok(())
            }
            Item::Ready(entry, record) => {
                self.manifest.push(&entry, &record)?;
                self.done(entry.kind, 0);
                Ok(())
            }
            Item::Large(future, further) => {
                // A large file may take hours: what came before it is kept meanwhile.
                while !future.is_ready_within(LOOK) {
                    self.checkpoint()?;
                }
                let finished = future.wait().ok_or_else(|| self.pool.cause())?;
                self.result(finished, further)
            }
            Item::Small(future, further) => {
                let results = future.wait().ok_or_else(|| self.pool.cause())?;
                self.results = results.into_iter();
                self.next_result(further)
            }
            Item::Next(further) => self.next_result(further),
            Item::Link(member) => self.link(*member),
        }
    }

    fn next_result(&mut self, further: Further) -> Result<(), BackupError> {
        let finished = self.results.next().flatten();
        self.result(finished, further)
    }

    /// What a worker has read.
    fn result(&mut self, finished: Finished, further: Further) -> Result<(), BackupError> {
        let Some((entry, record)) = finished else {
            return Ok(());
        };
        self.pool.room.give(bytes_of(&entry));
        self.push(&entry, &record)?;
        if further == Further::Links {
            self.remember(entry, record);
        }
        Ok(())
    }

    fn push(&mut self, entry: &Entry, record: &StatRecord) -> Result<(), BackupError> {
        self.manifest.push(entry, record)?;
        self.done(entry.kind, entry.size);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), BackupError> {
        self.checkpoints.make_due(&mut self.manifest)
    }

    /// Keeps a first name for those that follow, if there is room.
    fn remember(&mut self, entry: Entry, record: StatRecord) {
        let bytes = bytes_of(&entry) + size_of::<Linked>() as u64;
        self.forget(record.ino);
        if let Some(group) = entry.hardlink
            && group.links > 1
            && !matches!(entry.status, EntryStatus::Unreadable(_))
            && self.linked_bytes + bytes <= LINKED_BYTES
        {
            self.linked_bytes += bytes;
            let left = group.links - 1;
            let linked = Linked {
                entry,
                record,
                left,
                bytes,
            };
            self.linked.insert(record.ino, linked);
        }
    }

    fn forget(&mut self, ino: u64) {
        if let Some(linked) = self.linked.remove(&ino) {
            self.linked_bytes -= linked.bytes;
        }
    }

    /// Another name: the content of the first, and everything else that belongs to the inode.
    fn link(&mut self, member: Member) -> Result<(), BackupError> {
        let ino = member.stat.ino;
        let Some(first) = self.linked.get_mut(&ino) else {
            return match self.pool.read_one(&mut self.writer, member)? {
                Some((entry, record)) => self.push(&entry, &record),
                None => Ok(()),
            };
        };
        if !first.is(&member.stat) {
            return self.read_apart(member);
        }
        let entry = Entry {
            path: member.dir.join(&member.name),
            ..first.entry.clone()
        };
        let record = first.record;
        first.left = first.left.saturating_sub(1);
        if first.left == 0 {
            self.forget(ino);
        }
        self.manifest.push(&entry, &record)?;
        self.done(entry.kind, 0);
        Ok(())
    }

    /// Reads a name whose inode number was met before with other content, and sees to it that a
    /// restore does not link the two.
    fn read_apart(&mut self, member: Member) -> Result<(), BackupError> {
        let Some((mut entry, record)) = self.pool.read_one(&mut self.writer, member)? else {
            return Ok(());
        };
        if let Some(group) = &mut entry.hardlink {
            group.id = group_apart(&record);
        }
        self.push(&entry, &record)?;
        self.remember(entry, record);
        Ok(())
    }

    fn done(&mut self, kind: EntryKind, bytes: u64) {
        self.checkpoints.count(kind, bytes);
        self.pool
            .tally
            .done(bytes, || self.session.uploads().uploaded_bytes);
    }
}

/// A number of a group that no inode has, the same whenever the file has not changed.
fn group_apart(record: &StatRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    (record.ino, record.ctime.secs, record.ctime.nanos).hash(&mut hasher);
    hasher.finish() | 1 << 63
}
