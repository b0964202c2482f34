//! Where the objects of backups and restores that run are put aside until they are no longer needed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orlop_core::run::RunKind;
use orlop_kubernetes::files::SpoolWriter;
use orlop_runtime::private;

/// How the name of a file begins whose run is not known yet; it has no extension.
pub(crate) const UNFINISHED: &str = "new-";

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

    /// The file of the objects that a restore makes again: the plain archive of its backup.
    pub(crate) fn archive(&self, restore: &str) -> PathBuf {
        self.directory.join(format!("{restore}.tar.gz"))
    }

    /// The file that says what became of each object of a restore.
    pub(crate) fn reports(&self, restore: &str) -> PathBuf {
        self.directory.join(format!("{restore}.reports"))
    }

    /// Makes the directory, which only its owner may look into.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn create(&self) -> Result<(), orlop_runtime::Error> {
        private::create_dir(&self.directory)
    }

    /// Removes what a process that was killed has not finished. Nothing may be under way.
    pub(crate) fn remove_unfinished(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(UNFINISHED.as_bytes()) && path.extension().is_none() {
                remove(&path);
            }
        }
    }

    /// Stands for the objects of a backup that has none any more.
    ///
    /// # Errors
    /// The disk is full, or the system refuses.
    pub(crate) fn put_nothing(&self, backup: &str) -> io::Result<()> {
        self.create().map_err(io::Error::other)?;
        let path = self.path(backup);
        SpoolWriter::create(&path)?.finish().map(|_| ())
    }

    /// Takes a file with the objects of a backup that begins. A failure is logged: the record will miss them, and say so.
    pub(crate) fn keep(&self, backup: &str, file: &Path) {
        if let Err(error) = fs::rename(file, self.path(backup)) {
            tracing::error!(run_id = backup, error = %error, "the objects of a backup cannot be kept");
        }
    }

    /// Removes the files of a backup or restore; those that do not exist are no error.
    pub(crate) fn remove(&self, kind: RunKind, name: &str) {
        match kind {
            RunKind::Backup => remove(&self.path(name)),
            RunKind::Restore => {
                remove(&self.archive(name));
                remove(&self.archive(name).with_extension("part"));
                remove(&self.reports(name));
            }
        }
    }
}

/// Removes a file; one that does not exist is no error.
pub(crate) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %error, "what was put aside stays on the disk");
        }
        _ => {}
    }
}
