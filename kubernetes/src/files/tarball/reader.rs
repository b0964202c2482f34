//! Reads a tarball entry by entry, with limits to what it may make of our memory.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::path::{ItemPath, Layout};
use crate::files::error::FileError;

/// What a tarball may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TarballLimits {
    /// Entries, of whatever kind.
    pub entries: u64,
    /// Bytes of one entry.
    pub entry_bytes: u64,
}

impl Default for TarballLimits {
    /// Four million entries of 16 MiB: more than a cluster can hold, since the largest object is some MiB.
    fn default() -> Self {
        Self {
            entries: 4 << 20,
            entry_bytes: 16 << 20,
        }
    }
}

/// An object of a tarball.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarballItem {
    /// What it is called.
    pub path: ItemPath,
    /// In which of its places it was found.
    pub layout: Layout,
    /// Its JSON, unchecked.
    pub json: Vec<u8>,
}

/// A tarball that can be read once.
pub struct Tarball<R: Read> {
    archive: Archive<Metered<MultiGzDecoder<R>>>,
    allowance: Rc<Cell<u64>>,
    limits: TarballLimits,
}

/// What stands around an entry's content: headers, long names, padding.
const AROUND_BYTES: u64 = 64 << 10;

impl<R: Read> Tarball<R> {
    /// The tarball that `input` holds.
    pub fn open(input: R, limits: TarballLimits) -> Self {
        let allowance = Rc::new(Cell::new(0));
        let input = Metered {
            inner: MultiGzDecoder::new(input),
            allowance: Rc::clone(&allowance),
        };
        Self {
            archive: Archive::new(input),
            allowance,
            limits,
        }
    }

    /// Calls `visit` for each object, in the order in which they are stored. Returns the version of the format,
    /// empty if there is none. Directories, and files that are no objects, are passed over.
    ///
    /// # Errors
    /// It is not a tarball or is cut off; it exceeds a limit; an entry is a link or a device, or its path is absolute,
    /// has `..` or is not UTF-8; `visit` failed.
    pub fn read<E: From<FileError>>(
        mut self,
        mut visit: impl FnMut(TarballItem) -> Result<(), E>,
    ) -> Result<String, E> {
        let mut version = String::new();
        let mut count = 0;
        self.allowance.set(AROUND_BYTES);
        let entries = self.archive.entries().map_err(FileError::from)?;
        for entry in entries {
            let mut entry = entry.map_err(FileError::from)?;
            count += 1;
            if count > self.limits.entries {
                let limit = self.limits.entries;
                return Err(FileError::TooManyEntries { limit }.into());
            }
            let kind = entry.header().entry_type();
            let path = safe_path(&entry.path_bytes(), kind)?;
            if entry.size() > self.limits.entry_bytes {
                return Err(FileError::TooLarge {
                    what: format!("the tarball's entry {path}"),
                    limit_bytes: self.limits.entry_bytes,
                }
                .into());
            }
            self.allowance.set(entry.size() + AROUND_BYTES);
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(FileError::from)?;
            self.allowance.set(AROUND_BYTES);
            if kind == EntryType::Directory {
                continue;
            }
            if path == "metadata/version" {
                String::from_utf8_lossy(&content)
                    .trim()
                    .clone_into(&mut version);
            } else if let Some((path, layout)) = ItemPath::parse(&path) {
                let json = content;
                visit(TarballItem { path, layout, json })?;
            }
        }
        // What follows the last entry is padding; reading it shows whether the file was cut off.
        self.allowance.set(AROUND_BYTES);
        io::copy(&mut self.archive.into_inner(), &mut io::sink()).map_err(FileError::from)?;
        Ok(version)
    }
}

/// The path of an entry that can do no harm.
fn safe_path(bytes: &[u8], kind: EntryType) -> Result<String, FileError> {
    let refuse = |reason| {
        Err(FileError::Refused {
            path: String::from_utf8_lossy(bytes).into_owned(),
            reason,
        })
    };
    let Ok(path) = std::str::from_utf8(bytes) else {
        return refuse("its name is not UTF-8");
    };
    if !matches!(
        kind,
        EntryType::Regular
            | EntryType::Continuous
            | EntryType::Directory
            | EntryType::XGlobalHeader
    ) {
        return refuse("it is neither a file nor a directory");
    }
    if path.starts_with('/') {
        return refuse("its path is absolute");
    }
    if path.split('/').any(|part| part == "..") {
        return refuse("its path leads upwards");
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    Ok(path.to_owned())
}

/// A reader that fails once more is read than was allowed.
struct Metered<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.allowance.get().checked_sub(count as u64);
        let left = left.ok_or_else(|| io::Error::other("the tarball's headers are too large"))?;
        self.allowance.set(left);
        Ok(count)
    }
}
