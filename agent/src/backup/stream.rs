//! One range of a large file: read and scanned block by block, by all workers that have nothing else to do, and
//! cut in order.
//!
//! ```text
//! blocks ahead (read, scanned) ──in order──▶ cuts ──▶ chunks (hashed, compressed, sealed) ──in order──▶ extents
//! ```

use std::{
    collections::VecDeque,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use orlop_repository::{Candidates, Cutter, WARM, Window, Writer};

use super::{
    BackupError,
    blocks::{Block, Chunk, Permit},
    class::{Class, PAGE_CHUNK},
    job::{Future, Help, promise},
    large::{Failure, Pending},
    work::{Pool, Scratch},
};
use crate::scan::ScanError;

/// How often is looked whether a block was let go that nobody waits for.
const LOOK: Duration = Duration::from_millis(1);

/// A block that was read, and where it may be cut.
pub(super) struct Scanned {
    block: Block,
    candidates: Option<Candidates>,
    /// The file ended before the block did.
    short: bool,
}

/// A block to be read.
pub(super) struct Scan {
    file: Arc<File>,
    at: u64,
    len: usize,
    /// Bytes before it that its hash needs.
    warm: usize,
    class: Class,
    permit: Permit,
}

impl Scan {
    /// Reads and scans.
    pub(super) fn run(self, pool: &Pool<'_>) -> Result<Scanned, ScanError> {
        let Self {
            file,
            at,
            len,
            warm,
            class,
            permit,
        } = self;
        let read = |buffer: &mut [u8]| {
            let done = pool.reading.fill(&file, buffer, at - warm as u64);
            // What precedes the block was counted with the block before it.
            pool.limit_read(done.unwrap_or(0).saturating_sub(warm) as u64);
            done.map_err(|errno| ScanError::Unreadable(errno.raw_os_error()))
        };
        let block = permit.fill(warm, len, read)?;
        let chunker = class.chunker(pool.session);
        let candidates = chunker.map(|chunker| chunker.scan(block.before(warm), block.bytes()));
        let short = block.bytes().len() < len;
        Ok(Scanned {
            block,
            candidates,
            short,
        })
    }
}

/// Where the bytes between two offsets of a file are cut.
enum Cuts<'c> {
    Content(Cutter<'c>),
    /// At multiples of [`PAGE_CHUNK`]: where the next chunk begins, up to where there are bytes, and whether
    /// there will be more. All from the beginning of the range, which lies `offset` bytes behind a multiple.
    Pages {
        offset: u64,
        start: u64,
        known: u64,
        ended: bool,
    },
}

/// Blocks that hold bytes that are not cut yet, with where each begins in the range.
#[derive(Default)]
struct Uncut(VecDeque<(u64, Arc<Block>)>);

impl Window for Uncut {
    fn copy(&self, from: u64, into: &mut [u8]) {
        let mut done = 0;
        for (begin, block) in &self.0 {
            let bytes = block.bytes();
            let at = (from + done as u64).saturating_sub(*begin) as usize;
            if from + (done as u64) < *begin || at >= bytes.len() {
                continue;
            }
            let part = (bytes.len() - at).min(into.len() - done);
            into[done..done + part].copy_from_slice(&bytes[at..at + part]);
            done += part;
        }
    }
}

impl Uncut {
    /// The chunk of these bytes, which no other one holds; blocks that end in it are let go.
    fn take(&mut self, from: u64, len: usize) -> Chunk {
        let (mut chunk, end) = (Chunk::default(), from + len as u64);
        while let Some((begin, block)) = self.0.front() {
            let block_end = begin + block.bytes().len() as u64;
            let (first, last) = (from.max(*begin), end.min(block_end));
            if first < last {
                chunk.add(block, (first - begin) as usize, (last - begin) as usize);
            }
            if block_end > end {
                break;
            }
            self.0.pop_front();
        }
        chunk
    }
}

impl Cuts<'_> {
    fn push(&mut self, scanned: &Scanned) {
        match self {
            Self::Content(cutter) => {
                if let Some(candidates) = &scanned.candidates {
                    cutter.push(candidates);
                }
            }
            Self::Pages { known, .. } => *known += scanned.block.bytes().len() as u64,
        }
    }

    fn end(&mut self) {
        match self {
            Self::Content(cutter) => cutter.end(),
            Self::Pages { ended, .. } => *ended = true,
        }
    }

    /// The next chunk: where it begins and how long it is.
    fn next(&mut self, uncut: &Uncut) -> Option<(u64, usize)> {
        match self {
            Self::Content(cutter) => {
                let start = cutter.start();
                cutter.next_cut(uncut).map(|len| (start, len))
            }
            Self::Pages {
                offset,
                start,
                known,
                ended,
            } => {
                let len = PAGE_CHUNK - (*offset + *start) % PAGE_CHUNK;
                let have = *known - *start;
                if have == 0 || (have < len && !*ended) {
                    return None;
                }
                let (at, len) = (*start, len.min(have));
                *start += len;
                Some((at, len as usize))
            }
        }
    }
}

