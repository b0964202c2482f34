//! A file's bytes in order, with the next ones on their way.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::{Batch, ExtentIter, FetchLimits, ReadSession, Wanted};
use crate::{
    error::{Error, Result},
    manifest::{Entry, EntryKind, Extent},
};

/// Extents that are fetched together.
const PIECES: usize = 4096;
/// Threads that open chunks of one file, at most, and the memory that a further one is worth.
const WORKERS: usize = 4;
const WORKER_BYTES: u64 = 12 << 20;

/// Takes a file's bytes in order.
pub trait FileSink {
    /// The next bytes.
    ///
    /// # Errors
    /// They cannot be taken: reading ends.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// So many zeros, which were written.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    fn zeros(&mut self, len: u64) -> io::Result<()>;

    /// A hole of so many bytes.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    fn hole(&mut self, len: u64) -> io::Result<()>;
}

/// A sink did not take bytes.
pub(super) fn failed(source: io::Error) -> Error {
    Error::System {
        action: "write the file's bytes",
        source,
    }
}

/// A hole is zeros to it.
struct Dense<'w>(&'w mut dyn io::Write);

impl FileSink for Dense<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn zeros(&mut self, len: u64) -> io::Result<()> {
        io::copy(&mut io::Read::take(io::repeat(0), len), self.0).map(drop)
    }

    fn hole(&mut self, len: u64) -> io::Result<()> {
        self.zeros(len)
    }
}

/// A piece of a file, in order.
enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
    Hole(u64),
    /// What is wanted of a chunk, by its index.
    Chunk(usize),
    /// The extents could not be read any further.
    Broken(Mutex<Option<Error>>),
}

/// Pieces that are fetched together.
#[derive(Default)]
struct Stretch {
    pieces: Vec<Piece>,
    wanted: Vec<Wanted>,
    /// Offset and length in each chunk; `None` for the whole chunk, which must be that long.
    cuts: Vec<(Option<u32>, u32)>,
    slots: Vec<Mutex<Option<Result<Vec<u8>>>>>,
}

impl Batch for Stretch {
    fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    fn chunk(&self, index: usize, chunk: Result<&[u8]>) {
        let bad = || Error::unfit_extent(self.wanted[index].secret.id());
        let (offset, len) = (self.cuts[index].0, self.cuts[index].1 as usize);
        let cut = chunk.and_then(|chunk| match offset {
            None if chunk.len() == len => Ok(chunk.to_vec()),
            None => Err(bad()),
            Some(offset) => {
                let range = offset as usize..(offset as usize).saturating_add(len);
                chunk.get(range).map(<[u8]>::to_vec).ok_or_else(bad)
            }
        });
        *self.slots[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(cut);
    }
}

/// Cuts a file's extents into stretches.
struct Stretches<'a> {
    extents: ExtentIter<'a>,
    /// Bytes of a stretch.
    bytes: u64,
}

impl Stretches<'_> {
    fn next(&mut self) -> Option<Stretch> {
        let mut stretch = Stretch::default();
        let mut bytes = 0;
        while bytes < self.bytes && stretch.pieces.len() < PIECES {
            let Some(extent) = self.extents.next() else {
                break;
            };
            let (secret, offset, len) = match extent {
                Ok(Extent::Data { secret, len }) => (secret, None, len),
                Ok(Extent::Bundle {
                    secret,
                    offset,
                    len,
                }) => (secret, Some(offset), len),
                Ok(Extent::Inline(inline)) => {
                    bytes += inline.len() as u64;
                    stretch.pieces.push(Piece::Bytes(inline));
                    continue;
                }
                Ok(Extent::Zero(len)) => {
                    stretch.pieces.push(Piece::Zeros(len));
                    continue;
                }
                Ok(Extent::Hole(len)) => {
                    stretch.pieces.push(Piece::Hole(len));
                    continue;
                }
                Err(error) => {
                    stretch.pieces.push(Piece::Broken(Mutex::new(Some(error))));
                    break;
                }
            };
            bytes += u64::from(len);
            stretch.pieces.push(Piece::Chunk(stretch.wanted.len()));
            stretch.wanted.push(Wanted {
                secret,
                len: if offset.is_none() { len } else { 0 },
            });
            stretch.cuts.push((offset, len));
            stretch.slots.push(Mutex::default());
        }
        (!stretch.pieces.is_empty()).then_some(stretch)
    }
}

