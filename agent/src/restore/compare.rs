//! A file that is there against the extents that the snapshot holds of it.

use std::{
    fs::File,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use orlop_repository::{Error, Extent};

use super::{source::Source, zeros};

/// Extents, and bytes, that a thread takes at a time.
const EXTENTS_AT_ONCE: usize = 16;
const BYTES_AT_ONCE: u64 = 16 << 20;

type Extents<'a> = Box<dyn Iterator<Item = Result<Extent, Error>> + Send + 'a>;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Whether each extent differs, in order.
    pub(super) differs: Vec<bool>,
    /// Bytes that are as they should be and that are not, holes left out.
    pub(super) equal: u64,
    pub(super) differing: u64,
}

impl Difference {
    pub(super) fn is_none(&self) -> bool {
        !self.differs.contains(&true)
    }
}

/// A comparison that any number of threads may work at.
pub(super) struct Comparison<'a> {
    source: &'a dyn Source,
    file: &'a File,
    /// All extents are compared, not only those up to the first that differs.
    all: bool,
    given_up: &'a (dyn Fn() -> bool + Sync),
    cursor: Mutex<Cursor<'a>>,
    found: Mutex<Difference>,
    /// It cannot be gone on with: the extents cannot be read, or there is no need to.
    ended: AtomicBool,
}

struct Cursor<'a> {
    extents: Extents<'a>,
    index: usize,
    offset: u64,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        source: &'a dyn Source,
        file: &'a File,
        extents: Extents<'a>,
        all: bool,
        given_up: &'a (dyn Fn() -> bool + Sync),
    ) -> Self {
        Self {
            source,
            file,
            all,
            given_up,
            cursor: Mutex::new(Cursor {
                extents,
                index: 0,
                offset: 0,
            }),
            found: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// Compares until nothing is left.
    pub(super) fn work(&self) {
        let mut buffer = Vec::new();
        while let Some((first, mut offset, extents)) = self.take() {
            for (n, extent) in extents.iter().enumerate() {
                if self.ended.load(Ordering::Relaxed) || (self.given_up)() {
                    self.ended.store(true, Ordering::Relaxed);
                    return;
                }
                // What cannot be read is written anew.
                let same = self.is_there(offset, extent, &mut buffer).unwrap_or(false);
                self.note(first + n, extent, same);
                offset = offset.saturating_add(extent.len());
            }
        }
    }

    /// What differs; `None` if that is not known in full.
    pub(super) fn finish(self) -> Option<Difference> {
        let found = self
            .found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (!self.ended.into_inner()).then_some(found)
    }

    /// The next extents with the number and the offset of the first.
    fn take(&self) -> Option<(usize, u64, Vec<Extent>)> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, offset) = (cursor.index, cursor.offset);
        let mut extents = Vec::new();
        let mut bytes = 0;
        while extents.len() < EXTENTS_AT_ONCE && bytes < BYTES_AT_ONCE {
            match cursor.extents.next() {
                Some(Ok(extent)) => {
                    bytes = bytes.saturating_add(extent.len());
                    extents.push(extent);
                }
                Some(Err(_)) => {
                    self.ended.store(true, Ordering::Relaxed);
                    return None;
                }
                None => break,
            }
        }
        cursor.index += extents.len();
        cursor.offset = cursor.offset.saturating_add(bytes);
        (!extents.is_empty()).then_some((first, offset, extents))
    }

    fn is_there(&self, offset: u64, extent: &Extent, buffer: &mut Vec<u8>) -> io::Result<bool> {
        match extent {
            Extent::Data { secret, len } => {
                let bytes = self.read(offset, *len as usize, buffer)?;
                Ok(bytes.is_some_and(|bytes| self.source.is_chunk(secret, bytes)))
            }
            Extent::Inline(wanted) => {
                Ok(self.read(offset, wanted.len(), buffer)? == Some(wanted.as_slice()))
            }
            // A part of a chunk has no name of its own.
            Extent::Bundle { .. } => Ok(false),
            Extent::Hole(len) => zeros::are_there(self.file, offset, *len, true),
            Extent::Zero(len) => zeros::are_there(self.file, offset, *len, false),
        }
    }

    /// So many bytes, if the file has them.
    fn read<'b>(
        &self,
        offset: u64,
        len: usize,
        buffer: &'b mut Vec<u8>,
    ) -> io::Result<Option<&'b [u8]>> {
        buffer.resize(len, 0);
        let there = zeros::read_up_to(self.file, buffer, offset)?;
        Ok((there == len).then_some(&buffer[..]))
    }

    fn note(&self, index: usize, extent: &Extent, same: bool) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.differs.len() <= index {
            found.differs.resize(index + 1, false);
        }
        found.differs[index] = !same;
        let bytes = match extent {
            Extent::Hole(_) => 0,
            extent => extent.len(),
        };
        if same {
            found.equal += bytes;
        } else {
            found.differing += bytes;
            if !self.all {
                self.ended.store(true, Ordering::Relaxed);
            }
        }
    }
}
