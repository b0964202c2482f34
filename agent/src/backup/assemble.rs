//! The manifest's side: takes entries in listing order, waits for those that are being read.

use std::collections::HashMap;

use crossbeam_channel::Receiver;
use orlop_repository::{Entry, EntryStatus, ManifestWriter, StatRecord, WriteSession, Writer};

use super::{
    BackupError,
    job::{Finished, Item, Member},
    work::Pool,
};

/// A file that further names will refer to.
struct Linked {
    entry: Entry,
    record: StatRecord,
    left: u32,
}

/// Builds the manifest until the walk has ended.
pub(super) fn run<'s>(
    session: &'s WriteSession,
    pool: &Pool<'_>,
    items: Receiver<Item>,
) -> Result<ManifestWriter<'s>, BackupError> {
    let mut assembler = Assembler {
        session,
        pool,
        manifest: session.manifest()?,
        writer: session.writer()?,
        results: Vec::new().into_iter(),
        linked: HashMap::new(),
    };
    for item in items {
        assembler.take(item)?;
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
    writer: Writer<'s>,
    results: std::vec::IntoIter<Finished>,
    linked: HashMap<u64, Linked>,
}

impl Assembler<'_, '_> {
    fn take(&mut self, item: Item) -> Result<(), BackupError> {
        match item {
            Item::Keep(found, bytes) => {
                self.manifest.keep(&found)?;
                self.done(bytes);
                Ok(())
            }
            Item::Ready(entry, record) => {
                self.manifest.push(&entry, &record)?;
                self.done(0);
                Ok(())
            }
            Item::Large(future) => {
                let finished = future.wait().ok_or_else(|| self.pool.cause())?;
                self.finished(finished)
            }
            Item::Small(future) => {
                let results = future.wait().ok_or_else(|| self.pool.cause())?;
                self.results = results.into_iter();
                self.next_result()
            }
            Item::Next => self.next_result(),
            Item::Link(member) => self.link(*member),
        }
    }

    fn next_result(&mut self) -> Result<(), BackupError> {
        let finished = self.results.next().flatten();
        self.finished(finished)
    }

    fn finished(&mut self, finished: Finished) -> Result<(), BackupError> {
        finished.map_or(Ok(()), |(entry, record)| self.push(entry, record))
    }

    fn push(&mut self, entry: Entry, record: StatRecord) -> Result<(), BackupError> {
        self.manifest.push(&entry, &record)?;
        self.done(entry.size);
        if let Some(group) = entry.hardlink
            && !matches!(entry.status, EntryStatus::Unreadable(_))
        {
            self.linked.insert(
                group.id,
                Linked {
                    entry,
                    record,
                    left: group.links.saturating_sub(1),
                },
            );
        }
        Ok(())
    }

    /// Another name: the content of the first, and everything else that belongs to the inode.
    fn link(&mut self, member: Member) -> Result<(), BackupError> {
        let ino = member.stat.ino;
        let Some(first) = self.linked.get_mut(&ino) else {
            let finished = self.pool.read_one(&mut self.writer, member)?;
            return self.finished(finished);
        };
        let entry = Entry {
            path: member.dir.join(&member.name),
            ..first.entry.clone()
        };
        let record = first.record;
        first.left = first.left.saturating_sub(1);
        if first.left == 0 {
            self.linked.remove(&ino);
        }
        self.manifest.push(&entry, &record)?;
        self.done(0);
        Ok(())
    }

    fn done(&self, bytes: u64) {
        self.pool
            .tally
            .done(bytes, || self.session.uploads().uploaded_bytes);
    }
}
