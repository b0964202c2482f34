//! The sorted names of one directory, in memory up to a limit and in a temporary file beyond it.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    ffi::{CStr, CString},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    mem::MaybeUninit,
    os::{fd::BorrowedFd, unix::fs::FileExt},
};

use rustix::{fs::RawDir, io::Errno};

use super::error::ScanError;

/// One `getdents64` fills this: some 8000 names.
const DENTS_BYTES: usize = 256 << 10;
/// Names kept in memory before a sorted run goes to the temporary file.
pub(crate) const ARENA_BYTES: usize = 32 << 20;
/// Read ahead in each run while runs are merged.
const RUN_BUFFER_BYTES: usize = 64 << 10;

/// A name in the arena; ordered by its first bytes without looking at the arena.
#[derive(Clone, Copy)]
struct Key {
    prefix: u64,
    at: u32,
    /// Length without the NUL.
    len: u32,
}

/// Reads directories one after another; its buffers are reused.
pub(crate) struct Listing {
    dents: Vec<MaybeUninit<u8>>,
    arena: Vec<u8>,
    keys: Vec<Key>,
    arena_bytes: usize,
    spill: Option<File>,
    /// Start and end of the sorted runs in the temporary file.
    runs: Vec<(u64, u64)>,
}

impl Listing {
    pub(crate) fn new(arena_bytes: usize) -> Self {
        Self {
            dents: vec![MaybeUninit::uninit(); DENTS_BYTES],
            arena: Vec::new(),
            keys: Vec::new(),
            arena_bytes,
            spill: None,
            runs: Vec::new(),
        }
    }

    /// One that holds nothing, to stand in for another for a while.
    pub(crate) fn empty() -> Self {
        Self {
            dents: Vec::new(),
            arena: Vec::new(),
            keys: Vec::new(),
            arena_bytes: 0,
            spill: None,
            runs: Vec::new(),
        }
    }

    /// Names in memory; more than there can be if some are in the temporary file.
    pub(crate) fn len(&self) -> usize {
        if self.runs.is_empty() {
            self.keys.len()
        } else {
            usize::MAX
        }
    }

    /// Reads all names of `dir` but `.` and `..`, wherever earlier readers of this descriptor have
    /// stopped. When the directory fails half-way, the names read until then are there all the same.
    pub(crate) fn read(&mut self, dir: BorrowedFd<'_>) -> Result<(), ScanError> {
        self.arena.clear();
        self.keys.clear();
        self.runs.clear();
        let mut dents = std::mem::take(&mut self.dents);
        let result = self.read_into(dir, &mut dents);
        self.dents = dents;
        if self.runs.is_empty() {
            self.sort();
        } else {
            self.spill_run()?;
        }
        result
    }

    fn read_into(
        &mut self,
        dir: BorrowedFd<'_>,
        dents: &mut [MaybeUninit<u8>],
    ) -> Result<(), ScanError> {
        rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0)).map_err(ScanError::of_fd)?;
        let mut raw = RawDir::new(dir, dents);
        while let Some(entry) = raw.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                // The directory was removed meanwhile: it has no more entries.
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(ScanError::of_fd(errno)),
            };
            let name = entry.file_name().to_bytes_with_nul();
            let bare = &name[..name.len() - 1];
            if bare == b"." || bare == b".." || bare.is_empty() || bare.contains(&b'/') {
                continue;
            }
            self.push(name);
            if self.arena.len() + self.keys.len() * size_of::<Key>() > self.arena_bytes {
                self.spill_run()?;
            }
        }
        Ok(())
    }

    fn push(&mut self, name_with_nul: &[u8]) {
        let len = name_with_nul.len() - 1;
        let mut prefix = [0; 8];
        let head = len.min(8);
        prefix[..head].copy_from_slice(&name_with_nul[..head]);
        let at = u32::try_from(self.arena.len()).expect("the arena is spilled long before 4 GiB");
        self.keys.push(Key {
            prefix: u64::from_be_bytes(prefix),
            at,
            len: len as u32,
        });
        self.arena.extend_from_slice(name_with_nul);
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.keys
            .sort_unstable_by(|a, b| match a.prefix.cmp(&b.prefix) {
                Ordering::Equal => tail(arena, *a).cmp(tail(arena, *b)),
                order => order,
            });
    }

    fn spill_run(&mut self) -> Result<(), ScanError> {
        self.sort();
        let file = match &mut self.spill {
            Some(file) => file,
            None => self
                .spill
                .insert(tempfile::tempfile().map_err(ScanError::Spill)?),
        };
        let start = self.runs.last().map_or(0, |run| run.1);
        let end = write_run(file, start, &self.arena, &self.keys).map_err(ScanError::Spill)?;
        self.runs.push((start, end));
        self.arena.clear();
        self.keys.clear();
        Ok(())
    }

    /// Calls `each` with every name in bytewise order, each once, until it breaks.
    pub(crate) fn for_each<E: From<ScanError>>(
        &self,
        mut each: impl FnMut(&CStr) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut names = self.names();
        while let Some(name) = names.next()? {
            each(name)?;
        }
        Ok(())
    }

    /// The names in bytewise order, each once.
    pub(crate) fn names(&self) -> Names<'_> {
        let runs = self
            .runs
            .iter()
            .filter_map(|(start, end)| {
                let file = self.spill.as_ref()?;
                Some(Run {
                    input: BufReader::with_capacity(
                        RUN_BUFFER_BYTES,
                        Window {
                            file,
                            at: *start,
                            end: *end,
                        },
                    ),
                })
            })
            .collect();
        Names {
            listing: self,
            at: 0,
            runs,
            heap: BinaryHeap::new(),
            started: false,
            last: Vec::new(),
        }
    }

    fn name(&self, key: Key) -> &CStr {
        let bytes = &self.arena[key.at as usize..=(key.at + key.len) as usize];
        CStr::from_bytes_with_nul(bytes).expect("names come from the kernel with one NUL")
    }
}

