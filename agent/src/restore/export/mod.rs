//! A snapshot as a tar archive (POSIX.1-2001, "pax"), as GNU tar writes it: one stream, in listing order, with
//! all metadata but inode flags, which the format has no place for. Sockets are left out.

mod header;
mod sparse;

use std::{io, sync::Arc};

use orlop_core::{IssueKind, Monitor};
use orlop_repository::{Content, Entry, EntryKind, Error, FileSink, ReadSession};
use tar::EntryType;
use tokio_util::sync::CancellationToken;

use super::{
    RestoreError, RestoreReport, Selection,
    links::{Groups, Name},
    select::{Chooser, above},
    tally::{Denied, Tally},
};
use header::{Member, zeros_to_block};
use sparse::Map;

/// Memory for what is read ahead, in bytes.
const MEMORY_BYTES: u64 = 48 << 20;
/// What errors call the stream.
const ARCHIVE: &str = "the archive";
/// Two blocks of zeros.
const END: [u8; 1024] = [0; 1024];

/// Writes the selected paths of a snapshot to `out` as a tar archive; `out` is flushed. Blocks.
///
/// A file that could not be read when the snapshot was made is left out and reported, and so is a directory, whose
/// name is written. The memory that it takes
/// does not depend on the sizes of files.
///
/// # Errors
/// The snapshot cannot be read, `out` fails, or it was cancelled: the archive is not whole then, and lacks
/// its end.
pub fn export(
    select: &Selection,
    session: &ReadSession,
    out: &mut dyn io::Write,
    monitor: Arc<dyn Monitor>,
    cancel: &CancellationToken,
) -> Result<RestoreReport, RestoreError> {
    select.check(session)?;
    let totals = if select.is_all() {
        super::Source::totals(session)
    } else {
        (0, 0)
    };
    let mut export = Export {
        session,
        out,
        groups: Groups::default(),
        tally: Tally::new(monitor, totals, ARCHIVE.to_owned()),
    };
    let mut chooser = Chooser::new(select);
    let leads_to_a_path = |entry: &Entry| {
        entry.kind == EntryKind::Directory
            && (entry.path.is_empty()
                || select
                    .paths
                    .iter()
                    .any(|path| above(path).any(|above| above == entry.path)))
    };
    for entry in session.entries_in(select.scope().entry(b"")) {
        if cancel.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        let entry = entry?;
        if chooser.chooses(&entry) || leads_to_a_path(&entry) {
            export.entry(&entry)?;
        }
    }
    chooser.finish(session, &export.tally)?;
    export.write(&END)?;
    export.out.flush().map_err(failed)?;
    Ok(export.tally.report())
}

fn failed(source: io::Error) -> RestoreError {
    RestoreError::Target {
        action: "write",
        target: ARCHIVE.to_owned(),
        source,
    }
}

struct Export<'a> {
    session: &'a ReadSession,
    out: &'a mut dyn io::Write,
    groups: Groups,
    tally: Tally,
}

impl Export<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.out.write_all(bytes).map_err(failed)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        let kind = match entry.kind {
            EntryKind::File => return self.file(entry),
            EntryKind::Directory => EntryType::Directory,
            EntryKind::Symlink => EntryType::Symlink,
            EntryKind::Fifo => EntryType::Fifo,
            EntryKind::CharDevice => EntryType::Char,
            EntryKind::BlockDevice => EntryType::Block,
            EntryKind::Socket => {
                let why = "a tar archive has no sockets: it is left out".to_owned();
                self.tally.issue(&entry.path, IssueKind::Skipped, 0, why);
                return Ok(());
            }
        };
        // A directory that was not listed, or had another volume on it, is not empty.
        self.tally.is_read(entry, IssueKind::Unreadable);
        let mut member = Member::of(entry, kind);
        if kind == EntryType::Symlink {
            member.link_to(&entry.target);
        }
        self.write(&member.finish(0))?;
        if kind == EntryType::Directory {
            self.tally.dir();
        } else {
            self.tally
                .others
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        if entry.content == Content::None && !self.tally.is_read(entry, IssueKind::Unreadable) {
            return Ok(());
        }
        let name = entry.hardlink.map(|group| self.groups.name(group, entry));
        match name {
            Some(Name::Further(first)) => {
                let mut member = Member::of(entry, EntryType::Link);
                member.link_to(&header::name_of(&first, false));
                self.write(&member.finish(0))?;
                self.tally.file(entry.size);
                return Ok(());
            }
            Some(Name::Unknown) => self.tally.denied(Denied::Group, &entry.path, 0),
            Some(Name::First) | None => {}
        }
        let session = self.session;
        let map = Map::of(session.extents(entry), entry.size)?;
        let mut member = Member::of(entry, EntryType::Regular);
        let stored = match &map {
            Some(map) => {
                member.sparse(entry.size);
                map.stored_bytes()
            }
            None => entry.size,
        };
        self.write(&member.finish(stored))?;
        if let Some(map) = &map {
            map.write(session.extents(entry), self.out)?;
        }
        let mut sink = Data {
            out: &mut *self.out,
            holes: map.is_none(),
        };
        let bytes = session.read_pieces(entry, &mut sink, MEMORY_BYTES)?;
        if bytes != entry.size {
            let path = String::from_utf8_lossy(&entry.path);
            return Err(Error::Damaged {
                name: "manifest".to_owned(),
                reason: format!(
                    "{path} is said to have {} bytes, it has {bytes}",
                    entry.size
                ),
            }
            .into());
        }
        self.write(zeros_to_block(stored))?;
        self.tally.file(entry.size);
        Ok(())
    }
}

/// Writes a file's bytes, without its holes if the archive tells of them.
struct Data<'o> {
    out: &'o mut dyn io::Write,
    holes: bool,
}

impl FileSink for Data<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn zeros(&mut self, len: u64) -> io::Result<()> {
        io::copy(&mut io::Read::take(io::repeat(0), len), self.out).map(drop)
    }

    fn hole(&mut self, len: u64) -> io::Result<()> {
        if self.holes { self.zeros(len) } else { Ok(()) }
    }
}
