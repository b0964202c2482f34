//! Large and sparse files: chunks cut by content or at fixed places, holes kept, idle workers helping.

use std::{
    collections::VecDeque,
    fs::File,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use orlop_repository::{Extent, ExtentList, Stored, Writer};
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

use super::{
    BackupError,
    blocks::Chunk,
    class::Class,
    detect::is_stable,
    job::{Finished, Future, Help, Member, promise},
    read::expect_all,
    small::attributes,
    stream::Stream,
    work::{Pool, Scratch},
};
use crate::scan::{FileStat, ScanError};

/// Files up to this size are read again when they change while they are read.
const RETRY_MAX: u64 = 64 << 20;
const RETRIES: u32 = 2;
/// Holes that are told apart; what follows is read as data.
const MAX_HOLES: u32 = 1 << 20;
/// Bytes of chunks that are stored together.
const TOGETHER: usize = 512 << 10;

/// What a worker stores with.
type Tools<'a, 's> = (&'a mut Writer<'s>, &'a mut Scratch);

/// Chunks that are being stored, in the file's order.
#[derive(Default)]
pub(super) struct Pending {
    queue: VecDeque<Part>,
    /// Chunks that will be stored together, and their bytes.
    gathered: Vec<Chunk>,
    gathered_bytes: usize,
    list: ExtentList,
}

enum Part {
    Extent(Extent),
    Chunks(Vec<u32>, Future<Vec<Stored>>),
}

pub(super) enum Failure {
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

/// Reads the file and stores its chunks.
pub(super) fn read(
    pool: &Pool<'_>,
    writer: &mut Writer<'_>,
    scratch: &mut Scratch,
    member: &Member,
) -> Result<Finished, BackupError> {
    match read_file(pool, writer, scratch, member) {
        Ok(finished) => Ok(finished),
        Err(Failure::Scan(error)) => Ok(pool.failed(member, &error)),
        Err(Failure::Backup(error)) => Err(error),
    }
}

fn read_file(
    pool: &Pool<'_>,
    writer: &mut Writer<'_>,
    scratch: &mut Scratch,
    member: &Member,
) -> Result<Finished, Failure> {
    let (file, mut stat) = member.dir.open_present(&member.name, &member.stat)?;
    pool.tally.opened.fetch_add(1, Relaxed);
    expect_all(&file);
    let class = Class::of(
        (pool.chunking, pool.session),
        (&member.name, member.found.as_ref()),
        (&file, stat.size),
        &pool.reading,
    );
    let reader = Reader {
        pool,
        file: Arc::new(file),
        held: Arc::default(),
        class,
    };
    let mut tries = 0;
    let (content, size, stable) = loop {
        let list = reader.extents(writer, scratch, &stat)?;
        let after = FileStat::of_file(&reader.file)?;
        let stable = is_stable(&stat, &after) && list.len() == stat.size;
        if stable || tries == RETRIES || stat.size > RETRY_MAX {
            let size = list.len();
            break (writer.finish_extents(list)?, size, stable);
        }
        stat = after;
        tries += 1;
    };
    let mut entry = Pool::entry(member, &stat);
    let (meta, whole) = attributes(pool, &entry, &reader.file, &stat);
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

/// One open file.
struct Reader<'a, 'p> {
    pool: &'a Pool<'p>,
    file: Arc<File>,
    /// Its blocks in memory.
    held: Arc<AtomicUsize>,
    class: Class,
}

impl Reader<'_, '_> {
    /// All extents up to the size that `stat` shows, or to an earlier end.
    fn extents(
        &self,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
        stat: &FileStat,
    ) -> Result<ExtentList, Failure> {
        let mut pending = Pending::default();
        let mut at = 0;
        let mut holes = 0;
        let sparse = stat.blocks * 512 < stat.size;
        while at < stat.size {
            let (begin, end) = if sparse && holes < MAX_HOLES {
                data_range(&self.file, at, stat.size)
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
                let of_file = (&self.file, &self.held);
                let stream = Stream::new(self.pool, of_file, (begin, end), self.class);
                at = stream.run(writer, scratch, &mut pending)?;
                if at < end {
                    break;
                }
            }
        }
        pending.drain(self.pool, (writer, scratch), 0)?;
        Ok(pending.list)
    }
}

impl Pending {
    /// Stores a chunk, by an idle worker if there is one; small ones some at a time.
    pub(super) fn push(
        &mut self,
        pool: &Pool<'_>,
        tools: Tools<'_, '_>,
        chunk: Chunk,
    ) -> Result<(), BackupError> {
        if chunk.is_zero() {
            let zero = Extent::Zero(chunk.len() as u64);
            self.flush(pool, tools)?;
            self.queue.push_back(Part::Extent(zero));
            return Ok(());
        }
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_bytes < TOGETHER {
            return Ok(());
        }
        self.flush(pool, tools)
    }

    /// Stores what was gathered.
    pub(super) fn flush(
        &mut self,
        pool: &Pool<'_>,
        (writer, scratch): Tools<'_, '_>,
    ) -> Result<(), BackupError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.gathered_bytes = 0;
        let chunks = std::mem::take(&mut self.gathered);
        let lens = chunks.iter().map(|chunk| chunk.len() as u32).collect();
        let (result, future) = promise();
        self.queue.push_back(Part::Chunks(lens, future));
        let mut help = Help::Store(chunks, result);
        if pool.idle.load(SeqCst) > 0 {
            match pool.help_in.try_send(help) {
                Ok(()) => return Ok(()),
                Err(back) => help = back.into_inner(),
            }
        }
        pool.do_help(writer, scratch, help)
    }

    /// Moves finished parts to the list, and waits while more than `max` are left.
    pub(super) fn drain(
        &mut self,
        pool: &Pool<'_>,
        (writer, scratch): Tools<'_, '_>,
        max: usize,
    ) -> Result<(), BackupError> {
        while let Some(part) = self.queue.front() {
            if let Part::Chunks(_, future) = part
                && !future.is_ready()
                && self.queue.len() <= max
            {
                return Ok(());
            }
            self.finish_one(pool, (writer, scratch))?;
        }
        Ok(())
    }

    /// Waits for the first part and moves it to the list; false if there is none.
    pub(super) fn finish_one(
        &mut self,
        pool: &Pool<'_>,
        (writer, scratch): Tools<'_, '_>,
    ) -> Result<bool, BackupError> {
        match self.queue.pop_front() {
            None => return Ok(false),
            Some(Part::Extent(extent)) => writer.push_extent(&mut self.list, extent)?,
            Some(Part::Chunks(lens, future)) => {
                pool.help_until(writer, scratch, &future)?;
                let stored = future.wait().ok_or(BackupError::Cancelled)?;
                for (len, Stored { secret, .. }) in lens.into_iter().zip(stored) {
                    writer.push_extent(&mut self.list, Extent::Data { secret, len })?;
                }
            }
        }
        Ok(true)
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