impl Stretch {
    /// Writes what was fetched; returns the number of bytes.
    fn write(&self, out: &mut dyn FileSink) -> Result<u64> {
        let mut total = 0;
        for piece in &self.pieces {
            total += match piece {
                Piece::Bytes(bytes) => {
                    out.bytes(bytes).map_err(failed)?;
                    bytes.len() as u64
                }
                Piece::Zeros(len) => {
                    out.zeros(*len).map_err(failed)?;
                    *len
                }
                Piece::Hole(len) => {
                    out.hole(*len).map_err(failed)?;
                    *len
                }
                Piece::Chunk(index) => {
                    let slot = &self.slots[*index];
                    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                    let bytes = slot.take().unwrap_or(Err(Error::Cancelled))?;
                    out.bytes(&bytes).map_err(failed)?;
                    bytes.len() as u64
                }
                Piece::Broken(error) => {
                    let mut error = error.lock().unwrap_or_else(PoisonError::into_inner);
                    return Err(error.take().unwrap_or(Error::Cancelled));
                }
            };
        }
        Ok(total)
    }
}

impl ReadSession {
    /// Writes a file's bytes in order and returns their number. What comes next is fetched while
    /// `out` takes what is there, in about `memory_bytes` of memory whatever the file's size, and a
    /// chunk or two.
    ///
    /// # Errors
    /// The entry is no regular file, a chunk cannot be read, or `out` fails.
    pub fn read_file(
        &self,
        entry: &Entry,
        out: &mut dyn io::Write,
        memory_bytes: u64,
    ) -> Result<u64> {
        self.read_pieces(entry, &mut Dense(out), memory_bytes)
    }

    /// As [`Self::read_file`], with holes told apart from bytes.
    ///
    /// # Errors
    /// As [`Self::read_file`].
    pub fn read_pieces(
        &self,
        entry: &Entry,
        out: &mut dyn FileSink,
        memory_bytes: u64,
    ) -> Result<u64> {
        if entry.kind != EntryKind::File {
            let path = String::from_utf8_lossy(&entry.path);
            return Err(Error::Invalid(format!("{path} is not a regular file")));
        }
        if let Some(written) = self.read_small(entry, out) {
            return written;
        }
        let queue: Mutex<VecDeque<Arc<Stretch>>> = Mutex::default();
        let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Two stretches are in memory at a time, beside the packs that they come from.
        let mut stretches = Stretches {
            extents: self.extents(entry),
            bytes: memory_bytes / 4,
        };
        let mut batches = std::iter::from_fn(|| {
            let stretch = Arc::new(stretches.next()?);
            lock().push_back(Arc::clone(&stretch));
            Some(stretch as Arc<dyn Batch>)
        });
        let mut result = Ok(0);
        let mut finished = || {
            let Some(stretch) = lock().pop_front() else {
                return false;
            };
            let written = stretch.write(out);
            let go_on = written.is_ok();
            let sum = |total| written.map(|written| total + written);
            result = std::mem::replace(&mut result, Ok(0)).and_then(sum);
            go_on
        };
        let limits = FetchLimits {
            workers: thread::available_parallelism()
                .map_or(1, usize::from)
                .min(WORKERS)
                .min((memory_bytes / WORKER_BYTES) as usize),
            memory_bytes: memory_bytes / 2,
        };
        self.fetch_batches(&mut batches, limits, &mut finished)?;
        result
    }
}
