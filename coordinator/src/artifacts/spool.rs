//! Where the objects of backups that run are put aside until they are part of the record.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The directory.
pub(crate) struct Spool {
    directory: PathBuf,
}

impl Spool {
    /// The directory need not exist: without Kubernetes objects it never does.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The file of a backup's objects.
    pub(crate) fn path(&self, backup: &str) -> PathBuf {
        self.directory.join(format!("{backup}.objects"))
    }

    /// Takes a file with the objects of a backup that begins. A failure is logged: the record will miss them, and say so.
    pub(crate) fn keep(&self, backup: &str, file: &Path) {
        if let Err(error) = fs::rename(file, self.path(backup)) {
            tracing::error!(run_id = backup, error = %error, "the objects of a backup cannot be kept");
        }
    }

    /// Removes the file of a backup; one that does not exist is no error.
    pub(crate) fn remove(&self, backup: &str) {
        match fs::remove_file(self.path(backup)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(run_id = backup, error = %error, "the objects of a backup stay on the disk");
            }
            _ => {}
        }
    }
}
