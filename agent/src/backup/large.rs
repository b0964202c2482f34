//! Large and sparse files: content-defined chunks, holes kept, idle workers helping.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::atomic::Ordering::{Relaxed, SeqCst},
};

use crossbeam_channel::TrySendError;
use orlop_repository::{Extent, ExtentList, Stored, Writer};
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

use super::{
    BackupError,
    detect::is_stable,
    job::{ChunkJob, Finished, Future, Member, promise},
    small::attributes,
    work::Pool,
};
use crate::scan::{FileStat, ScanError};

/// The read buffer; it must hold twice the largest chunk.
const BUFFER: usize = 8 << 20;
/// How much is read at once.
const READ: usize = 4 << 20;
/// Files up to this size are read again when they change while they are read.
const RETRY_MAX: u64 = 64 << 20;
const RETRIES: u32 = 2;
/// Holes that are told apart; what follows is read as data.
const MAX_HOLES: u32 = 1 << 20;

/// Reads large files; keeps its buffer between calls.
#[derive(Default)]
pub(super) struct LargeReader {
    buffer: Vec<u8>,
}

/// Chunks that are being stored, in the file's order.
#[derive(Default)]
struct Pending {
    queue: VecDeque<Part>,
}

enum Part {
    Extent(Extent),
    Chunk(u32, Future<Stored>),
}

