//! A bounded piece of a restore: some thousand entries and the chunks that they need.

use std::{collections::HashMap, sync::Arc};

use orlop_repository::{Entry, Extent, Secret, Wanted};

use super::{
    dirs::Dir,
    file::{PendingFile, Piece},
    links::Link,
};

const ENTRIES_MAX: usize = 8192;
const TARGETS_MAX: usize = 20_000;
const BYTES_MAX: u64 = 128 << 20;

/// How many files and directories a window may hold open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Directories of a window, each.
    dirs: usize,
    /// Files that are written in more than one piece.
    files: usize,
}

impl Budget {
    /// Three windows are under way at a time.
    pub(super) fn for_open_files(limit: u64) -> Self {
        let share = usize::try_from(limit / 12)
            .unwrap_or(usize::MAX)
            .clamp(16, 1024);
        Self {
            dirs: share,
            files: share,
        }
    }
}

/// Where a part of a chunk goes.
pub(super) struct Target {
    pub(super) chunk: u32,
    pub(super) chunk_offset: u32,
    pub(super) len: u32,
    pub(super) file_offset: u64,
    pub(super) file: Arc<PendingFile>,
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

/// Work that is fetched and written together.
#[derive(Default)]
pub(super) struct Window {
    pub(super) wanted: Vec<Wanted>,
    chunks: HashMap<Secret, u32>,
    pub(super) targets: Vec<Target>,
    pub(super) locals: Vec<Local>,
    pub(super) links: Vec<Link>,
    entries: usize,
    bytes: u64,
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
            || self.targets.len() >= TARGETS_MAX
            || self.bytes >= BYTES_MAX
            || self.dirs >= budget.dirs
            || self.open_files >= budget.files
    }

    /// Counts an entry of `dir`.
    pub(super) fn count_entry(&mut self, dir: &Arc<Dir>) {
        self.entries += 1;
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

    /// Plans one extent of `file`; a hole needs nothing.
    pub(super) fn add(&mut self, file: &Arc<PendingFile>, offset: u64, extent: Extent) {
        let (secret, chunk_offset, len, chunk_len) = match extent {
            Extent::Hole(_) => return,
            Extent::Inline(bytes) => {
                self.bytes += bytes.len() as u64;
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
        let wanted = &mut self.wanted;
        let chunk = *self.chunks.entry(secret).or_insert_with(|| {
            wanted.push(Wanted {
                secret,
                len: chunk_len,
            });
            wanted.len() as u32 - 1
        });
        self.bytes += u64::from(len);
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
        file.expect_piece();
        self.locals.push(Local::Piece {
            file: Arc::clone(file),
            offset,
            piece,
        });
    }

    /// Sorts the targets by chunk; returns the first target of each chunk and, last, their number.
    pub(super) fn sort_targets(&mut self) -> Vec<usize> {
        self.targets.sort_by_key(|target| target.chunk);
        let mut starts = Vec::with_capacity(self.wanted.len() + 1);
        let mut at = 0;
        for chunk in 0..self.wanted.len() as u32 {
            starts.push(at);
            while self
                .targets
                .get(at)
                .is_some_and(|target| target.chunk == chunk)
            {
                at += 1;
            }
        }
        starts.push(at);
        starts
    }
}
