//! Small files: many opens, one chunk.

use std::{fs::File, sync::atomic::Ordering::Relaxed};

use orlop_core::{Issue, IssueKind};
use orlop_repository::{Content, Entry, Extent, Metadata, StatRecord, Writer};
use rustix::io::Errno;

use super::{
    BackupError,
    detect::is_stable,
    feed::{SMALL, metadata, parent_of},
    job::{Finished, Member},
    large,
    read::Reading,
    work::{Pool, Scratch},
};
use crate::scan::{Directory, FileStat, ScanError};

/// Files up to this size are kept in the manifest, in bytes.
const INLINE: usize = 256;
/// A bundle never grows beyond this, in bytes: files may grow between the walk and the reading, and a
/// chunk may not be larger.
const BUNDLE_MAX: usize = 4 << 20;
/// How often a file that changes while it is read is read again.
const RETRIES: u32 = 2;

/// Reads small files; keeps its buffers between calls.
#[derive(Default)]
pub(super) struct SmallReader {
    content: Vec<u8>,
    bundle: Vec<u8>,
}

/// A file that was read, with its place in the bundle.
struct Read {
    entry: Entry,
    record: StatRecord,
    place: Option<(u32, u32)>,
}

impl SmallReader {
    /// Reads the members and stores what is new of them as one bundle.
    pub(super) fn read(
        &mut self,
        pool: &Pool<'_>,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
        members: &[Member],
    ) -> Result<Vec<Finished>, BackupError> {
        self.bundle.clear();
        let mut finished: Vec<Result<Read, Finished>> = Vec::with_capacity(members.len());
        for member in members {
            if pool.stop.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            finished.push(match self.read_member(pool, member) {
                Ok(Some(read)) => Ok(read),
                Ok(None) => Err(large::read(pool, writer, scratch, member)?),
                Err(error) => Err(pool.failed(member, &error)),
            });
        }
        let secret = match self.bundle.as_slice() {
            [] => None,
            bundle => Some(writer.store(bundle)?.secret),
        };
        let finish = |read: Result<Read, Finished>| match read {
            Err(finished) => finished,
            Ok(mut read) => {
                if let (Some((offset, len)), Some(secret)) = (read.place, secret) {
                    read.entry.content = Content::Extents(vec![Extent::Bundle {
                        secret,
                        offset,
                        len,
                    }]);
                }
                Some((read.entry, read.record))
            }
        };
        Ok(finished.into_iter().map(finish).collect())
    }

    /// Reads one file; `None` if it has become a large one, or one too many for the bundle.
    fn read_member(&mut self, pool: &Pool<'_>, member: &Member) -> Result<Option<Read>, ScanError> {
        let (file, mut stat) = member.dir.open_present(&member.name, &member.stat)?;
        pool.tally.opened.fetch_add(1, Relaxed);
        let mut tries = 0;
        let stable = loop {
            if stat.size >= SMALL {
                return Ok(None);
            }
            self.fill(&pool.reading, &file, stat.size as usize)
                .map_err(|errno| ScanError::Unreadable(errno.raw_os_error()))?;
            pool.limit_read(self.content.len() as u64);
            let after = FileStat::of_file(&file)?;
            let stable = is_stable(&stat, &after) && self.content.len() as u64 == stat.size;
            if stable || tries == RETRIES {
                break stable;
            }
            stat = after;
            tries += 1;
        };
        if self.bundle.len() + self.content.len() > BUNDLE_MAX {
            return Ok(None);
        }
        let mut entry = Pool::entry(member, &stat);
        let (meta, whole) = attributes(pool, &entry, &file, &stat);
        entry.meta = meta;
        entry.size = self.content.len() as u64;
        if !stable {
            pool.changed(&mut entry);
        }
        let mut record = pool.clock.record(&stat);
        record.racy |= !stable || !whole;
        Ok(Some(self.place(pool, member, entry, record)))
    }

    /// Decides where the content goes: nowhere new if the parent has it, else inline or the bundle.
    fn place(
        &mut self,
        pool: &Pool<'_>,
        member: &Member,
        mut entry: Entry,
        record: StatRecord,
    ) -> Read {
        if self.content.is_empty() {
            entry.content = Content::Extents(Vec::new());
            return Read {
                entry,
                record,
                place: None,
            };
        }
        entry.digest = pool.session.digest(&self.content);
        let parent = parent_of(pool.session, member.found.as_ref());
        if let Some(parent) = parent.filter(|p| p.digest == entry.digest && p.size == entry.size) {
            entry.content = parent.content;
            return Read {
                entry,
                record,
                place: None,
            };
        }
        if self.content.len() <= INLINE {
            entry.content = Content::Extents(vec![Extent::Inline(self.content.clone())]);
            return Read {
                entry,
                record,
                place: None,
            };
        }
        let place = (self.bundle.len() as u32, self.content.len() as u32);
        self.bundle.extend_from_slice(&self.content);
        Read {
            entry,
            record,
            place: Some(place),
        }
    }

    /// Reads up to `len` bytes from the beginning.
    fn fill(&mut self, reading: &Reading, file: &File, len: usize) -> Result<(), Errno> {
        self.content.clear();
        self.content.resize(len, 0);
        let done = reading.fill(file, &mut self.content, 0)?;
        self.content.truncate(done);
        Ok(())
    }
}

/// Metadata of an open file, and whether it is all: what cannot be read of it is an issue, and must be
/// tried again by the next backup.
pub(super) fn attributes(
    pool: &Pool<'_>,
    entry: &Entry,
    file: &File,
    stat: &FileStat,
) -> (Metadata, bool) {
    match Directory::file_attributes(file) {
        Ok((xattrs, flags)) => {
            let meta = Metadata {
                xattrs,
                flags,
                ..metadata(stat)
            };
            (meta, true)
        }
        Err(error) => {
            pool.tally.issue(Issue {
                path: entry.path.clone(),
                kind: IssueKind::Metadata,
                errno: error.raw_os_error().unwrap_or(0),
                message: format!("its attributes cannot be read: {error}"),
            });
            (metadata(stat), false)
        }
    }
}
