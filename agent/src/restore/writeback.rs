//! The disk begins to write while the restore goes on.

use std::{fs::File, num::NonZeroU64};

use rustix::fs::{Advice, fadvise};

/// What is handed to the disk at once: large enough for one extent, and for one request of any store.
const BLOCK: u64 = 8 << 20;

/// Asks the kernel to begin writing the block of a file that ends in what was just written; files of less than
/// a block are left to the sync at the end.
///
/// A sync of everything at the end alone would wait for a disk that had nothing to do until then. The advice
/// that pages are not needed makes Linux submit those that are dirty and drop those that are clean (`mm/fadvise.c`):
/// what was just written is dirty, so it goes to the disk and stays in memory for the application that starts
/// next. Nothing waits for the disk, no journal is committed, and a file system that refuses is left alone.
pub(super) fn begin(file: &File, offset: u64, written: u64) {
    let end = offset.saturating_add(written) / BLOCK * BLOCK;
    if end > offset
        && let Some(len) = NonZeroU64::new((end - offset).div_ceil(BLOCK) * BLOCK)
    {
        let _ = fadvise(file, end - len.get(), Some(len), Advice::DontNeed);
    }
}
