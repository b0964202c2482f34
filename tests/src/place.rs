//! Temporary directories.

use std::path::Path;

use tempfile::TempDir;

/// A directory in memory where there is such a file system: what a restore makes durable then costs
/// nothing. Where the file system itself matters, use `tempfile::tempdir`.
///
/// # Panics
/// It cannot be made.
pub fn quick_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let probe = tempfile::Builder::new()
        .prefix("orlop-test-")
        .tempdir_in(memory);
    probe.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}