/// One range on its way.
pub(super) struct Stream<'a, 'p> {
    pool: &'a Pool<'p>,
    file: &'a Arc<File>,
    begin: u64,
    end: u64,
    /// Up to where blocks are asked for.
    next: u64,
    class: Class,
    ahead: VecDeque<Future<Result<Scanned, ScanError>>>,
    uncut: Uncut,
    /// Up to where blocks have come, from the beginning of the range.
    known: u64,
    cuts: Cuts<'a>,
    /// Blocks of this file in memory.
    held: &'a Arc<AtomicUsize>,
}

impl<'a, 'p> Stream<'a, 'p> {
    pub(super) fn new(
        pool: &'a Pool<'p>,
        (file, held): (&'a Arc<File>, &'a Arc<AtomicUsize>),
        (begin, end): (u64, u64),
        class: Class,
    ) -> Self {
        let cuts = match class.chunker(pool.session) {
            Some(chunker) => Cuts::Content(Cutter::new(chunker)),
            None => Cuts::Pages {
                offset: begin % PAGE_CHUNK,
                start: 0,
                known: 0,
                ended: false,
            },
        };
        Self {
            pool,
            file,
            begin,
            end,
            next: begin,
            class,
            ahead: VecDeque::new(),
            uncut: Uncut::default(),
            known: 0,
            cuts,
            held,
        }
    }

    /// Stores all chunks of the range; returns where its bytes ended.
    pub(super) fn run(
        mut self,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
        pending: &mut Pending,
    ) -> Result<u64, Failure> {
        loop {
            while let Some((from, len)) = self.cuts.next(&self.uncut) {
                if self.pool.stop.is_cancelled() {
                    return Err(BackupError::Cancelled.into());
                }
                let chunk = self.uncut.take(from, len);
                pending.push(self.pool, (writer, scratch), chunk)?;
                pending.drain(self.pool, (writer, scratch), self.pool.queued_max())?;
                self.ask(writer, scratch)?;
            }
            if self.next == self.end && self.ahead.is_empty() {
                pending.flush(self.pool, (writer, scratch))?;
                return Ok(self.begin + self.known);
            }
            let scanned = self.block(writer, scratch, pending)?;
            self.known += scanned.block.bytes().len() as u64;
            self.cuts.push(&scanned);
            if scanned.short {
                // What lies behind the end of the file that there was is not looked at.
                self.ahead.clear();
                self.next = self.end;
            }
            if self.next == self.end && self.ahead.is_empty() {
                self.cuts.end();
            }
            let begin = self.known - scanned.block.bytes().len() as u64;
            if !scanned.block.bytes().is_empty() {
                self.uncut.0.push_back((begin, Arc::new(scanned.block)));
            }
        }
    }

    /// Has blocks read ahead as far as there are idle workers and room.
    fn ask(&mut self, writer: &mut Writer<'_>, scratch: &mut Scratch) -> Result<(), BackupError> {
        let pool = self.pool;
        while self.next < self.end
            && pool.idle.load(SeqCst) > 0
            && !pool.help.is_full()
            && let Some(permit) = pool.blocks.permit(self.held)
        {
            let (result, future) = promise();
            let scan = self.scan(permit);
            self.ahead.push_back(future);
            if let Err(back) = pool.help_in.try_send(Help::Scan(scan, result)) {
                // Others were faster: this one is for us.
                pool.do_help(writer, scratch, back.into_inner())?;
                break;
            }
        }
        Ok(())
    }

    fn scan(&mut self, permit: Permit) -> Scan {
        let at = self.next;
        let len = (self.end - at).min(self.pool.blocks.block_bytes as u64) as usize;
        self.next += len as u64;
        let warm = match self.class {
            Class::Page => 0,
            Class::Content | Class::Fine => (at - self.begin).min(WARM as u64) as usize,
        };
        Scan {
            file: Arc::clone(self.file),
            at,
            len,
            warm,
            class: self.class,
            permit,
        }
    }

    /// The next block.
    fn block(
        &mut self,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
        pending: &mut Pending,
    ) -> Result<Scanned, Failure> {
        self.ask(writer, scratch)?;
        if let Some(future) = self.ahead.pop_front() {
            self.pool.help_until(writer, scratch, &future)?;
            return Ok(future.wait().ok_or(BackupError::Cancelled)??);
        }
        loop {
            if let Some(permit) = self.pool.blocks.permit(self.held) {
                let scan = self.scan(permit);
                return Ok(scan.run(self.pool)?);
            }
            // All are held by chunks that are on their way, or by blocks that nobody wants any more.
            pending.flush(self.pool, (writer, scratch))?;
            if !pending.finish_one(self.pool, (writer, scratch))? {
                if self.pool.stop.is_cancelled() {
                    return Err(BackupError::Cancelled.into());
                }
                thread::sleep(LOOK);
            }
        }
    }
}
