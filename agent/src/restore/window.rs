//! A bounded piece of a restore: some ten thousand entries and the chunks that they need.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use orlop_repository::{Batch, Entry, Error, Extent, Secret, Wanted};
use tokio_util::sync::CancellationToken;

use super::{
    dirs::Dir,
    file::{PendingFile, Piece},
    links::Link,
    others,
    shared::Shared,
};

/// Entries, and extents, of one window.
const ENTRIES_MAX: usize = 64 << 10;
/// What a thread takes at a time of what needs no chunk.
const LOCALS_AT_ONCE: usize = 64;
/// About what an entry, an extent and a chunk take in memory, in bytes.
const ENTRY_BYTES: usize = 256;
const TARGET_BYTES: usize = 48;
const CHUNK_BYTES: usize = 256;

/// How much a window may hold: three of them are under way at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Open directories.
    dirs: usize,
    /// Open files: those that are written in more than one piece.
    files: usize,
    /// Bytes, about.
    memory: usize,
}

impl Budget {
    /// For a process that may open so many files and a restore that may use so much memory.
    pub(super) fn new(open_files: u64, memory_bytes: u64) -> Self {
        let share = |parts: u64, max: usize| {
            let share = usize::try_from(open_files / parts).unwrap_or(usize::MAX);
            share.clamp(16, max)
        };
        Self {
            dirs: share(16, 4096),
            files: share(32, 1024),
            memory: usize::try_from(memory_bytes / 16).unwrap_or(usize::MAX),
        }
    }
}

/// Where a part of a chunk goes.
struct Target {
    chunk: u32,
    chunk_offset: u32,
    len: u32,
    file_offset: u64,
    file: Arc<PendingFile>,
}

/// What needs no chunk.
pub(super) enum Local {
    Piece {
        file: Arc<PendingFile>,
        offset: u64,
        piece: Piece,
    },
    Other {
        dir: Arc<Dir>,
        entry: Box<Entry>,
    },
}

/// Work that is planned together.
#[derive(Default)]
pub(super) struct Window {
    wanted: Vec<Wanted>,
    chunks: HashMap<Secret, u32>,
    targets: Vec<Target>,
    pub(super) locals: Vec<Local>,
    pub(super) links: Vec<Link>,
    entries: usize,
    memory: usize,
    dirs: usize,
    last_dir: Option<Arc<Dir>>,
    open_files: usize,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.locals.is_empty() && self.links.is_empty()
    }

    pub(super) fn is_full(&self, budget: Budget) -> bool {
        self.entries >= ENTRIES_MAX
            || self.targets.len() >= ENTRIES_MAX
            || self.memory >= budget.memory
            || self.dirs >= budget.dirs
            || self.open_files >= budget.files
    }

    /// Counts an entry of `dir`.
    pub(super) fn count_entry(&mut self, dir: &Arc<Dir>, entry: &Entry) {
        self.entries += 1;
        let xattrs = entry.meta.xattrs.iter();
        let xattrs = xattrs.map(|xattr| 64 + xattr.name.len() + xattr.value.len());
        self.memory += ENTRY_BYTES + entry.path.len() + entry.target.len() + xattrs.sum::<usize>();
        if self
            .last_dir
            .as_ref()
            .is_none_or(|last| !Arc::ptr_eq(last, dir))
        {
            self.dirs += 1;
            self.last_dir = Some(Arc::clone(dir));
        }
    }

    /// Counts a file that stays open between its pieces.
    pub(super) fn count_open_file(&mut self) {
        self.open_files += 1;
    }

    /// Plans one extent of `file`.
    pub(super) fn add(&mut self, file: &Arc<PendingFile>, offset: u64, extent: Extent) {
        let (secret, chunk_offset, len, chunk_len) = match extent {
            Extent::Hole(len) => return self.add_piece(file, offset, Piece::Hole(len)),
            Extent::Inline(bytes) => {
                self.memory += bytes.len();
                return self.add_piece(file, offset, Piece::Inline(bytes));
            }
            Extent::Zero(len) => return self.add_piece(file, offset, Piece::Zero(len)),
            Extent::Data { secret, len } => (secret, 0, len, len),
            Extent::Bundle {
                secret,
                offset,
                len,
            } => (secret, offset, len, 0),
        };
        let (wanted, memory) = (&mut self.wanted, &mut self.memory);
        let chunk = *self.chunks.entry(secret).or_insert_with(|| {
            *memory += CHUNK_BYTES;
            wanted.push(Wanted {
                secret,
                len: chunk_len,
            });
            wanted.len() as u32 - 1
        });
        self.memory += TARGET_BYTES;
        file.expect_piece();
        let file = Arc::clone(file);
        self.targets.push(Target {
            chunk,
            chunk_offset,
            len,
            file_offset: offset,
            file,
        });
    }

    pub(super) fn add_piece(&mut self, file: &Arc<PendingFile>, offset: u64, piece: Piece) {
        self.memory += TARGET_BYTES;
        file.expect_piece();
        self.locals.push(Local::Piece {
            file: Arc::clone(file),
            offset,
            piece,
        });
    }

    /// Nothing is added any more.
    pub(super) fn seal<'a>(
        mut self,
        shared: &'a Shared,
        cancel: &'a CancellationToken,
    ) -> Ready<'a> {
        self.targets.sort_by_key(|target| target.chunk);
        let mut starts = Vec::with_capacity(self.wanted.len() + 1);
        let mut at = 0;
        for chunk in 0..self.wanted.len() as u32 {
            starts.push(at);
            let same = |target: &Target| target.chunk == chunk;
            while self.targets.get(at).is_some_and(same) {
                at += 1;
            }
        }
        starts.push(at);
        Ready {
            shared,
            cancel,
            wanted: self.wanted,
            targets: self.targets,
            starts,
            locals: self.locals,
            links: Mutex::new(self.links),
        }
    }
}

