//! Entries that have no content, and those of which nothing can be read.

use std::sync::Arc;

use orlop_core::{Issue, IssueKind};
use orlop_repository::{Entry, EntryKind, EntryStatus, Metadata};
use rustix::io::Errno;

use super::{
    BackupError,
    feed::{Feeder, bare, issue_of, metadata},
    job::{Item, Member},
};
use crate::scan::{Directory, FileStat, REPLACED_MAX, ScanError};

impl Feeder<'_> {
    /// Anything but a regular file; what has taken its place meanwhile will do.
    pub(super) fn take_other(
        &mut self,
        dir: &Arc<Directory>,
        name: &[u8],
        mut stat: FileStat,
    ) -> Result<(), BackupError> {
        let mut looks = 0;
        let error = loop {
            let error = match self.other(dir, name, &stat) {
                Ok((entry, whole)) => {
                    let mut record = self.pool.clock.record(&stat);
                    // Try again next time, whatever its times say.
                    record.racy |= !whole;
                    return self.send(Item::Ready(Box::new(entry), record));
                }
                Err(error @ (ScanError::Changed | ScanError::Vanished)) => error,
                Err(error) => break error,
            };
            looks += 1;
            let kind = stat.kind;
            stat = match dir.present(name) {
                _ if looks > REPLACED_MAX || name.is_empty() => break error,
                // The walk has decided whether it goes below.
                Ok(now) if (now.kind == EntryKind::Directory) == (kind == EntryKind::Directory) => {
                    now
                }
                Ok(_) => break ScanError::Changed,
                Err(error) => break error,
            };
            if stat.kind == EntryKind::File {
                return self.take_file(Member {
                    dir: Arc::clone(dir),
                    name: name.into(),
                    stat,
                    found: None,
                });
            }
        };
        self.pool.tally.issue(issue_of(dir.join(name), &error));
        Ok(())
    }

    /// What is mounted over an entry is not the volume's; that there is one is known, so that no restore removes it.
    pub(super) fn take_covered(
        &mut self,
        dir: &Arc<Directory>,
        name: &[u8],
        stat: &FileStat,
    ) -> Result<(), BackupError> {
        let stat = &FileStat { size: 0, ..*stat };
        self.pool.tally.met(stat);
        if let Some(cursor) = &mut self.cursor {
            cursor.find(&dir.path, name)?;
        }
        let entry = Entry {
            status: EntryStatus::Unreadable(Errno::XDEV.raw_os_error()),
            ..bare(dir.join(name), stat)
        };
        let mut record = self.pool.clock.record(stat);
        record.racy = true;
        self.send(Item::Ready(Box::new(entry), record))
    }

    /// The entry of anything but a regular file, and whether all of it could be read.
    fn other(
        &self,
        dir: &Directory,
        name: &[u8],
        stat: &FileStat,
    ) -> Result<(Entry, bool), ScanError> {
        let path = dir.join(name);
        let unlisted = dir.why_unlisted(name, stat);
        let mut whole = unlisted.is_none();
        let target = match stat.kind {
            EntryKind::Symlink => dir.read_link(name)?,
            _ => Vec::new(),
        };
        let (xattrs, flags) = match dir.attributes(name, stat) {
            Ok(found) => found,
            // What is mounted on it is not the volume's; that it is not walked is told by the walk.
            Err(ScanError::Changed) if unlisted.is_some() => Default::default(),
            Err(error @ (ScanError::Vanished | ScanError::Changed)) => return Err(error),
            Err(error) => {
                self.pool.tally.issue(Issue {
                    kind: IssueKind::Metadata,
                    ..issue_of(path.clone(), &error)
                });
                whole = false;
                (Vec::new(), 0)
            }
        };
        let entry = Entry {
            meta: Metadata {
                xattrs,
                flags,
                ..metadata(stat)
            },
            target,
            status: unlisted.map_or(EntryStatus::Ok, EntryStatus::Unreadable),
            ..bare(path, stat)
        };
        Ok((entry, whole))
    }
}