enum Failure {
    Scan(ScanError),
    Backup(BackupError),
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

impl From<orlop_repository::Error> for Failure {
    fn from(error: orlop_repository::Error) -> Self {
        Self::Backup(error.into())
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

impl LargeReader {
    /// Reads the file and stores its chunks.
    pub(super) fn read(
        &mut self,
        pool: &Pool<'_>,
        writer: &mut Writer<'_>,
        member: &Member,
    ) -> Result<Finished, BackupError> {
        match self.read_file(pool, writer, member) {
            Ok(finished) => Ok(finished),
            Err(Failure::Scan(error)) => Ok(pool.failed(member, &error)),
            Err(Failure::Backup(error)) => Err(error),
        }
    }

    fn read_file(
        &mut self,
        pool: &Pool<'_>,
        writer: &mut Writer<'_>,
        member: &Member,
    ) -> Result<Finished, Failure> {
        let (file, mut stat) = member.dir.open_file(&member.name, &member.stat)?;
        pool.tally.opened.fetch_add(1, Relaxed);
        let mut tries = 0;
        let (content, size, stable) = loop {
            let list = self.read_extents(pool, writer, &file, &stat)?;
            let after = FileStat::of_file(&file)?;
            let stable = is_stable(&stat, &after) && list.len() == stat.size;
            if stable || tries == RETRIES || stat.size > RETRY_MAX {
                let size = list.len();
                break (writer.finish_extents(list)?, size, stable);
            }
            stat = after;
            tries += 1;
        };
        let mut entry = Pool::entry(member, &stat);
        let (meta, whole) = attributes(pool, &entry, &file, &stat);
        entry.meta = meta;
        entry.content = content;
        entry.size = size;
        if !stable {
            pool.changed(&mut entry);
        }
        let mut record = pool.clock.record(&stat);
        record.racy |= !stable || !whole;
        Ok(Some((entry, record)))
    }

    /// All extents up to the size that `stat` shows, or to an earlier end.
    fn read_extents(
        &mut self,
        pool: &Pool<'_>,
        writer: &mut Writer<'_>,
        file: &File,
        stat: &FileStat,
    ) -> Result<ExtentList, Failure> {
        let mut list = ExtentList::new();
        let mut pending = Pending::default();
        let mut at = 0;
        let mut holes = 0;
        let sparse = stat.blocks * 512 < stat.size;
        while at < stat.size {
            let (begin, end) = if sparse && holes < MAX_HOLES {
                data_range(file, at, stat.size)
            } else {
                (at, stat.size)
            };
            if begin > at {
                holes += 1;
                pending
                    .queue
                    .push_back(Part::Extent(Extent::Hole(begin - at)));
            }
            at = begin;
            if begin < end {
                at = self.read_range(pool, writer, file, (begin, end), &mut pending, &mut list)?;
                if at < end {
                    break;
                }
            }
        }
        pending.drain(pool, writer, &mut list, 0)?;
        Ok(list)
    }

    /// Chunks the bytes of a range; returns where they ended.
    fn read_range(
        &mut self,
        pool: &Pool<'_>,
        writer: &mut Writer<'_>,
        file: &File,
        (begin, end): (u64, u64),
        pending: &mut Pending,
        list: &mut ExtentList,
    ) -> Result<u64, Failure> {
        let chunker = pool.session.chunker();
        self.buffer.resize(BUFFER.max(2 * chunker.max()), 0);
        // The buffer holds the file's bytes from `at - (filled - start)` to `at`.
        let (mut start, mut filled, mut at) = (0usize, 0usize, begin);
        let mut ended = false;
        loop {
            while !ended && filled - start < chunker.max() {
                if start > 0 {
                    self.buffer.copy_within(start..filled, 0);
                    filled -= start;
                    start = 0;
                }
                let room = (self.buffer.len() - filled).min(READ) as u64;
                let wanted = room.min(end - at) as usize;
                let n = read_some(file, &mut self.buffer[filled..filled + wanted], at)?;
                ended = n == 0 || at + n as u64 == end;
                filled += n;
                at += n as u64;
                pool.tally.read_bytes.fetch_add(n as u64, Relaxed);
            }
            if start == filled {
                return Ok(at);
            }
            if pool.stop.is_cancelled() {
                return Err(BackupError::Cancelled.into());
            }
            let n = chunker.cut(&self.buffer[start..filled]);
            let chunk = &self.buffer[start..start + n];
            start += n;
            pending.push(pool, writer, chunk)?;
            pending.drain(pool, writer, list, 2 * pool.chunks.capacity().unwrap_or(1))?;
        }
    }
}

impl Pending {
    /// Stores a chunk, by an idle worker if there is one.
    fn push(
        &mut self,
        pool: &Pool<'_>,
        writer: &mut Writer<'_>,
        chunk: &[u8],
    ) -> Result<(), BackupError> {
        let len = chunk.len() as u32;
        if is_zero(chunk) {
            self.queue
                .push_back(Part::Extent(Extent::Zero(u64::from(len))));
            return Ok(());
        }
        if pool.idle.load(SeqCst) > 0 && !pool.chunks.is_full() {
            let (result, future) = promise();
            match pool.chunks_in.try_send(ChunkJob {
                bytes: chunk.to_vec(),
                result,
            }) {
                Ok(()) => {
                    self.queue.push_back(Part::Chunk(len, future));
                    return Ok(());
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        let secret = writer.store(chunk)?.secret;
        self.queue
            .push_back(Part::Extent(Extent::Data { secret, len }));
        Ok(())
    }

    /// Moves finished parts to the list, and waits while more than `max` are left.
    fn drain(
        &mut self,
        pool: &Pool<'_>,
        writer: &mut Writer<'_>,
        list: &mut ExtentList,
        max: usize,
    ) -> Result<(), BackupError> {
        while let Some(part) = self.queue.pop_front() {
            let extent = match part {
                Part::Extent(extent) => extent,
                Part::Chunk(len, future) if future.is_ready() || self.queue.len() >= max => {
                    help_until(pool, writer, &future)?;
                    let secret = future.wait().ok_or(BackupError::Cancelled)?.secret;
                    Extent::Data { secret, len }
                }
                waiting @ Part::Chunk(..) => {
                    self.queue.push_front(waiting);
                    return Ok(());
                }
            };
            writer.push_extent(list, extent)?;
        }
        Ok(())
    }
}

/// Stores queued chunks instead of idling: the wanted one may be among them.
fn help_until(
    pool: &Pool<'_>,
    writer: &mut Writer<'_>,
    future: &Future<Stored>,
) -> Result<(), BackupError> {
    while !future.is_ready() {
        match pool.chunks.try_recv() {
            Ok(chunk) => chunk.result.keep(writer.store(&chunk.bytes)?),
            Err(_) => break,
        }
    }
    Ok(())
}

fn is_zero(chunk: &[u8]) -> bool {
    let (head, words, tail) = (chunk.first(), chunk.as_chunks::<64>(), chunk.last());
    head == Some(&0)
        && tail == Some(&0)
        && words.0.iter().all(|w| *w == [0; 64])
        && words.1.iter().all(|b| *b == 0)
}

fn read_some(file: &File, buffer: &mut [u8], at: u64) -> Result<usize, ScanError> {
    if buffer.is_empty() {
        return Ok(0);
    }
    loop {
        match file.read_at(buffer, at) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(ScanError::Unreadable(
                    e.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
                ));
            }
            Ok(n) => return Ok(n),
        }
    }
}

/// The next range of data at or after `at`; where the file system cannot tell, all is data.
fn data_range(file: &File, at: u64, size: u64) -> (u64, u64) {
    let begin = match seek(file, SeekFrom::Data(at)) {
        Ok(begin) => begin.min(size),
        // Nothing but a hole follows.
        Err(Errno::NXIO) => return (size, size),
        Err(_) => return (at, size),
    };
    let end = seek(file, SeekFrom::Hole(begin)).map_or(size, |end| end.min(size));
    (begin, end.max(begin))
}