fn tail(arena: &[u8], key: Key) -> &[u8] {
    let skip = key.len.min(8);
    &arena[(key.at + skip) as usize..(key.at + key.len) as usize]
}

/// Records of a little-endian length (16 bits) and the name with its NUL.
fn write_run(file: &mut File, start: u64, arena: &[u8], keys: &[Key]) -> io::Result<u64> {
    file.seek(SeekFrom::Start(start))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut end = start;
    for key in keys {
        let name = &arena[key.at as usize..=(key.at + key.len) as usize];
        let len = u16::try_from(name.len()).map_err(io::Error::other)?;
        out.write_all(&len.to_le_bytes())?;
        out.write_all(name)?;
        end += 2 + name.len() as u64;
    }
    out.flush()?;
    Ok(end)
}

/// A part of a file, read at positions, so that several readers share the file.
struct Window<'file> {
    file: &'file File,
    at: u64,
    end: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let got = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

struct Run<'file> {
    input: BufReader<Window<'file>>,
}

impl Run<'_> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut len = [0; 2];
        match self.input.read_exact(&mut len) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut name = vec![0; usize::from(u16::from_le_bytes(len))];
        self.input.read_exact(&mut name)?;
        Ok(Some(name))
    }
}

/// The names of a [`Listing`] in order.
pub(crate) struct Names<'listing> {
    listing: &'listing Listing,
    at: usize,
    runs: Vec<Run<'listing>>,
    /// The next name of each run; a trailing NUL does not disturb the order, as no name holds one.
    heap: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    started: bool,
    last: Vec<u8>,
}

impl Names<'_> {
    /// The next names, up to so many.
    pub(crate) fn take(&mut self, most: usize) -> Result<Vec<CString>, ScanError> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(name) = self.next()?
        {
            taken.push(name.to_owned());
        }
        Ok(taken)
    }

    /// The next name, `None` after the last.
    #[allow(
        clippy::should_implement_trait,
        reason = "the name is borrowed from the iterator"
    )]
    pub(crate) fn next(&mut self) -> Result<Option<&CStr>, ScanError> {
        if self.runs.is_empty() {
            return Ok(self.next_in_memory());
        }
        if !self.started {
            self.started = true;
            for index in 0..self.runs.len() {
                self.refill(index)?;
            }
        }
        while let Some(Reverse((name, index))) = self.heap.pop() {
            self.refill(index)?;
            if name != self.last {
                self.last = name;
                let name = CStr::from_bytes_with_nul(&self.last);
                return name
                    .map(Some)
                    .map_err(|e| ScanError::Spill(io::Error::other(e)));
            }
        }
        Ok(None)
    }

    fn next_in_memory(&mut self) -> Option<&CStr> {
        loop {
            let key = *self.listing.keys.get(self.at)?;
            self.at += 1;
            let name = self.listing.name(key);
            // A rename during the listing can show a name twice.
            let earlier = self.at.checked_sub(2).map(|at| self.listing.keys[at]);
            let twice =
                earlier.is_some_and(|e| e.prefix == key.prefix && self.listing.name(e) == name);
            if !twice {
                return Some(name);
            }
        }
    }

    fn refill(&mut self, index: usize) -> Result<(), ScanError> {
        if let Some(name) = self.runs[index].next().map_err(ScanError::Spill)? {
            self.heap.push(Reverse((name, index)));
        }
        Ok(())
    }
}