/// A window that is executed.
pub(super) struct Ready<'a> {
    shared: &'a Shared,
    cancel: &'a CancellationToken,
    wanted: Vec<Wanted>,
    targets: Vec<Target>,
    /// The first target of each chunk and, last, their number.
    starts: Vec<usize>,
    locals: Vec<Local>,
    links: Mutex<Vec<Link>>,
}

impl Ready<'_> {
    /// Names that are linked when everything else of the window is there.
    pub(super) fn take_links(&self) -> Vec<Link> {
        std::mem::take(&mut *self.links.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Batch for Ready<'_> {
    fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    fn chunk(&self, index: usize, chunk: Result<&[u8], Error>) {
        let shared = self.shared;
        let targets = &self.targets[self.starts[index]..self.starts[index + 1]];
        if self.is_given_up() {
            return;
        }
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                let action = format!("restore it: {error}");
                for target in targets {
                    target.file.fail(shared, 0, &action);
                    target.file.piece_done(shared);
                }
                return;
            }
        };
        shared.tally.fetched(chunk.len());
        for target in targets {
            let start = target.chunk_offset as usize;
            if let Some(bytes) = chunk.get(start..start + target.len as usize) {
                target.file.write(shared, target.file_offset, bytes);
            } else {
                let action = "restore it: a chunk is shorter than the manifest says";
                target.file.fail(shared, 0, action);
                target.file.piece_done(shared);
            }
        }
    }

    fn parts(&self) -> usize {
        self.locals.len().div_ceil(LOCALS_AT_ONCE)
    }

    fn part(&self, number: usize) {
        let start = number * LOCALS_AT_ONCE;
        let end = self.locals.len().min(start + LOCALS_AT_ONCE);
        for local in &self.locals[start..end] {
            if self.is_given_up() {
                return;
            }
            match local {
                Local::Piece {
                    file,
                    offset,
                    piece,
                } => file.write_piece(self.shared, *offset, piece),
                Local::Other { dir, entry } => others::make(self.shared, dir, entry),
            }
        }
    }

    fn is_given_up(&self) -> bool {
        self.cancel.is_cancelled() || self.shared.tally.is_stopped()
    }
}
